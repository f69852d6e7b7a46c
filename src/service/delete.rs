//! DeleteQuery and DeleteQueries: what has ended is cleared away.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Bridge, Caller,
    attempt::{Attempt, Success},
    check::Check,
    explain,
    stop::outcome_of_ended,
};
use crate::{
    atoti::{self, Atoti, Call, Fact, Lane, QueryId, QueryStatus, Refusal},
    proto::queryhistory::{
        DeleteQueriesRequest, DeleteQueriesResponse, DeleteQueryRequest, DeleteQueryResponse,
    },
    status::Failure,
};

pub(super) async fn one(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: DeleteQueryRequest,
) -> Result<DeleteQueryResponse, Failure> {
    let mut check = Check::default();
    let id = check.query_id(&request.query_id);
    check.reason(&request.reason);
    if let Some(id) = &id {
        caller.is_about(id);
    }
    let checked = check.done(&caller.violations, id);
    let admitted = checked.and_then(|id| Ok((id, bridge.admit_attempt(caller, Lane::Reads)?)));
    let attempt = Attempt {
        operation: "DeleteQuery",
        query_id: Some(request.query_id),
        filter: None,
        reason: request.reason,
    };
    let (id, admission) = admitted.map_err(|failure| attempt.refused(bridge, caller, failure))?;
    let (atoti, call) = (Arc::clone(&bridge.atoti), caller.call(Lane::Reads));
    let work = move |_: CancellationToken| async move {
        let attempts = delete(&atoti, &call, &id).await?;
        Ok(((), Success { attempts, ..Success::default() }))
    };
    attempt.carry(bridge, caller, admission, work).await?;
    Ok(DeleteQueryResponse {})
}

/// Yields how many requests it took.
async fn delete(atoti: &Atoti, call: &Call, id: &QueryId) -> Result<u32, Failure> {
    let refused = match atoti.delete_query(call, id).await {
        Ok(accepted) => return Ok(accepted.attempts),
        Err(error) => error,
    };
    if !matches!(refused.fact, Fact::Refused(Refusal { status: 400, .. })) {
        return gone_or_why_not(atoti, call, refused).await;
    }
    // Atoti's 400 does not say whether the query still runs or the request was bad: the history knows.
    let status = atoti.get_query(call, id).await.ok().map(|query| query.status);
    match status {
        Some(QueryStatus::Running) => Err(Failure::QueryStillRunning(refused)),
        // Perhaps it ended in between, and 400 is no longer true. If the request is bad, it is so once more.
        Some(status) if outcome_of_ended(status).is_some() => match atoti.delete_query(call, id).await {
            Ok(accepted) => Ok(refused.attempts + accepted.attempts),
            Err(again) => gone_or_why_not(atoti, call, again.after(&refused)).await,
        },
        _ => Err(Failure::Atoti(refused)),
    }
}

async fn gone_or_why_not(atoti: &Atoti, call: &Call, error: atoti::Error) -> Result<u32, Failure> {
    // The answer to an earlier attempt was lost, and that deletion was ours.
    if error.is_not_found() && error.answer_lost {
        return Ok(error.attempts);
    }
    Err(explain(atoti, call, error).await)
}

pub(super) async fn many(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: DeleteQueriesRequest,
) -> Result<DeleteQueriesResponse, Failure> {
    let mut check = Check::default();
    let filter = check.filter_of_some(request.filter.as_ref());
    check.reason(&request.reason);
    let attempt = Attempt {
        operation: "DeleteQueries",
        query_id: None,
        filter: filter.as_ref().map(atoti::Filter::parameters),
        reason: request.reason,
    };
    let checked = check.done(&caller.violations, filter);
    let admitted = checked.and_then(|filter| Ok((filter, bridge.admit_attempt(caller, Lane::Reads)?)));
    let (filter, admission) = admitted.map_err(|failure| attempt.refused(bridge, caller, failure))?;
    let (atoti, call) = (Arc::clone(&bridge.atoti), caller.call(Lane::Reads));
    let work = move |_: CancellationToken| async move {
        match atoti.delete_queries(&call, &filter).await {
            Ok(accepted) => Ok(((), Success { attempts: accepted.attempts, ..Success::default() })),
            Err(error) => Err(explain(&atoti, &call, error).await),
        }
    };
    attempt.carry(bridge, caller, admission, work).await?;
    Ok(DeleteQueriesResponse {})
}
