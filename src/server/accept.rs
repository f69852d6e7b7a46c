//! The connection loop: sockets in, calls out, every connection bounded in number, time and memory.
//!
//! hyper's HTTP/2 serves the bytes; this loop is ours because tonic's transport loses calls at shutdown and at a
//! connection's maximal age, waits for ever for silent peers, and spins when file descriptors run out.

use std::{
    future::pending,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{io::InspectReader, sync::CancellationToken, task::TaskTracker};

use super::{
    listen::{Listener, Stream},
    stack::Stack,
    workers::Workers,
};
use crate::{config::Limits, files::FromFiles, service::Peer, telemetry::Metrics, tls};

/// Streams open at once on one connection: a busy sidecar's share, and a bound to what one peer may hold.
const MAX_STREAMS: u32 = 256;
/// What may have come on one connection, and on one stream of it, before anybody has looked at it. Requests are small,
/// and looked at as they come; what they hold from then on is bounded by `half_sent`.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Envoy lets 60 KiB of headers through. Above four times this h2 gives the whole connection up, so that a lower limit
/// would let one call's headers kill its neighbours.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Streams reset by the peer before anybody has looked at them: rapid reset.
const MAX_PENDING_RESETS: usize = 100;
/// Streams reset by us because of the peer's errors.
const MAX_ERROR_RESETS: usize = 1024;
/// Finds peers that have died without a word.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the connection to the 24 bytes of HTTP/2's preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
const PREFACE_BYTES: usize = 24;
/// The same when connections close: a first call may be on its way. Less than the moment after which new calls are
/// refused.
const LAST_PREFACE_TIMEOUT: Duration = Duration::from_millis(500);
/// Calls end by the longest deadline; their last bytes a little later.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// How long bulk cancels may keep an old connection open.
const LONGEST_BULK: Duration = Duration::from_secs(10 * 60);
/// How long to wait when a connection cannot be accepted: it waits in the kernel meanwhile, and so does everybody else.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often that is said.
const ACCEPT_WARNING_EVERY: Duration = Duration::from_secs(10);

/// What the connections of one listening socket share.
pub(super) struct Connections {
    pub(super) calls: Stack,
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<FromFiles<tls::Server>>>,
    pub(super) metrics: Metrics,
    pub(super) workers: Arc<Workers>,
    /// Ends accepting; open connections say GOAWAY, and end when their calls have.
    pub(super) close: CancellationToken,
    /// Ends them at once.
    pub(super) cut: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Connections {
    /// Accepts connections until they are to close.
    pub(super) async fn accept(self: Arc<Self>, listener: Listener) {
        let room = Arc::new(Semaphore::new(self.limits.max_connections.get()));
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                // What waits in the kernel comes first, also at the end: its clients believe that they are connected,
                // and may have sent a call.
                biased;
                accepted = listener.accept() => accepted,
                () = self.close.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                // The peer has gone again.
                Err(error) if is_the_peers(&error) => continue,
                Err(_) if self.close.is_cancelled() => return,
                Err(error) => {
                    self.metrics.connections.accept_failed();
                    if warned.is_none_or(|at| at.elapsed() > ACCEPT_WARNING_EVERY) {
                        tracing::error!(%error, "cannot accept connections; raise the limit of open files");
                        warned = Some(Instant::now());
                    }
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                // Closed at once, so that the client tries another replica instead of waiting here.
                self.metrics.connections.refused();
                continue;
            };
            let open = self.metrics.connections.opened();
            let connections = Arc::clone(&self);
            let serve = move |stream| async move {
                // By itself: there may be thousands, and what cuts them would hold the room for it twice.
                let serve = Box::pin(connections.serve(stream, Peer::at(address)));
                connections.cut.run_until_cancelled(serve).await;
                drop((place, open));
            };
            if let Err(error) = self.workers.spawn(&self.tasks, stream, serve) {
                tracing::debug!(%error, "a connection has gone at once");
            }
        }
    }

    async fn serve(&self, stream: Stream, peer: Peer) {
        let stream = stream.into_bytes();
        let Some(tls) = &self.tls else {
            return self.speak(stream, peer).await;
        };
        // The pair of this moment; connections that are open keep theirs.
        let handshake = TlsAcceptor::from(Arc::clone(&tls.current().config)).accept(stream);
        let stream = match timeout(TLS_HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            failed => {
                self.metrics.connections.handshake_failed();
                // Scanners and probes do it all the time: for who looks for it.
                let error = failed.ok().and_then(Result::err).map(tracing::field::display);
                return tracing::debug!(error, peer = ?peer.address, "TLS handshake failed, or not in time");
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = shown.and_then(tls::subject_name);
        // A connection in plain text is not to hold the room of an encrypted one.
        Box::pin(self.speak(stream, Peer { name, ..peer })).await;
    }

    /// HTTP/2 until one side has had enough.
    async fn speak(&self, io: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let read = AtomicUsize::new(0);
        let io = InspectReader::new(io, |bytes: &[u8]| {
            read.fetch_add(bytes.len(), Ordering::Relaxed);
        });
        let has_begun = || read.load(Ordering::Relaxed) >= PREFACE_BYTES;
        let peer = Arc::new(peer);
        let service = service_fn(|request| self.calls.call(Arc::clone(&peer), request));
        let mut connection =
            pin!(protocol(KEEPALIVE, KEEPALIVE_TIMEOUT).serve_connection(TokioIo::new(io), service));

        let opened = Instant::now();
        let mut preface_by = opened + PREFACE_TIMEOUT;
        let close_at = opened + self.limits.max_connection_age.mul_f64(0.9 + 0.2 * fastrand::f64());
        let mut preface_checked = false;
        let mut cut_at = None;
        loop {
            let closing = cut_at.is_some();
            tokio::select! {
                // An error is the peer's doing: either way the connection is over.
                _ = connection.as_mut() => return,
                () = sleep_until(preface_by), if !preface_checked => {
                    if !has_begun() {
                        return tracing::debug!(peer = ?peer.address, "no HTTP/2 preface in time");
                    }
                    preface_checked = true;
                }
                () = self.close.cancelled(), if !closing => {
                    connection.as_mut().graceful_shutdown();
                    // Whoever has not begun may have sent a call all the same: over TLS 1.3 a client does so before
                    // its handshake has come to its end here. But one that has nothing to say is not waited for.
                    preface_by = preface_by.min(Instant::now() + LAST_PREFACE_TIMEOUT);
                    // The drain cuts.
                    cut_at = Some(None);
                }
                () = sleep_until(close_at), if !closing => {
                    if !has_begun() { return; }
                    connection.as_mut().graceful_shutdown();
                    peer.closing.cancel();
                    cut_at = Some(Some(Instant::now() + self.limits.max_deadline + LAST_BYTES));
                }
                () = sleep_until_some(cut_at.flatten()) => {
                    // Bulk cancels have no deadline but their callers'; whoever does not read is not waited for.
                    if peer.at_work.is_empty() || Instant::now() > close_at + LONGEST_BULK { return; }
                    cut_at = Some(Some(Instant::now() + LAST_BYTES));
                }
            }
        }
    }
}

fn protocol(keepalive: Duration, keepalive_timeout: Duration) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        // gRPC has no use for it.
        .auto_date_header(false)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive_timeout);
    builder
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Whether only this one connection is affected.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};

    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use hyper::body::Incoming;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tonic::body::Body;

    use super::*;

    const OFTEN: Duration = Duration::from_millis(100);
    /// So that a busy machine's peer is not taken for one that has gone.
    const PATIENCE: Duration = Duration::from_secs(1);
    const PING: u8 = 6;

    /// Who goes without a word, its cable cut for example, is found out by the silence on a question alone.
    #[tokio::test]
    async fn a_peer_that_no_longer_answers_is_given_up_and_one_that_does_is_kept() {
        for answers in [false, true] {
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let never = service_fn(|_: Request<Incoming>| pending::<Result<Response<Body>, Infallible>>());
            let connection = protocol(OFTEN, PATIENCE).serve_connection(TokioIo::new(ours), never);
            let peer = async move {
                // Settings of nothing, and a call that has an answer to wait for.
                let call = [0x83, 0x86, 0x84];
                theirs.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
                theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("sent");
                theirs.write_all(&[0, 0, 3, 1, 5, 0, 0, 0, 1]).await.expect("sent");
                theirs.write_all(&call).await.expect("sent");
                loop {
                    let mut head = [0; 9];
                    theirs.read_exact(&mut head).await.expect("a frame");
                    let mut payload = vec![0; usize::from(head[2])];
                    theirs.read_exact(&mut payload).await.expect("the rest of it");
                    if head[3] == PING && answers {
                        theirs.write_all(&[0, 0, 8, PING, 1, 0, 0, 0, 0]).await.expect("sent");
                        theirs.write_all(&payload).await.expect("sent");
                    }
                }
            };
            let ended = tokio::select! {
                ended = timeout(if answers { 3 } else { 20 } * PATIENCE, connection) => ended.ok(),
                () = peer => unreachable!("it has no end"),
            };
            assert_eq!(
                ended.map(|end| end.is_err_and(|error| error.is_timeout())),
                (!answers).then_some(true)
            );
        }
    }
}
