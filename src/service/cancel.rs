//! CancelQuery: stop one query, and say no more than is known.
//!
//! ```text
//! validate ─► admit ─► PATCH ─┬─ accepted ─► wait > 0? ─► GET until it has ended ─► OK
//!                             ├─ 404 ──────► GET: did it end, run elsewhere, or never exist?
//!                             └─ any other failure
//! ```
//!
//! All from PATCH on runs in a task of its own: a cancel that has been sent is carried to its end even when its caller
//! hangs up, and the task writes the audit record when it knows the truth.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{Bridge, Caller};
use crate::{
    atoti::{self, Atoti, Call, Lane, QueryId, QueryStatus},
    audit,
    proto::queryhistory::{CancelOutcome, CancelQueryRequest, CancelQueryResponse},
    status::{Failure, Reason, Violation},
};

const MAX_REASON_CHARS: usize = 512;
/// The first two reads of `wait` are this far apart; the distance doubles up to the longest.
const FIRST_POLL_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_POLL_PAUSE: Duration = Duration::from_secs(1);
/// A query that the history shows running after a 404 has perhaps just ended: it is read again after this.
const SECOND_LOOK_PAUSE: Duration = Duration::from_millis(100);

/// A valid request.
#[derive(Debug)]
struct Command {
    id: QueryId,
    wait: Duration,
    allow_finished: bool,
}

/// A success.
#[derive(Debug)]
struct Done {
    outcome: CancelOutcome,
    query: Option<atoti::Query>,
    attempts: u32,
}

pub(super) async fn serve(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: CancelQueryRequest,
) -> Result<CancelQueryResponse, Failure> {
    if let Some(id) = QueryId::parse(&request.query_id) {
        caller.is_about(&id);
    }
    let admitted = validate(&request, &caller.violations)
        .map_err(Failure::Invalid)
        .and_then(|command| Ok((command, bridge.admit(caller, Lane::Cancels)?)));
    let (command, admission) = match admitted {
        Ok(admitted) => admitted,
        Err(failure) => {
            record(caller, &request, Err(&failure), true);
            return Err(failure);
        }
    };

    let (mut answer, answered) = oneshot::channel();
    bridge.tasks.spawn({
        let (bridge, caller) = (Arc::clone(bridge), Arc::clone(caller));
        async move {
            let call = caller.call(Lane::Cancels);
            let work = carry_out(&bridge.atoti, &call, &command, &mut answer);
            let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Failure::Bug));
            record(&caller, &request, result.as_ref(), !answer.is_closed());
            // Nobody may be there to hear it.
            let _ = answer.send(result);
            drop(admission);
        }
    });
    // Dropped at the caller's deadline, or when it hangs up; the task goes on.
    let done = answered.await.unwrap_or(Err(Failure::Bug))?;
    Ok(CancelQueryResponse { outcome: done.outcome.into(), query: done.query.map(Into::into) })
}

/// Checks the request; `found` is what is wrong with its headers.
fn validate(request: &CancelQueryRequest, found: &[Violation]) -> Result<Command, Vec<Violation>> {
    let mut violations = Vec::new();
    let id = QueryId::parse(&request.query_id);
    if id.is_none() {
        violations.push(Violation { field: "query_id", reason: Reason::InvalidQueryId });
    }
    let wait = request.wait.map_or(Some(Duration::ZERO), wait);
    if wait.is_none() {
        violations.push(Violation { field: "wait", reason: Reason::InvalidWait });
    }
    if request.reason.chars().count() > MAX_REASON_CHARS {
        violations.push(Violation { field: "reason", reason: Reason::InvalidReason });
    }
    violations.extend_from_slice(found);
    match (id, wait) {
        (Some(id), Some(wait)) if violations.is_empty() => {
            Ok(Command { id, wait, allow_finished: request.allow_finished })
        }
        _ => Err(violations),
    }
}

