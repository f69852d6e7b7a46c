//! Metrics and probes over plain HTTP, for the platform: Prometheus and the kubelet.

use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use tokio::net::TcpListener;

use super::Health;
use crate::telemetry::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until its task is ended.
///
/// - `/livez`: the process runs; depends on nothing else.
/// - `/readyz`: as the health of the empty name, for platforms that cannot probe gRPC.
/// - `/metrics`: OpenMetrics.
pub(super) async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    let ready = async move || {
        if health.is_serving() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    };
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.encode())));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "metrics and probes are no longer served");
    }
}
