//! The status table at the wire: for every outcome the code, the reason, the details, `requestSent`, what the bridge
//! did, and that nothing of Atoti's leaks to the caller or into the log.

use std::{io, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};

use crate::support::{
    bridge::Bridge,
    client::{Failure, Reply, cancel},
    upstream::{Answer, Upstream, answer},
};

const OK: i32 = 0;
const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const ABORTED: i32 = 10;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

/// What the table promises of a failure.
struct Row {
    code: i32,
    reason: &'static str,
    /// Whether the bridge repeats.
    again: bool,
    retryable: bool,
}

const fn row(code: i32, reason: &'static str) -> Row {
    Row { code, reason, again: false, retryable: false }
}

const fn later(row: Row) -> Row {
    Row { retryable: true, ..row }
}

const fn again(row: Row) -> Row {
    Row { again: true, retryable: true, ..row }
}

/// Every HTTP status of the table, and of each open class some that it does not name.
const REFUSALS: &[(u16, Row)] = &[
    (300, row(INTERNAL, "BACKEND_REDIRECT")),
    (301, row(INTERNAL, "BACKEND_REDIRECT")),
    (302, row(INTERNAL, "BACKEND_REDIRECT")),
    (303, row(INTERNAL, "BACKEND_REDIRECT")),
    (304, row(INTERNAL, "BACKEND_REDIRECT")),
    (307, row(INTERNAL, "BACKEND_REDIRECT")),
    (308, row(INTERNAL, "BACKEND_REDIRECT")),
    (400, row(INVALID_ARGUMENT, "BACKEND_REJECTED_REQUEST")),
    (401, row(UNAUTHENTICATED, "BACKEND_UNAUTHENTICATED")),
    (402, row(UNKNOWN, "BACKEND_HTTP_4XX")),
    (403, row(PERMISSION_DENIED, "BACKEND_PERMISSION_DENIED")),
    (404, row(NOT_FOUND, "QUERY_NOT_FOUND")),
    (405, row(UNIMPLEMENTED, "BACKEND_METHOD_NOT_ALLOWED")),
    (406, row(INTERNAL, "BACKEND_CONTRACT")),
    (407, row(INTERNAL, "BACKEND_PROXY_AUTH")),
    (408, again(row(UNAVAILABLE, "BACKEND_REQUEST_TIMEOUT"))),
    (409, row(FAILED_PRECONDITION, "QUERY_NOT_CANCELLABLE")),
    (410, row(NOT_FOUND, "QUERY_EXPIRED")),
    (411, row(INTERNAL, "BACKEND_CONTRACT")),
    (412, row(FAILED_PRECONDITION, "PRECONDITION_FAILED")),
    (413, row(RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")),
    (414, row(INVALID_ARGUMENT, "BACKEND_REJECTED_REQUEST")),
    (415, row(INTERNAL, "BACKEND_CONTRACT")),
    (418, row(UNKNOWN, "BACKEND_HTTP_4XX")),
    (421, again(row(UNAVAILABLE, "BACKEND_RETRY_CONNECTION"))),
    (422, row(INVALID_ARGUMENT, "BACKEND_REJECTED_REQUEST")),
    (423, later(row(ABORTED, "QUERY_LOCKED"))),
    (425, again(row(UNAVAILABLE, "BACKEND_RETRY_CONNECTION"))),
    (429, later(row(RESOURCE_EXHAUSTED, "BACKEND_RATE_LIMITED"))),
    (431, row(INTERNAL, "BACKEND_CONTRACT")),
    (451, row(UNKNOWN, "BACKEND_HTTP_4XX")),
    (499, again(row(UNAVAILABLE, "BACKEND_HOP_CLOSED"))),
    (500, row(INTERNAL, "BACKEND_ERROR")),
    (501, row(UNIMPLEMENTED, "BACKEND_NOT_IMPLEMENTED")),
    (502, again(row(UNAVAILABLE, "BACKEND_BAD_GATEWAY"))),
    (503, again(row(UNAVAILABLE, "BACKEND_UNAVAILABLE"))),
    (504, later(row(DEADLINE_EXCEEDED, "BACKEND_GATEWAY_TIMEOUT"))),
    (505, row(INTERNAL, "BACKEND_HTTP_5XX")),
    (507, later(row(RESOURCE_EXHAUSTED, "BACKEND_OUT_OF_RESOURCES"))),
    (511, row(INTERNAL, "BACKEND_PROXY_AUTH")),
    (599, row(INTERNAL, "BACKEND_HTTP_5XX")),
    (600, row(INTERNAL, "BACKEND_PROTOCOL_ERROR")),
];

/// Put into every place of an upstream from where something could leak.
const CANARY: &str = "canary";
const CANARY_BODY: &str = r#"{"errorChain":[{"message":"canary","type":"canary"}],"stackTrace":"canary"}"#;

/// Asserts what holds for every failure.
#[track_caller]
fn assert_failure(reply: &Reply, expected: &Row, what: &str) -> Failure {
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (expected.code, expected.reason), "{what}");
    let info = error.info.as_ref().expect("an ErrorInfo");
    assert_eq!(info.domain, "atoti-grpc-bridge", "{what}");
    assert_eq!(error.metadata("queryId"), Some("42"), "{what}");
    let retryable = if expected.retryable { "true" } else { "false" };
    assert_eq!(error.metadata("retryable"), Some(retryable), "{what}");
    assert!(error.metadata("requestSent").is_some(), "{what}");
    assert_eq!(error.request.as_ref().expect("a RequestInfo").request_id, "request-1", "{what}");
    let about_query = matches!(expected.code, NOT_FOUND | PERMISSION_DENIED);
    assert_eq!(
        error.resource.as_ref().map(|r| r.resource_name.as_str()),
        about_query.then_some("42"),
        "{what}"
    );
    assert_eq!(error.precondition.is_some(), expected.code == FAILED_PRECONDITION, "{what}");
    assert!(!error.message.is_empty() && error.message.len() <= 512, "{what}");
    let size: usize = reply.trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size <= 4096, "{what}: {size} bytes of status");
    error
}

