//! `list --follow`: what runs, again and again.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    connect::Session,
    failure::Failure,
    json,
    list::{List, Pages},
    moment::date,
    out::Out,
    render::{self, Columns, took},
    screen::{Pressed, Screen},
};
use crate::{
    cli::Output,
    proto::queryhistory::{Query, QueryFilter, QueryStatus},
};

/// How long a program that reads the looks goes without one, before it is told of the failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// No more is read for one look: nobody reads on.
const MOST: usize = 5000;

/// What one look saw.
struct Look {
    queries: Vec<Query>,
    total: usize,
    at: Timestamp,
}

impl Look {
    async fn take(session: &Session, filter: QueryFilter) -> Result<Self, Failure> {
        let mut pages = Pages::of(session, filter);
        let mut queries = Vec::new();
        while queries.len() < MOST
            && let Some(page) = pages.next(usize::MAX).await?
        {
            queries.extend(page);
        }
        let at = Timestamp::now();
        queries.sort_by_key(|query| std::cmp::Reverse(took(query, at).unwrap_or(SignedDuration::ZERO)));
        Ok(Self { queries, total: pages.total, at })
    }
}

pub(super) async fn run(flags: List, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    if flags.common.output() == Output::Table && io::stdout().is_terminal() {
        on_terminal(&flags, &session).await
    } else {
        line_by_line(&flags, &session, out).await
    }
}

/// One JSON object for each look.
async fn line_by_line(flags: &List, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let mut failing_since = None;
    while !out.is_gone() {
        match Look::take(session, flags.filter(Timestamp::now())).await {
            Ok(look) => {
                failing_since = None;
                let queries = look.queries.iter().map(|query| Value::from(json::object("Query", query)));
                let queries: Vec<_> = queries.collect();
                let look = json!({"time": look.at.to_string(), "totalSize": look.total.to_string(), "queries": queries});
                out.line(&look.to_string());
            }
            Err(failure) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if !failure.may_pass() || since.elapsed() > PATIENCE {
                    return Err(failure);
                }
                note!("{}; trying again", failure.brief());
            }
        }
        sleep(flags.interval).await;
    }
    Ok(())
}

/// A table that is drawn again and again.
async fn on_terminal(flags: &List, session: &Session) -> Result<(), Failure> {
    let mut look = Look::take(session, flags.filter(Timestamp::now())).await?;
    let columns = columns(flags);
    let screen = Screen::open().map_err(Failure::Output)?;
    let mut keys = EventStream::new();
    let mut trouble = None;
    loop {
        let head = head(&look, &session.address().to_string());
        let head = [&*head, trouble.as_deref().unwrap_or_default()];
        let now = if trouble.is_some() { look.at } else { Timestamp::now() };
        draw(&screen, head, &look, columns, now).map_err(Failure::Output)?;
        let next = async {
            sleep(flags.interval).await;
            Look::take(session, flags.filter(Timestamp::now())).await
        };
        let mut next = std::pin::pin!(next);
        let seen = loop {
            tokio::select! {
                seen = &mut next => break seen,
                key = keys.next() => match key {
                    Some(Ok(event)) => match Pressed::from(event) {
                        Pressed::Quit => return Ok(()),
                        Pressed::Resized => draw(&screen, head, &look, columns, now).map_err(Failure::Output)?,
                        Pressed::Other => {}
                    },
                    Some(Err(error)) => return Err(Failure::Output(error)),
                    // Nobody can press anything any more.
                    None => return Ok(()),
                },
            }
        };
        match seen {
            Ok(seen) => (look, trouble) = (seen, None),
            // As long as somebody looks: what was seen last stays, with its time.
            Err(failure) if failure.may_pass() => {
                trouble = Some(format!("{}; trying again", failure.brief()))
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn columns(flags: &List) -> Columns {
    let running = [i32::from(QueryStatus::Running)];
    if flags.filter(Timestamp::now()).statuses == running { Columns::Running } else { Columns::All }
}

fn head(look: &Look, address: &str) -> String {
    let (total, at) = (look.total, date(look.at));
    let what = if total == 1 { "1 query".to_owned() } else { format!("{total} queries") };
    format!("{what} on {address}   {at} UTC   q ends")
}

fn draw(screen: &Screen, head: [&str; 2], look: &Look, columns: Columns, now: Timestamp) -> io::Result<()> {
    let (width, rows) = Screen::size();
    // Above the queries: the head and the titles.
    let room = usize::from(rows).saturating_sub(head.len() + 1);
    let shown = &look.queries[..look.queries.len().min(room)];
    let table = render::table(shown, columns, now, Some(width));
    screen.show(head.into_iter().chain(table.lines()))
}
