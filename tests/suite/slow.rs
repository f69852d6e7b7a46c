//! The slow, on either side: callers who send byte by byte, and an Atoti that answers so, are given up in time and hold
//! nothing that others need.

use std::time::{Duration, Instant};

use crate::support::{
    bridge::Bridge,
    client::cancel,
    frames::{DATA, END_HEADERS, HEADERS, PREFACE, RST_STREAM, Raw, frame, headers, settings},
    upstream::{Answer, Upstream, answer},
    within,
};

const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";

async fn accepting_atoti() -> Upstream {
    Upstream::start(|_, _| answer(204, "", "")).await
}

/// Sends byte by byte until the other side has had enough.
async fn drip(raw: &mut Raw, bytes: impl IntoIterator<Item = u8>, pause: Duration) {
    use tokio::io::AsyncWriteExt as _;

    for byte in bytes {
        tokio::time::sleep(pause).await;
        if raw.stream.write_all(&[byte]).await.is_err() {
            return;
        }
    }
}

async fn until_connections(bridge: &Bridge, count: f64) {
    within(&format!("{count} connections"), async {
        while bridge.metric("atoti_bridge_connections").await != Some(count) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_preface_byte_by_byte_has_ten_seconds() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let began = Instant::now();
    let mut raw = Raw::silent(bridge.address()).await;
    let pause = Duration::from_millis(600);
    // It would take 14 seconds.
    drip(&mut raw, PREFACE.iter().copied().chain(settings(&[])), pause).await;
    assert_eq!(raw.end().await, None, "there is nothing to say to it");
    let took = began.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    until_connections(&bridge, 1.0).await;
}

#[tokio::test]
async fn headers_byte_by_byte_last_as_long_as_a_connection_may() {
    let atoti = accepting_atoti().await;
    let flags = ["--max-connection-age=1s", "--max-deadline=500ms", "--max-connections=3"];
    let bridge = Bridge::start_with(&atoti.url(), &flags).await;
    let began = Instant::now();
    let mut slow = [Raw::greeted(bridge.address()).await, Raw::greeted(bridge.address()).await];
    let head = frame(HEADERS, END_HEADERS, 1, &headers(CANCEL, &[]));
    let [first, second] = &mut slow;
    tokio::join!(
        drip(first, head.iter().copied(), Duration::from_millis(100)),
        drip(second, head.iter().copied(), Duration::from_millis(100)),
        async {
            assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0, "the third is served");
        }
    );
    // All of it would take 20 seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
    until_connections(&bridge, 0.0).await;
    assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0, "their places are free");
}

#[tokio::test]
async fn a_request_byte_by_byte_has_a_deadline() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-deadline=700ms"]).await;
    let mut raw = Raw::greeted(bridge.address()).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &headers(CANCEL, &[]))).await;
    let began = Instant::now();
    // A message of 200 bytes, of which one comes every 50 milliseconds.
    for byte in [0, 0, 0, 0, 200].into_iter().chain([0; 25]) {
        raw.send(&frame(DATA, 0, 1, &[byte])).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if began.elapsed() > Duration::from_millis(900) {
            break;
        }
    }
    assert_eq!(raw.next_on(1).await.expect("an answer").kind, HEADERS);
    assert_eq!(raw.next_on(1).await.expect("its end").kind, RST_STREAM, "no more of it is wanted");
    assert_eq!(atoti.seen().len(), 0);
    raw.call(3, CANCEL, &[0, 0, 0, 0, 4, 0x0a, 2, b'4', b'2']).await;
    assert_eq!(raw.next_on(3).await.expect("an answer").kind, HEADERS);
    assert_eq!(raw.next_on(3).await.expect("its message").kind, DATA, "the connection is as good as before");
    let method = CANCEL.trim_start_matches('/');
    let failed = format!("atoti_bridge_call_failures_total{{rpc_method=\"{method}\"");
    assert_eq!(bridge.metric(&format!("{failed},reason=\"DEADLINE_BEFORE_SEND\"}}")).await, Some(1.0));
}

#[tokio::test]
async fn an_atoti_that_answers_byte_by_byte_keeps_no_turn() {
    let head = b"HTTP/1.1 200 X\r\nX-Slow:".to_vec();
    let body = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n".to_vec();
    let chunk =
        b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5".to_vec();
    for (what, bytes) in [("a head", head), ("a body", body), ("the size of a chunk", chunk)] {
        let atoti = Upstream::start(move |seen, _| {
            if seen.target.ends_with("/slow") { Answer::Trickle(bytes.clone()) } else { answer(204, "", "") }
        })
        .await;
        let flags = ["--upstream-max-connections=4", "--upstream-timeout=500ms", "--max-deadline=4s"];
        let bridge = Bridge::start_with(&atoti.url(), &flags).await;
        let client = bridge.client().await;
        let calls: Vec<_> = (0..12)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.get("slow").await })
            })
            .collect();
        let began = Instant::now();
        assert_eq!(client.cancel(&cancel("42")).await.code(), 0, "{what}: a cancel passes");
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
        for call in calls {
            let reply = call.await.expect("an answer");
            assert_eq!(reply.code(), 4, "{what}: {:?}", reply.error());
        }
        assert_eq!(bridge.metric("atoti_bridge_upstream_requests_in_flight").await, Some(0.0), "{what}");
        for id in ["43", "44", "45", "46", "47"] {
            assert_eq!(client.cancel(&cancel(id)).await.code(), 0, "{what}");
        }
    }
}
