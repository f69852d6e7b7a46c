//! `list`: the history, page by page.

use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{
    connect::{Common, Session},
    failure::Failure,
    filter::{Statuses, Which},
    json,
    moment::{span, to_proto},
    out::Out,
    progress::during,
    render::{self, Columns},
    screen,
};
use crate::{
    cli::{Output, endpoint::patience},
    proto::queryhistory::{ListQueriesRequest, ListQueriesResponse, Query, QueryFilter, QueryStatus},
};

/// As many lines as a person reads.
const TABLE_LIMIT: usize = 50;
/// Large enough to be quick, small enough to see the first lines soon.
const PAGE: usize = 200;

/// What `list` takes.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    statuses: Statuses,

    /// Those that run: short for --status running
    #[arg(long, conflicts_with = "statuses", help_heading = "Which queries")]
    running: bool,

    /// Started at least so long ago, such as 10m
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = span,
        conflicts_with = "started_before",
        help_heading = "Which queries"
    )]
    older_than: Option<SignedDuration>,

    /// Show at most so many, the newest [default: 50 in a table, all in JSON]
    #[arg(long, value_name = "COUNT", help_heading = "How much of it")]
    limit: Option<usize>,

    /// Show them all, in a table too
    #[arg(long, conflicts_with = "limit", help_heading = "How much of it")]
    all: bool,

    /// Show what runs again and again, the longest first, until q or Ctrl-C is pressed; without a terminal, one JSON
    /// object for each look
    #[arg(long, conflicts_with_all = ["limit", "all"], help_heading = "How much of it")]
    pub(super) follow: bool,

    /// From one look to the next
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = patience,
        requires = "follow",
        help_heading = "How much of it"
    )]
    pub(super) interval: Duration,

    #[command(flatten)]
    pub(super) common: Common,
}

impl List {
    pub(super) fn filter(&self, now: Timestamp) -> QueryFilter {
        let mut statuses = self.statuses.list();
        // What follows is there to see what runs, unless something else was asked for.
        if self.running || (self.follow && statuses.is_empty()) {
            statuses = vec![QueryStatus::Running];
        }
        let mut filter = self.which.filter(now, &statuses);
        if let Some(age) = self.older_than {
            filter.started_before = Some(to_proto(now.checked_sub(age).unwrap_or(Timestamp::MIN)));
        }
        filter
    }

    fn limit(&self, output: Output) -> usize {
        match (self.limit, output) {
            (Some(limit), _) => limit,
            (None, Output::Table) if !self.all => TABLE_LIMIT,
            (None, _) => usize::MAX,
        }
    }
}

/// The pages of one list.
pub(super) struct Pages<'a> {
    session: &'a Session,
    request: ListQueriesRequest,
    /// How many queries matched when the first page was read.
    pub(super) total: usize,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn of(session: &'a Session, filter: QueryFilter) -> Self {
        let request = ListQueriesRequest { filter: Some(filter), ..ListQueriesRequest::default() };
        Self { session, request, total: 0, ended: false }
    }

    /// The next page, of at most so many; nothing after the last one.
    pub(super) async fn next(&mut self, size: usize) -> Result<Option<Vec<Query>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        self.request.page_size = i32::try_from(size.clamp(1, PAGE)).unwrap_or(i32::MAX);
        let request = self.session.request(self.request.clone());
        let response = self.session.client().list_queries(request).await?.into_inner();
        let ListQueriesResponse { queries, next_page_token, total_size } = response;
        self.total = usize::try_from(total_size).unwrap_or_default();
        self.ended = next_page_token.is_empty();
        self.request.page_token = next_page_token;
        Ok(Some(queries))
    }
}

/// How many queries match.
pub(super) async fn count(session: &Session, filter: QueryFilter) -> Result<usize, Failure> {
    let mut pages = Pages::of(session, filter);
    pages.next(1).await?;
    Ok(pages.total)
}

pub(super) async fn run(flags: List, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    let output = flags.common.output();
    let limit = flags.limit(output);
    let mut pages = Pages::of(&session, flags.filter(Timestamp::now()));
    let (mut shown, mut rows) = (0, Vec::new());
    while shown < limit
        && !out.is_gone()
        && let Some(queries) = during("reading", pages.next(limit - shown)).await?
    {
        shown += queries.len();
        match output {
            Output::Json => queries.iter().for_each(|query| out.line(&json::line("Query", query))),
            Output::Table => rows.extend(queries),
        }
    }
    if output == Output::Table && !rows.is_empty() {
        out.text(&render::table(&rows, Columns::All, Timestamp::now(), screen::width()));
    }
    if shown == 0 && limit > 0 && output == Output::Table {
        note!("No query matches.");
    }
    if !pages.ended && !out.is_gone() {
        note!("{shown} of {} queries, the newest; --limit or --all shows more", pages.total);
    }
    Ok(())
}
