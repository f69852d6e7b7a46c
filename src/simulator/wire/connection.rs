//! Accepting connections and keeping them as Tomcat does: HTTP/1.1 only, an idle limit, a cap on their number.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

use super::{
    super::server::{Routes, Server},
    exchange::Visit,
};

/// Connections open at once, as in a stock Tomcat; the next one waits unaccepted.
const MOST_CONNECTIONS: usize = 8192;
/// Room for a head well over the limit, so that it can be refused as Tomcat would and not as hyper would.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// How long to wait when the process has no descriptors left, rather than to spin.
const PAUSE_AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

/// Accepts connections until the node stops.
pub(in super::super) fn accept(server: &Arc<Server>, listener: TcpListener) {
    let routes = Routes::of(server);
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let acceptor = Arc::clone(server);
    server.spawn(async move {
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE_AFTER_FAILED_ACCEPT).await;
                continue;
            };
            let number = acceptor.connections.fetch_add(1, Ordering::Relaxed) + 1;
            if acceptor.faults.take_connection() {
                continue;
            }
            let visit = Visit::new(Arc::clone(&acceptor), routes.clone(), number);
            let idle_timeout = acceptor.options.idle_timeout;
            acceptor.spawn(async move {
                serve(stream, visit, idle_timeout).await;
                drop(place);
            });
        }
    });
}

async fn serve(stream: TcpStream, visit: Visit, idle_timeout: Duration) {
    // It only costs speed when it fails.
    let _ = stream.set_nodelay(true);
    let visit = Arc::new(visit);
    let service = service_fn(move |request| {
        let visit = Arc::clone(&visit);
        async move { visit.answer(request).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // An error is the peer's doing or that of a fault: either way the connection is over, which is all there is to it.
    let _ = served.await;
}
