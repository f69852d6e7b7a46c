//! CancelQueries: everything that matches, each once, and what became of each.
//!
//! ```text
//! validate ─► admit ─► find all matches ─► more than the fuse? ─► stop them, some at a time ─► one answer for each
//! ```
//!
//! All from finding on runs in a task of its own. When the caller goes away, or takes no answers for long, nothing further
//! is begun; what has been sent is carried to its end, and recorded.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::mpsc::{OwnedPermit, Sender},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Bridge, Caller, Failed,
    attempt::{Attempt, Success},
    check::Check,
    pages::{self, Position},
    stop::{Stop, Stopped},
    stream::{Answers, Step, answers, channel},
    tell_cause,
};
use crate::{
    atoti::{Filter, Lane, Query, QueryId, QueryStatus},
    audit::{Bulk, NotWritten},
    proto::queryhistory::{CancelOutcome, CancelQueriesRequest, CancelQueriesResponse},
    status::{Failure, Reason, Subject, Violation},
};

const DEFAULT_FUSE: usize = 100;
const LARGEST_FUSE: usize = 10_000;
/// Queries read at once while matches are looked for.
const PAGE: u32 = 500;
/// Queries stopped at once: enough to be fast, few enough to leave turns at Atoti to others.
const AT_ONCE: usize = 16;
/// The same where each is waited for, which is mostly sleeping.
const AT_ONCE_WAITING: usize = 48;

/// A valid request.
#[derive(Clone, Debug)]
pub(super) struct Command {
    filter: Filter,
    fuse: usize,
    wait: Duration,
    validate_only: bool,
    reason: String,
}

/// One bulk cancel at work.
struct Work {
    bridge: Arc<Bridge>,
    caller: Arc<Caller>,
    command: Command,
    answers: Sender<Step<CancelQueriesResponse>>,
    /// The caller no longer waits, or takes nothing.
    gone: CancellationToken,
}

pub(super) fn serve(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: CancelQueriesRequest,
) -> Result<Answers<CancelQueriesResponse>, Failure> {
    let reason = request.reason.clone();
    let checked = check(request, caller, Timestamp::now());
    let filter = checked.as_ref().ok().map(|command| command.filter.parameters());
    let attempt = Attempt { operation: "CancelQueries", query_id: None, filter, reason };
    let admitted = checked.and_then(|command| Ok((command, bridge.admit_attempt(caller, Lane::Cancels)?)));
    let (command, admission) = admitted.map_err(|failure| attempt.refused(bridge, caller, failure))?;

    // Whoever is slow has as many answers waiting as queries are at work; then the next query waits too.
    let (sender, last, steps) = channel(2 * command.width());
    let gone = CancellationToken::new();
    let told = gone.clone().drop_guard();
    let work = Work {
        bridge: Arc::clone(bridge),
        caller: Arc::clone(caller),
        command,
        answers: sender,
        gone: gone.clone(),
    };
    let (caller, at_work) = (Arc::clone(caller), caller.peer.at_work.token());
    bridge.tasks.spawn({
        let caller = Arc::clone(&caller);
        async move {
            let mut count = Bulk { validate_only: work.command.validate_only, ..Bulk::default() };
            let done = AssertUnwindSafe(work.run(&mut count)).catch_unwind().await;
            let result = done.unwrap_or(Err(Failure::Bug));
            let told = result.as_ref().map(|()| Success::default());
            let trail = &work.bridge.trail;
            let recorded = attempt.record(trail, &caller, told, Some(count), !gone.is_cancelled()).await;
            // Nothing is at work any more, however long the caller takes to hear of it.
            drop(admission);
            let sender = last.send(Step::End(result.and(recorded).map_err(Arc::new)));
            // The connection stays for the last answers, if they are taken.
            tokio::spawn(async move {
                let _ = timeout(caller.patience(), sender.closed()).await;
                drop(at_work);
            });
        }
    });
    Ok(answers(steps, caller, told))
}

