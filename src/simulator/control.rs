//! The control API, for tests in other languages: start and end queries, see the requests that came, set faults.
//!
//! It needs no login and is neither recorded nor subject to faults. It is there because a simulator has nothing to
//! protect; an Atoti Server has no such thing.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Fault, NewQuery, Outcome, QueryType, server::Server};

const PREFIX: &str = "/simulator";

/// Whether a path is of this API rather than of Atoti's.
pub(super) fn is_control(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn routes(server: &Arc<Server>) -> Router {
    let resources = Router::new()
        .route("/queries", get(running).post(start))
        .route("/queries/{id}/end", post(end))
        .route("/requests", get(requests).delete(clear_requests))
        .route("/faults", get(faults).post(inject).delete(clear_faults))
        .with_state(Arc::clone(server));
    Router::new().nest(PREFIX, resources).fallback(unknown)
}

type Node = State<Arc<Server>>;

async fn running(State(node): Node) -> Json<Value> {
    let running: Vec<Value> = node.history.running().iter().map(|query| query.json(node.offset)).collect();
    Json(json!({"running": running}))
}

/// A query to start; everything may be left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Wanted {
    username: String,
    query: String,
    node_name: Option<String>,
    is_mdx: bool,
    /// How long it runs by itself; for ever when left out.
    runs_milliseconds: Option<u64>,
    outcome: Ending,
    cancel_latency_milliseconds: Option<u64>,
}

impl Default for Wanted {
    fn default() -> Self {
        let NewQuery { username, text, .. } = NewQuery::default();
        Self {
            username: username.to_string(),
            query: text.to_string(),
            node_name: None,
            is_mdx: true,
            runs_milliseconds: None,
            outcome: Ending::Successful,
            cancel_latency_milliseconds: None,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Ending {
    Successful,
    Failed,
    Cancelled,
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Successful => Self::Successful,
            Ending::Failed => Self::Failed,
            Ending::Cancelled => Self::Cancelled,
        }
    }
}

async fn start(State(node): Node, body: Bytes) -> Result<Response, Refused> {
    let wanted: Wanted = read(&body)?;
    let id = node.history.start_query(NewQuery {
        username: wanted.username.into(),
        text: wanted.query.into(),
        query_type: if wanted.is_mdx { QueryType::Mdx } else { QueryType::Unknown },
        // The history may have been made by another node.
        node_name: Some(wanted.node_name.unwrap_or_else(|| node.options.node_name.clone()).into()),
        ends: wanted.runs_milliseconds.map(|time| (Duration::from_millis(time), wanted.outcome.into())),
        cancel_latency: wanted.cancel_latency_milliseconds.map(Duration::from_millis),
        ..NewQuery::default()
    });
    Ok((StatusCode::CREATED, Json(json!({"id": id}))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    outcome: Ending,
}

async fn end(State(node): Node, Path(id): Path<String>, body: Bytes) -> Result<StatusCode, Refused> {
    let End { outcome } = read(&body)?;
    if node.history.end(&id, outcome.into()) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refused(StatusCode::NOT_FOUND, "no running query has this id".to_owned()))
    }
}

async fn requests(State(node): Node) -> Json<Value> {
    let now = std::time::Instant::now();
    let text = String::from_utf8_lossy;
    let requests: Vec<Value> = node.recorder.all().iter().map(|request| {
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| json!([name, text(value)])).collect();
        json!({
            "method": request.method,
            "target": request.target,
            "headers": headers,
            "body": text(&request.body),
            "complete": request.complete,
            "connection": request.connection,
            "millisecondsAgo": u64::try_from(now.duration_since(request.arrived).as_millis()).unwrap_or(u64::MAX),
        })
    }).collect();
    Json(json!({"requests": requests}))
}

async fn clear_requests(State(node): Node) -> StatusCode {
    node.recorder.clear();
    StatusCode::NO_CONTENT
}

async fn faults(State(node): Node) -> Json<Value> {
    Json(json!({"faults": node.faults.all()}))
}

async fn inject(State(node): Node, body: Bytes) -> Result<StatusCode, Refused> {
    let fault: Fault = read(&body)?;
    fault.check().map_err(|mend| Refused(StatusCode::BAD_REQUEST, mend.to_owned()))?;
    node.faults.add(fault);
    Ok(StatusCode::CREATED)
}

async fn clear_faults(State(node): Node) -> StatusCode {
    node.faults.clear();
    StatusCode::NO_CONTENT
}

async fn unknown() -> Refused {
    let known = "/simulator/queries, /simulator/queries/{id}/end, /simulator/requests, /simulator/faults";
    Refused(StatusCode::NOT_FOUND, format!("there is {known}"))
}

/// Why a request was not carried out.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// Reads JSON whatever the content type says, so that `curl -d` needs no header.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}
