//! The Query History API: one function per method and path.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::super::{
    Options, QueryType,
    history::{Deletion, Filter, iso_duration},
    problem::Problem,
    server::Server,
};

type Node = State<Arc<Server>>;

/// `PATCH /query/{id}`. Whether the id is unknown or just not running here is not told.
pub(super) async fn cancel_one(
    State(node): Node,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    wants_cancelled(&headers, &body)?;
    let Options { node_name, cancel_latency, .. } = &node.options;
    if node.history.cancel(&id, node_name, *cancel_latency) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such_query(&id))
    }
}

/// `PATCH /queries?status=RUNNING`.
pub(super) async fn cancel_all(
    State(node): Node,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    wants_cancelled(&headers, &body)?;
    let status = parameter(query.as_deref(), "status");
    match status.as_deref() {
        None => Err(Problem::spring(StatusCode::BAD_REQUEST)),
        Some("RUNNING") => {
            node.history.cancel_all(&node.options.node_name, node.options.cancel_latency);
            Ok(StatusCode::NO_CONTENT)
        }
        Some(other) => Err(Problem::bare(format!("Only RUNNING queries can be cancelled, not {other}"))),
    }
}

/// `GET /query/{id}`.
pub(super) async fn get_one(State(node): Node, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let query = node.history.find(&id).ok_or_else(|| no_such_query(&id))?;
    Ok(Json(query.json(node.offset)))
}

/// `GET /queries`.
pub(super) async fn list(State(node): Node, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let (filter, paging) = Filter::parse(query.as_deref().unwrap_or_default())?;
    let (queries, total) = node.history.page(&filter, paging);
    let data: Vec<Value> = queries.iter().map(|query| query.json(node.offset)).collect();
    Ok(Json(json!({
        "data": data,
        "pagination": {
            "pageNumber": paging.page,
            "pageSize": paging.size,
            "totalItems": total,
            "totalPages": total.div_ceil(paging.size),
        },
    })))
}

/// `GET /query/{id}/query-plan`.
pub(super) async fn plan(
    State(node): Node,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    if let Some(timeout) = parameter(query.as_deref(), "timeout")
        && iso_duration(&timeout).is_none()
    {
        return Err(Problem::bad_request(format!("Invalid value '{timeout}' of the parameter 'timeout'")));
    }
    let query = node.history.find(&id).ok_or_else(|| no_such_query(&id))?;
    if query.query_type != QueryType::Mdx {
        return Err(Problem::bad_request(format!("The query {id} is not an MDX query")));
    }
    Ok(Json(json!([{
        "planInfo": {"clusterMembers": [], "mdxPass": "Select_0", "pivotType": "SERVER"},
        "aggregateRetrievals": [{
            "retrievalId": 0,
            "type": "JITPrimitiveAggregatesRetrieval",
            "timingInfo": {"startTime": [0], "elapsedTime": [12]},
        }],
        "dependencies": {"-1": [0]},
    }])))
}

/// `DELETE /query/{id}`.
pub(super) async fn delete_one(State(node): Node, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    match node.history.delete(&id) {
        Deletion::Deleted => Ok(StatusCode::NO_CONTENT),
        Deletion::StillRunning => Err(Problem::bad_request(format!("The query {id} is still RUNNING"))),
        Deletion::Unknown => Err(no_such_query(&id)),
    }
}

/// `DELETE /queries`. No filter is every query that has ended.
pub(super) async fn delete_many(State(node): Node, RawQuery(query): RawQuery) -> Result<StatusCode, Problem> {
    let (filter, _) = Filter::parse(query.as_deref().unwrap_or_default())?;
    node.history.delete_matching(&filter);
    Ok(StatusCode::NO_CONTENT)
}

/// The one change that a query can be asked for.
fn wants_cancelled(headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::spring(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let change: Value = serde_json::from_slice(body).map_err(|_| Problem::spring(StatusCode::BAD_REQUEST))?;
    match &change["status"] {
        Value::String(status) if status == "CANCELLED" => Ok(()),
        other => Err(Problem::bare(format!("Unsupported status: {other}. Only CANCELLED is supported."))),
    }
}

fn no_such_query(id: &str) -> Problem {
    Problem::not_found(format!("No query found with id {id}"))
}

fn parameter(query: Option<&str>, wanted: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(query?.as_bytes());
    parameters.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}
