//! What stands around every call: deadlines, refusals of what is not a call, and the counting of every outcome.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use h2::Reason;
use http::Request;

use crate::support::{
    bridge::Bridge,
    client::{Client, GetQueryResponse, Reply, cancel},
    eventually,
    frames::{DATA, END_HEADERS, HEADERS, Raw, frame, headers},
    upstream::{Answer, Upstream, answer},
    within,
};

const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
const METHOD: &str = "atoti.queryhistory.v1.QueryHistoryService/CancelQuery";

async fn accepting_atoti() -> Upstream {
    Upstream::start(|_, _| answer(204, "", "")).await
}

/// How often calls have ended so.
async fn ended(bridge: &Bridge, method: &str, code: &str) -> Option<f64> {
    let labels =
        format!("rpc_system_name=\"grpc\",rpc_method=\"{method}\",rpc_response_status_code=\"{code}\"");
    bridge.metric(&format!("rpc_server_call_duration_seconds_count{{{labels}}}")).await
}

async fn until_ended(bridge: &Bridge, method: &str, code: &str, times: f64) {
    within(&format!("{times} × {code}"), async {
        while ended(bridge, method, code).await != Some(times) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A request that is not a call; its answer's HTTP status.
async fn http_status(bridge: &Bridge, request: Request<()>) -> u16 {
    let (mut client, connection) = {
        let stream = tokio::net::TcpStream::connect(bridge.address()).await.expect("it listens");
        h2::client::handshake(stream).await.expect("HTTP/2")
    };
    tokio::spawn(async move { drop(connection.await) });
    let (response, _): (_, h2::SendStream<bytes::Bytes>) = client.send_request(request, true).expect("sent");
    within("an answer", response).await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_deadline_is_deadline_exceeded_and_atoti_is_asked_once() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    // Nothing but the deadline ends it while anybody looks.
    let flags = ["--upstream-timeout=1h", "--max-deadline=1h"];
    let bridge = Bridge::start_with(&atoti.url(), &flags).await;
    let client = bridge.client().await;
    let deadline = [("grpc-timeout", "100m")];
    let replies =
        [client.cancel_with(&cancel("42"), &deadline).await, client.get_with("42", &deadline).await];
    for reply in replies {
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (4, "BACKEND_TIMEOUT"));
        assert_eq!((error.metadata("requestSent"), error.metadata("queryId")), (Some("true"), Some("42")));
    }
    assert_eq!(atoti.seen().len(), 2, "each once");
}

#[tokio::test]
async fn waiting_for_a_turn_at_atoti_counts() {
    let slow = Answer::After(Duration::from_millis(600), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--upstream-max-connections=1"]).await;
    let client = bridge.client().await;
    let call = async |id: &'static str| client.cancel_with(&cancel(id), &[("grpc-timeout", "1000m")]).await;
    let (first, second, third) = tokio::join!(call("1"), call("2"), call("3"));
    let mut codes = [first.code(), second.code(), third.code()];
    codes.sort_unstable();
    assert_eq!(codes[0], 0, "the first of them had its turn");
    assert_eq!(codes[2], 4, "the last of them had none in time");
    let last =
        [&first, &second, &third].into_iter().find(|reply| reply.error().reason() == "DEADLINE_BEFORE_SEND");
    assert_eq!(last.expect("one that never left").error().metadata("requestSent"), Some("false"));
    assert!(atoti.seen().len() < 3);
}

#[tokio::test]
async fn a_request_that_never_ends_has_a_deadline() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-deadline=500ms"]).await;
    let mut raw = Raw::greeted(bridge.address()).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &headers(CANCEL, &[]))).await;
    raw.send(&frame(DATA, 0, 1, &[0, 0, 0, 0, 4, 0x0a])).await;
    let answer = raw.next_of(HEADERS).await.expect("an answer");
    assert_eq!(answer.stream, 1);
    until_ended(&bridge, METHOD, "DEADLINE_EXCEEDED", 1.0).await;
    assert_eq!(atoti.connections(), 0);
    let failures = "atoti_bridge_call_failures_total{rpc_method=\"".to_owned() + METHOD;
    let reason = format!("{failures}\",reason=\"DEADLINE_BEFORE_SEND\"}}");
    assert_eq!(bridge.metric(&reason).await, Some(1.0));
}

