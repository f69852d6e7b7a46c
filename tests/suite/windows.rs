//! Windows of flow control, played with: answers go out as they are let out, nothing else waits for them, and what is
//! never taken is not kept for ever.

use std::time::{Duration, Instant};

use atoti_grpc_bridge::simulator::{NewQuery, Options, Security, Simulator};
use prost::Message as _;

use crate::support::{
    bridge::Bridge,
    client::{CancelQueryRequest, GetQueryRequest, cancel},
    frames::{
        DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE,
        PRIORITY, PROTOCOL_ERROR, RST_STREAM, Raw, frame, headers, settings, window_update,
    },
    messages::{CancelQueriesRequest, of_user},
    upstream::{Answer, Upstream, answer},
    within,
};

const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
/// A message: `query_id` is 42.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 4, 0x0a, 2, b'4', b'2'];
/// Its answer: the outcome is "requested".
const ANSWER: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const LARGEST: u32 = 0x7fff_ffff;

async fn accepting_bridge() -> (Upstream, Bridge) {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    (atoti, bridge)
}

/// A connection whose calls have so much room for their answers.
async fn with_window(bridge: &Bridge, window: u32) -> Raw {
    let mut raw = Raw::silent(bridge.address()).await;
    raw.send(&[PREFACE, &settings(&[(INITIAL_WINDOW_SIZE, window)])].concat()).await;
    raw
}

/// A call's answer as far as it is let out: what comes before the connection answers a ping.
async fn let_out(raw: &mut Raw, stream: u32) -> Vec<u8> {
    raw.send(&frame(PING, 0, 0, &[1; 8])).await;
    let mut data = Vec::new();
    loop {
        let next = raw.next().await.expect("the connection lives");
        match next.kind {
            DATA if next.stream == stream => data.extend(next.payload),
            PING => return data,
            _ => {}
        }
    }
}

/// The call has been answered, as far as its window lets it.
async fn head(raw: &mut Raw, stream: u32) {
    assert_eq!(raw.next_on(stream).await.expect("a head").kind, HEADERS);
}

async fn trailers(raw: &mut Raw, stream: u32) {
    let trailers = raw.next_on(stream).await.expect("trailers");
    assert_eq!((trailers.kind, trailers.flags), (HEADERS, END_HEADERS | END_STREAM));
}

#[tokio::test]
async fn an_answer_goes_out_as_its_window_lets_it() {
    let (_atoti, bridge) = accepting_bridge().await;
    let mut raw = with_window(&bridge, 1).await;
    raw.call(1, CANCEL, MESSAGE).await;
    head(&mut raw, 1).await;
    let mut body = Vec::new();
    loop {
        let data = raw.next_on(1).await.expect("a byte");
        assert_eq!((data.kind, data.payload.len()), (DATA, 1), "no more than there is room for");
        body.extend(data.payload);
        assert!(let_out(&mut raw, 1).await.is_empty(), "nothing comes unasked");
        if body.len() == ANSWER.len() {
            break;
        }
        raw.send(&window_update(1, 1)).await;
    }
    assert_eq!(body, ANSWER);
}

#[tokio::test]
async fn the_last_of_several_initial_windows_counts() {
    let (_atoti, bridge) = accepting_bridge().await;
    let mut raw = Raw::silent(bridge.address()).await;
    let twice = settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]);
    raw.send(&[PREFACE, &twice].concat()).await;
    raw.call(1, CANCEL, MESSAGE).await;
    head(&mut raw, 1).await;
    assert_eq!(raw.next_on(1).await.expect("a byte").payload, ANSWER[..1]);
}

#[tokio::test]
async fn an_initial_window_that_grows_lets_waiting_answers_go() {
    let (_atoti, bridge) = accepting_bridge().await;
    let mut raw = with_window(&bridge, 0).await;
    raw.call(1, CANCEL, MESSAGE).await;
    head(&mut raw, 1).await;
    assert!(let_out(&mut raw, 1).await.is_empty());
    raw.send(&settings(&[(INITIAL_WINDOW_SIZE, 3)])).await;
    assert_eq!(raw.next_on(1).await.expect("data").payload, ANSWER[..3]);
    raw.send(&settings(&[(INITIAL_WINDOW_SIZE, 100)])).await;
    assert_eq!(raw.next_on(1).await.expect("data").payload, ANSWER[3..]);
    trailers(&mut raw, 1).await;
}

