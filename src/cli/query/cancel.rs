//! `cancel` and `cancel-all`.

use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    ask,
    connect::{Common, Session},
    failure::{Failure, first_of},
    json, list,
    out::Out,
    progress::during,
    render,
};
use crate::{
    cli::Output,
    config,
    proto::queryhistory::{
        CancelAllQueriesRequest, CancelAllQueriesResponse, CancelOutcome, CancelQueryRequest,
        CancelQueryResponse, QueryFilter, QueryStatus,
    },
};

/// Several are stopped at once, so that those at the end do not run on while the first ones are waited for.
const AT_ONCE: usize = 16;

/// How a query is stopped.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How they are stopped")]
pub(super) struct How {
    /// Wait so long for them to be seen ended; without it, the answer comes as soon as Atoti accepts
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    wait: Option<Duration>,

    /// Why, for the audit record of the bridge
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl How {
    pub(super) const fn waits(&self) -> Option<Duration> {
        self.wait
    }

    /// As the protocol has it; a day at most, so it always fits.
    pub(super) fn wait(&self) -> Option<prost_types::Duration> {
        self.wait.and_then(|wait| wait.try_into().ok())
    }

    pub(super) fn reason(&self) -> String {
        self.reason.clone()
    }
}

/// What `cancel` takes.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// Ids of the queries
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    #[command(flatten)]
    how: How,

    /// Take a query that has ended already for success, so that repeating is safe
    #[arg(long, help_heading = "How they are stopped")]
    allow_finished: bool,

    #[command(flatten)]
    common: Common,
}

/// What `cancel-all` takes.
#[derive(Debug, Args)]
pub(super) struct CancelAll {
    #[command(flatten)]
    how: How,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(flags: Cancel, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    let work = stream::iter(&flags.ids).map(|id| async { (id.clone(), one(&session, &flags, id).await) });
    let mut work = std::pin::pin!(work.buffered(AT_ONCE));
    let mut failures = Vec::new();
    while let Some((id, done)) = during("stopping", work.next()).await {
        match done {
            Ok(response) => tell(out, flags.common.output(), &id, &response),
            Err(failure) => failures.push((id, failure)),
        }
    }
    first_of(failures)
}

async fn one(session: &Session, flags: &Cancel, id: &str) -> Result<CancelQueryResponse, Failure> {
    let message = CancelQueryRequest {
        query_id: id.to_owned(),
        wait: flags.how.wait(),
        reason: flags.how.reason(),
        allow_finished: flags.allow_finished,
    };
    let request = session.request_waiting(message, flags.how.waits());
    Ok(session.client().cancel_query(request).await?.into_inner())
}

fn tell(out: &mut Out, output: Output, id: &str, response: &CancelQueryResponse) {
    if output == Output::Json {
        let mut object = json::object("CancelQueryResponse", response);
        object.insert("queryId".to_owned(), id.into());
        return out.line(&Value::from(object).to_string());
    }
    let outcome = response.outcome();
    let more = match (outcome, response.query.as_deref().map(render::status)) {
        (CancelOutcome::Requested, Some(status)) => format!("Atoti accepted; it was still {status}"),
        (CancelOutcome::Requested, None) => "Atoti accepted; --wait sees it stop".to_owned(),
        (CancelOutcome::Finished, Some(status)) => format!("it had ended by itself: {status}"),
        _ => String::new(),
    };
    let line = format!("{}  {}  {more}", render::plain(id), render::outcome(outcome));
    out.line(line.trim_end());
}

pub(super) async fn all(flags: CancelAll, out: &mut Out) -> Result<(), Failure> {
    if !flags.yes {
        ask::can_answer("--yes stops everything without a question")?;
    }
    let session = flags.common.connect().await?;
    if !flags.yes {
        let running = QueryFilter { statuses: vec![QueryStatus::Running.into()], ..QueryFilter::default() };
        match during("counting", list::count(&session, running)).await? {
            0 => {
                note!("Nothing runs.");
                return Ok(());
            }
            1 => ask::confirm("1 query runs. Stop it, and whatever else begins meanwhile?").await?,
            count => {
                ask::confirm(&format!(
                    "{count} queries run. Stop all {count}, and whatever begins meanwhile?"
                ))
                .await?;
            }
        }
    }
    let message = CancelAllQueriesRequest { reason: flags.how.reason(), wait: flags.how.wait() };
    let request = session.request_waiting(message, flags.how.waits());
    let response = during("stopping", session.client().cancel_all_queries(request)).await?.into_inner();
    match flags.common.output() {
        Output::Json => out.line(&json::line("CancelAllQueriesResponse", &response)),
        Output::Table => out.line(&all_told(&response)),
    }
    Ok(())
}

fn all_told(response: &CancelAllQueriesResponse) -> String {
    let outcome = render::outcome(response.outcome());
    match response.still_running {
        Some(0) => format!("{outcome}  nothing runs any more"),
        Some(count) => format!("{outcome}  {count} still ran when last looked at"),
        None => format!("{outcome}  Atoti accepted; --wait sees them stop"),
    }
}
