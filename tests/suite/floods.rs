//! Floods: whoever sends without end, and whatever it is, gets little memory for it, and takes nothing from others.
//!
//! What a flood meets is h2's doing in most cases, and its limits change from version to version: these tests say what
//! must hold after an update, too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    bridge::Bridge,
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PREFACE,
        PRIORITY, REFUSED_STREAM, RST_STREAM, Raw, SETTINGS, block, frame, headers, literal, settings,
        window_update,
    },
    upstream::{Answer, Upstream},
    within,
};

const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
/// How much more the process may ever have had in memory.
const MOST_KIB: u64 = 16 * 1024;
/// How long nothing is taken before the other side is taken to have stopped reading.
const STALLED: Duration = Duration::from_secs(3);

/// What a flood met.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// The end of the connection, with this error code if any came.
    End(Option<u32>),
    /// Nothing: all of it was read, and the connection answers.
    Patience,
    /// The bridge reads no more.
    Stall,
}

/// Somebody else who calls all the time, on a connection of its own.
struct Neighbour {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(usize, Duration)>,
}

impl Neighbour {
    async fn start(bridge: &Bridge) -> Self {
        let (client, stop) = (bridge.client().await, Arc::new(AtomicBool::new(false)));
        assert_eq!(client.get("42").await.code(), 0);
        let calls = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let (mut calls, mut slowest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) || calls == 0 {
                    let began = Instant::now();
                    assert_eq!(client.get("42").await.code(), 0, "the neighbour is served");
                    calls += 1;
                    slowest = slowest.max(began.elapsed());
                }
                (calls, slowest)
            }
        });
        Self { stop, calls }
    }

    async fn end(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.await.expect("every call was served")
    }
}

/// A bridge for floods. Atoti answers what is read at once, and never what is to be cancelled.
async fn bridge() -> (Upstream, Bridge) {
    const QUERY: &str = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: ";
    let body = r#"{"id":"42","status":"RUNNING","type":"MDX","query":"SELECT","username":"u","startTime":0}"#;
    let query = format!("{QUERY}{}\r\n\r\n{body}", body.len()).into_bytes();
    let atoti =
        Upstream::start(
            move |seen, _| {
                if seen.method == "GET" { Answer::Bytes(query.clone()) } else { Answer::Hang }
            },
        )
        .await;
    let bridge = Bridge::start(&atoti.url()).await;
    (atoti, bridge)
}

/// Lets a flood loose, which may or may not read what comes back, and yields what it met. In the meantime a neighbour
/// is served, and the process stays small.
async fn withstand(bridge: &Bridge, what: &str, flood: Vec<u8>, reads: bool) -> Met {
    let neighbour = Neighbour::start(bridge).await;
    let before = bridge.peak_kib();
    let raw = if reads { Raw::silent(bridge.address()).await } else { Raw::narrow(bridge.address()).await };
    let sent = flood.len();
    let met = pour(raw, flood, reads).await;
    let (calls, slowest) = neighbour.end().await;
    let grown = bridge.peak_kib().saturating_sub(before);
    println!(
        "{what}: {sent} bytes met {met:?}; {grown} KiB more; {calls} calls beside it, in {slowest:?} at most"
    );
    assert!(grown < MOST_KIB, "{what}: {before} KiB grew by {grown}");
    met
}

async fn pour(raw: Raw, flood: Vec<u8>, reads: bool) -> Met {
    let (mut reader, mut writer) = raw.stream.into_split();
    // Answered once all before it has been read.
    let last = [0x5a; 8];
    let pong = frame(PING, ACK, 0, &last);
    let (all_sent, mut sent) = tokio::sync::oneshot::channel::<()>();
    let reading = tokio::spawn(async move {
        let (mut came, mut all_sent, mut until) = (Vec::new(), false, Instant::now());
        loop {
            tokio::select! {
                read = reader.read_buf(&mut came), if reads || all_sent => match read {
                    Ok(1..) => until = Instant::now() + 2 * STALLED,
                    // A reset is an end.
                    Ok(0) | Err(_) => return (came, true),
                },
                _ = &mut sent, if !all_sent => (all_sent, until) = (true, Instant::now() + 2 * STALLED),
                () = tokio::time::sleep_until(until.into()), if all_sent => return (came, false),
            }
            if came.ends_with(&pong) {
                return (came, false);
            }
        }
    });
    let mut broken = false;
    for part in flood.chunks(64 * 1024) {
        match timeout(STALLED, writer.write_all(part)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                broken = true;
                break;
            }
            Err(_) => return Met::Stall,
        }
    }
    let _ = writer.write_all(&frame(PING, 0, 0, &last)).await;
    drop(all_sent);
    let (came, ended) = reading.await.expect("it does not panic");
    let (mut rest, mut code, mut answered) = (&came[..], None, false);
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let payload = rest.get(9..9 + length).unwrap_or_default();
        match rest[3] {
            GOAWAY if length >= 8 => {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
            }
            PING => answered |= payload == last,
            _ => {}
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    match (ended || broken, answered) {
        (true, _) => Met::End(code),
        (false, true) => Met::Patience,
        (false, false) => Met::Stall,
    }
}

