//! `cancel-many`: look first, ask, then stop exactly what was shown, and tell what became of each.

mod shown;
mod tally;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::{shown::Shown, tally::Tally};
use super::{
    ask,
    cancel::How,
    connect::{Common, Session},
    failure::{Failure, Refusal},
    filter::Which,
    json,
    moment::{span, span_to_proto},
    out::Out,
    progress::{self, during},
    render::{self, Columns},
    screen,
};
use crate::{
    cli::{Output, signal::Signals},
    proto::queryhistory::{CancelQueriesRequest, CancelQueriesResponse, Query, QueryFilter},
};

const AFTER_HELP: &str = "\
Without --yes the matches are shown first, and only what was shown is stopped: a query that begins meanwhile is left \
alone. One query that cannot be stopped does not keep the others running; each that could not is told on standard \
error, and the exit code is 20 then.

Examples:
  See what would be stopped
    atoti-grpc-bridge query cancel-many --user ada --older-than 10m --dry-run
  Stop it: shows it, asks, and sees each one stop
    atoti-grpc-bridge query cancel-many --user ada --older-than 10m --wait 5s
  From a script: at most 20, without a question, one JSON object per query
    atoti-grpc-bridge query cancel-many --older-than 1h --max 20 --yes --output json";

/// What `cancel-many` takes.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct CancelMany {
    #[command(flatten)]
    which: Which,

    /// Running for at least so long by the bridge's clock, such as 10m
    #[arg(
        long,
        visible_alias = "min-running-time",
        value_name = "DURATION",
        value_parser = span,
        help_heading = "Which queries"
    )]
    older_than: Option<SignedDuration>,

    #[command(flatten)]
    how: How,

    /// The fuse: when more queries match, none is stopped; up to 10000
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 100,
        value_parser = clap::value_parser!(i32).range(1..=10_000),
        help_heading = "How they are stopped"
    )]
    max: i32,

    /// Show what matches, and stop nothing
    #[arg(long, conflicts_with = "yes", help_heading = "How they are stopped")]
    dry_run: bool,

    /// Do not ask
    #[arg(long, help_heading = "How they are stopped")]
    yes: bool,

    #[command(flatten)]
    common: Common,
}

impl CancelMany {
    fn request(&self) -> Result<CancelQueriesRequest, Failure> {
        let filter = self.which.filter(Timestamp::now(), &[]);
        if filter == QueryFilter::default() && self.older_than.is_none_or(|age| age.is_zero()) {
            let mend = "say which queries to stop, such as --older-than 10m or --user ada; to stop everything \
                        there is query cancel-all";
            return Err(Failure::Usage(mend.to_owned()));
        }
        Ok(CancelQueriesRequest {
            filter: Some(filter),
            min_running_time: self.older_than.map(span_to_proto),
            max_cancellations: self.max,
            validate_only: false,
            reason: self.how.reason(),
            wait: self.how.wait(),
        })
    }
}

pub(super) async fn run(flags: CancelMany, signals: &Signals, out: &mut Out) -> Result<(), Failure> {
    let mut request = flags.request()?;
    if !flags.yes && !flags.dry_run {
        ask::can_answer("--yes stops what matches without a question, --dry-run shows it")?;
    }
    let session = flags.common.connect().await?;
    let mut seen = None;
    if !flags.yes {
        let shown = Shown::new(during("looking", look(&session, &request)).await?);
        if flags.dry_run {
            dry_run(&flags, &shown, out);
            return Ok(());
        }
        if shown.queries.is_empty() {
            note!("No running query matches.");
            return Ok(());
        }
        shown.within(flags.max)?;
        note!("{}\n\n{}", shown.table(), shown.summary());
        ask::confirm(&shown.question()).await?;
        shown.pin(&mut request);
        seen = Some(shown);
    }
    stop(&session, request, seen.as_ref(), flags.common.output(), signals, out).await
}

/// Every match, the longest first; nothing is stopped.
async fn look(session: &Session, request: &CancelQueriesRequest) -> Result<Vec<Query>, Failure> {
    let request = CancelQueriesRequest { validate_only: true, ..request.clone() };
    let mut matches = session.client().cancel_queries(session.streaming(request)).await?.into_inner();
    let mut queries = Vec::new();
    while let Some(response) = matches.message().await? {
        queries.extend(response.query);
    }
    Ok(queries)
}

fn dry_run(flags: &CancelMany, shown: &Shown, out: &mut Out) {
    match flags.common.output() {
        Output::Json => shown.queries.iter().for_each(|query| {
            let response = CancelQueriesResponse { query: Some(query.clone()), ..Default::default() };
            out.line(&json::line("CancelQueriesResponse", &response));
        }),
        Output::Table if shown.queries.is_empty() => {}
        Output::Table => {
            out.text(&render::table(&shown.queries, Columns::Running, shown.at, screen::width()));
        }
    }
    note!("{} Nothing was stopped.", shown.summary());
    if let Err(failure) = shown.within(flags.max) {
        note!("{}", failure.brief());
    }
}

/// Stops what matches. What is known of each is told even when it breaks off.
async fn stop(
    session: &Session,
    request: CancelQueriesRequest,
    shown: Option<&Shown>,
    output: Output,
    signals: &Signals,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut tally = Tally::default();
    let bar = progress::bar(shown.and_then(|shown| u64::try_from(shown.queries.len()).ok()));
    let work = async {
        let mut answers = session.client().cancel_queries(session.streaming(request)).await?.into_inner();
        while let Some(response) = answers.message().await? {
            tally.count(&response);
            bar.suspend(|| tell(&response, output, out));
            bar.inc(1);
            bar.set_message(tally.to_string());
        }
        Ok(())
    };
    let done = tokio::select! {
        biased;
        done = Box::pin(work) => done,
        // The stream goes with the future; from then on the bridge begins no further one.
        () = signals.drain.cancelled() => Err(Failure::Interrupted),
    };
    bar.finish_and_clear();
    let summary = tally.summary();
    match output {
        // Nothing is known of any: the failure says why.
        _ if done.is_err() && tally.is_empty() => {}
        Output::Table => out.line(&summary),
        Output::Json => note!("{summary}"),
    }
    if matches!(done, Err(Failure::Interrupted)) {
        note!("No further query is stopped. What had been sent is carried to its end: query list shows it.");
    }
    done?;
    if let Some(missing) = shown.and_then(|shown| shown.missing(tally.all())) {
        note!("{missing}");
    }
    if tally.failed > 0 { Err(Failure::SomeRemain) } else { Ok(()) }
}

fn tell(response: &CancelQueriesResponse, output: Output, out: &mut Out) {
    let refusal = response.error.as_ref().map(Refusal::of_one);
    if output == Output::Json {
        let plain = CancelQueriesResponse { error: None, ..response.clone() };
        let mut object = json::object("CancelQueriesResponse", &plain);
        if let Some(refusal) = &refusal {
            object.insert("error".to_owned(), refusal.json());
        }
        out.line(&Value::from(object).to_string());
    }
    if let Some(refusal) = refusal {
        let query = response.query.clone().unwrap_or_default();
        let (id, user) = (render::plain(&query.query_id), render::plain(&query.username));
        note!("{id} of {user} could not be stopped: {}", refusal.brief());
    }
}
