//! Requests and frames that break the rules: each ends its own call, or its own connection, with the error that HTTP/2
//! has for it, and reaches neither Atoti nor anybody else.

use std::time::{Duration, Instant};

use crate::support::{
    bridge::Bridge,
    client::cancel,
    frames::{
        ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
        FRAME_SIZE_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PADDED, PING, PRIORITY, PROTOCOL_ERROR,
        PUSH_PROMISE, RST_STREAM, Raw, SETTINGS, STREAM_CLOSED, block, frame, headers, literal, settings,
        window_update,
    },
    upstream::{Answer, Upstream, answer},
};

const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
/// A message: `query_id` is 42.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 4, 0x0a, 2, b'4', b'2'];

const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", CANCEL);
const AUTHORITY: (&str, &str) = (":authority", "bridge");
const KIND: (&str, &str) = ("content-type", "application/grpc");

/// What a call met.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// Its stream was reset, with this error.
    Reset(u32),
    /// The connection ended, with this error.
    Goaway(Option<u32>),
    /// An answer.
    Answer,
}

/// Makes a call of a header block and a body, and tells what it met.
async fn meet(raw: &mut Raw, block: &[u8], body: &[u8]) -> Met {
    raw.send(&frame(HEADERS, END_HEADERS, 1, block)).await;
    raw.send(&frame(DATA, END_STREAM, 1, body)).await;
    loop {
        let Some(frame) = raw.next().await else { return Met::Goaway(None) };
        match (frame.kind, frame.stream) {
            (GOAWAY, _) => return Met::Goaway(Some(frame.code())),
            (RST_STREAM, 1) => return Met::Reset(frame.code()),
            (HEADERS, 1) => return Met::Answer,
            _ => {}
        }
    }
}

/// A call's headers and one more field, of any bytes.
fn with(name: &[u8], value: &[u8]) -> Vec<u8> {
    [headers(CANCEL, &[]), literal(0, name, value)].concat()
}