#[tokio::test]
async fn what_is_no_call_is_refused_as_http() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let request = |method: &str, content_type: Option<&str>| {
        let request = Request::builder().method(method).uri(format!("http://bridge{CANCEL}"));
        let request =
            content_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        request.body(()).expect("a request")
    };
    let grpc = Some("application/grpc");
    for (method, content_type, status) in [
        ("GET", grpc, 405),
        ("PUT", grpc, 405),
        ("OPTIONS", None, 405),
        ("POST", None, 415),
        ("POST", Some("application/json"), 415),
        ("POST", Some("application/grpc-web+proto"), 415),
        ("POST", Some("application/grpc+json"), 415),
        ("POST", Some("text/plain"), 415),
        ("POST", Some("application/grpc+proto"), 200),
        ("POST", Some("Application/GRPC; charset=utf-8"), 200),
    ] {
        assert_eq!(
            http_status(&bridge, request(method, content_type)).await,
            status,
            "{method} {content_type:?}"
        );
    }
    assert_eq!(atoti.connections(), 0);
    until_ended(&bridge, METHOD, "UNKNOWN", 8.0).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_reason_and_costs_nothing() {
    let atoti = accepting_atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let mut large = cancel("42");
    large.reason = "r".repeat(70_000);
    let replies = [
        (client.cancel(&large).await, 8, "MESSAGE_TOO_LARGE"),
        (client.call("/grpc.health.v1.Health/Check", &[0; 70_000], &[]).await, 8, "MESSAGE_TOO_LARGE"),
        (client.call(CANCEL, &[0xff, 0xff, 0xff], &[]).await, 13, "UNREADABLE_MESSAGE"),
        (client.call(CANCEL, &[0x0a, 1, 0xff], &[]).await, 13, "UNREADABLE_MESSAGE"),
        (client.cancel_with(&cancel("42"), &[("grpc-encoding", "br")]).await, 12, "UNSUPPORTED_ENCODING"),
        (
            client.call("/atoti.queryhistory.v1.QueryHistoryService/Nothing", &[], &[]).await,
            12,
            "UNKNOWN_METHOD",
        ),
        (client.call("/no.such.Service/Method", &[], &[]).await, 12, "UNKNOWN_METHOD"),
        (client.call("/", &[], &[]).await, 12, "UNKNOWN_METHOD"),
    ];
    for (reply, code, reason) in &replies {
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (*code, *reason));
        assert_eq!(error.metadata("requestSent"), Some("false"), "{reason}");
        assert_eq!(error.request.expect("a RequestInfo").request_id.len(), 32, "{reason}");
    }
    assert_eq!(atoti.connections(), 0);
    until_ended(&bridge, "_OTHER", "UNIMPLEMENTED", 3.0).await;
}

