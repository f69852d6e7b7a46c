//! Health and readiness, in every phase: starting, up, Atoti down, draining. And the drain itself.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    bridge::Bridge,
    client::{Client, Reply, cancel},
    eventually,
    frames::Raw,
    upstream::{Answer, Upstream, answer},
    within,
};

const SERVICE: &str = "atoti.queryhistory.v1.QueryHistoryService";
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;
const SERVICE_UNKNOWN: u8 = 3;

fn request(service: &str) -> Vec<u8> {
    [&[0x0a, u8::try_from(service.len()).expect("short")], service.as_bytes()].concat()
}

/// The health of a name: `Ok` with the number of the serving status, `Err` with the gRPC code.
async fn check(client: &Client, service: &str) -> Result<u8, i32> {
    let reply = client.call("/grpc.health.v1.Health/Check", &request(service), &[]).await;
    match reply.code() {
        // Field 1, a varint.
        0 => Ok(reply.body[6]),
        code => Err(code),
    }
}

async fn until_health_is(client: &Client, service: &str, wanted: u8) {
    within("a change of health", async {
        while check(client, service).await != Ok(wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A watch: its statuses one by one, then the code it ended with.
struct Watch {
    body: h2::RecvStream,
    _stream: h2::SendStream<bytes::Bytes>,
}

impl Watch {
    async fn start(client: &Client, service: &str) -> Self {
        let (response, stream) = client.start("/grpc.health.v1.Health/Watch", &request(service), &[]).await;
        let response = within("the head of a watch", response).await.expect("a response");
        Self { body: response.into_body(), _stream: stream }
    }

    async fn next(&mut self) -> Option<u8> {
        let message = within("a status", self.body.data()).await?.expect("a message");
        Some(message[6])
    }

    async fn end(mut self) -> String {
        assert_eq!(self.next().await, None);
        let trailers = within("its end", self.body.trailers()).await.expect("an end").expect("trailers");
        trailers["grpc-status"].to_str().expect("ASCII").to_owned()
    }
}

#[tokio::test]
async fn a_bridge_without_atoti_is_ready_and_says_that_atoti_is_not() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let client = bridge.client().await;
    until_health_is(&client, "", SERVING).await;
    assert_eq!(check(&client, SERVICE).await, Ok(SERVING));
    assert_eq!(check(&client, "upstream").await, Ok(NOT_SERVING));
    assert_eq!(bridge.admin("/readyz").await.status, 200);
    assert_eq!(bridge.admin("/livez").await.status, 200);
    assert_eq!(bridge.metric("atoti_bridge_upstream_up").await, Some(0.0));
    let warning = bridge.logged("a warning", |line| line["level"] == "WARN").await;
    assert_eq!(warning["cause"], "connection refused");
}

#[tokio::test]
async fn an_unknown_name_is_not_found_and_its_watch_stays_open() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let client = bridge.client().await;
    let asked = [("x-request-id", "request-1")];
    let reply = client.call("/grpc.health.v1.Health/Check", &request("unknown"), &asked).await;
    assert_eq!((reply.code(), reply.error().reason()), (5, "UNKNOWN_HEALTH_NAME"));
    assert_eq!(reply.error().request.expect("a RequestInfo").request_id, "request-1");
    let mut watch = Watch::start(&client, "unknown").await;
    assert_eq!(watch.next().await, Some(SERVICE_UNKNOWN));
    assert!(tokio::time::timeout(Duration::from_millis(200), watch.body.data()).await.is_err(), "open");
}

#[tokio::test]
async fn it_is_ready_when_atoti_has_been_asked_and_not_before() {
    // Accepts, and never answers: the question is given up after the connect timeout.
    let atoti = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", atoti.local_addr().expect("an address"));
    let bridge = Bridge::start_with(&url, &["--upstream-connect-timeout=2s"]).await;
    let client = bridge.client().await;
    let mut watch = Watch::start(&client, SERVICE).await;
    assert_eq!(watch.next().await, Some(NOT_SERVING));
    assert_eq!(check(&client, "").await, Ok(NOT_SERVING));
    assert_eq!(
        (bridge.admin("/readyz").await.status, bridge.admin("/livez").await.status),
        (503.try_into().expect("a status"), 200.try_into().expect("a status"))
    );
    assert_eq!(watch.next().await, Some(SERVING));
    assert_eq!(check(&client, "").await, Ok(SERVING));
    assert_eq!(check(&client, "upstream").await, Ok(NOT_SERVING));
}

#[tokio::test]
async fn readiness_does_not_follow_atoti_and_its_own_name_does() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let mut upstream = Watch::start(&client, "upstream").await;
    while upstream.next().await != Some(SERVING) {}
    assert_eq!(bridge.metric("atoti_bridge_upstream_up").await, Some(1.0));
    drop(atoti);
    assert_eq!(upstream.next().await, Some(NOT_SERVING));
    assert_eq!(check(&client, "").await, Ok(SERVING));
    assert_eq!(check(&client, SERVICE).await, Ok(SERVING));
}

#[tokio::test]
async fn the_drain_serves_on_for_its_delay_and_then_finishes_what_is_in_flight() {
    let slow = Answer::After(Duration::from_secs(2), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti =
        Upstream::start(
            move |seen, _| {
                if seen.target.ends_with("/slow") { slow.clone() } else { answer(204, "", "") }
            },
        )
        .await;
    let mut bridge = Bridge::start_with(&atoti.url(), &["--drain-delay=1s", "--drain-grace=10s"]).await;
    let client = bridge.client().await;
    until_health_is(&client, "", SERVING).await;
    let mut watch = Watch::start(&client, "").await;
    assert_eq!(watch.next().await, Some(SERVING));
    let (slow, _stream) = client.start_cancel(&cancel("slow"), &[]).await;
    eventually("the slow call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;

    bridge.signal("-TERM");
    assert_eq!(watch.next().await, Some(NOT_SERVING));
    assert_eq!(bridge.admin("/readyz").await.status, 503);
    assert_eq!(bridge.metric("atoti_bridge_draining").await, Some(1.0));
    assert_eq!(client.cancel(&cancel("1")).await.code(), 0, "it serves on");
    assert_eq!(bridge.client().await.cancel(&cancel("2")).await.code(), 0, "new connections too");
    assert_eq!(watch.end().await, "14", "and then watches end, so that their connections can");
    assert_eq!(Reply::read(slow).await.code(), 0, "the call in flight finishes");
    assert_eq!(bridge.exit().await.code(), Some(0));
    let cut = bridge.log_lines().into_iter().filter(|line| line.contains("cutting")).count();
    assert_eq!(cut, 0);
}

/// A silent peer, one that acknowledges nothing, and an open watch, all connected.
async fn hinderers(address: SocketAddr) -> impl Sized {
    let silent = Raw::silent(address).await;
    let mut deaf = Raw::greeted(address).await;
    let health = crate::support::frames::headers("/grpc.health.v1.Health/Check", &[]);
    deaf.send(&crate::support::frames::frame(1, 4, 1, &health)).await;
    deaf.send(&crate::support::frames::frame(0, 1, 1, &[0; 5])).await;
    deaf.next_of(0).await.expect("an answer");
    let client = Client::connect(address).await;
    let watch = Watch::start(&client, "").await;
    (silent, deaf, client, watch)
}

#[tokio::test]
async fn nobody_can_hold_the_drain_up() {
    let slow = Answer::After(Duration::from_secs(1), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let mut bridge = Bridge::start_with(&atoti.url(), &["--drain-delay=300ms", "--drain-grace=2s"]).await;
    let _hinderers = hinderers(bridge.address()).await;
    let client = bridge.client().await;
    let (call, _stream) = client.start_cancel(&cancel("42"), &[]).await;
    eventually("the call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    let began = Instant::now();
    bridge.signal("-TERM");
    assert_eq!(Reply::read(call).await.code(), 0, "the call in flight finishes");
    assert_eq!(bridge.exit().await.code(), Some(0));
    // Delay, grace and a second; the machine may be busy, so that this only tells an end from none.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let cut =
        bridge.logged("what was cut", |line| line["level"] == "WARN" && line["connections"].is_u64()).await;
    assert_eq!(cut["connections"], 1, "the deaf one: {cut}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let mut bridge = Bridge::start_with(&atoti.url(), &["--drain-delay=1h", "--drain-grace=1h"]).await;
    let _hinderers = hinderers(bridge.address()).await;
    bridge.signal("-TERM");
    bridge.logged("the drain", |line| line["message"] == "draining").await;
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
}
