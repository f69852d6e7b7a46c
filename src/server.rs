//! The gRPC server: everything between a listening socket and the service, from start to drain.

mod stack;

use std::{io, net::SocketAddr};

use axum::serve::ListenerExt as _;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    config::{Config, Limits},
    proto::{FILE_DESCRIPTOR_SET, queryhistory::query_history_service_server::QueryHistoryServiceServer},
    service::QueryHistory,
};

/// No request of this API is larger by far.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

type Service = QueryHistoryServiceServer<QueryHistory>;

/// Serves gRPC on a bound socket until told to stop, then drains.
///
/// Health is NOT_SERVING from the first moment of the drain. Calls in flight, and cancels whose callers have gone, may
/// finish within the grace; what is left then is cut, and said.
///
/// # Errors
///
/// When the listening socket fails.
pub async fn run(
    listener: TcpListener,
    config: &Config,
    history: QueryHistory,
    stop: CancellationToken,
) -> io::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let service = Service::new(history.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut routes = Routes::new(service).add_service(health_service);
    if config.reflection {
        routes = with_reflection(routes);
    }

    tracing::info!(grpc.address = %listener.local_addr()?, "listening");
    // Not `stop` itself: without connections the server ends with it, and could be seen to before `stop` is.
    let close = CancellationToken::new();
    let mut serving = tokio::spawn(serve(listener, routes, config.limits.clone(), close.clone()));
    tokio::select! {
        () = stop.cancelled() => {}
        ended = &mut serving => return ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
    }

    let drain_by = Instant::now() + config.limits.drain_grace;
    tracing::info!(grace = ?config.limits.drain_grace, "draining");
    report(&health, ServingStatus::NotServing).await;
    history.refuse_new_calls();
    close.cancel();
    let cut = tokio::time::timeout_at(drain_by, serving).await.is_err();
    let left = history.drain(drain_by.saturating_duration_since(Instant::now())).await;
    if cut || left > 0 {
        tracing::warn!(cancels = left, "the grace is over: cutting the connections that are left");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Serves routes, whatever they are, with the whole stack around them, until told to stop; returns when the last
/// connection has closed.
///
/// # Errors
///
/// When the listening socket fails.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    // Without it the answer's second write waits for the acknowledgement of the first: 40 ms.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = stack::stack(routes, limits.max_deadline);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Health of the process as a whole, and of the service.
async fn report(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    health.set_service_status(<Service as NamedService>::NAME, status).await;
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
    routes.add_service(v1).add_service(v1alpha)
}
