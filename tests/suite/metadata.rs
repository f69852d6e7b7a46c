//! What of a call's metadata goes along to Atoti, and what never does.

use crate::support::{
    bridge::Bridge,
    client::cancel,
    upstream::{Upstream, answer},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn atoti() -> Upstream {
    Upstream::start(|_, _| answer(204, "", "")).await
}

#[tokio::test]
async fn credentials_trace_context_and_request_id_go_along_and_nothing_else() {
    let atoti = atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let headers = [
        ("authorization", "Bearer token"),
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("x-request-id", "request-1"),
        ("cookie", "JSESSIONID=x"),
        ("host", "elsewhere"),
        ("x-api-key", "key"),
        ("x-forwarded-for", "10.0.0.1"),
        ("baggage", "a=b"),
        ("grpc-trace-bin", "AAAA"),
        ("user-agent", "grpc-test"),
    ];
    assert_eq!(bridge.client().await.cancel_with(&cancel("42"), &headers).await.code(), 0);
    let request = atoti.seen().remove(0);
    let mut names: Vec<_> =
        request.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "tracestate",
            "tracestate",
            "user-agent",
            "x-request-id"
        ]
    );
    assert_eq!(request.header("authorization"), ["Bearer token"]);
    assert_eq!(request.header("traceparent"), [PARENT]);
    assert_eq!(request.header("tracestate"), ["a=1", "b=2"]);
    assert_eq!(request.header("x-request-id"), ["request-1"]);
    assert_eq!(request.header("accept"), ["application/json, */*"]);
    assert_eq!(request.header("host"), [atoti.address().to_string()]);
    assert!(request.header("user-agent")[0].starts_with("atoti-grpc-bridge/"));
}

#[tokio::test]
async fn a_caller_without_credentials_is_let_through_for_atoti_to_judge() {
    let atoti = atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = bridge.client().await.cancel(&cancel("42")).await;
    assert_eq!(reply.code(), 0);
    let request = atoti.seen().remove(0);
    assert!(request.header("authorization").is_empty());
    let id = request.header("x-request-id")[0];
    assert_eq!(id.len(), 32, "the bridge makes an id of its own");
    assert_eq!(reply.headers["x-request-id"], id, "and tells it");
}

#[tokio::test]
async fn two_authorizations_are_refused_before_anything_is_sent() {
    let atoti = atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let headers = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    let reply = bridge.client().await.cancel_with(&cancel("42"), &headers).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (3, "INVALID_AUTHORIZATION"));
    assert_eq!(error.bad_request.expect("a BadRequest").field_violations[0].field, "authorization");
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn a_malformed_deadline_is_refused_before_anything_is_sent() {
    let atoti = atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    for timeout in ["", "1", "S", "-1S", "123456789m", "1.5S", "soon"] {
        let reply = client.cancel_with(&cancel("42"), &[("grpc-timeout", timeout)]).await;
        assert_eq!((reply.code(), reply.error().reason()), (3, "INVALID_TIMEOUT"), "{timeout:?}");
    }
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn all_violations_come_back_at_once() {
    let atoti = atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let mut request = cancel("../x");
    request.wait = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    request.reason = "r".repeat(513);
    let reply = bridge.client().await.cancel_with(&request, &[("grpc-timeout", "soon")]).await;
    let violations = reply.error().bad_request.expect("a BadRequest").field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["query_id", "wait", "reason", "grpc-timeout"]);
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn request_trailers_never_become_metadata() {
    let atoti = atoti().await;
    let bridge = Bridge::start(&atoti.url()).await;
    let headers = [("authorization", "Bearer good"), ("x-request-id", "good"), ("traceparent", PARENT)];
    let trailers = [
        ("authorization", "Bearer evil"),
        ("x-request-id", "evil"),
        ("traceparent", "00-eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-eeeeeeeeeeeeeeee-01"),
        ("tracestate", "evil=1"),
    ];
    let reply = bridge.client().await.cancel_with_trailers(&cancel("42"), &headers, &trailers).await;
    assert_eq!(reply.code(), 0);
    let request = atoti.seen().remove(0);
    assert_eq!(request.header("authorization"), ["Bearer good"]);
    assert_eq!(request.header("x-request-id"), ["good"]);
    assert_eq!(request.header("traceparent"), [PARENT]);
    assert!(!request.head.contains("evil"));
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used() {
    let (atoti, proxy) = (atoti().await, atoti().await);
    let proxy_url = proxy.url();
    let environment =
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, proxy_url.as_str()));
    let bridge = Bridge::start_in(&atoti.url(), &[], &environment).await;
    assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0);
    assert_eq!((atoti.seen().len(), proxy.connections()), (1, 0));
}