pub(super) fn check(
    request: CancelQueriesRequest,
    caller: &Caller,
    now: Timestamp,
) -> Result<Command, Failure> {
    let mut check = Check::default();
    let filter = check.filter(request.filter.as_ref());
    let wait = check.wait(request.wait);
    let age = request.min_running_time;
    let age = check.duration("min_running_time", Reason::InvalidMinRunningTime, age);
    let fuse = match usize::try_from(request.max_cancellations) {
        Ok(0) => Some(DEFAULT_FUSE),
        Ok(fuse @ 1..=LARGEST_FUSE) => Some(fuse),
        _ => check.refuse("max_cancellations", Reason::InvalidMaxCancellations),
    };
    check.reason(&request.reason);
    let filter = filter.zip(age).and_then(|(filter, age)| {
        let Some(filter) = of_running(filter) else {
            return check.refuse("filter.statuses", Reason::InvalidFilter);
        };
        if filter.is_of_running_alone() && age.is_zero() {
            return check.refuse("filter", Reason::EmptyFilter);
        }
        Some(older_than(filter, age, now))
    });
    let command = filter.zip(fuse).zip(wait).map(|((filter, fuse), wait)| Command {
        filter,
        fuse,
        wait,
        validate_only: request.validate_only,
        reason: request.reason,
    });
    check.done(&caller.violations, command)
}

/// Only what runs can be stopped.
fn of_running(filter: Filter) -> Option<Filter> {
    let statuses = vec![QueryStatus::Running];
    let fits = filter.statuses.is_empty() || filter.statuses == statuses;
    fits.then_some(Filter { statuses, ..filter })
}

/// Only what started long enough ago. No query is older than the calendar.
fn older_than(filter: Filter, age: Duration, now: Timestamp) -> Filter {
    if age.is_zero() {
        return filter;
    }
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let latest = now.checked_sub(age).unwrap_or(Timestamp::MIN);
    Filter { started_before: filter.started_before.into_iter().chain([latest]).min(), ..filter }
}

/// A place for an answer.
type Room = OwnedPermit<Step<CancelQueriesResponse>>;

impl Command {
    /// How many are stopped at once.
    fn width(&self) -> usize {
        if self.wait.is_zero() { AT_ONCE } else { AT_ONCE_WAITING }
    }
}