#[tokio::test]
async fn every_outcome_is_counted_once_and_nothing_stays_in_flight() {
    let atoti =
        Upstream::start(
            |seen, _| {
                if seen.target.ends_with("/slow") { Answer::Hang } else { answer(204, "", "") }
            },
        )
        .await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-in-flight=2", "--max-deadline=5s"]).await;
    let client = bridge.client().await;
    assert_eq!(client.cancel(&cancel("1")).await.code(), 0);
    assert_eq!(client.cancel(&cancel("..")).await.code(), 3);
    let slow = cancel("slow");
    assert_eq!(client.cancel_with(&slow, &[("grpc-timeout", "200m")]).await.code(), 4);
    // Its work goes on and holds a place; a caller that hangs up leaves another behind.
    let (response, mut stream) = client.start_cancel(&slow, &[]).await;
    eventually("the second slow one", || (atoti.seen().len() == 3).then_some(())).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    assert_eq!(client.cancel(&cancel("2")).await.code(), 8);
    for code in ["OK", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"] {
        until_ended(&bridge, METHOD, code, 1.0).await;
    }
    assert_eq!(bridge.metric("atoti_bridge_calls_in_flight").await, Some(0.0));
    let shed = format!("atoti_bridge_call_failures_total{{rpc_method=\"{METHOD}\",reason=\"OVERLOADED\"}}");
    assert_eq!(bridge.metric(&shed).await, Some(1.0));
    assert!(bridge.metrics().await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_query_is_read_as_it_is() {
    let query = r#"{"id":"42","status":"RUNNING","type":"MDX","query":"SELECT","username":"ada"}"#;
    let atoti = Upstream::start(|seen, _| {
        if seen.target.ends_with("/42") {
            answer(200, "Content-Type: application/json\r\n", query)
        } else {
            answer(404, "", "")
        }
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let read: GetQueryResponse = client.get("42").await.message();
    let query = read.query.expect("always set");
    assert_eq!((&*query.query_id, query.status, query.kind, &*query.text), ("42", 1, 2, "SELECT"));
    let unknown = client.get("43").await;
    assert_eq!((unknown.code(), unknown.error().reason()), (5, "QUERY_NOT_FOUND"));
    let invalid = client.get_with("..", &[("grpc-timeout", "soon")]).await;
    let fields: Vec<_> = invalid.error().bad_request.expect("a BadRequest").field_violations;
    let fields: Vec<_> = fields.iter().map(|violation| &*violation.field).collect();
    assert_eq!((invalid.code(), fields), (3, vec!["query_id", "grpc-timeout"]));
    // The 404 could have been that of an API which is not there.
    let targets: Vec<_> = atoti.seen().iter().map(|seen| seen.target.clone()).collect();
    assert!(matches!(&targets[..], [_, _, discovery] if discovery == "/versions/rest"), "{targets:?}");
}

#[tokio::test]
async fn calls_come_over_a_unix_socket_too() {
    let atoti = accepting_atoti().await;
    let path = std::env::temp_dir().join(format!("atoti-grpc-bridge-{:x}.sock", fastrand::u64(..)));
    let listen = format!("--listen=unix:{}", path.display());
    let call = async || {
        let stream =
            within("a connection", tokio::net::UnixStream::connect(&path)).await.expect("it listens");
        Client::over(stream).await.cancel(&cancel("42")).await.code()
    };
    let mut first = Bridge::start_with(&atoti.url(), &[&listen]).await;
    assert_eq!(call().await, 0);
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "its folder decides who may connect, not the umask");
    let taken = crate::support::bridge::command()
        .args(["serve", "--admin-listen=127.0.0.1:0", &listen])
        .output()
        .expect("it runs");
    assert_eq!(taken.status.code(), Some(1), "a socket in use is not taken over");
    first.signal("-KILL");
    first.exit().await;
    assert!(path.exists(), "a dead process leaves its socket behind");
    let mut second = Bridge::start_with(&atoti.url(), &[&listen]).await;
    assert_eq!(call().await, 0);
    second.signal("-TERM");
    assert_eq!(second.exit().await.code(), Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_hung_up_cancel_ends_and_leaves_nothing_behind() {
    let slow = Answer::After(Duration::from_millis(300), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-in-flight=1"]).await;
    let client = bridge.client().await;
    let (response, mut stream) = client.start_cancel(&cancel("42"), &[("x-request-id", "gone")]).await;
    eventually("it to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    assert_eq!(bridge.audit("gone").await["code"], "OK");
    let reply: Reply = client.cancel(&cancel("43")).await;
    assert_eq!(reply.code(), 0, "its place is free again");
}
