//! The REST API: which path does what, and who may.

mod guard;
mod history;
pub(super) mod jwt;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    middleware::{from_fn, from_fn_with_state},
    routing::{delete, get, patch},
};
use serde_json::{Value, json};

use self::guard::Identity;
use super::{
    Security,
    problem::{Problem, Shape},
    server::Server,
    wire::exchange::HistoryMissing,
};

const HISTORY: &str = "/activeviam/query-history/rest/v1";
const TOKEN: &str = "/activeviam/jwt/rest/v3/token";
const PING: &str = "/activeviam/pivot/rest/v10/ping";

/// The routes of a node, below its context path.
pub(super) fn routes(server: &Arc<Server>) -> Router {
    let deletions = Router::new()
        .route("/query/{id}", delete(history::delete_one))
        .route("/queries", delete(history::delete_many))
        .route_layer(from_fn(guard::admin));
    let history = Router::new()
        .route("/query/{id}", patch(history::cancel_one).get(history::get_one))
        .route("/queries", patch(history::cancel_all).get(history::list))
        .route("/query/{id}/query-plan", get(history::plan))
        .merge(deletions)
        .route_layer(from_fn(installed));
    // Unknown paths are behind the login too: who may not look is not told what there is.
    let secured = Router::new()
        .nest(HISTORY, history)
        .route(PING, get(async || "pong"))
        .fallback(unknown)
        .method_not_allowed_fallback(async || Problem::spring(StatusCode::METHOD_NOT_ALLOWED))
        .layer(from_fn(guard::user))
        .layer(from_fn_with_state(Arc::clone(server), guard::identify));
    let token =
        Router::new().route(TOKEN, get(token)).layer(from_fn_with_state(Arc::clone(server), guard::identify));
    let all = Router::new().route("/versions/rest", get(versions)).merge(token).merge(secured);
    let all = all.with_state(Arc::clone(server));
    match &*server.options.context_path {
        "" => all,
        path => Router::new()
            .nest(path, all)
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, Shape::TomcatHtml)),
    }
}

async fn unknown() -> Problem {
    Problem::spring(StatusCode::NOT_FOUND)
}

/// Lets nothing through to a history that is not there.
async fn installed(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Result<axum::response::Response, Problem> {
    if request.extensions().get::<HistoryMissing>().is_some() {
        return Err(unknown().await);
    }
    Ok(next.run(request).await)
}

async fn versions(missing: Option<Extension<HistoryMissing>>) -> Json<Value> {
    let version = |id: &str, path: &str| json!({"versions": [{"id": id, "restPath": path}]});
    let mut apis = json!({
        "activeviam/jwt": version("3", "/activeviam/jwt/rest/v3"),
        "activeviam/pivot": version("10", "/activeviam/pivot/rest/v10"),
    });
    if missing.is_none() {
        apis["activeviam/query-history"] = version("1", HISTORY);
    }
    Json(json!({"version": 1, "serverVersion": "6.2.2", "apis": apis}))
}

async fn token(
    State(server): State<Arc<Server>>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    if matches!(server.options.security, Security::Off) {
        return Err(unknown().await);
    }
    // Who came with a token gets it back: a login is not prolonged by asking.
    let token = jwt::presented(&headers)
        .map_or_else(|| server.jwt.issue(&identity.name, &identity.roles), str::to_owned);
    Ok(Json(json!({"token": token})))
}