#[tokio::test]
async fn a_malformed_request_is_reset_and_nobody_else_notices() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("connection", with(b"connection", b"close")),
        ("keep-alive", with(b"keep-alive", b"timeout=5")),
        ("proxy-connection", with(b"proxy-connection", b"keep-alive")),
        ("transfer-encoding", with(b"transfer-encoding", b"chunked")),
        ("upgrade", with(b"upgrade", b"h2c")),
        ("te: gzip", with(b"te", b"gzip")),
        ("te: trailers, gzip", with(b"te", b"trailers, gzip")),
        ("an answer's pseudo header", block(&[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200"), KIND])),
        ("a pseudo header twice", block(&[METHOD, METHOD, SCHEME, PATH, AUTHORITY, KIND])),
        ("two paths", block(&[METHOD, SCHEME, PATH, PATH, AUTHORITY, KIND])),
        ("a pseudo header behind others", block(&[METHOD, SCHEME, AUTHORITY, KIND, PATH])),
        ("no method", block(&[SCHEME, PATH, AUTHORITY, KIND])),
        ("no scheme", block(&[METHOD, PATH, AUTHORITY, KIND])),
        ("no path", block(&[METHOD, SCHEME, AUTHORITY, KIND])),
        ("an empty path", block(&[METHOD, SCHEME, (":path", ""), AUTHORITY, KIND])),
        ("a path with a blank", block(&[METHOD, SCHEME, (":path", "/a b"), AUTHORITY, KIND])),
        ("a path with NUL", block(&[METHOD, SCHEME, (":path", "/a\0b"), AUTHORITY, KIND])),
        ("a host with a blank", block(&[METHOD, SCHEME, PATH, (":authority", "a b"), KIND])),
        ("a host with NUL", block(&[METHOD, SCHEME, PATH, (":authority", "a\0b"), KIND])),
        (
            "two lengths that differ",
            block(&[METHOD, SCHEME, PATH, AUTHORITY, KIND, ("content-length", "9"), ("content-length", "8")]),
        ),
        ("less than it says", with(b"content-length", b"10")),
        ("more than it says", with(b"content-length", b"8")),
        ("a length that is none", with(b"content-length", b"nine")),
    ];
    let (neighbour, mut others) = (bridge.client().await, Vec::new());
    for (what, block) in cases {
        let mut raw = Raw::greeted(bridge.address()).await;
        let met = meet(&mut raw, &block, MESSAGE).await;
        assert_eq!(atoti.seen().len(), 0, "{what}");
        assert_eq!(neighbour.get("a b").await.code(), 3, "{what}");
        if met == Met::Reset(PROTOCOL_ERROR) {
            assert!(raw.lives().await, "{what}");
        } else {
            others.push((what, met));
        }
    }
    assert_eq!(others, []);
}

/// RFC 9113 asks for an end of the stream alone. h2 cannot tell a field that it has no type for from a table that is
/// broken, and gives the connection up. No client library sends such fields, and no proxy passes them on.
#[tokio::test]
async fn fields_that_cannot_be_end_the_connection() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    for (what, block) in [
        ("an unknown pseudo header", block(&[METHOD, SCHEME, PATH, AUTHORITY, (":x", "y"), KIND])),
        ("a method with NUL", block(&[(":method", "PO\0ST"), SCHEME, PATH, AUTHORITY, KIND])),
        ("a large letter in a name", with(b"X-Large", b"1")),
        ("NUL in a name", with(b"x\0y", b"1")),
        ("a blank in a name", with(b"x y", b"1")),
        ("a name with bytes beyond ASCII", with(b"x\xff", b"1")),
        ("no name", with(b"", b"1")),
        ("NUL in a value", with(b"x", b"a\0b")),
        ("a new line in a value", with(b"x", b"a\nb")),
        ("a carriage return in a value", with(b"x", b"a\rb")),
    ] {
        let mut raw = Raw::greeted(bridge.address()).await;
        let met = meet(&mut raw, &block, MESSAGE).await;
        assert_eq!(met, Met::Goaway(Some(PROTOCOL_ERROR)), "{what}");
        assert_eq!(atoti.seen().len(), 0, "{what}");
    }
}

#[tokio::test]
async fn what_is_odd_but_allowed_is_answered() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let long = format!("/{}", "x".repeat(40_000));
    let cases: Vec<(&str, Vec<u8>, usize)> = vec![
        ("no host", block(&[METHOD, SCHEME, PATH, KIND]), 1),
        ("a host that is none of ours", block(&[METHOD, SCHEME, PATH, (":authority", "evil:1"), KIND]), 1),
        ("another scheme", block(&[METHOD, (":scheme", "https"), PATH, AUTHORITY, KIND]), 1),
        ("no te", block(&[METHOD, SCHEME, PATH, AUTHORITY, KIND]), 1),
        ("host beside :authority", with(b"host", b"evil"), 1),
        ("its length", with(b"content-length", b"9"), 1),
        ("bytes beyond ASCII in a value", with(b"x", b"\xff\xfe"), 1),
        ("an index that grows the table", [headers(CANCEL, &[]), literal(0x40, b"x", b"y")].concat(), 1),
        ("a path that nobody has", block(&[METHOD, SCHEME, (":path", &long), AUTHORITY, KIND]), 0),
        ("CONNECT", block(&[(":method", "CONNECT"), AUTHORITY]), 0),
    ];
    for (what, block, asked) in cases {
        let before = atoti.seen().len();
        let mut raw = Raw::greeted(bridge.address()).await;
        // A block of more than a frame goes on in others.
        let (first, rest) = block.split_at(block.len().min(16_384));
        let flags = if rest.is_empty() { END_HEADERS } else { 0 };
        raw.send(&frame(HEADERS, flags, 1, first)).await;
        let last = rest.chunks(16_384).count().saturating_sub(1);
        for (n, part) in rest.chunks(16_384).enumerate() {
            raw.send(&frame(CONTINUATION, if n == last { END_HEADERS } else { 0 }, 1, part)).await;
        }
        raw.send(&frame(DATA, END_STREAM, 1, MESSAGE)).await;
        let answer = raw.next_on(1).await.unwrap_or_else(|| panic!("{what}: an answer"));
        assert_eq!(answer.kind, HEADERS, "{what}: {answer:?}");
        assert!(raw.lives().await, "{what}");
        assert_eq!(atoti.seen().len() - before, asked, "{what}");
    }
    let sent: Vec<_> =
        atoti.seen().iter().flat_map(|seen| seen.header("host").join(",").into_bytes()).collect();
    assert!(!String::from_utf8_lossy(&sent).contains("evil"), "no caller chooses Atoti's host");
}