/// Asserts that nothing of the upstream's shows, to the caller or at the default log level.
#[track_caller]
fn assert_no_leak(bridge: &Bridge, reply: &Reply, canaries: &[&str], what: &str) {
    let answer = reply.everything();
    let log = bridge.log_lines();
    // Start-up names the configured URL: the operator's own words.
    let log: Vec<_> = log.iter().filter(|line| !line.contains(r#""message":"configuration""#)).collect();
    for canary in canaries {
        assert!(!answer.contains(canary), "{what}: {canary} in {answer}");
        assert!(!log.iter().any(|line| line.contains(canary)), "{what}: {canary} in {log:?}");
    }
}

async fn cancel_42(bridge: &Bridge) -> Reply {
    bridge.client().await.cancel_with(&cancel("42"), &[("x-request-id", "request-1")]).await
}

#[tokio::test]
async fn every_http_status_has_its_row() {
    for (status, expected) in REFUSALS {
        let headers = "X-Canary: canary\r\nLocation: /canary\r\nContent-Type: application/json\r\n";
        let body = if *status == 304 { "" } else { CANARY_BODY };
        let atoti = Upstream::start(move |_, _| answer(*status, headers, body)).await;
        let bridge = Bridge::start(&format!("{}/canary", atoti.url())).await;
        let reply = cancel_42(&bridge).await;
        let what = format!("HTTP {status}");
        let error = assert_failure(&reply, expected, &what);
        assert_eq!(error.metadata("httpStatus"), Some(&*status.to_string()), "{what}");
        assert_eq!(error.metadata("requestSent"), Some("true"), "{what}");
        let attempts = if expected.again { "2" } else { "1" };
        assert_eq!(error.metadata("attempts"), Some(attempts), "{what}");
        let patches = atoti.seen().iter().filter(|request| request.method == "PATCH").count();
        assert_eq!(patches.to_string(), attempts, "{what}");
        let source = (expected.code == UNAUTHENTICATED).then_some("caller");
        assert_eq!(error.metadata("credentialSource"), source, "{what}");
        assert!(error.retry.is_none(), "{what}: nobody said when to come back");
        assert_no_leak(&bridge, &reply, &[CANARY, &atoti.address().to_string()], &what);
        let audit = bridge.audit("request-1").await;
        assert_eq!(audit["error_reason"], expected.reason, "{what}");
    }
}

#[tokio::test]
async fn a_success_is_any_2xx_with_an_empty_json_or_plain_body() {
    let json = "Content-Type: application/json\r\n";
    for (status, headers, body) in [
        (200, "", ""),
        (200, json, r#""CANCELLED""#),
        (200, json, r#"{"status":"CANCELLED"}"#),
        (200, json, "{not json"),
        (200, "Content-Type: text/plain\r\n", "Query cancelled"),
        (200, "Content-Type: text/html\r\n", ""),
        (201, "", ""),
        (202, "", ""),
        (203, json, "{}"),
        (204, "", ""),
        (205, "", ""),
        (206, json, "{}"),
        (299, "", ""),
    ] {
        let atoti = Upstream::start(move |_, _| answer(status, headers, body)).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = cancel_42(&bridge).await;
        assert_eq!(reply.code(), OK, "{status} {headers} {body}");
        let response = reply.cancelled();
        assert_eq!((response.outcome, response.query), (1, None), "{status} {headers} {body}");
        assert_eq!(atoti.seen().len(), 1, "nothing was verified, as nobody asked");
    }
}

#[tokio::test]
async fn a_web_page_is_never_a_success() {
    for (headers, body) in [
        ("Content-Type: text/html\r\n", "<html>canary</html>"),
        ("Content-Type: TEXT/HTML;charset=utf-8\r\n", "Please log in, canary"),
        ("Content-Type: application/json\r\n", " \r\n<!DOCTYPE html>canary"),
        ("", "\u{feff}<html>canary"),
    ] {
        let atoti = Upstream::start(move |_, _| answer(200, headers, body)).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = cancel_42(&bridge).await;
        let error = assert_failure(&reply, &row(UNKNOWN, "BACKEND_UNEXPECTED_HTML"), body);
        assert_eq!(error.metadata("httpStatus"), Some("200"));
        assert_no_leak(&bridge, &reply, &[CANARY], body);
    }
}

#[tokio::test]
async fn an_error_with_the_body_of_a_success_is_an_error() {
    let atoti = Upstream::start(|_, _| answer(500, "Content-Type: application/json\r\n", "{}")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    assert_failure(&cancel_42(&bridge).await, &row(INTERNAL, "BACKEND_ERROR"), "500 {}");
}

#[tokio::test]
async fn the_body_of_an_accepted_cancel_changes_nothing_however_it_ends() {
    let head = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\n";
    for (what, script) in [
        ("cut off", Answer::BytesThenClose(format!("{head}Content-Length: 100\r\n\r\n{{").into())),
        ("without end", Answer::Endless(format!("{head}Content-Length: 1000000000\r\n\r\n{{").into())),
        ("trickling", Answer::Trickle(format!("{head}Content-Length: 1000000\r\n\r\n{{").into())),
    ] {
        let atoti = Upstream::start(move |_, _| script.clone()).await;
        let bridge = Bridge::start(&atoti.url()).await;
        assert_eq!(cancel_42(&bridge).await.cancelled().outcome, 1, "{what}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_login_page_asks_for_credentials_and_is_not_followed() {
    for status in [302, 303, 307] {
        let elsewhere = Upstream::start(|_, _| answer(200, "", "")).await;
        let headers = format!("Location: {}/canary/login?from=canary\r\n", elsewhere.url());
        let atoti = Upstream::start(move |_, _| answer(status, &headers, "")).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = cancel_42(&bridge).await;
        let what = format!("HTTP {status}");
        let error = assert_failure(&reply, &row(UNAUTHENTICATED, "BACKEND_LOGIN_REDIRECT"), &what);
        assert_eq!(error.metadata("credentialSource"), Some("caller"));
        assert_eq!(elsewhere.connections(), 0, "{what} was followed");
        assert_no_leak(&bridge, &reply, &[CANARY, &elsewhere.address().to_string()], &what);
    }
}

#[tokio::test]
async fn a_redirect_elsewhere_is_not_followed_and_the_log_says_what_is_wrong() {
    let elsewhere = Upstream::start(|_, _| answer(204, "", "")).await;
    let headers = format!("Location: {}/\r\n", elsewhere.url());
    let atoti = Upstream::start(move |_, _| answer(308, &headers, "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    assert_failure(&cancel_42(&bridge).await, &row(INTERNAL, "BACKEND_REDIRECT"), "308");
    assert_eq!(elsewhere.connections(), 0);
    let line = bridge.logged("the failure", |line| line["reason"] == "BACKEND_REDIRECT").await;
    assert_eq!(line["cause"], "redirect to another host or port: is the base URL right?");
}

#[tokio::test]
async fn retry_after_reaches_the_caller_as_retry_info_and_pushback() {
    for (status, reason, code) in
        [(429, "BACKEND_RATE_LIMITED", RESOURCE_EXHAUSTED), (503, "BACKEND_UNAVAILABLE", UNAVAILABLE)]
    {
        let atoti = Upstream::start(move |_, _| answer(status, "Retry-After: 7\r\n", "")).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = cancel_42(&bridge).await;
        let error = assert_failure(&reply, &later(row(code, reason)), "Retry-After");
        assert_eq!(error.retry.expect("a RetryInfo").retry_delay.expect("a delay").seconds, 7);
        assert_eq!(reply.text("grpc-retry-pushback-ms"), Some("7000"));
        assert_eq!(atoti.seen().len(), 1, "who asks for patience is not asked again at once");
    }
}

#[tokio::test]
async fn retry_after_may_be_a_date() {
    // A date long past: come back now.
    let headers = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let atoti = Upstream::start(move |_, _| answer(429, headers, "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    assert_eq!(cancel_42(&bridge).await.text("grpc-retry-pushback-ms"), Some("0"));
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_and_nothing_was_sent() {
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let bridge = Bridge::start(&format!("http://{port}/canary")).await;
    let reply = cancel_42(&bridge).await;
    let error = assert_failure(&reply, &again(row(UNAVAILABLE, "BACKEND_CONNECT_FAILED")), "refused");
    assert_eq!(error.metadata("requestSent"), Some("false"));
    assert_eq!(error.metadata("attempts"), Some("2"));
    assert_eq!(error.metadata("httpStatus"), None);
    assert_no_leak(&bridge, &reply, &[CANARY, &port.to_string()], "refused");
    let line = bridge.logged("the failure", |line| line["reason"] == "BACKEND_CONNECT_FAILED").await;
    assert_eq!(line["cause"], "connection refused");
}

#[tokio::test]
async fn a_connection_not_made_in_time_is_unavailable_and_nothing_was_sent() {
    // A listener whose backlog is full drops the packets of further connections.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let full = socket.listen(1).expect("it listens");
    let address = full.local_addr().expect("an address");
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        fill.push(stream);
        assert!(fill.len() < 1000, "the backlog has an end");
    }
    let bridge =
        Bridge::start_with(&format!("http://{address}"), &["--upstream-connect-timeout=100ms"]).await;
    let reply = cancel_42(&bridge).await;
    let error = assert_failure(&reply, &again(row(UNAVAILABLE, "BACKEND_CONNECT_FAILED")), "connect timeout");
    assert_eq!(error.metadata("requestSent"), Some("false"));
    let line = bridge.logged("the failure", |line| line["reason"] == "BACKEND_CONNECT_FAILED").await;
    assert_eq!(line["cause"], "connect timeout");

    // The caller's own deadline may be over before that: then nothing was sent either, and never will be.
    let client = bridge.client().await;
    let headers = [("grpc-timeout", "60m"), ("x-request-id", "request-1")];
    let reply = client.cancel_with(&cancel("42"), &headers).await;
    let error = assert_failure(&reply, &later(row(DEADLINE_EXCEEDED, "DEADLINE_BEFORE_SEND")), "deadline");
    assert_eq!(error.metadata("requestSent"), Some("false"));
}

#[tokio::test]
async fn an_unknown_host_is_unavailable_and_nothing_was_sent() {
    let bridge = Bridge::start("http://canary-host.invalid:1").await;
    let reply = cancel_42(&bridge).await;
    let error = assert_failure(&reply, &again(row(UNAVAILABLE, "BACKEND_DNS_FAILED")), "DNS");
    assert_eq!(error.metadata("requestSent"), Some("false"));
    assert_no_leak(&bridge, &reply, &[CANARY], "DNS");
}

#[tokio::test]
async fn a_failed_tls_handshake_is_unavailable_and_nothing_was_sent() {
    for (what, script) in [("closes", None), ("speaks plain HTTP", Some(()))] {
        let atoti = Upstream::start_behind(
            |_, _| answer(204, "", ""),
            move |mut stream| async move {
                if script.is_some() {
                    use tokio::io::AsyncWriteExt as _;
                    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
                    return Ok(stream);
                }
                Err(io::Error::other("closed"))
            },
        )
        .await;
        let bridge = Bridge::start(&format!("https://{}", atoti.address())).await;
        let reply = cancel_42(&bridge).await;
        let error = assert_failure(&reply, &again(row(UNAVAILABLE, "BACKEND_TLS_FAILED")), what);
        assert_eq!(error.metadata("requestSent"), Some("false"), "{what}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_unavailable_not_retryable_and_nothing_was_sent() {
    let key = rcgen::generate_simple_self_signed(["canary.example".to_owned()]).expect("a certificate");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
            )
            .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let atoti =
        Upstream::start_behind(|_, _| answer(204, "", ""), move |stream| acceptor.accept(stream)).await;
    let bridge = Bridge::start(&format!("https://{}", atoti.address())).await;
    let reply = cancel_42(&bridge).await;
    let error = assert_failure(&reply, &row(UNAVAILABLE, "BACKEND_TLS_UNTRUSTED"), "self-signed");
    assert_eq!(error.metadata("requestSent"), Some("false"));
    assert_eq!(error.metadata("attempts"), Some("1"));
    assert_no_leak(&bridge, &reply, &[CANARY, &atoti.address().to_string()], "self-signed");
    assert!(atoti.seen().is_empty());
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_is_unavailable_and_perhaps_sent() {
    let atoti = Upstream::start(|_, _| Answer::BytesThenClose(Vec::new())).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let error = assert_failure(
        &cancel_42(&bridge).await,
        &again(row(UNAVAILABLE, "BACKEND_CONNECTION_LOST")),
        "closed on receipt",
    );
    assert_eq!(error.metadata("requestSent"), Some("true"));
    assert_eq!(error.metadata("attempts"), Some("2"));
    assert_eq!(atoti.seen().len(), 2);
}

#[tokio::test]
async fn a_head_that_breaks_off_is_a_lost_connection() {
    let atoti = Upstream::start(|_, _| Answer::BytesThenClose(b"HTTP/1.1 204 No Con".to_vec())).await;
    let bridge = Bridge::start(&atoti.url()).await;
    assert_failure(
        &cancel_42(&bridge).await,
        &again(row(UNAVAILABLE, "BACKEND_CONNECTION_LOST")),
        "half a head",
    );
}

#[tokio::test]
async fn what_is_not_http_is_internal() {
    for bytes in
        ["canary\r\n\r\n", "HTTP/9.9 204 canary\r\n\r\n", "HTTP/1.1 canary\r\n\r\n", "SSH-2.0-canary\r\n"]
    {
        let atoti = Upstream::start(move |_, _| Answer::BytesThenClose(bytes.into())).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = cancel_42(&bridge).await;
        let error = assert_failure(&reply, &row(INTERNAL, "BACKEND_PROTOCOL_ERROR"), bytes);
        assert_eq!(error.metadata("requestSent"), Some("true"), "{bytes}");
        assert_no_leak(&bridge, &reply, &[CANARY], bytes);
    }
}

#[tokio::test]
async fn a_final_1xx_is_internal() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: canary\r\n\r\n";
    let atoti = Upstream::start(move |_, _| Answer::BytesThenClose(switch.into())).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = cancel_42(&bridge).await;
    assert_failure(&reply, &row(INTERNAL, "BACKEND_PROTOCOL_ERROR"), "101");
    assert_no_leak(&bridge, &reply, &[CANARY], "101");
}

#[tokio::test]
async fn an_answer_later_than_the_attempt_may_take_is_deadline_exceeded_and_sent() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--upstream-timeout=200ms"]).await;
    let error = assert_failure(
        &cancel_42(&bridge).await,
        &later(row(DEADLINE_EXCEEDED, "BACKEND_TIMEOUT")),
        "a hanging upstream",
    );
    assert_eq!(error.metadata("requestSent"), Some("true"));
    assert_eq!(atoti.seen().len(), 1, "a timeout is not repeated: the request may be at work");
}

#[tokio::test]
async fn a_deadline_that_leaves_no_time_is_over_before_anything_is_sent() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    for timeout in ["0n", "1n", "999u", "5m"] {
        let headers = [("grpc-timeout", timeout), ("x-request-id", "request-1")];
        let reply = client.cancel_with(&cancel("42"), &headers).await;
        let row = later(row(DEADLINE_EXCEEDED, "DEADLINE_BEFORE_SEND"));
        let error = assert_failure(&reply, &row, timeout);
        assert_eq!(error.metadata("requestSent"), Some("false"), "{timeout}");
    }
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn a_huge_error_body_changes_neither_code_nor_size() {
    let body = "canary ".repeat(200_000);
    let atoti = Upstream::start(move |_, _| answer(500, "Content-Type: text/html\r\n", &body)).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = cancel_42(&bridge).await;
    assert_failure(&reply, &row(INTERNAL, "BACKEND_ERROR"), "1.4 MB of error");
    assert_no_leak(&bridge, &reply, &[CANARY], "1.4 MB of error");
}
