//! `serve`: the service.

use tokio::net::TcpListener;

use super::signal::Signals;
use crate::{atoti::Atoti, config::Config, server, service::QueryHistory, telemetry};

pub(super) async fn run(config: Config) -> Result<(), String> {
    telemetry::init(config.log_format);
    let signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let listener = bind(&config).await?;
    log_configuration(&config);
    until_stopped(listener, &config, signals).await
}

/// Serves until the drain is over, or a second signal cuts it short.
pub(super) async fn until_stopped(
    listener: TcpListener,
    config: &Config,
    signals: Signals,
) -> Result<(), String> {
    let atoti =
        Atoti::new(&config.upstream).map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
    let history = QueryHistory::new(atoti, &config.limits);
    tokio::select! {
        served = server::run(listener, config, history, signals.drain) => {
            served.map_err(|error| format!("serving failed: {error}"))
        }
        () = signals.now.cancelled() => {
            tracing::warn!("second signal: stopping at once");
            Ok(())
        }
    }
}

/// Binds the gRPC socket.
pub(super) async fn bind(config: &Config) -> Result<TcpListener, String> {
    TcpListener::bind(config.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}; choose another address with --listen, or port 0",
            config.listen
        )
    })
}

/// Says once what the process runs with. No setting is a secret: those come from files only.
fn log_configuration(config: &Config) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %config.listen,
        upstream_url = %config.upstream.url,
        upstream_connect_timeout = ?config.upstream.connect_timeout,
        upstream_timeout = ?config.upstream.timeout,
        max_deadline = ?config.limits.max_deadline,
        max_in_flight = config.limits.max_in_flight,
        drain_grace = ?config.limits.drain_grace,
        reflection = config.reflection,
        "configuration",
    );
}
