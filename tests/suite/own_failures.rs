//! The bridge's own failures, and those of reads: at the wire, through the production stack.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use atoti_grpc_bridge::{config::Limits, server, telemetry::Telemetry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService, service::Routes};

use crate::support::{
    bridge::Bridge,
    client::{Client, cancel},
    eventually,
    upstream::{Answer, Upstream, answer},
};

/// Stands in the service's place, and panics when a header asks for it.
#[derive(Clone)]
struct Panicking;

impl NamedService for Panicking {
    const NAME: &'static str = server::SERVICE;
}

impl tower::Service<http::Request<Body>> for Panicking {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        assert!(!request.headers().contains_key("x-panic"), "a canary in the panic's text");
        ready(Ok(Status::ok("").into_http()))
    }
}

/// Serves it with the whole production stack around it.
async fn serve() -> (Client, Telemetry, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let (routes, telemetry) = (Routes::new(Panicking), Telemetry::default());
    tokio::spawn(server::serve(listener, routes, Limits::default(), telemetry.clone(), stop.clone()));
    (Client::connect(address).await, telemetry, stop)
}

#[tokio::test]
async fn a_panic_is_internal_with_a_fixed_text_and_the_connection_lives_on() {
    let (client, telemetry, _stop) = serve().await;
    let reply = client.cancel_with(&cancel("1"), &[("x-request-id", "r-1"), ("x-panic", "now")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (13, "BRIDGE_BUG"));
    assert_eq!(error.metadata("requestSent"), Some("false"));
    assert_eq!(error.request.expect("a RequestInfo").request_id, "r-1");
    assert!(!reply.everything().contains("canary"));
    assert_eq!(client.cancel(&cancel("fine")).await.code(), 0);
    assert!(
        telemetry.metrics.classic().contains("\natoti_bridge_panics_total 1\n"),
        "{}",
        telemetry.metrics.classic()
    );
}

#[tokio::test]
async fn reads_fail_by_the_rows_that_are_theirs() {
    let json = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\n";
    let long = format!(r#"{{"query":"{}"}}"#, "canary ".repeat(200_000));
    for (what, script, code, reason, attempts) in [
        ("a query", answer(200, "", r#"{"id":"42"}"#), 0, "", ""),
        (
            "an object that is no query",
            answer(200, "", r#"{"error":"canary"}"#),
            13,
            "BACKEND_MALFORMED_BODY",
            "1",
        ),
        ("malformed JSON", answer(200, "", "{canary"), 13, "BACKEND_MALFORMED_BODY", "1"),
        ("no object", answer(200, "", "[\"canary\"]"), 13, "BACKEND_MALFORMED_BODY", "1"),
        ("nothing", answer(204, "", ""), 13, "BACKEND_MALFORMED_BODY", "1"),
        ("a page", answer(200, "Content-Type: text/html\r\n", "canary"), 2, "BACKEND_UNEXPECTED_HTML", "1"),
        (
            "a cut body",
            Answer::BytesThenClose(format!("{json}Content-Length: 100\r\n\r\n{{\"canary\"").into()),
            14,
            "BACKEND_BODY_TRUNCATED",
            "2",
        ),
        ("too much", answer(200, "", &long), 8, "BACKEND_RESPONSE_TOO_LARGE", "1"),
        (
            "endless",
            Answer::Endless(format!("{json}Content-Length: 9000000000\r\n\r\n").into()),
            8,
            "BACKEND_RESPONSE_TOO_LARGE",
            "1",
        ),
        (
            "trickling",
            Answer::Trickle(format!("{json}Content-Length: 100000\r\n\r\n").into()),
            4,
            "BACKEND_TIMEOUT",
            "1",
        ),
        ("hanging", Answer::Hang, 4, "BACKEND_TIMEOUT", "1"),
    ] {
        let atoti = Upstream::start(move |_, _| script.clone()).await;
        let bridge = Bridge::start_with(&atoti.url(), &["--upstream-timeout=300ms"]).await;
        let reply = bridge.client().await.get("42").await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (code, reason), "{what}");
        if code != 0 {
            assert_eq!(error.metadata("attempts"), Some(attempts), "{what}");
            assert_eq!(error.metadata("requestSent"), Some("true"), "{what}");
        }
        assert!(!reply.everything().contains("canary"), "{what}");
    }
}

#[tokio::test]
async fn a_call_that_arrives_during_the_drain_is_sent_elsewhere() {
    let slow = Answer::After(std::time::Duration::from_secs(4), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let mut bridge = Bridge::start(&atoti.url()).await;
    let relay = Relay::start(bridge.address()).await;
    let client = Client::connect(relay.address).await;
    let (first, _stream) = client.start_cancel(&cancel("1"), &[]).await;
    eventually("the first call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;

    // The client does not learn of the GOAWAY, as in the moment before that has crossed the network.
    relay.hold.send_replace(true);
    bridge.signal("-TERM");
    bridge.logged("the drain", |line| line["message"] == "refusing new calls").await;
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.cancel_with(&cancel("42"), &[("x-request-id", "late")]).await }
    });
    assert_eq!(bridge.audit("late").await["error_reason"], "DRAINING");
    relay.hold.send_replace(false);

    let reply = second.await.expect("an answer");
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (14, "DRAINING"));
    assert_eq!((error.metadata("requestSent"), error.metadata("retryable")), (Some("false"), Some("true")));
    assert_eq!(crate::support::client::Reply::read(first).await.code(), 0, "the call in flight finished");
    assert_eq!(bridge.exit().await.code(), Some(0));
    assert_eq!(atoti.seen().len(), 1);
}

/// Passes one connection on, and can hold back what the server says.
struct Relay {
    address: std::net::SocketAddr,
    hold: watch::Sender<bool>,
}

impl Relay {
    async fn start(server: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (hold, held) = watch::channel(false);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a connection");
            let server = TcpStream::connect(server).await.expect("the server listens");
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let never = watch::channel(false).1;
            tokio::join!(pass(from_client, to_server, never), pass(from_server, to_client, held));
        });
        Self { address, hold }
    }
}

async fn pass(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // An error: nobody can hold it back any more.
        let _ = held.wait_for(|held| !held).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}
