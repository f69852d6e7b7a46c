//! `watch`: one query, as it changes, until it has ended.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    connect::{Common, Session},
    failure::Failure,
    json,
    moment::{brief, date},
    out::Out,
    progress,
    render::{self, took},
};
use crate::{
    cli::Output,
    proto::queryhistory::{Query, QueryStatus, WatchQueryRequest},
};

/// How often a watch that broke off is taken up again before it is given up: about as long as a bridge takes to start.
const TRIES: u32 = 10;
/// Before the first time; before each further one twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What `watch` takes.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Id of the query
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    common: Common,
}

/// What there is to see.
struct Show<'a> {
    out: &'a mut Out,
    output: Output,
    last: Option<Query>,
    /// Watches that broke off since anything was seen.
    broken: u32,
}

pub(super) async fn run(flags: Watch, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    let mut show = Show { out, output: flags.common.output(), last: None, broken: 0 };
    loop {
        let failure = match follow(&session, &flags.id, &mut show).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let gone = matches!(&failure, Failure::Call(refusal) if refusal.code == tonic::Code::Unavailable);
        let draining = matches!(&failure, Failure::Call(refusal) if refusal.reason() == "DRAINING");
        // What has never been seen need not be waited for, unless the bridge says so.
        if !gone || show.broken >= TRIES || (show.last.is_none() && !draining) {
            return Err(failure);
        }
        note!("{}; watching again", failure.brief());
        let pause = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(show.broken));
        progress::during("waiting for the bridge", sleep(pause)).await;
        show.broken += 1;
    }
}

/// Until it has ended, or the stream breaks off.
async fn follow(session: &Session, id: &str, show: &mut Show<'_>) -> Result<(), Failure> {
    let request = session.streaming(WatchQueryRequest { query_id: id.to_owned() });
    let mut changes = session.client().watch_query(request).await?.into_inner();
    let mut waiting = None;
    while let Some(change) = changes.message().await? {
        show.broken = 0;
        let Some(query) = change.query else { continue };
        if show.last.as_ref() != Some(&query) {
            drop(waiting.take());
            show.query(&query);
            show.last = Some(query);
        }
        if show.out.is_gone() {
            break;
        }
        if io::stderr().is_terminal() && waiting.is_none() {
            waiting = Some(progress::spinner("watching"));
        }
    }
    Ok(())
}

impl Show<'_> {
    fn query(&mut self, query: &Query) {
        if self.output == Output::Json {
            return self.out.line(&json::line("Query", query));
        }
        let now = Timestamp::now();
        let how_long = took(query, now).map(brief).unwrap_or_default();
        let what = if query.status() == QueryStatus::Running { "running for" } else { "took" };
        self.out.line(&format!("{} UTC  {:<10}  {what} {how_long}", date(now), render::status(query)));
    }
}