#[tokio::test]
async fn a_frame_against_the_rules_ends_its_connection() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let neighbour = bridge.client().await;
    let call = headers(CANCEL, &[]);
    let open = frame(HEADERS, END_HEADERS, 1, &call);
    let then = |more: Vec<u8>| [open.clone(), more].concat();
    let cases: Vec<(&str, Vec<u8>, &[u32])> = vec![
        ("data larger than a frame may be", then(frame(DATA, 0, 1, &[0; 16_385])), &[FRAME_SIZE_ERROR]),
        (
            "headers larger than a frame may be",
            frame(HEADERS, END_HEADERS, 1, &[0; 16_385]),
            &[FRAME_SIZE_ERROR],
        ),
        ("16 MB announced", vec![255, 255, 255, 0, 0, 0, 0, 0, 1], &[FRAME_SIZE_ERROR]),
        ("a ping of 7", frame(PING, 0, 0, &[0; 7]), &[FRAME_SIZE_ERROR]),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        ("settings of 5", frame(SETTINGS, 0, 0, &[0; 5]), &[FRAME_SIZE_ERROR]),
        ("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), &[FRAME_SIZE_ERROR]),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("push neither on nor off", settings(&[(2, 2)]), &[PROTOCOL_ERROR]),
        ("frames too small", settings(&[(5, 16_383)]), &[PROTOCOL_ERROR]),
        ("frames too large", settings(&[(5, 1 << 24)]), &[PROTOCOL_ERROR]),
        ("a window too large", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), &[FLOW_CONTROL_ERROR]),
        (
            "an acknowledgement that nobody waits for",
            [frame(SETTINGS, ACK, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("data of no stream", frame(DATA, 0, 0, &[0]), &[PROTOCOL_ERROR]),
        ("data of an idle stream", frame(DATA, 0, 1, &[0]), &[PROTOCOL_ERROR]),
        ("headers of no stream", frame(HEADERS, END_HEADERS, 0, &call), &[PROTOCOL_ERROR]),
        ("a stream of the server's", frame(HEADERS, END_HEADERS, 2, &call), &[PROTOCOL_ERROR]),
        (
            "a stream before the last one",
            [frame(HEADERS, END_HEADERS, 5, &call), frame(HEADERS, END_HEADERS, 3, &call)].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED],
        ),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), &[PROTOCOL_ERROR]),
        ("a reset of no stream", frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]), &[PROTOCOL_ERROR]),
        ("a reset of 3", then(frame(RST_STREAM, 0, 1, &[0; 3])), &[FRAME_SIZE_ERROR]),
        ("an update of an idle stream", window_update(1, 1), &[PROTOCOL_ERROR]),
        ("an update of 3", frame(8, 0, 0, &[0; 3]), &[FRAME_SIZE_ERROR]),
        ("a priority of no stream", frame(PRIORITY, 0, 0, &[0; 5]), &[PROTOCOL_ERROR]),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &call), &[PROTOCOL_ERROR]),
        (
            "a ping amid headers",
            [frame(HEADERS, 0, 1, &call), frame(PING, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL_ERROR],
        ),
        (
            "a continuation of another's headers",
            [frame(HEADERS, 0, 1, &call), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("a goodbye of a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        ("a goodbye of 7", frame(GOAWAY, 0, 0, &[0; 7]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        (
            "a promise",
            then(frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &call].concat())),
            &[PROTOCOL_ERROR],
        ),
        ("an index of nothing", frame(HEADERS, END_HEADERS, 1, &[0x80 | 70]), &[COMPRESSION_ERROR]),
        ("the index 0", frame(HEADERS, END_HEADERS, 1, &[0x80]), &[COMPRESSION_ERROR]),
        (
            "a table too large",
            frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0xff, 0x7f]),
            &[COMPRESSION_ERROR],
        ),
        ("a number without end", frame(HEADERS, END_HEADERS, 1, &[0xff; 20]), &[COMPRESSION_ERROR]),
        ("a field cut short", frame(HEADERS, END_HEADERS, 1, &[0, 5, b'x']), &[COMPRESSION_ERROR]),
        ("more padding than frame", then(frame(DATA, PADDED, 1, &[5, 0])), &[PROTOCOL_ERROR]),
        (
            "headers of nothing but padding",
            frame(HEADERS, END_HEADERS | PADDED, 1, &[5, 0]),
            &[PROTOCOL_ERROR],
        ),
    ];
    let mut others = Vec::new();
    for (what, frames, codes) in cases {
        let mut raw = Raw::greeted(bridge.address()).await;
        raw.send(&frames).await;
        let code = raw.end().await;
        // h2 says PROTOCOL_ERROR for much that has an error of its own. The end is the same.
        if !code.is_some_and(|code| code == PROTOCOL_ERROR || codes.contains(&code)) {
            others.push((what, code));
        }
    }
    assert_eq!(others, []);
    assert_eq!(neighbour.get("a b").await.code(), 3, "the neighbour is served");
    assert_eq!(atoti.seen().len(), 0, "nothing of it was a call");
}