/// A connection's beginning, and then many times the same.
fn many(times: u32, wave: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let opening = [PREFACE, &settings(&[])].concat();
    opening.into_iter().chain((0..times).flat_map(wave)).collect()
}

/// The client's n-th stream.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rapid_resets() {
    let (atoti, bridge) = bridge().await;
    let call = headers(CANCEL, &[]);
    let flood = many(10_000, |n| {
        let reset = frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8]);
        [frame(HEADERS, END_HEADERS, stream(n), &call), reset].concat()
    });
    let met = withstand(&bridge, "rapid resets", flood, true).await;
    assert_eq!(met, Met::End(Some(ENHANCE_YOUR_CALM)));
    assert!(atoti.seen().iter().all(|seen| seen.method == "GET"), "no cancel was whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end() {
    let (_atoti, bridge) = bridge().await;
    // Literals that fill frames of the largest size, small ones, and nothing at all, which costs the sender least.
    let large = literal(0, b"x-large", &[b'x'; 16_000]);
    let small = literal(0, b"x", b"");
    for (what, part, times) in
        [("large", &large[..], 1_000), ("small", &small, 300_000), ("empty", &[], 300_000)]
    {
        let call = headers(CANCEL, &[]);
        let flood =
            many(
                times,
                |n| {
                    if n == 0 { frame(HEADERS, 0, 1, &call) } else { frame(CONTINUATION, 0, 1, part) }
                },
            );
        let met = withstand(&bridge, &format!("{what} continuations"), flood, true).await;
        assert_eq!(met, Met::End(Some(ENHANCE_YOUR_CALM)), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_unpack_to_much_more() {
    let (_atoti, bridge) = bridge().await;
    // One large field into the dynamic table, where it has the first place, 62; then a byte for each time it is meant.
    let kept = literal(0x40, b"x", &[b'x'; 4000]);
    let bomb = |times| [headers(CANCEL, &[]), kept.clone(), vec![0x80 | 62; times]].concat();
    let once = many(1, |_| frame(HEADERS, END_HEADERS, 1, &bomb(12_000)));
    let met = withstand(&bridge, "a bomb of 48 MB", once, true).await;
    assert_eq!(met, Met::End(Some(ENHANCE_YOUR_CALM)));
    // Each too large for a call, and too small to end the connection: refused, and not kept.
    let again = many(5_000, |n| frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &bomb(40)));
    withstand(&bridge, "bombs of 160 KB", again, true).await;
    // Each as large as is allowed, on as many calls as may wait at once.
    let allowed = many(256, |n| frame(HEADERS, END_HEADERS, stream(n), &bomb(14)));
    let met = withstand(&bridge, "as much as is allowed", allowed, true).await;
    assert_eq!(met, Met::Patience);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_want_an_answer() {
    let (_atoti, bridge) = bridge().await;
    // Of full settings, the acknowledgements are so small that they have room in the kernel, read or not.
    for (kind, frame, unread) in [
        ("settings", frame(SETTINGS, 0, 0, &[]), Met::Stall),
        ("full settings", settings(&[(4, 65_535); 100]), Met::Patience),
        ("pings", frame(PING, 0, 0, &[7; 8]), Met::Stall),
    ] {
        let times = u32::try_from(8_000_000 / frame.len()).expect("not so many");
        let flood = many(times, |_| frame.clone());
        let met = withstand(&bridge, &format!("{kind}, and reads"), flood.clone(), true).await;
        assert_eq!(met, Met::Patience, "{kind}");
        // Nothing is read any more from who does not read.
        let met = withstand(&bridge, &format!("{kind}, and never reads"), flood, false).await;
        assert_eq!(met, unread, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_no_size() {
    let (_atoti, bridge) = bridge().await;
    for (what, data) in [("empty", &[][..]), ("a byte each", &[0]), ("padding alone", &[0])] {
        let flags = if what == "padding alone" { 8 } else { 0 };
        let flood = many(300_000, |n| {
            if n == 0 {
                frame(HEADERS, END_HEADERS, 1, &headers(CANCEL, &[]))
            } else {
                frame(DATA, flags, 1, data)
            }
        });
        let met = withstand(&bridge, &format!("data, {what}"), flood, true).await;
        assert_eq!(met, Met::End(Some(ENHANCE_YOUR_CALM)), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_mean_little() {
    let (_atoti, bridge) = bridge().await;
    let priority = |n| frame(PRIORITY, 0, stream(n % 50_000), &[0, 0, 0, 0, 16]);
    for (what, flood) in [
        ("priorities", many(400_000, priority)),
        ("updates of the window", many(400_000, |_| window_update(0, 1))),
        ("frames of no known kind", many(400_000, |n| frame(0xbe, 0xff, stream(n), &[]))),
        ("large frames of no known kind", many(1_000, |_| frame(0xbe, 0, 0, &[0; 16_384]))),
    ] {
        assert_eq!(withstand(&bridge, what, flood, true).await, Met::Patience, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_may_be_open() {
    let (_atoti, bridge) = bridge().await;
    let call = headers(CANCEL, &[]);
    let mut raw = Raw::greeted(bridge.address()).await;
    for n in 0..257 {
        raw.send(&frame(HEADERS, END_HEADERS, stream(n), &call)).await;
    }
    let refused = raw.next_of(RST_STREAM).await.expect("a refusal");
    assert_eq!((refused.stream, refused.code()), (stream(256), REFUSED_STREAM));
    assert!(raw.lives().await, "the others are served");
    let flood = many(20_000, |n| frame(HEADERS, END_HEADERS, stream(n), &call));
    let met = withstand(&bridge, "calls without end", flood, true).await;
    assert_eq!(met, Met::End(Some(ENHANCE_YOUR_CALM)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_every_stream() {
    let (_atoti, bridge) = bridge().await;
    let bad = block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), ("connection", "close")]);
    let flood = many(20_000, |n| frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &bad));
    assert_eq!(withstand(&bridge, "malformed", flood, true).await, Met::End(Some(ENHANCE_YOUR_CALM)));
}

/// The most that one connection can make the bridge hold: as many requests as may be open, each as large as is allowed
/// but for its last byte, or with headers as large as are allowed and nothing more. What is beyond the bound is refused
/// at once; the rest is given up at its deadline, and all is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_lack_their_last_byte() {
    const SIZE: usize = 60_000;
    /// As many as a connection may have of what has not come to its end.
    const MOST: usize = 2 * 1024 * 1024 / SIZE;
    let length = u32::try_from(SIZE).expect("64 KiB").to_be_bytes();
    let message = bytes::Bytes::from([&[0][..], &length, &[0; SIZE - 1]].concat());
    let long = "x".repeat(SIZE);
    for (what, header, message) in [("messages", "x", message), ("headers", &*long, bytes::Bytes::new())] {
        let atoti = Upstream::start(|_, _| Answer::Hang).await;
        let bridge = Bridge::start_with(&atoti.url(), &["--max-deadline=5s"]).await;
        let client = bridge.client().await;
        let before = bridge.resident_kib();
        let (mut calls, connection) = {
            let stream = tokio::net::TcpStream::connect(bridge.address()).await.expect("it listens");
            h2::client::handshake(stream).await.expect("HTTP/2")
        };
        let connection = tokio::spawn(connection);
        let head = || {
            let head = http::Request::post(format!("http://bridge{CANCEL}"));
            head.header("content-type", "application/grpc").header("x-large", header)
        };
        let mut open = Vec::new();
        for _ in 0..256 {
            calls = calls.ready().await.expect("room for a call");
            let head = head().body(()).expect("a request");
            let (answer, mut rest) = calls.send_request(head, false).expect("sent");
            // Frames of no data are a flood of their own.
            if !message.is_empty() {
                rest.send_data(message.clone(), false).expect("sent");
            }
            open.push((answer, rest));
        }
        assert_eq!(client.get("x y").await.code(), 3, "the neighbour is served");
        let mut refused = 0;
        for (answer, _) in &mut open {
            let answer = within("an answer", answer).await.expect("an answer");
            match answer.headers()["grpc-status"].to_str() {
                Ok("8") => refused += 1,
                Ok("4") => {}
                other => panic!("{what}: {other:?}"),
            }
        }
        // Which of them get in is chance; that what is refused makes room for others, too.
        assert!(refused > 64, "{what}: {refused} refused");
        let held = bridge.peak_kib() - before;
        println!("256 {what} without an end: {refused} refused, {held} KiB");
        assert!(held < MOST_KIB, "{what}: {held} KiB");
        // All is given back: as many as there is room for are whole again, and taken for calls.
        drop(open);
        for _ in 0..MOST {
            calls = calls.ready().await.expect("room for a call");
            let (answer, mut rest) =
                calls.send_request(head().body(()).expect("a request"), false).expect("sent");
            rest.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 0]), true).expect("sent");
            let answer = within("an answer", answer).await.expect("an answer");
            assert_eq!(answer.headers()["grpc-status"], "3", "{what}");
        }
        drop(calls);
        connection.abort();
        within("all to be given back", async {
            while bridge.metric("atoti_bridge_connections").await != Some(1.0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(client.call("/grpc.health.v1.Health/Check", &[], &[]).await.code(), 0);
    }
}
