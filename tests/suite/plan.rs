//! GetQueryPlan: only where the operator allows it, no longer than the caller waits, and exactly what Atoti wrote.

use std::time::{Duration, Instant};

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, QueryType, Simulator};

use crate::support::{
    bridge::Bridge,
    client::{Client, Reply},
    messages::{GetQueryPlanRequest, GetQueryPlanResponse},
    upstream::{Answer, Upstream, answer},
};

const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const ALLOWED: &str = "--allow-query-plan=true";

async fn plan(client: &Client, query_id: &str, headers: &[(&'static str, &str)]) -> Reply {
    plan_within(client, query_id, None, headers).await
}

async fn plan_within(
    client: &Client,
    query_id: &str,
    timeout: Option<(i64, i32)>,
    headers: &[(&'static str, &str)],
) -> Reply {
    let timeout = timeout.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
    let request = GetQueryPlanRequest { query_id: query_id.to_owned(), timeout };
    client.method("GetQueryPlan", &request, headers).await
}

fn failed(reply: &Reply) -> (i32, String) {
    (reply.code(), reply.error().reason().to_owned())
}

#[tokio::test]
async fn a_plan_is_refused_unless_the_operator_allows_it() {
    let atoti = Upstream::start(|_, _| answer(200, "", "[]")).await;
    for flags in [&[][..], &["--allow-query-plan=false"]] {
        let bridge = Bridge::start_with(&atoti.url(), flags).await;
        let reply = plan(&bridge.client().await, "42", &[]).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (9, "QUERY_PLAN_DISABLED"));
        assert_eq!((error.metadata("requestSent"), error.metadata("queryId")), (Some("false"), Some("42")));
        let violation = &error.precondition.expect("a PreconditionFailure").violations[0];
        assert_eq!(violation.subject, "ATOTI_BRIDGE_ALLOW_QUERY_PLAN", "what to change is named");
    }
    assert_eq!(atoti.connections(), 0, "Atoti executed nothing");
}

#[tokio::test]
async fn a_plan_comes_exactly_as_atoti_wrote_it() {
    for text in [
        r#"[{"planInfo": {"id": 18446744073709551616, "ratio": 1.10, "e": 1E400},  "é": "\u00e9\/"}]"#,
        "\n[ ]\n",
        r#"[{"a":1,"a":2},9007199254740993,-0,null,"<html>"]"#,
    ] {
        let atoti =
            Upstream::start(move |_, _| answer(200, "Content-Type: application/json\r\n", text)).await;
        let bridge = Bridge::start_with(&atoti.url(), &[ALLOWED]).await;
        let response: GetQueryPlanResponse = plan(&bridge.client().await, "42", &[]).await.message();
        assert_eq!(response.plan_json, text);
    }
}

#[tokio::test]
async fn what_is_no_array_is_no_plan() {
    for (body, code, reason) in [
        ("{}", 13, "BACKEND_MALFORMED_BODY"),
        (r#""[]""#, 13, "BACKEND_MALFORMED_BODY"),
        ("[1", 13, "BACKEND_MALFORMED_BODY"),
        ("[] []", 13, "BACKEND_MALFORMED_BODY"),
        ("null", 13, "BACKEND_MALFORMED_BODY"),
        ("", 13, "BACKEND_MALFORMED_BODY"),
        ("<html>", 2, "BACKEND_UNEXPECTED_HTML"),
    ] {
        let atoti = Upstream::start(move |_, _| answer(200, "", body)).await;
        let bridge = Bridge::start_with(&atoti.url(), &[ALLOWED]).await;
        let reply = plan(&bridge.client().await, "42", &[]).await;
        assert_eq!(failed(&reply), (code, reason.to_owned()), "{body}");
        assert_eq!(atoti.seen().len(), 1, "it was not executed again");
    }
}

#[tokio::test]
async fn atoti_decides_whose_and_which_queries_are_explained() {
    let atoti = Simulator::start(Options::default()).await.expect("it starts");
    let mdx = atoti.history().start_query(NewQuery::default());
    let other =
        atoti.history().start_query(NewQuery { query_type: QueryType::Unknown, ..NewQuery::default() });
    let bridge = Bridge::start_with(&atoti.base_url(), &[ALLOWED]).await;
    let client = bridge.client().await;
    let reply = plan(&client, &mdx, &[USER, ("grpc-timeout", "10S")]).await;
    let text = reply.message::<GetQueryPlanResponse>().plan_json;
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json[0]["planInfo"]["mdxPass"], "Select_0");
    for (id, headers, code, reason) in [
        (&*other, &[USER][..], 3, "BACKEND_REJECTED_REQUEST"),
        ("42", &[USER], 5, "QUERY_NOT_FOUND"),
        (&*mdx, &[GUEST], 7, "BACKEND_PERMISSION_DENIED"),
        (&*mdx, &[], 16, "BACKEND_UNAUTHENTICATED"),
    ] {
        let reply = plan(&client, id, headers).await;
        assert_eq!(failed(&reply), (code, reason.to_owned()));
        assert_eq!(reply.error().metadata("queryId"), Some(id));
    }
    atoti.inject(Fault::missing_api());
    let bridge = Bridge::start_with(&atoti.base_url(), &[ALLOWED]).await;
    let reply = plan(&bridge.client().await, &mdx, &[USER]).await;
    assert_eq!(failed(&reply), (12, "BACKEND_API_MISSING".to_owned()));
}

#[tokio::test]
async fn the_timeout_reaches_atoti_and_never_exceeds_the_deadline() {
    let atoti = Upstream::start(|_, _| answer(200, "", "[]")).await;
    let bridge = Bridge::start_with(&atoti.url(), &[ALLOWED, "--max-deadline=20s"]).await;
    let client = bridge.client().await;
    for (timeout, deadline, least, most) in [
        (Some((1, 500_000_000)), Some("5S"), 1.5, 1.5),
        (Some((0, 1)), Some("5S"), 1e-9, 1e-9),
        (Some((3600, 0)), Some("3S"), 0.1, 3.0),
        (None, Some("3S"), 0.1, 3.0),
        (None, None, 3.0, 20.0),
        (Some((315_576_000_000, 0)), None, 3.0, 20.0),
    ] {
        let headers: Vec<_> = deadline.iter().map(|deadline| ("grpc-timeout", *deadline)).collect();
        let reply = plan_within(&client, "42", timeout, &headers).await;
        assert_eq!(reply.message::<GetQueryPlanResponse>().plan_json, "[]");
        let target = atoti.seen().pop().expect("a request").target;
        let (path, query) = target.split_once('?').expect("a timeout");
        assert_eq!(path, "/activeviam/query-history/rest/v1/query/42/query-plan");
        // ISO-8601, as Java reads it.
        let seconds = query.strip_prefix("timeout=PT").and_then(|rest| rest.strip_suffix('S'));
        let seconds: f64 = seconds.and_then(|seconds| seconds.parse().ok()).expect("seconds");
        assert!((least..=most).contains(&seconds), "{timeout:?} {deadline:?}: {target}");
    }
}

#[tokio::test]
async fn a_plan_may_take_longer_than_other_answers_and_ends_with_the_deadline() {
    let slow =
        Answer::After(Duration::from_millis(600), b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n[]".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start_with(&atoti.url(), &[ALLOWED, "--upstream-timeout=100ms"]).await;
    let client = bridge.client().await;
    assert_eq!(plan(&client, "42", &[]).await.code(), 0);
    let started = Instant::now();
    let reply = plan(&client, "42", &[("grpc-timeout", "200m")]).await;
    assert_eq!(failed(&reply), (4, "BACKEND_TIMEOUT".to_owned()));
    assert_eq!(reply.error().metadata("requestSent"), Some("true"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(atoti.seen().len(), 2, "each was executed once");
}

#[tokio::test]
async fn a_timeout_that_breaks_its_rule_is_named_and_costs_nothing() {
    let atoti = Upstream::start(|_, _| answer(200, "", "[]")).await;
    let bridge = Bridge::start_with(&atoti.url(), &[ALLOWED]).await;
    let client = bridge.client().await;
    for timeout in [(0, 0), (-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
        let reply = plan_within(&client, "42", Some(timeout), &[]).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (3, "INVALID_PLAN_TIMEOUT"), "{timeout:?}");
        let violations = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!((violations.len(), &*violations[0].field), (1, "timeout"), "{timeout:?}");
    }
    let reply = plan_within(&client, "a/b", Some((0, 0)), &[]).await;
    let fields = reply.error().bad_request.expect("a BadRequest").field_violations;
    let fields: Vec<_> = fields.iter().map(|violation| &*violation.field).collect();
    assert_eq!(fields, ["query_id", "timeout"]);
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn a_query_whose_plan_got_lost_is_not_executed_once_more() {
    let atoti = Upstream::start(|_, _| Answer::BytesThenClose(Vec::new())).await;
    let bridge = Bridge::start_with(&atoti.url(), &[ALLOWED]).await;
    let reply = plan(&bridge.client().await, "42", &[]).await;
    assert_eq!(failed(&reply), (14, "BACKEND_CONNECTION_LOST".to_owned()));
    assert_eq!((reply.error().metadata("attempts"), atoti.seen().len()), (Some("1"), 1));
}
