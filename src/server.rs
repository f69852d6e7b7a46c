//! The gRPC server: everything between a listening socket and the service, from start to drain.

mod accept;
mod access;
mod admin;
mod half_sent;
mod headers_only;
mod health;
mod listen;
mod observe;
mod stack;
mod workers;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{server::NamedService, service::Routes};
use tonic_health::pb::health_server::HealthServer;

use self::{accept::Connections, observe::Observer, stack::Stack};
pub use self::{health::Health, listen::Listener, workers::Workers};
use crate::{
    config::Limits,
    files::FromFiles,
    proto::{FILE_DESCRIPTOR_SET, queryhistory::query_history_service_server::QueryHistoryServiceServer},
    service::QueryHistory,
    telemetry::{Metrics, Telemetry},
    tls,
};

/// No request of this API is larger by far.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

type Service = QueryHistoryServiceServer<QueryHistory>;

/// The name of the service, in health and in paths.
pub const SERVICE: &str = <Service as NamedService>::NAME;

/// What a server is made of.
#[derive(Debug)]
pub struct Server {
    /// For gRPC.
    pub listener: Listener,
    /// For metrics and probes.
    pub admin: TcpListener,
    /// What it takes on.
    pub limits: Limits,
    /// Whether reflection is served.
    pub reflection: bool,
    /// What it shows and asks over TLS; without it, gRPC is served in plain text.
    pub tls: Option<Arc<FromFiles<tls::Server>>>,
    /// NOT_SERVING until somebody says otherwise.
    pub health: Health,
    /// Where connections are served.
    pub workers: Arc<Workers>,
    /// Where it tells what happens.
    pub telemetry: Telemetry,
    /// Share of the calls that ended well which get a line in the log, 0 to 1.
    pub access_log_ratio: f64,
}

impl Server {
    /// Serves until told to stop, then drains.
    ///
    /// The drain: health turns NOT_SERVING, and everything is served on for the delay, until clients and balancers
    /// have noticed. Then connections say GOAWAY; calls in flight, and cancels whose callers have gone, may finish
    /// within the grace. Calls that come all the same are refused after a moment. What is left then is cut, and said.
    ///
    /// # Errors
    ///
    /// When a socket is gone before it begins.
    pub async fn run(self, history: QueryHistory, stop: CancellationToken) -> io::Result<()> {
        let Self { listener, admin, limits, reflection, tls, health, workers, telemetry, access_log_ratio } =
            self;
        let metrics = telemetry.metrics.clone();
        metrics.connections.limit(limits.max_connections.get());
        let service = Service::new(history.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let probe = HealthServer::new(health.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut routes = Routes::new(probe);
        if reflection {
            routes = with_reflection(routes);
        }
        tracing::info!(
            grpc.address = %listener.local()?,
            admin.address = %admin.local_addr()?,
            tls = tls.is_some(),
            "listening"
        );
        let admin = tokio::spawn(admin::serve(admin, health.clone(), metrics.clone()));
        let observer = Observer::new(telemetry, access_log_ratio);
        let stack = Stack::new(Some(service), routes, limits.max_deadline, observer);
        let connections = Open::start(listener, stack, &limits, tls, workers, metrics.clone());
        stop.cancelled().await;

        let Limits { drain_delay, drain_grace, .. } = limits;
        tracing::info!(delay = ?drain_delay, grace = ?drain_grace, "draining");
        metrics.process.draining();
        health.leave();
        sleep(drain_delay).await;

        let drain_by = Instant::now() + drain_grace;
        tracing::info!("closing connections");
        health.end_watches();
        history.end_watches();
        // Calls that were on their way when GOAWAY left are served like any other.
        let noticed = timeout(NOTICE.min(drain_grace), connections.close(drain_grace)).await;
        history.refuse_new_calls();
        if noticed.is_err() {
            tracing::info!("refusing new calls");
        }
        let grace = drain_by.saturating_duration_since(Instant::now());
        let (left, ()) = tokio::join!(history.drain(grace), connections.close(grace));
        let (open, calls) = (connections.count(), metrics.calls.in_flight());
        if open > 0 || left > 0 {
            tracing::warn!(
                connections = open,
                calls,
                cancels = left,
                "the grace is over: cutting what is left"
            );
        }
        connections.cut(drain_by + LAST_MOMENT).await;
        admin.abort();
        tracing::info!("stopped");
        Ok(())
    }
}

/// How long peers have to notice a GOAWAY. Who calls later than that ignores it.
const NOTICE: Duration = Duration::from_secs(1);
/// What cut connections may take to go.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// Serves routes, whatever they are, with the whole stack around them, until told to stop; returns when the last
/// connection has closed.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    telemetry: Telemetry,
    stop: CancellationToken,
) {
    let metrics = telemetry.metrics.clone();
    let stack = Stack::new(None, routes, limits.max_deadline, Observer::new(telemetry, 1.0));
    let here = Arc::new(Workers::here());
    let connections = Open::start(Listener::Tcp(listener), stack, &limits, None, here, metrics);
    stop.cancelled().await;
    connections.close(Duration::MAX).await;
}

/// The connections that are open, and the socket that more come from.
struct Open {
    close: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Open {
    fn start(
        listener: Listener,
        calls: Stack,
        limits: &Limits,
        tls: Option<Arc<FromFiles<tls::Server>>>,
        workers: Arc<Workers>,
        metrics: Metrics,
    ) -> Self {
        let open = Self {
            close: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let connections = Arc::new(Connections {
            calls,
            limits: limits.clone(),
            tls,
            metrics,
            workers,
            close: open.close.clone(),
            cut: open.cut.clone(),
            tasks: open.tasks.clone(),
        });
        open.tasks.spawn(connections.accept(listener));
        open
    }

    /// Accepts no more, and waits until those that are open have closed, but not for ever.
    async fn close(&self, grace: Duration) {
        self.close.cancel();
        self.tasks.close();
        // Whoever is left is counted by the caller.
        let _ = timeout(grace, self.tasks.wait()).await;
    }

    fn count(&self) -> usize {
        self.tasks.len()
    }

    async fn cut(&self, by: Instant) {
        self.cut.cancel();
        // They have nothing left to wait for but the processor.
        let _ = tokio::time::timeout_at(by, self.tasks.wait()).await;
    }
}

fn with_reflection(routes: Routes) -> Routes {
    // Either version lists the other too, which its builder does not know of.
    let reflection = |other: &'static [u8]| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            // So that tools can show the details of errors.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(other)
    };
    const VALID: &str = "build.rs has compiled the descriptors";
    let v1 = reflection(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET).build_v1().expect(VALID);
    let v1alpha = reflection(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET).build_v1alpha().expect(VALID);
    routes
        .add_service(v1.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(v1alpha.max_decoding_message_size(MAX_MESSAGE_BYTES))
}
