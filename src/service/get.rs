//! GetQuery: one query, as the history has it.

use std::sync::Arc;

use super::{Bridge, Caller};
use crate::{
    atoti::{Lane, QueryId},
    proto::queryhistory::{GetQueryRequest, GetQueryResponse},
    status::{Failure, Reason, Violation},
};

pub(super) async fn serve(
    bridge: &Bridge,
    caller: &Arc<Caller>,
    request: GetQueryRequest,
) -> Result<GetQueryResponse, Failure> {
    let id = validate(&request, &caller.violations).map_err(Failure::Invalid)?;
    caller.is_about(&id);
    let _admission = bridge.admit(caller, Lane::Reads)?;
    let query = bridge.atoti.get_query(&caller.call(Lane::Reads), &id).await.map_err(Failure::Atoti)?;
    Ok(GetQueryResponse { query: Some(query.into()) })
}

/// Checks the request; `found` is what is wrong with its headers.
fn validate(request: &GetQueryRequest, found: &[Violation]) -> Result<QueryId, Vec<Violation>> {
    let mut violations = found.to_vec();
    match QueryId::parse(&request.query_id) {
        Some(id) if violations.is_empty() => Ok(id),
        Some(_) => Err(violations),
        None => {
            violations.insert(0, Violation { field: "query_id", reason: Reason::InvalidQueryId });
            Err(violations)
        }
    }
}
