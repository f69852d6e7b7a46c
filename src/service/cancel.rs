//! CancelQuery and CancelAllQueries: one query, or everything.
//!
//! All from PATCH on runs in a task of its own, see `attempt`: a cancel that has been sent is carried to its end even
//! when its caller hangs up.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Bridge, Caller,
    attempt::{Attempt, Success},
    check::Check,
    explain,
    stop::{Stop, Stopped},
};
use crate::{
    atoti::{Atoti, Call, Filter, Lane, Node, Part, QueryId, QueryStatus},
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
    if let Some(id) = QueryId::parse(&request.query_id) {
        caller.is_about(&id);
    }
    let checked = check(&request, caller).and_then(|stop| Ok((stop, bridge.admit(caller, Lane::Cancels)?)));
    let attempt = Attempt {
        operation: "CancelQuery",
        query_id: Some(request.query_id),
        filter: None,
        reason: request.reason,
    };
    let (stop, admission) = checked.map_err(|failure| attempt.refused(caller, failure))?;
    let (atoti, call) = (Arc::clone(&bridge.atoti), caller.call(Lane::Cancels));
    let work = move |gone: CancellationToken| async move {
        let stopped = stop.carry_out(&atoti, &call, &gone).await?;
        let outcome = Some(stopped.outcome.as_str_name());
        let success = Success { outcome, attempts: stopped.attempts };
        Ok((stopped, success))
    };
    let Stopped { outcome, query, .. } = attempt.carry(bridge, caller, admission, work).await?;
    Ok(CancelQueryResponse { outcome: outcome.into(), query: query.map(Into::into) })
}

fn check(request: &CancelQueryRequest, caller: &Caller) -> Result<Stop, Failure> {
    let mut check = Check::default();
    let (id, wait) = (check.query_id(&request.query_id), check.wait(request.wait));
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
    let admitted = checked.and_then(|wait| Ok((wait, bridge.admit(caller, Lane::Cancels)?)));
    let attempt = Attempt {
        operation: "CancelAllQueries",
        query_id: None,
        filter: Some("status=RUNNING".to_owned()),
        reason: request.reason,
    };
    let (wait, admission) = admitted.map_err(|failure| attempt.refused(caller, failure))?;
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
    let mut attempts = 0;
    for answer in answers {
        match answer {
            Ok(accepted) => attempts += accepted.attempts,
            Err(error) => return Err(explain(atoti, call, error).await),
        }
    }
    Ok(attempts)
}

async fn wait_for_quiet(
    atoti: &Atoti,
    call: &Call,
    wait: Duration,
    gone: &CancellationToken,
) -> CancelAllQueriesResponse {
    let mut still_running = None;
    let until = Instant::now().checked_add(wait).map_or(call.read_by, |end| end.min(call.read_by));
    let filter = Filter { statuses: vec![QueryStatus::Running], ..Filter::default() };
    while !wait.is_zero() && still_running != Some(0) && Instant::now() < until && !gone.is_cancelled() {
        if still_running.is_some() {
            sleep(LOOK_EVERY).await;
        }
        let seen = atoti.list_queries(call, &filter, Part { size: 1, page: 0 }).await;
        let count = seen.ok().and_then(|page| page.total.or_else(|| page.queries.is_empty().then_some(0)));
        match count {
            Some(count) => still_running = i64::try_from(count).ok(),
            None => sleep(LOOK_EVERY).await,
        }
    }
    let quiet = still_running == Some(0);
    let outcome = if quiet { CancelOutcome::Cancelled } else { CancelOutcome::Requested };
    CancelAllQueriesResponse { outcome: outcome.into(), still_running }
}