impl Work {
    async fn run(&self, count: &mut Bulk) -> Result<(), Failure> {
        let mut left = self.find(count).await?.into_iter();
        let width = self.command.width();
        let mut stopping = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(failed) = stopping.next() => {
                    count.attempted += 1;
                    count.failed += u64::from(failed);
                }
                // There is room for its answer before a query's turn comes: what is at work waits for nobody.
                room = self.room(), if left.len() > 0 && stopping.len() < width => {
                    match (room, left.next()) {
                        (Some(room), Some(query)) => stopping.push(self.stop_and_tell(query, room)),
                        _ => left = Vec::new().into_iter(),
                    }
                }
                else => break,
            }
        }
        if count.attempted < count.matches && !self.command.validate_only {
            return Err(self.ended_early());
        }
        Ok(())
    }

    /// Everything that matches now, each once. A dry run tells it right away, and keeps nothing.
    async fn find(&self, count: &mut Bulk) -> Result<Vec<Query>, Failure> {
        let Command { filter, fuse, validate_only, .. } = &self.command;
        let (mut known, mut matches) = (HashSet::new(), Vec::new());
        let mut position = Position::default();
        loop {
            let call = self.caller.piece(Lane::Cancels);
            let page = pages::read(&self.bridge.atoti, &call, filter, &position, PAGE, usize::MAX).await?;
            for query in page.queries {
                // Never on the word of a list alone.
                if !filter.admits(&query) || !known.insert(query.id.clone()) {
                    continue;
                }
                count.matches += 1;
                if !validate_only {
                    matches.push(query);
                } else {
                    let room = self.room().await.ok_or_else(|| self.ended_early())?;
                    room.send(Step::Answer(answer(query)));
                }
            }
            if !validate_only && matches.len() > *fuse {
                let told = u64::try_from(page.total).unwrap_or_default();
                return Err(Failure::TooManyMatches { matches: told.max(count.matches), most: *fuse });
            }
            match page.next {
                Some(next) => position = next,
                None => return Ok(matches),
            }
        }
    }

    /// Why, when nobody takes any more.
    fn ended_early(&self) -> Failure {
        let in_time = self.caller.end_by.is_none_or(|end| Instant::now() < end);
        if in_time { Failure::CallerGone } else { Failure::DeadlineOver }
    }

    /// Room for one answer more; nothing when nobody takes any.
    async fn room(&self) -> Option<Room> {
        tokio::select! {
            biased;
            () = self.no_more() => None,
            room = self.answers.clone().reserve_owned() => room.ok(),
            () = sleep(self.caller.patience()) => {
                self.gone.cancel();
                None
            }
        }
    }

    async fn no_more(&self) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = self.caller.over() => {}
        }
    }

    /// Yields whether it failed.
    async fn stop_and_tell(&self, query: Query, room: Room) -> bool {
        let answer = self.stop(query).await;
        let failed = answer.error.is_some();
        room.send(Step::Answer(answer));
        failed
    }

    async fn stop(&self, query: Query) -> CancelQueriesResponse {
        let Some(id) = QueryId::parse(&query.id) else {
            // Atoti's own id, and nothing that could be put into a URL.
            let violation = Violation { field: "query_id", reason: Reason::InvalidQueryId };
            let failure = Failure::Invalid(vec![violation]);
            return CancelQueriesResponse {
                error: Some(failure.to_message(self.subject(""))),
                ..answer(query)
            };
        };
        let attempt = Attempt {
            operation: "CancelQueries",
            query_id: Some(query.id.clone()),
            filter: Some(self.command.filter.parameters()),
            reason: self.command.reason.clone(),
        };
        let stop = Stop {
            id,
            wait: self.command.wait,
            // What ended by itself before its turn came needs no stopping.
            allow_finished: true,
            at: self.bridge.atoti.node(&query.node_name),
        };
        let call = self.caller.piece(Lane::Cancels);
        let trail = &self.bridge.trail;
        let result = match trail.ready() {
            Ok(()) => stop.carry_out(&self.bridge.atoti, &call, &self.gone).await,
            Err(NotWritten) => Err(Failure::AuditUnavailable),
        };
        let told = result.as_ref().map(|stopped| Success {
            outcome: Some(stopped.outcome.as_str_name()),
            attempts: stopped.attempts,
        });
        let recorded = attempt.record(trail, &self.caller, told, None, !self.gone.is_cancelled()).await;
        match result.and_then(|stopped| recorded.map(|()| stopped)) {
            Ok(Stopped { outcome, query: read, .. }) => {
                CancelQueriesResponse { outcome: outcome.into(), ..answer(read.map_or(query, |read| *read)) }
            }
            Err(failure) => {
                self.log(&failure, &query.id);
                let error = failure.to_message(self.subject(&query.id));
                CancelQueriesResponse { error: Some(error), ..answer(query) }
            }
        }
    }

    /// One query's failure does not end the call, whose own line does not tell of it.
    fn log(&self, failure: &Failure, query_id: &str) {
        tell_cause(failure, &self.caller);
        let failed = Failed::from(failure);
        let trace = self.caller.trace.as_ref();
        tracing::warn!(
            request_id = &*self.caller.request_id,
            trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
            span_id = trace.map(|trace| tracing::field::display(trace.span_id())),
            query_id,
            reason = failed.reason.as_str(),
            cause = failed.cause,
            http_status = failed.http_status,
            node = failed.node.as_deref(),
            attempts = failed.attempts,
            request_sent = failed.request_sent,
            "one query of several could not be stopped"
        );
    }

    fn subject<'a>(&'a self, query_id: &'a str) -> Subject<'a> {
        Subject { request_id: &self.caller.request_id, query_id: Some(query_id) }
    }
}

fn answer(query: Query) -> CancelQueriesResponse {
    CancelQueriesResponse {
        query: Some(query.into()),
        outcome: CancelOutcome::Unspecified.into(),
        error: None,
    }
}
