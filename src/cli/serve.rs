//! `serve`: the service.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::{signal::Signals, upkeep::Upkeep};
use crate::{
    atoti::Atoti,
    config::{Config, TlsFiles},
    files::FromFiles,
    server::{Health, Listener, Server},
    service::QueryHistory,
    telemetry::{self, Metrics},
    tls,
};

/// The sockets, bound.
pub(super) struct Sockets {
    pub(super) grpc: Listener,
    pub(super) admin: TcpListener,
}

pub(super) async fn run(config: Config) -> Result<(), String> {
    telemetry::init(config.log_format);
    let signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    raise_file_limit(&config);
    let sockets = bind(&config).await?;
    log_configuration(&config);
    until_stopped(sockets, &config, signals).await
}

/// Serves until the drain is over, or a second signal cuts it short.
pub(super) async fn until_stopped(sockets: Sockets, config: &Config, signals: Signals) -> Result<(), String> {
    let atoti =
        Atoti::new(&config.upstream).map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
    let atoti = Arc::new(atoti);
    let tls = config.callers.tls.as_ref().map(certificates).transpose()?.map(Arc::new);
    let (health, metrics) = (Health::new(), Metrics::new());
    let upkeep = Upkeep {
        atoti: Arc::clone(&atoti),
        tls: tls.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
        probe_timeout: config.upstream.connect_timeout,
    };
    let history = QueryHistory::new(atoti, &config.limits, &config.callers, config.allow_query_plan);
    let server = Server {
        listener: sockets.grpc,
        admin: sockets.admin,
        limits: config.limits.clone(),
        reflection: config.reflection,
        tls,
        health,
        metrics,
    };
    tokio::select! {
        served = server.run(history, signals.drain) => served.map_err(|error| format!("serving failed: {error}")),
        () = signals.now.cancelled() => {
            tracing::warn!("second signal: stopping at once");
            Ok(())
        }
        () = upkeep.run() => unreachable!("it has no end"),
    }
}

/// Makes room for the connections allowed, as far as this process may: the customary limit of 1024 files is a relic.
fn raise_file_limit(config: &Config) {
    /// Sockets that listen, the runtime's own files, certificates being read.
    const OTHERS: usize = 64;

    let connections = config.limits.max_connections.get() + config.upstream.max_connections.get();
    let wanted = (connections + OTHERS) as u64;
    let limit = rlimit::increase_nofile_limit(wanted).unwrap_or_default();
    if limit < wanted {
        tracing::warn!(limit, wanted, "fewer files may be open than connections are allowed");
    }
}

fn certificates(files: &TlsFiles) -> Result<FromFiles<tls::Server>, String> {
    FromFiles::load("the certificate for callers", files.paths(), TlsFiles::parse)
}

/// Binds the sockets.
pub(super) async fn bind(config: &Config) -> Result<Sockets, String> {
    let grpc = Listener::bind(&config.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}; choose another address with --listen, or port 0",
            config.listen
        )
    })?;
    let admin = TcpListener::bind(config.admin_listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}; choose another address with --admin-listen, or port 0",
            config.admin_listen
        )
    })?;
    Ok(Sockets { grpc, admin })
}

/// Says once what the process runs with. No setting is a secret: those come from files only.
fn log_configuration(config: &Config) {
    let Config { upstream, callers, limits, .. } = config;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %config.listen,
        admin_listen = %config.admin_listen,
        upstream_url = %upstream.url,
        upstream_connect_timeout = ?upstream.connect_timeout,
        upstream_timeout = ?upstream.timeout,
        upstream_max_connections = upstream.max_connections,
        upstream_max_body = upstream.max_body,
        nodes = upstream.nodes.is_some(),
        upstream_ca = upstream.files.ca.is_some(),
        upstream_client_certificate = upstream.files.identity.is_some(),
        credentials = upstream.credentials.as_str(),
        tls = callers.tls.is_some(),
        client_certificates = callers.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        client_names = callers.names.len(),
        max_deadline = ?limits.max_deadline,
        max_in_flight = limits.max_in_flight,
        max_connections = limits.max_connections,
        max_connection_age = ?limits.max_connection_age,
        drain_delay = ?limits.drain_delay,
        drain_grace = ?limits.drain_grace,
        allow_query_plan = config.allow_query_plan,
        reflection = config.reflection,
        "configuration",
    );
}
