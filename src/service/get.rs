//! GetQuery and GetQueryPlan: one query, as the history has it, and how Atoti retrieves its result.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Bridge, Caller, check::Check, explain};
use crate::{
    atoti::{Lane, QueryId},
    proto::queryhistory::{GetQueryPlanRequest, GetQueryPlanResponse, GetQueryRequest, GetQueryResponse},
    status::{Failure, Reason},
};

pub(super) async fn one(
    bridge: &Bridge,
    caller: &Arc<Caller>,
    request: GetQueryRequest,
) -> Result<GetQueryResponse, Failure> {
    let id = id(&request.query_id, caller)?;
    let _admission = bridge.admit_read(caller).await?;
    let call = caller.call(Lane::Reads);
    match bridge.atoti.get_query(&call, &id).await {
        Ok(query) => Ok(GetQueryResponse { query: Some(query.into()) }),
        Err(error) => Err(explain(&bridge.atoti, &call, error).await),
    }
}

pub(super) async fn plan(
    bridge: &Bridge,
    caller: &Arc<Caller>,
    request: GetQueryPlanRequest,
) -> Result<GetQueryPlanResponse, Failure> {
    let mut check = Check::default();
    let id = check.query_id(&request.query_id);
    let timeout = check.duration("timeout", Reason::InvalidPlanTimeout, request.timeout);
    if request.timeout.is_some() && timeout.is_some_and(|timeout| timeout.is_zero()) {
        check.refuse::<()>("timeout", Reason::InvalidPlanTimeout);
    }
    let (id, timeout) = check.done(&caller.violations, id.zip(timeout))?;
    caller.is_about(&id);
    let _admission = bridge.admit_read(caller).await?;
    if !bridge.allow_query_plan {
        return Err(Failure::QueryPlanDisabled);
    }
    let call = caller.call(Lane::Reads);
    let left = call.read_by.saturating_duration_since(Instant::now());
    let timeout = if request.timeout.is_some() { timeout.min(left) } else { left };
    match bridge.atoti.query_plan(&call, &id, timeout).await {
        Ok(plan_json) => Ok(GetQueryPlanResponse { plan_json }),
        Err(error) => Err(explain(&bridge.atoti, &call, error).await),
    }
}

/// The id of a request that holds nothing else.
pub(super) fn id(query_id: &str, caller: &Caller) -> Result<QueryId, Failure> {
    let mut check = Check::default();
    let id = check.query_id(query_id);
    if let Some(id) = &id {
        caller.is_about(id);
    }
    check.done(&caller.violations, id)
}
