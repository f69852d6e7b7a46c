//! DeleteQuery and DeleteQueries: what has ended is cleared away.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Bridge, Caller,
    attempt::{Attempt, Success},
    check::Check,
    explain,
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
        match atoti.delete_query(&call, &id).await {
            Ok(accepted) => Ok(((), Success { attempts: accepted.attempts, ..Success::default() })),
            // The answer to an earlier attempt was lost, and that deletion was ours.
            Err(error) if error.is_not_found() && error.answer_lost => {
                Ok(((), Success { attempts: error.attempts, ..Success::default() }))
            }
            Err(error) => Err(why_not(&atoti, &call, &id, error).await),
        }
    };
    attempt.carry(bridge, caller, admission, work).await?;
    Ok(DeleteQueryResponse {})
}

/// Atoti's 400 does not say whether the query still runs or the request was bad: the history knows.
async fn why_not(atoti: &Atoti, call: &Call, id: &QueryId, error: atoti::Error) -> Failure {
    if matches!(error.fact, Fact::Refused(Refusal { status: 400, .. }))
        && let Ok(query) = atoti.get_query(call, id).await
        && query.status == QueryStatus::Running
    {
        return Failure::QueryStillRunning(error);
    }
    explain(atoti, call, error).await
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