/// A protobuf duration of 0 or more, within the bounds that `google.protobuf.Duration` sets.
fn wait(wait: prost_types::Duration) -> Option<Duration> {
    const MAX_SECONDS: u64 = 315_576_000_000;
    let seconds = u64::try_from(wait.seconds).ok().filter(|seconds| *seconds <= MAX_SECONDS)?;
    let nanos = u32::try_from(wait.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// Has Atoti cancel the query; `caller` closes when nobody waits for the result any more.
async fn carry_out<T>(
    atoti: &Atoti,
    call: &Call,
    command: &Command,
    caller: &mut oneshot::Sender<T>,
) -> Result<Done, Failure> {
    match atoti.cancel_query(call, &command.id).await {
        Ok(accepted) => {
            let (outcome, query) = wait_for_end(atoti, call, command, caller).await;
            Ok(Done { outcome, query, attempts: accepted.attempts })
        }
        Err(error) if error.is_not_found() => explain_not_found(atoti, call, command, error).await,
        Err(error) => Err(Failure::Atoti(error)),
    }
}

/// After Atoti accepted: reads the query until it has ended, as long as the caller wants to wait and does.
async fn wait_for_end<T>(
    atoti: &Atoti,
    call: &Call,
    command: &Command,
    caller: &mut oneshot::Sender<T>,
) -> (CancelOutcome, Option<atoti::Query>) {
    if command.wait.is_zero() {
        return (CancelOutcome::Requested, None);
    }
    // A sum past the end of the clock is past the deadline too.
    let until = Instant::now().checked_add(command.wait).map_or(call.read_by, |end| end.min(call.read_by));
    let mut last_read = None;
    let seen_ended = async {
        let mut pause = FIRST_POLL_PAUSE;
        loop {
            // A read that fails says nothing about the query. The next one may succeed.
            if let Ok(query) = atoti.get_query(call, &command.id).await {
                let ended = outcome_of_ended(query.status);
                last_read = Some(query);
                if let Some(outcome) = ended {
                    return outcome;
                }
            }
            sleep(pause).await;
            pause = LONGEST_POLL_PAUSE.min(pause * 2);
        }
    };
    let outcome = tokio::select! {
        outcome = seen_ended => outcome,
        () = sleep_until(until) => CancelOutcome::Requested,
        () = caller.closed() => CancelOutcome::Requested,
    };
    (outcome, last_read)
}

/// After a 404, which does not say whether the query ended, runs elsewhere, or never was: the history knows.
async fn explain_not_found(
    atoti: &Atoti,
    call: &Call,
    command: &Command,
    error: atoti::Error,
) -> Result<Done, Failure> {
    let mut query = match atoti.get_query(call, &command.id).await {
        Ok(query) => query,
        Err(read) if read.is_not_found() && atoti.lacks_api(call).await => {
            return Err(Failure::ApiMissing(error));
        }
        Err(_) => return Err(Failure::Atoti(error)),
    };
    if query.status == QueryStatus::Running {
        sleep_until(call.read_by.min(Instant::now() + SECOND_LOOK_PAUSE)).await;
        query = atoti.get_query(call, &command.id).await.unwrap_or(query);
    }
    let Some(outcome) = outcome_of_ended(query.status) else {
        return Err(match query.status {
            QueryStatus::Running => Failure::QueryOnOtherNode(error, query.node_name),
            // A status newer than this program: it exists, and that is all that can be said.
            _ => Failure::QueryNotRunning(error, query.status),
        });
    };
    // An answer was lost on the way, and that cancel was ours.
    let ours = error.answer_lost && outcome == CancelOutcome::Cancelled;
    if ours || command.allow_finished {
        let attempts = error.attempts;
        return Ok(Done { outcome, query: Some(query), attempts });
    }
    Err(Failure::QueryNotRunning(error, query.status))
}

fn outcome_of_ended(status: QueryStatus) -> Option<CancelOutcome> {
    match status {
        QueryStatus::Cancelled => Some(CancelOutcome::Cancelled),
        QueryStatus::Successful | QueryStatus::Failed => Some(CancelOutcome::Finished),
        QueryStatus::Running | QueryStatus::Unrecognised => None,
    }
}

fn record(
    caller: &Caller,
    request: &CancelQueryRequest,
    result: Result<&Done, &Failure>,
    caller_waited: bool,
) {
    let (done, failure) = (result.ok(), result.err());
    let error = failure.and_then(Failure::atoti_error);
    audit::Record {
        operation: "CancelQuery",
        query_id: head(&request.query_id, atoti::MAX_QUERY_ID_LENGTH),
        reason: head(&request.reason, MAX_REASON_CHARS),
        caller: audit::Caller {
            peer: caller.peer.address,
            certificate: caller.peer.name.as_deref(),
            claimed_user: caller.claimed_user().as_deref(),
        },
        request_id: &caller.request_id,
        trace_id: caller.trace_id.as_deref(),
        outcome: done.map(|done| done.outcome.as_str_name()),
        code: failure.map_or("OK", |failure| failure.reason().code_name()),
        error_reason: failure.map(|failure| failure.reason().as_str()),
        http_status: error.and_then(|error| error.http_status),
        attempts: done.map_or_else(|| error.map_or(0, |error| error.attempts), |done| done.attempts),
        request_sent: done.is_some() || error.is_some_and(|error| error.request_sent),
        caller_waited,
    }
    .write();
}

/// The first characters of a text that may be of any length.
fn head(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_violations_are_told_at_once() {
        let request = CancelQueryRequest {
            query_id: "..".to_owned(),
            wait: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            reason: "ä".repeat(513),
            allow_finished: false,
        };
        let header = Violation { field: "authorization", reason: Reason::InvalidAuthorization };
        let fields: Vec<_> = validate(&request, &[header])
            .expect_err("invalid")
            .iter()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, ["query_id", "wait", "reason", "authorization"]);
    }

    #[test]
    fn a_reason_is_measured_in_characters() {
        let request =
            CancelQueryRequest { query_id: "1".to_owned(), reason: "ä".repeat(512), ..Default::default() };
        assert!(validate(&request, &[]).is_ok());
    }

    #[test]
    fn waits_within_protobufs_bounds_are_taken() {
        for (seconds, nanos, taken) in [
            (0, 0, true),
            (0, 999_999_999, true),
            (315_576_000_000, 0, true),
            (315_576_000_001, 0, false),
            (0, 1_000_000_000, false),
            (0, -1, false),
            (-1, 0, false),
            (i64::MAX, i32::MAX, false),
        ] {
            assert_eq!(wait(prost_types::Duration { seconds, nanos }).is_some(), taken, "{seconds} {nanos}");
        }
    }

    proptest! {
        #[test]
        fn only_a_valid_id_passes(id in any::<String>()) {
            let request = CancelQueryRequest { query_id: id.clone(), ..Default::default() };
            prop_assert_eq!(validate(&request, &[]).is_ok(), QueryId::parse(&id).is_some());
        }
    }
}
