//! Connections, frame by frame: what hostile, broken and crowding peers meet.

use std::{process::Command, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::support::{
    bridge::Bridge,
    client::{Client, cancel},
    frames::{
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, Raw, SETTINGS,
        WINDOW_UPDATE, block, frame, headers,
    },
    upstream::{Answer, Upstream, answer},
    within,
};

const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
/// A message: `query_id` is 42.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 4, 0x0a, 2, b'4', b'2'];

async fn accepting_atoti() -> Upstream {
    Upstream::start(|_, _| answer(204, "", "")).await
}

#[tokio::test]
async fn settings_bound_streams_and_headers() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let mut raw = Raw::greeted(bridge.address()).await;
    let settings = raw.next_of(SETTINGS).await.expect("settings");
    let entries: Vec<(u16, u32)> = settings
        .payload
        .chunks(6)
        .map(|entry| {
            let (name, value) = entry.split_at(2);
            (
                u16::from_be_bytes(name.try_into().expect("2")),
                u32::from_be_bytes(value.try_into().expect("4")),
            )
        })
        .collect();
    assert!(entries.contains(&(3, 256)), "MAX_CONCURRENT_STREAMS: {entries:?}");
    assert!(entries.contains(&(4, 64 * 1024)), "INITIAL_WINDOW_SIZE: {entries:?}");
    assert!(entries.contains(&(6, 64 * 1024)), "MAX_HEADER_LIST_SIZE: {entries:?}");
    // The connection's own window is what HTTP/2 begins with, and what is added at once.
    let added = raw.next_of(WINDOW_UPDATE).await.expect("more for the connection");
    assert_eq!((added.stream, added.payload), (0, (512 * 1024 - 65_535_u32).to_be_bytes().to_vec()));
}

#[tokio::test]
async fn thousands_of_malformed_streams_end_the_connection() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let mut raw = Raw::greeted(bridge.address()).await;
    // A header of HTTP/1.1's connections: an error of the stream, which is reset, not of the connection.
    let bad = block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), ("connection", "close")]);
    let flood: Vec<u8> =
        (0..2000).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bad)).collect();
    let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &flood).await;
    let goaway = raw.next_of(GOAWAY).await.expect("GOAWAY");
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_ordinary_ones_do_not() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let call = headers(CANCEL, &[]);
    let mut raw = Raw::greeted(bridge.address()).await;
    let flood: Vec<u8> = (0..2000)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            [frame(HEADERS, END_HEADERS, stream, &call), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect();
    let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &flood).await;
    let goaway = raw.next_of(GOAWAY).await.expect("GOAWAY");
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");

    // Callers that change their minds after a while are everyday life.
    let client = bridge.client().await;
    for _ in 0..15 {
        let mut calls = Vec::new();
        for _ in 0..20 {
            calls.push(client.start(CANCEL, &MESSAGE[5..], &[]).await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        for (_, stream) in &mut calls {
            stream.send_reset(h2::Reason::CANCEL);
        }
    }
    assert_eq!(client.get("..").await.code(), 3, "the connection lives");
}

#[tokio::test]
async fn headers_too_large_fail_their_own_call_only() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let large = "x".repeat(60_000);
    assert_eq!(
        client.cancel_with(&cancel("42"), &[("x-large", &large)]).await.code(),
        0,
        "Envoy lets it through"
    );
    let too_large = "x".repeat(70_000);
    let (response, _stream) = client.start_cancel(&cancel("42"), &[("x-large", &too_large)]).await;
    let refused = within("an answer", response).await.expect("an answer");
    assert_eq!(refused.status(), 431);
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0, "the neighbour lives");
}

