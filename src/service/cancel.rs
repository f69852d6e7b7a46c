//! CancelQuery and CancelAllQueries: one query, or everything.
//!
//! A cancel that has been sent is carried to its end even when its caller hangs up, see `carry`.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Bridge, Caller,
    attempt::{Attempt, Success},
    check::Check,
    explain,
    stop::{Stop, Stopped},
};
use crate::{
    atoti::{self, Accepted, Atoti, Call, Filter, Lane, Node, Part, QueryStatus},
    proto::queryhistory::{
        CancelAllQueriesRequest, CancelAllQueriesResponse, CancelOutcome, CancelQueryRequest,
        CancelQueryResponse,
    },
    status::Failure,
};

/// How often it is looked whether anything still runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn one(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: CancelQueryRequest,
) -> Result<CancelQueryResponse, Failure> {
    let checked =
        check(&request, caller).and_then(|stop| Ok((stop, bridge.admit_attempt(caller, Lane::Cancels)?)));
    let attempt = Attempt {
        operation: "CancelQuery",
        query_id: Some(request.query_id),
        filter: None,
        reason: request.reason,
    };
    let (stop, admission) = checked.map_err(|failure| attempt.refused(bridge, caller, failure))?;
    let (atoti, call) = (Arc::clone(&bridge.atoti), caller.call(Lane::Cancels));
    let work = move |gone: CancellationToken| async move {
        // By itself: what is around it would be moved about with all the room that it needs.
        let stopped = Box::pin(stop.carry_out(&atoti, &call, &gone)).await?;
        let outcome = Some(stopped.outcome.as_str_name());
        let success = Success { outcome, attempts: stopped.attempts };
        Ok((stopped, success))
    };
    let Stopped { outcome, query, .. } = attempt.carry(bridge, caller, admission, work).await?;
    Ok(CancelQueryResponse { outcome: outcome.into(), query: query.map(|query| Box::new((*query).into())) })
}

pub(super) fn check(request: &CancelQueryRequest, caller: &Caller) -> Result<Stop, Failure> {
    let mut check = Check::default();
    let (id, wait) = (check.query_id(&request.query_id), check.wait(request.wait));
    if let Some(id) = &id {
        caller.is_about(id);
    }
    check.reason(&request.reason);
    let allow_finished = request.allow_finished;
    let stop = id.zip(wait).map(|(id, wait)| Stop { id, wait, allow_finished, at: None });
    check.done(&caller.violations, stop)
}

pub(super) async fn all(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: CancelAllQueriesRequest,
) -> Result<CancelAllQueriesResponse, Failure> {
    let mut check = Check::default();
    let wait = check.wait(request.wait);
    check.reason(&request.reason);
    let checked = check.done(&caller.violations, wait);
    let admitted = checked.and_then(|wait| Ok((wait, bridge.admit_attempt(caller, Lane::Cancels)?)));
    let attempt = Attempt {
        operation: "CancelAllQueries",
        query_id: None,
        filter: Some("status=RUNNING".to_owned()),
        reason: request.reason,
    };
    let (wait, admission) = admitted.map_err(|failure| attempt.refused(bridge, caller, failure))?;
    let (atoti, call) = (Arc::clone(&bridge.atoti), caller.call(Lane::Cancels));
    let work = move |gone: CancellationToken| async move {
        let attempts = everywhere(&atoti, &call).await?;
        let response = wait_for_quiet(&atoti, &call, wait, &gone).await;
        let outcome = Some(response.outcome().as_str_name());
        Ok((response, Success { outcome, attempts }))
    };
    attempt.carry(bridge, caller, admission, work).await
}

/// Atoti where the bridge finds it, and each node that it has been told of: a cancel reaches one process only.
async fn everywhere(atoti: &Atoti, call: &Call) -> Result<u32, Failure> {
    let nodes = atoti.nodes_elsewhere();
    let places = std::iter::once(None).chain(nodes.iter().map(Some));
    let answers = join_all(places.map(|place: Option<&Node>| atoti.cancel_all(call, place))).await;
    let made = |answer: &Result<Accepted, atoti::Error>| match answer {
        Ok(accepted) => accepted.attempts,
        Err(error) => error.attempts,
    };
    let attempts = answers.iter().map(made).sum();
    match answers.into_iter().find_map(Result::err) {
        None => Ok(attempts),
        Some(error) => {
            // Whatever became of this one, others may have been told since.
            let error = atoti::Error { attempts, request_sent: call.gate.was_sent(), ..error };
            Err(explain(atoti, call, error).await)
        }
    }
}

async fn wait_for_quiet(
    atoti: &Atoti,
    call: &Call,
    wait: Duration,
    gone: &CancellationToken,
) -> CancelAllQueriesResponse {
    if wait.is_zero() {
        return CancelAllQueriesResponse { outcome: CancelOutcome::Requested.into(), still_running: None };
    }
    // A sum past the end of the clock is past the deadline too.
    let until = Instant::now().checked_add(wait).map_or(call.read_by, |end| end.min(call.read_by));
    let filter = Filter { statuses: vec![QueryStatus::Running], ..Filter::default() };
    let mut still_running = None;
    let until_quiet = async {
        loop {
            // A look that fails says nothing. The next one may succeed.
            let seen = atoti.list_queries(call, &filter, Part { size: 1, page: 0 }).await;
            let count =
                seen.ok().and_then(|page| page.total.or_else(|| page.queries.is_empty().then_some(0)));
            if let Some(count) = count {
                still_running = i64::try_from(count).ok();
            }
            if count == Some(0) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        // Nothing is begun for a caller that has gone.
        () = gone.cancelled() => {}
        () = until_quiet => {}
        () = sleep_until(until) => {}
    }
    let outcome = if still_running == Some(0) { CancelOutcome::Cancelled } else { CancelOutcome::Requested };
    CancelAllQueriesResponse { outcome: outcome.into(), still_running }
}
