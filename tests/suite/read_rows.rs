//! The status table for everything but `CancelQuery`: what each RPC makes of each answer of Atoti's, and of none.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use prost::Message;

use crate::support::{
    bridge::Bridge,
    client::{Client, GetQueryRequest, Reply},
    eventually,
    messages::{
        CancelAllQueriesRequest, CancelQueriesRequest, DeleteQueriesRequest, DeleteQueryRequest,
        GetQueryPlanRequest, ListQueriesRequest, of_user,
    },
    upstream::{Answer, Upstream, answer},
};

/// An RPC, and how it shows.
struct Rpc {
    name: &'static str,
    message: Vec<u8>,
    /// What Atoti is asked with.
    method: &'static str,
    /// An answer that makes it a success.
    success: Answer,
    /// Whether it is about the query 42.
    about_query: bool,
}

impl Rpc {
    const fn is_read(&self) -> bool {
        matches!(self.method.as_bytes(), b"GET")
    }

    async fn call(&self, client: &Client, headers: &[(&'static str, &str)]) -> Reply {
        client.call(&self.path(), &self.message, headers).await
    }

    fn path(&self) -> String {
        format!("/atoti.queryhistory.v1.QueryHistoryService/{}", self.name)
    }
}

/// The unary ones.
fn rpcs() -> Vec<Rpc> {
    let id = || "42".to_owned();
    let none = String::new;
    let rpc = |name, message, method, body: &str, about_query| {
        let success = if body.is_empty() { answer(204, "", "") } else { answer(200, JSON, body) };
        Rpc { name, message, method, success, about_query }
    };
    let plan = GetQueryPlanRequest { query_id: id(), timeout: None };
    let many = DeleteQueriesRequest { filter: Some(of_user("ada")), reason: none() };
    vec![
        rpc("GetQuery", GetQueryRequest { query_id: id() }.encode_to_vec(), "GET", r#"{"id":"42"}"#, true),
        rpc("ListQueries", ListQueriesRequest::default().encode_to_vec(), "GET", r#"{"data":[]}"#, false),
        rpc("GetQueryPlan", plan.encode_to_vec(), "GET", "[]", true),
        rpc(
            "DeleteQuery",
            DeleteQueryRequest { query_id: id(), reason: none() }.encode_to_vec(),
            "DELETE",
            "",
            true,
        ),
        rpc("DeleteQueries", many.encode_to_vec(), "DELETE", "", false),
        rpc("CancelAllQueries", CancelAllQueriesRequest::default().encode_to_vec(), "PATCH", "", false),
    ]
}

/// The same, and the streaming ones: they fail in their trailers, after a head that promised nothing.
fn all_rpcs() -> Vec<Rpc> {
    let watch = GetQueryRequest { query_id: "42".to_owned() }.encode_to_vec();
    let many = CancelQueriesRequest { filter: Some(of_user("ada")), ..CancelQueriesRequest::default() };
    let stream = |name, message, body: &str, about_query| Rpc {
        name,
        message,
        method: "GET",
        success: answer(200, JSON, body),
        about_query,
    };
    let mut rpcs = rpcs();
    rpcs.push(stream("WatchQuery", watch, r#"{"id":"42","status":"SUCCESSFUL"}"#, true));
    rpcs.push(stream("CancelQueries", many.encode_to_vec(), r#"{"data":[]}"#, false));
    rpcs
}

const JSON: &str = "Content-Type: application/json\r\n";
const PLANS: &str = "--allow-query-plan=true";
const CANARY: &str = r#"{"errorChain":[{"message":"canary","type":"canary"}],"stackTrace":"canary"}"#;

/// Status, code, reason, whether the bridge repeats, whether a caller may.
const ROWS: &[(u16, i32, &str, bool, bool)] = &[
    (301, 13, "BACKEND_REDIRECT", false, false),
    (302, 13, "BACKEND_REDIRECT", false, false),
    (308, 13, "BACKEND_REDIRECT", false, false),
    (400, 3, "BACKEND_REJECTED_REQUEST", false, false),
    (401, 16, "BACKEND_UNAUTHENTICATED", false, false),
    (403, 7, "BACKEND_PERMISSION_DENIED", false, false),
    (404, 5, "QUERY_NOT_FOUND", false, false),
    (405, 12, "BACKEND_METHOD_NOT_ALLOWED", false, false),
    (406, 13, "BACKEND_CONTRACT", false, false),
    (407, 13, "BACKEND_PROXY_AUTH", false, false),
    (408, 14, "BACKEND_REQUEST_TIMEOUT", true, true),
    (409, 9, "QUERY_NOT_CANCELLABLE", false, false),
    (410, 5, "QUERY_EXPIRED", false, false),
    (412, 9, "PRECONDITION_FAILED", false, false),
    (413, 8, "REQUEST_TOO_LARGE", false, false),
    (414, 3, "BACKEND_REJECTED_REQUEST", false, false),
    (418, 2, "BACKEND_HTTP_4XX", false, false),
    (421, 14, "BACKEND_RETRY_CONNECTION", true, true),
    (422, 3, "BACKEND_REJECTED_REQUEST", false, false),
    (423, 10, "QUERY_LOCKED", false, true),
    (429, 8, "BACKEND_RATE_LIMITED", false, true),
    (499, 14, "BACKEND_HOP_CLOSED", true, true),
    (500, 13, "BACKEND_ERROR", false, false),
    (501, 12, "BACKEND_NOT_IMPLEMENTED", false, false),
    (502, 14, "BACKEND_BAD_GATEWAY", true, true),
    (503, 14, "BACKEND_UNAVAILABLE", true, true),
    (504, 4, "BACKEND_GATEWAY_TIMEOUT", false, true),
    (505, 13, "BACKEND_HTTP_5XX", false, false),
    (507, 8, "BACKEND_OUT_OF_RESOURCES", false, true),
    (600, 13, "BACKEND_PROTOCOL_ERROR", false, false),
];

/// Asserts that nothing of the upstream's shows, to the caller or at the default log level.
#[track_caller]
fn assert_no_leak(bridge: &Bridge, reply: &Reply, what: &str) {
    assert!(!reply.everything().contains("canary"), "{what}: {reply:?}");
    let log = bridge.log_lines();
    assert!(!log.iter().any(|line| line.contains("canary")), "{what}: {log:?}");
}

#[tokio::test]
async fn every_rpc_has_its_row_for_every_status() {
    for rpc in all_rpcs() {
        let status = Arc::new(AtomicU16::new(0));
        let now = Arc::clone(&status);
        let headers = format!("X-Canary: canary\r\nLocation: /canary\r\n{JSON}");
        let atoti = Upstream::start(move |_, _| answer(now.load(Ordering::SeqCst), &headers, CANARY)).await;
        let bridge = Bridge::start_with(&atoti.url(), &[PLANS]).await;
        let client = bridge.client().await;
        for (http, code, reason, again, retryable) in ROWS {
            let what = format!("{} HTTP {http}", rpc.name);
            status.store(*http, Ordering::SeqCst);
            let before = atoti.seen().len();
            let request_id = format!("{}-{http}", rpc.name);
            let reply = rpc.call(&client, &[("x-request-id", &request_id)]).await;
            let error = reply.error();
            assert_eq!((reply.code(), error.reason()), (*code, *reason), "{what}");
            let (http, attempts) = (http.to_string(), if *again { "2" } else { "1" });
            assert_eq!(error.metadata("httpStatus"), Some(&*http), "{what}");
            assert_eq!(error.metadata("requestSent"), Some("true"), "{what}");
            assert_eq!(error.metadata("attempts"), Some(attempts), "{what}");
            assert_eq!(
                error.metadata("retryable"),
                Some(if *retryable { "true" } else { "false" }),
                "{what}"
            );
            assert_eq!(error.metadata("queryId"), rpc.about_query.then_some("42"), "{what}");
            assert_eq!(error.request.expect("a RequestInfo").request_id, request_id, "{what}");
            assert!(error.retry.is_none(), "{what}: nobody said when to come back");
            assert!(!error.message.is_empty() && reply.body.is_empty(), "{what}");
            // Nothing is said of a query where none was asked for.
            assert!(rpc.about_query || !error.message.contains("this id"), "{what}: {}", error.message);
            let seen = &atoti.seen()[before..];
            let made =
                seen.iter().filter(|seen| seen.method == rpc.method && seen.target != "/versions/rest");
            assert_eq!(made.count().to_string(), attempts, "{what}");
            assert_no_leak(&bridge, &reply, &what);
            if !rpc.is_read() {
                let audit = bridge.audit(&request_id).await;
                assert_eq!(
                    (&audit["operation"], &audit["error_reason"]),
                    (&rpc.name.into(), &(*reason).into())
                );
                assert_eq!(audit["http_status"].to_string(), http, "{what}");
                assert_eq!(audit["attempts"].to_string(), attempts, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn every_rpc_reads_what_comes_in_place_of_an_answer() {
    let head = format!("HTTP/1.1 200 X\r\n{JSON}");
    let long = format!("{head}Content-Length: 100\r\n\r\n{{\"canary\":");
    for (what, script, read, write) in [
        (
            "a page",
            answer(200, "Content-Type: text/html\r\n", "<html>canary"),
            (2, "BACKEND_UNEXPECTED_HTML"),
            None,
        ),
        ("JSON that is none", answer(200, JSON, "{canary"), (13, "BACKEND_MALFORMED_BODY"), Some(())),
        ("a body cut off", Answer::BytesThenClose(long.into()), (14, "BACKEND_BODY_TRUNCATED"), Some(())),
        ("no answer", Answer::BytesThenClose(Vec::new()), (14, "BACKEND_CONNECTION_LOST"), None),
        ("no HTTP", Answer::BytesThenClose(b"canary\r\n\r\n".to_vec()), (13, "BACKEND_PROTOCOL_ERROR"), None),
        ("a login", answer(302, "Location: /canary/login\r\n", ""), (16, "BACKEND_LOGIN_REDIRECT"), None),
    ] {
        let atoti = Upstream::start(move |_, _| script.clone()).await;
        let bridge = Bridge::start_with(&atoti.url(), &[PLANS]).await;
        let client = bridge.client().await;
        for rpc in all_rpcs() {
            let what = format!("{} {what}", rpc.name);
            let reply = rpc.call(&client, &[]).await;
            // What comes behind the head of an accepted write is information only.
            let expected = if rpc.is_read() || write.is_none() { read } else { (0, "") };
            assert_eq!((reply.code(), reply.error().reason()), expected, "{what}");
            assert_no_leak(&bridge, &reply, &what);
        }
    }
}

#[tokio::test]
async fn who_asks_for_patience_is_given_it() {
    for (status, code, reason) in [(429, 8, "BACKEND_RATE_LIMITED"), (503, 14, "BACKEND_UNAVAILABLE")] {
        let atoti = Upstream::start(move |_, _| answer(status, "Retry-After: 7\r\n", "")).await;
        let bridge = Bridge::start_with(&atoti.url(), &[PLANS]).await;
        let client = bridge.client().await;
        for (index, rpc) in all_rpcs().iter().enumerate() {
            let reply = rpc.call(&client, &[]).await;
            let error = reply.error();
            assert_eq!((reply.code(), error.reason()), (code, reason), "{}", rpc.name);
            assert_eq!(
                error.retry.expect("a RetryInfo").retry_delay.expect("a delay").seconds,
                7,
                "{}",
                rpc.name
            );
            assert_eq!(reply.text("grpc-retry-pushback-ms"), Some("7000"), "{}", rpc.name);
            assert_eq!(atoti.seen().len(), index + 1, "{} asked again", rpc.name);
        }
    }
}

#[tokio::test]
async fn what_passes_is_asked_for_once_more_and_succeeds() {
    for rpc in all_rpcs() {
        // A plan that got lost is not made twice: see plan.rs.
        let lost = (rpc.name != "GetQueryPlan").then(|| Answer::BytesThenClose(Vec::new()));
        for first in [answer(503, "", "")].into_iter().chain(lost) {
            let success = rpc.success.clone();
            let atoti =
                Upstream::start(move |_, before| if before == 0 { first.clone() } else { success.clone() })
                    .await;
            let bridge = Bridge::start_with(&atoti.url(), &[PLANS]).await;
            let reply = rpc.call(&bridge.client().await, &[]).await;
            assert_eq!((reply.code(), reply.error().reason()), (0, ""), "{}", rpc.name);
            assert_eq!(atoti.seen().len(), 2, "{}", rpc.name);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_nothing_was_sent() {
    let bridge = Bridge::start_with("http://127.0.0.1:1", &[PLANS]).await;
    let client = bridge.client().await;
    for rpc in all_rpcs() {
        let reply = rpc.call(&client, &[("x-request-id", rpc.name)]).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (14, "BACKEND_CONNECT_FAILED"), "{}", rpc.name);
        assert_eq!(error.metadata("requestSent"), Some("false"), "{}", rpc.name);
        if !rpc.is_read() {
            assert_eq!(bridge.audit(rpc.name).await["request_sent"], false, "{}", rpc.name);
        }
    }
}

#[tokio::test]
async fn every_rpc_ends_with_its_deadline_or_before_anything_is_sent() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let flags = [PLANS, "--upstream-timeout=1h", "--max-deadline=2s"];
    let bridge = Bridge::start_with(&atoti.url(), &flags).await;
    let client = bridge.client().await;
    for rpc in rpcs() {
        let before = atoti.seen().len();
        for timeout in ["0n", "999u", "5m"] {
            let reply = rpc.call(&client, &[("grpc-timeout", timeout)]).await;
            assert_eq!((reply.code(), reply.error().reason()), (4, "DEADLINE_BEFORE_SEND"), "{}", rpc.name);
            assert_eq!(reply.error().metadata("requestSent"), Some("false"), "{}", rpc.name);
        }
        assert_eq!(atoti.seen().len(), before, "{}", rpc.name);
        let reply = rpc.call(&client, &[("grpc-timeout", "150m")]).await;
        assert_eq!((reply.code(), reply.error().reason()), (4, "BACKEND_TIMEOUT"), "{}", rpc.name);
        assert_eq!(reply.error().metadata("requestSent"), Some("true"), "{}", rpc.name);
        assert_eq!(atoti.seen().len(), before + 1, "{}: a timeout is not repeated", rpc.name);
    }
    // Who sends none has the longest one.
    let reply = rpcs()[1].call(&client, &[]).await;
    assert_eq!((reply.code(), reply.error().reason()), (4, "BACKEND_TIMEOUT"));
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_nothing_behind() {
    for rpc in all_rpcs() {
        let (name, success) = (rpc.name, rpc.success.clone());
        let atoti = Upstream::start(move |_, before| match (before, &success) {
            // A write is carried to its end; a read is given up.
            (0, Answer::Bytes(bytes)) => Answer::After(Duration::from_millis(300), bytes.clone()),
            _ => success.clone(),
        })
        .await;
        let bridge = Bridge::start_with(&atoti.url(), &[PLANS, "--max-in-flight=1"]).await;
        let client = bridge.client().await;
        let (response, mut stream) =
            client.start(&rpc.path(), &rpc.message, &[("x-request-id", "gone")]).await;
        eventually("it to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        if !rpc.is_read() {
            let audit = bridge.audit("gone").await;
            assert_eq!((&audit["code"], &audit["caller_waited"]), (&"OK".into(), &false.into()), "{name}");
        }
        let mut reply = rpc.call(&client, &[]).await;
        for _ in 0..200 {
            if reply.error().reason() != "OVERLOADED" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            reply = rpc.call(&client, &[]).await;
        }
        assert_eq!(reply.code(), 0, "{name}: its place is free again");
    }
}

#[tokio::test]
async fn credentials_and_trace_go_along_and_nothing_else_of_the_callers() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for rpc in all_rpcs() {
        let success = rpc.success.clone();
        let atoti = Upstream::start(move |_, _| success.clone()).await;
        let bridge = Bridge::start_with(&atoti.url(), &[PLANS]).await;
        let client = bridge.client().await;
        let headers = [
            ("authorization", "Bearer the-callers-own"),
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("x-request-id", "request-1"),
            ("cookie", "JSESSIONID=canary"),
            ("x-canary", "canary"),
        ];
        assert_eq!(rpc.call(&client, &headers).await.code(), 0, "{}", rpc.name);
        let seen = atoti.seen().remove(0);
        assert_eq!(seen.method, rpc.method);
        assert_eq!(seen.header("authorization"), ["Bearer the-callers-own"], "{}", rpc.name);
        assert_eq!(seen.header("traceparent"), [PARENT], "{}", rpc.name);
        assert_eq!(
            (seen.header("tracestate"), seen.header("x-request-id")),
            (vec!["a=1"], vec!["request-1"])
        );
        assert!(
            !seen.head.contains("canary") && !seen.head.to_lowercase().contains("cookie"),
            "{}",
            seen.head
        );
        // The next caller has none, and gets none.
        assert_eq!(rpc.call(&client, &[]).await.code(), 0, "{}", rpc.name);
        let second = atoti.seen().remove(1);
        assert!(second.header("authorization").is_empty(), "{}", rpc.name);
        let refused = rpc.call(&client, &[("authorization", "a"), ("authorization", "b")]).await;
        assert_eq!((refused.code(), refused.error().reason()), (3, "INVALID_AUTHORIZATION"), "{}", rpc.name);
        assert_eq!(atoti.seen().len(), 2, "{}", rpc.name);
    }
}

#[tokio::test]
async fn reads_take_no_place_of_a_cancel_and_are_refused_when_theirs_are_taken() {
    let hold = Arc::new(Mutex::new(Vec::new()));
    let atoti = Upstream::start(|seen, _| match &*seen.method {
        "PATCH" => answer(204, "", ""),
        _ => Answer::Hang,
    })
    .await;
    let bridge = Bridge::start_with(&atoti.url(), &[PLANS, "--max-in-flight=4"]).await;
    let client = bridge.client().await;
    let list = &rpcs()[1];
    for _ in 0..3 {
        let call = client.start(&list.path(), &list.message, &[]).await;
        hold.lock().expect("not poisoned").push(call);
    }
    eventually("three reads at work", || (atoti.seen().len() == 3).then_some(())).await;
    for rpc in rpcs() {
        let reply = rpc.call(&client, &[]).await;
        let expected = if rpc.method == "PATCH" { (0, "") } else { (8, "OVERLOADED") };
        assert_eq!((reply.code(), reply.error().reason()), expected, "{}", rpc.name);
    }
}