#[tokio::test]
async fn one_connection_more_than_allowed_is_closed_at_once() {
    let bridge = Bridge::start_with("http://127.0.0.1:1", &["--max-connections=3"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::greeted(bridge.address()).await;
        raw.next_of(SETTINGS).await.expect("settings");
        held.push(raw);
    }
    let mut refused = TcpStream::connect(bridge.address()).await.expect("the kernel accepts");
    let mut nothing = Vec::new();
    within("its end", refused.read_to_end(&mut nothing)).await.expect("an orderly end");
    assert!(nothing.is_empty());
    assert_eq!(bridge.metric("atoti_bridge_connections").await, Some(3.0));
    assert_eq!(bridge.metric("atoti_bridge_connections_refused_total").await, Some(1.0));
    drop(held.pop());
    within("a free place", async {
        while Raw::greeted(bridge.address()).await.next().await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_never_speaks_is_not_kept() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let mut silent = Raw::silent(bridge.address()).await;
    let mut slow = Raw::silent(bridge.address()).await;
    slow.send(b"PRI * HTTP/2.0\r\n").await;
    let mut polite = Raw::greeted(bridge.address()).await;
    polite.next_of(SETTINGS).await.expect("settings");
    assert!(silent.next_of(GOAWAY).await.is_none(), "closed within the patience for a preface");
    assert!(slow.next_of(GOAWAY).await.is_none());
    polite.send(&frame(PING, 0, 0, &[7; 8])).await;
    let pong = polite.next_of(PING).await.expect("an idle connection is kept");
    assert_eq!((pong.flags, &pong.payload[..]), (ACK, &[7; 8][..]));
}

#[tokio::test]
async fn http_1_is_not_spoken() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let mut raw = Raw::silent(bridge.address()).await;
    raw.send(b"GET / HTTP/1.1\r\nhost: bridge\r\n\r\n").await;
    let mut answer = Vec::new();
    // Closed or reset, either is an end.
    let _ = within("its end", raw.stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_and_nothing_else() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..200 {
        let mut raw = if n % 2 == 0 {
            Raw::silent(bridge.address()).await
        } else {
            Raw::greeted(bridge.address()).await
        };
        let mut garbage = vec![0; random.usize(1..2000)];
        random.fill(&mut garbage);
        if n % 4 == 1 {
            // A frame at least, of any kind: what is in it is garbage.
            garbage = frame(random.u8(0..12), random.u8(..), random.u32(0..9), &garbage);
        }
        // Perhaps it has closed already.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &garbage).await;
    }
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    assert_eq!(atoti.seen().len(), 1);
    within("the connections to be closed", async {
        while bridge.metric("atoti_bridge_connections").await != Some(1.0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_connection_says_goaway_and_its_calls_finish() {
    let slow = Answer::After(Duration::from_millis(1500), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-connection-age=500ms"]).await;
    let mut raw = Raw::greeted(bridge.address()).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &headers(CANCEL, &[]))).await;
    raw.send(&frame(DATA, END_STREAM, 1, MESSAGE)).await;
    let first = raw.next_of(GOAWAY).await.expect("GOAWAY");
    assert_eq!(first.payload[..4], [0x7f, 0xff, 0xff, 0xff], "nothing is refused yet");
    let ping = raw.next_of(PING).await.expect("a question whether that has arrived");
    raw.send(&frame(PING, ACK, 0, &ping.payload)).await;
    let last = raw.next_of(GOAWAY).await.expect("GOAWAY");
    assert_eq!(last.payload, [0, 0, 0, 1, 0, 0, 0, 0], "the call in flight is the last one, and no error");
    raw.next_of(DATA).await.expect("the call's answer");
    let trailers = raw.next_of(HEADERS).await.expect("its trailers");
    assert_eq!(trailers.stream, 1);
    assert!(raw.next().await.is_none(), "and then the connection ends");
}

/// A proxy connects for many calls at once when another bridge has gone. Whoever finds no room in the kernel's queue is
/// not told, and tries again a second later.
#[tokio::test]
async fn hundreds_connect_at_once_while_it_is_busy() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    bridge.signal("-STOP");
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(Raw::silent(bridge.address()).await);
    }
    bridge.signal("-CONT");
    let last = crowd.last_mut().expect("a crowd");
    last.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    last.next_of(SETTINGS).await.expect("settings");
}

/// A client that has connected believes that its call will be answered, and a mesh does not repeat one that was sent.
#[tokio::test]
async fn a_first_call_that_is_on_its_way_when_connections_close_is_served() {
    let atoti = accepting_atoti().await;
    let mut bridge = Bridge::start(&atoti.url()).await;
    let mut raw = Raw::silent(bridge.address()).await;
    bridge.signal("-TERM");
    bridge.logged("the end of the delay", |line| line["message"] == "closing connections").await;
    let call = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &headers(CANCEL, &[])),
        frame(DATA, END_STREAM, 1, MESSAGE),
    ];
    raw.send(&call.concat()).await;
    raw.next_of(DATA).await.expect("the call's answer");
    assert_eq!(raw.next_of(HEADERS).await.expect("its trailers").stream, 1);
    assert_eq!(atoti.seen().len(), 1);
    drop(raw);
    assert_eq!(bridge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn without_file_descriptors_it_waits_and_recovers() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start_limited(&atoti.url(), 64).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Raw::silent(bridge.address()).await);
    }
    bridge.logged("an error", |line| line["level"] == "ERROR" && line["error"].is_string()).await;
    let before = processor_time(bridge.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = processor_time(bridge.pid()) - before;
    assert!(used < Duration::from_millis(500), "it spins: {used:?} in 2 s");
    drop(crowd);
    let client = within("a connection", Client::connect(bridge.address())).await;
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    let errors = bridge.log_lines().into_iter().filter(|line| line.contains("cannot accept")).count();
    assert_eq!(errors, 1, "said once, not at every try");
}

/// User and system time of a process.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("its name ends").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    let per_second = Command::new("getconf").arg("CLK_TCK").output().expect("getconf runs").stdout;
    let per_second: u64 = String::from_utf8_lossy(&per_second).trim().parse().expect("a number");
    Duration::from_millis(ticks * 1000 / per_second)
}