#[tokio::test]
async fn a_stream_that_has_ended_takes_no_more() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let open = async || {
        let mut raw = Raw::greeted(bridge.address()).await;
        raw.call(1, CANCEL, MESSAGE).await;
        raw
    };
    // Either error is allowed for, the stream's or the connection's.
    for (what, more) in [
        ("data behind the end", frame(DATA, 0, 1, &[0])),
        ("headers behind the end", frame(HEADERS, END_HEADERS | END_STREAM, 1, &headers(CANCEL, &[]))),
    ] {
        let mut raw = open().await;
        raw.send(&more).await;
        let met = loop {
            let frame = raw.next().await.unwrap_or_else(|| panic!("{what}: an error"));
            if matches!(frame.kind, RST_STREAM | GOAWAY) {
                break frame.code();
            }
        };
        assert!([STREAM_CLOSED, PROTOCOL_ERROR].contains(&met), "{what}: {met}");
    }
    // What was on its way when its stream was reset is no error: it is passed over.
    let mut raw = open().await;
    raw.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
    raw.send(&[window_update(1, 5), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])].concat()).await;
    assert!(raw.lives().await);
}

#[tokio::test]
async fn whoever_ignores_goaway_is_cut() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-connection-age=500ms", "--max-deadline=1s"]).await;
    let began = Instant::now();
    let mut raw = Raw::greeted(bridge.address()).await;
    raw.next_of(GOAWAY).await.expect("GOAWAY");
    // Neither is its question answered, whether that has arrived, nor does anything stop.
    for n in 0..1_000 {
        use tokio::io::AsyncWriteExt as _;

        let call = frame(HEADERS, END_HEADERS, 2 * n + 1, &headers(CANCEL, &[]));
        if raw.stream.write_all(&[call, frame(DATA, END_STREAM, 2 * n + 1, MESSAGE)].concat()).await.is_err()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while raw.next().await.is_some() {}
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0);
}