#[tokio::test]
async fn a_window_below_zero_is_made_good_first() {
    let (_atoti, bridge) = accepting_bridge().await;
    let mut raw = with_window(&bridge, 3).await;
    raw.call(1, CANCEL, MESSAGE).await;
    head(&mut raw, 1).await;
    assert_eq!(raw.next_on(1).await.expect("data").payload, ANSWER[..3]);
    // Three are out: two more than allowed now.
    raw.send(&[settings(&[(INITIAL_WINDOW_SIZE, 1)]), window_update(1, 2)].concat()).await;
    assert!(let_out(&mut raw, 1).await.is_empty(), "that is zero");
    raw.send(&window_update(1, 1)).await;
    assert_eq!(raw.next_on(1).await.expect("data").payload, ANSWER[3..4]);
    raw.send(&window_update(1, LARGEST - 1)).await;
    assert_eq!(raw.next_on(1).await.expect("data").payload, ANSWER[4..]);
    trailers(&mut raw, 1).await;
}

#[tokio::test]
async fn frames_for_a_call_whose_request_has_ended_are_accepted() {
    let slow = Answer::After(Duration::from_millis(300), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let mut raw = Raw::greeted(bridge.address()).await;
    raw.call(1, CANCEL, MESSAGE).await;
    raw.send(&[window_update(1, 100), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])].concat()).await;
    head(&mut raw, 1).await;
    assert_eq!(raw.next_on(1).await.expect("data").payload, ANSWER);
    trailers(&mut raw, 1).await;
}

