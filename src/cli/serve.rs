//! `serve`: the service.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::{signal::Signals, upkeep::Upkeep};
use crate::{
    atoti::Atoti,
    audit::Trail,
    config::{Config, TlsFiles},
    files::FromFiles,
    server::{Health, Listener, Server, Workers},
    service::QueryHistory,
    telemetry::{self, Logs, Metrics, Telemetry, TraceSettings, Traces},
    tls,
};

/// The sockets, bound.
pub(super) struct Sockets {
    pub(super) grpc: Listener,
    pub(super) admin: TcpListener,
}

/// How long the last spans and audit records may take to leave, when everything else is done.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// The same for audit records alone, when a second signal leaves no time for anything else.
const LAST_MOMENT: Duration = Duration::from_millis(200);

pub(super) async fn run(config: Config, traces: Option<TraceSettings>) -> Result<(), String> {
    let logs = telemetry::init(config.log_format);
    let signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    raise_file_limit(&config);
    let sockets = bind(&config).await?;
    log_configuration(&config, traces.is_some());
    until_stopped(sockets, &config, traces, signals, &logs).await
}

/// Serves until the drain is over, or a second signal cuts it short.
pub(super) async fn until_stopped(
    sockets: Sockets,
    config: &Config,
    traces: Option<TraceSettings>,
    signals: Signals,
    logs: &Logs,
) -> Result<(), String> {
    let metrics = Metrics::new();
    metrics.process.log(logs.dropped.clone());
    let traces = traces.map(|settings| Traces::start(settings, &metrics)).transpose();
    let traces = traces.map_err(|error| format!("cannot send traces: {error}"))?.unwrap_or_default();
    let trail = Trail::open(&config.audit_log, config.audit_required, metrics.clone())
        .map_err(|error| format!("cannot write audit records to {}: {error}", config.audit_log))?;
    let telemetry = Telemetry { metrics: metrics.clone(), traces: traces.clone() };

    let atoti = Atoti::new(&config.upstream, telemetry.clone())
        .map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
    let atoti = Arc::new(atoti);
    let tls = config.callers.tls.as_ref().map(certificates).transpose()?.map(Arc::new);
    let health = Health::new();
    let upkeep = Upkeep {
        atoti: Arc::clone(&atoti),
        tls: tls.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
        probe_timeout: config.upstream.connect_timeout,
    };
    // Until the last record: cancels whose callers have gone may still be at work on them.
    let workers = Workers::start(threads()).map_err(|error| format!("cannot start threads: {error}"))?;
    let workers = Arc::new(workers);
    let Config { limits, callers, allow_query_plan, .. } = config;
    let history = QueryHistory::new(atoti, trail.clone(), metrics, limits, callers, *allow_query_plan);
    let server = Server {
        listener: sockets.grpc,
        admin: sockets.admin,
        limits: limits.clone(),
        reflection: config.reflection,
        tls,
        health,
        workers: Arc::clone(&workers),
        telemetry,
        access_log_ratio: config.access_log_ratio,
    };
    let served = tokio::select! {
        served = server.run(history, signals.drain) => served.map_err(|error| format!("serving failed: {error}")),
        () = signals.now.cancelled() => {
            tracing::warn!("second signal: stopping at once");
            Ok(())
        }
        () = upkeep.run() => unreachable!("it has no end"),
    };
    if signals.now.is_cancelled() {
        trail.close(LAST_MOMENT).await;
    } else {
        tokio::join!(trail.close(LAST_WORDS), traces.finish(LAST_WORDS));
    }
    served
}

/// As many threads as there are processors to have, or as `TOKIO_WORKER_THREADS` says, the runtime's own variable.
fn threads() -> NonZeroUsize {
    let said = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|threads| threads.parse().ok());
    said.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
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
fn log_configuration(config: &Config, traces: bool) {
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
        access_log_ratio = config.access_log_ratio,
        audit_log = %config.audit_log,
        audit_required = config.audit_required,
        traces,
        "configuration",
    );
}
