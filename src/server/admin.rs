//! Metrics and probes over plain HTTP, for the platform: Prometheus and the kubelet.

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    routing::get,
};
use tokio::net::TcpListener;

use super::Health;
use crate::telemetry::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Whoever names it takes it; clients that do not know it never do.
const NEW: &[u8] = b"application/openmetrics-text";

/// Serves until its task is ended.
///
/// - `/livez`: the process runs; depends on nothing else.
/// - `/readyz`: as the health of the empty name, for platforms that cannot probe gRPC.
/// - `/metrics`: OpenMetrics for who asks for it, as Prometheus does; else the classic text format.
pub(super) async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    let ready = async move || {
        if health.is_serving() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    };
    let metrics = async move |headers: HeaderMap| {
        let accepted = headers.get_all(header::ACCEPT);
        let asked = |accept: &HeaderValue| accept.as_bytes().windows(NEW.len()).any(|part| part == NEW);
        let (kind, text) = if accepted.iter().any(asked) {
            (OPEN_METRICS, metrics.open_metrics())
        } else {
            (CLASSIC, metrics.classic())
        };
        ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text)
    };
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "metrics and probes are no longer served");
    }
}