#[tokio::test]
async fn windows_that_cannot_be_are_errors() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let update = |more| window_update(1, more);
    let fill = |initial| [update(LARGEST - 65_535), settings(&[(INITIAL_WINDOW_SIZE, initial)])].concat();
    for (what, frames, on, code) in [
        ("more than fits, for a call", update(LARGEST), 1, FLOW_CONTROL_ERROR),
        ("more than fits, for the connection", window_update(0, LARGEST), 0, FLOW_CONTROL_ERROR),
        ("more than fits, by settings", fill(65_536), 0, FLOW_CONTROL_ERROR),
        ("more than can be, by settings", fill(LARGEST + 1), 0, FLOW_CONTROL_ERROR),
        ("nothing more, for a call", update(0), 0, PROTOCOL_ERROR),
        ("nothing more, for the connection", window_update(0, 0), 0, PROTOCOL_ERROR),
    ] {
        let mut raw = Raw::greeted(bridge.address()).await;
        raw.call(1, CANCEL, MESSAGE).await;
        raw.send(&frames).await;
        if on == 0 {
            let met = raw.end().await;
            // h2 says PROTOCOL_ERROR for most settings that cannot be.
            assert!(met == Some(code) || met == Some(PROTOCOL_ERROR), "{what}: {met:?}");
        } else {
            let reset = raw.next_on(on).await.expect("a reset");
            assert_eq!((reset.kind, reset.code()), (RST_STREAM, code), "{what}");
            assert!(raw.lives().await, "{what}");
        }
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_up_nothing_and_are_not_kept_for_ever() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let flags = ["--max-connection-age=2s", "--max-deadline=1s", "--max-in-flight=8"];
    let bridge = Bridge::start_with(&atoti.url(), &flags).await;
    let before = bridge.peak_kib();
    let began = Instant::now();
    let mut raw = with_window(&bridge, 0).await;
    // As many as may be open, and each is answered: none of them holds a place any more.
    for stream in (0..256).map(|n| 2 * n + 1) {
        raw.call(stream, CANCEL, MESSAGE).await;
        head(&mut raw, stream).await;
    }
    assert_eq!(atoti.seen().len(), 256);
    assert_eq!(bridge.client().await.cancel(&cancel("43")).await.code(), 0, "the neighbour has a place");
    // From the age, at most a tenth late, to the longest deadline, and a second for last bytes.
    while let Some(frame) = raw.next().await {
        assert_ne!(frame.kind, DATA);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    until(&bridge, "atoti_bridge_calls_in_flight", 0.0).await;
    let grown = bridge.peak_kib() - before;
    println!("256 answers not taken: {grown} KiB");
    assert!(grown < 8 * 1024, "{grown} KiB");
}

/// An Atoti with so many running queries, and the id of one.
async fn busy_atoti(running: usize) -> (Simulator, String) {
    let options = Options { security: Security::Off, ..Options::default() };
    let atoti = Simulator::start(options).await.expect("it starts");
    let ids: Vec<_> = (0..running)
        .map(|_| atoti.history().start_query(NewQuery { username: "runaway".into(), ..NewQuery::default() }))
        .collect();
    (atoti, ids.into_iter().next().expect("one"))
}

/// A while for a call.
const A_WHILE: &[(&str, &str)] = &[("grpc-timeout", "1500m")];

/// Calls a streaming method with no room for its answers.
async fn call_deaf(raw: &mut Raw, stream: u32, method: &str, request: &[u8], more: &[(&str, &str)]) {
    let path = format!("/atoti.queryhistory.v1.QueryHistoryService/{method}");
    let length = u8::try_from(request.len()).expect("a short one");
    raw.send(&frame(HEADERS, END_HEADERS, stream, &headers(&path, more))).await;
    raw.send(&frame(DATA, END_STREAM, stream, &[&[0, 0, 0, 0, length][..], request].concat())).await;
    let head = raw.next_on(stream).await.expect("a head");
    assert_eq!((head.kind, head.flags), (HEADERS, END_HEADERS), "more is to come");
}

async fn until(bridge: &Bridge, metric: &str, value: f64) {
    within(&format!("{metric} to be {value}"), async {
        while bridge.metric(metric).await != Some(value) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_nobody_takes_gives_its_place_back_at_its_deadline() {
    let (atoti, query_id) = busy_atoti(1).await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let mut raw = with_window(&bridge, 0).await;
    call_deaf(&mut raw, 1, "WatchQuery", &GetQueryRequest { query_id }.encode_to_vec(), A_WHILE).await;
    assert_eq!(bridge.metric("atoti_bridge_watches").await, Some(1.0));
    until(&bridge, "atoti_bridge_watches", 0.0).await;
    assert!(raw.lives().await, "though its stream is open");
}

#[tokio::test]
async fn bulk_cancels_that_nobody_takes_give_their_places_back_at_their_deadlines() {
    for validate_only in [true, false] {
        // More than may wait for a slow caller.
        let (atoti, id) = busy_atoti(60).await;
        let bridge = Bridge::start_with(&atoti.base_url(), &["--max-in-flight=2"]).await;
        let client = bridge.client().await;
        let request = CancelQueriesRequest {
            filter: Some(of_user("runaway")),
            validate_only,
            reason: "a runaway batch".to_owned(),
            ..CancelQueriesRequest::default()
        };
        let mut raw = with_window(&bridge, 0).await;
        for stream in [1, 3] {
            call_deaf(&mut raw, stream, "CancelQueries", &request.encode_to_vec(), A_WHILE).await;
        }
        within("a free place", async {
            while client.cancel(&CancelQueryRequest { allow_finished: true, ..cancel(&id) }).await.code() == 8
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(raw.lives().await, "though their streams are open");
    }
}

#[tokio::test]
async fn a_watch_without_a_deadline_that_nobody_takes_gives_its_place_back() {
    // It changes whenever it is looked at.
    let atoti = Upstream::start(|_, before| {
        answer(200, "", &format!(r#"{{"id":"42","status":"RUNNING","username":"{before}"}}"#))
    })
    .await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-deadline=1s"]).await;
    let mut raw = with_window(&bridge, 0).await;
    let request = GetQueryRequest { query_id: "42".to_owned() }.encode_to_vec();
    call_deaf(&mut raw, 1, "WatchQuery", &request, &[]).await;
    until(&bridge, "atoti_bridge_watches", 1.0).await;
    until(&bridge, "atoti_bridge_watches", 0.0).await;
    assert!(raw.lives().await, "though its stream is open");
    // Whoever begins to read is told all that there is, and how it ended.
    raw.send(&[window_update(1, 65_535), window_update(0, 65_535)].concat()).await;
    let mut last = raw.next_on(1).await.expect("an answer");
    while last.kind == DATA {
        last = raw.next_on(1).await.expect("trailers");
    }
    assert_eq!((last.kind, last.flags), (HEADERS, END_HEADERS | END_STREAM));
}

#[tokio::test]
async fn a_bulk_cancel_without_a_deadline_that_nobody_takes_stops_nothing_more_and_is_over() {
    for validate_only in [true, false] {
        let (atoti, id) = busy_atoti(99).await;
        let flags = ["--max-in-flight=1", "--max-deadline=1s", "--max-connection-age=2s"];
        let bridge = Bridge::start_with(&atoti.base_url(), &flags).await;
        let client = bridge.client().await;
        let request = CancelQueriesRequest {
            filter: Some(of_user("runaway")),
            validate_only,
            ..CancelQueriesRequest::default()
        };
        let mut raw = with_window(&bridge, 0).await;
        let of_id = [("x-request-id", "deaf")];
        call_deaf(&mut raw, 1, "CancelQueries", &request.encode_to_vec(), &of_id).await;
        let record = |line: &serde_json::Value| line["request_id"] == "deaf" && line["matches"].is_u64();
        let whole = bridge.logged("the record of the whole", record).await;
        assert_eq!((&whole["error_reason"], &whole["caller_waited"]), (&"CALLER_GONE".into(), &false.into()));
        let cancels = atoti.requests().into_iter().filter(|request| request.method == "PATCH").count();
        assert_eq!(whole["attempted"], cancels);
        assert!(cancels < 99 && (cancels > 0 || validate_only), "{cancels} of 99");
        assert_ne!(
            client.cancel(&CancelQueryRequest { allow_finished: true, ..cancel(&id) }).await.code(),
            8
        );
        // Nor does it hold its connection beyond the age: the deadline's length, twice, and a second for last bytes.
        while raw.next().await.is_some() {}
        until(&bridge, "atoti_bridge_calls_in_flight", 0.0).await;
    }
}
