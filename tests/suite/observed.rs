//! Seen from outside: of every call one line, the right counts, its spans, and its audit record where one is due.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    bridge::Bridge,
    client::{Client, cancel},
    collector::{Collector, attribute, hex},
    eventually,
    http::Connection,
    upstream::{Answer, Upstream, answer},
};

const CANCEL: &str = "atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
const GET: &str = "atoti.queryhistory.v1.QueryHistoryService/GetQuery";
const OTHER: &str = "_OTHER";
/// What must be seen nowhere.
const TOKEN: &str = "Bearer canary-token";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// Atoti does as the id says: `s503` is a 503, whatever is asked.
fn as_the_id_says(target: &str) -> Answer {
    let id = target.rsplit('/').next().unwrap_or_default();
    let json = "Content-Type: application/json\r\n";
    match id.strip_prefix('s').and_then(|status| status.parse().ok()) {
        Some(status) => answer(status, "", "canary-body"),
        None if id == "hang" => Answer::Hang,
        None if id == "cut" => Answer::BytesThenClose(Vec::new()),
        None if id == "html" => answer(200, "Content-Type: text/html\r\n", "<html>canary-body"),
        None => answer(200, json, r#"{"id":"42","status":"RUNNING","query":"canary-text"}"#),
    }
}

/// One call, and how it is to be seen.
struct Outcome {
    id: &'static str,
    method: &'static str,
    code: &'static str,
    reason: &'static str,
    level: &'static str,
}

const fn outcome(id: &'static str, code: &'static str, reason: &'static str, level: &'static str) -> Outcome {
    Outcome { id, method: CANCEL, code, reason, level }
}

const OUTCOMES: &[Outcome] = &[
    outcome("42", "OK", "", "INFO"),
    Outcome { method: GET, ..outcome("43", "OK", "", "INFO") },
    Outcome { method: GET, ..outcome("s410", "NOT_FOUND", "QUERY_EXPIRED", "INFO") },
    Outcome { method: OTHER, ..outcome("-", "UNIMPLEMENTED", "UNKNOWN_METHOD", "WARN") },
    outcome("..", "INVALID_ARGUMENT", "INVALID_QUERY_ID", "INFO"),
    outcome("s302", "INTERNAL", "BACKEND_REDIRECT", "ERROR"),
    outcome("s400", "INVALID_ARGUMENT", "BACKEND_REJECTED_REQUEST", "INFO"),
    outcome("s401", "UNAUTHENTICATED", "BACKEND_UNAUTHENTICATED", "INFO"),
    outcome("s403", "PERMISSION_DENIED", "BACKEND_PERMISSION_DENIED", "INFO"),
    outcome("s404", "NOT_FOUND", "QUERY_NOT_FOUND", "INFO"),
    outcome("s405", "UNIMPLEMENTED", "BACKEND_METHOD_NOT_ALLOWED", "WARN"),
    outcome("s409", "FAILED_PRECONDITION", "QUERY_NOT_CANCELLABLE", "INFO"),
    outcome("s418", "UNKNOWN", "BACKEND_HTTP_4XX", "ERROR"),
    outcome("s423", "ABORTED", "QUERY_LOCKED", "INFO"),
    outcome("s429", "RESOURCE_EXHAUSTED", "BACKEND_RATE_LIMITED", "WARN"),
    outcome("s500", "INTERNAL", "BACKEND_ERROR", "ERROR"),
    outcome("s503", "UNAVAILABLE", "BACKEND_UNAVAILABLE", "WARN"),
    outcome("s504", "DEADLINE_EXCEEDED", "BACKEND_GATEWAY_TIMEOUT", "WARN"),
    outcome("html", "UNKNOWN", "BACKEND_UNEXPECTED_HTML", "ERROR"),
    outcome("cut", "UNAVAILABLE", "BACKEND_CONNECTION_LOST", "WARN"),
    outcome("hang", "DEADLINE_EXCEEDED", "BACKEND_TIMEOUT", "WARN"),
];

/// The codes that are the server's fault, as OpenTelemetry's RPC conventions have it.
const FAULTS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

fn trace_id(index: usize) -> String {
    format!("{:032x}", 0xabcd_0000 + index)
}

async fn make(client: &Client, outcome: &Outcome, index: usize) {
    let parent = format!("00-{}-{CALLERS_SPAN}-01", trace_id(index));
    let request_id = format!("request-{index}");
    let deadline = if outcome.id == "hang" { "200m" } else { "5S" };
    let headers = [
        ("authorization", TOKEN),
        ("traceparent", &*parent),
        ("x-request-id", &request_id),
        ("grpc-timeout", deadline),
    ];
    let reply = match outcome.method {
        GET => client.get_with(outcome.id, &headers).await,
        OTHER => client.call("/no.such.Service/Method", &[], &headers).await,
        _ => client.cancel_with(&cancel(outcome.id), &headers).await,
    };
    let reason = if reply.code() == 0 { String::new() } else { reply.error().reason().to_owned() };
    assert_eq!(reason, outcome.reason, "{}", outcome.id);
}

fn events<'a>(lines: &'a [Value], message: &str, request_id: &str) -> Vec<&'a Value> {
    let fits = |line: &&Value| line["message"] == message && line["request_id"] == *request_id;
    lines.iter().filter(fits).collect()
}

fn all_events(bridge: &Bridge) -> Vec<Value> {
    bridge.log_lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn every_outcome_is_seen_once_in_each_way() {
    let atoti = Upstream::start(|seen, _| as_the_id_says(&seen.target)).await;
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let tracing = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let bridge = Bridge::start_in(&atoti.url(), &[], &tracing).await;
    let client = bridge.client().await;
    for (index, outcome) in OUTCOMES.iter().enumerate() {
        make(&client, outcome, index).await;
    }

    let (mut calls, mut failures) = (BTreeMap::new(), BTreeMap::new());
    for (index, outcome) in OUTCOMES.iter().enumerate() {
        let Outcome { id, method, code, reason, level } = outcome;
        *calls.entry((method, code)).or_insert(0.0) += 1.0;
        if *code != "OK" {
            *failures.entry((method, reason)).or_insert(0.0) += 1.0;
        }
        let (request_id, trace_id) = (format!("request-{index}"), trace_id(index));
        let line = bridge.logged("the call's line", |line| {
            line["message"] == "call ended" && line["request_id"] == *request_id
        });
        let line = line.await;
        assert_eq!((&line["level"], &line["rpc.response.status_code"]), (&(*level).into(), &(*code).into()));
        assert_eq!(
            (&line["trace_id"], &line["rpc.method"]),
            (&(*trace_id).into(), &(*method).into()),
            "{id}"
        );
        assert_eq!(line["reason"].as_str().unwrap_or_default(), *reason);
        assert!(line["duration_ms"].as_f64().expect("a number") > 0.0);

        // What Atoti got: each request in a span of its own.
        let sent: Vec<_> =
            atoti.seen().into_iter().filter(|seen| seen.header("x-request-id") == [&*request_id]).collect();
        let spans = collector.spans(&trace_id, 1 + sent.len()).await;
        let [call] = &spans.iter().filter(|span| span.kind == SERVER).collect::<Vec<_>>()[..] else {
            panic!("{id}: one span of the call: {spans:?}");
        };
        assert_eq!((hex(&call.parent_span_id), &*call.name), (CALLERS_SPAN.to_owned(), *method), "{id}");
        assert_eq!(line["span_id"], *hex(&call.span_id), "{id}");
        assert_eq!(attribute(call, "rpc.system.name"), "grpc");
        assert_eq!(
            (attribute(call, "rpc.method"), attribute(call, "rpc.response.status_code")),
            ((*method).to_owned(), (*code).to_owned())
        );
        assert_eq!(attribute(call, "atoti_bridge.reason"), *reason, "{id}");
        assert_eq!(attribute(call, "atoti_bridge.request_id"), request_id);
        let is_error = call.status.as_ref().is_some_and(|status| status.code == 2);
        assert_eq!(is_error, FAULTS.contains(code), "{id}");
        assert_eq!(attribute(call, "error.type"), if is_error { *code } else { "" }, "{id}");
        let requests: Vec<_> = spans.iter().filter(|span| span.kind == CLIENT).collect();
        assert_eq!(requests.len(), sent.len(), "{id}: {spans:?}");
        for (sent, number) in sent.iter().zip(0..) {
            let parent = sent.header("traceparent")[0].to_owned();
            let span =
                requests.iter().find(|span| parent == format!("00-{trace_id}-{}-01", hex(&span.span_id)));
            let span =
                span.unwrap_or_else(|| panic!("{id}: {parent} is the span of no request: {requests:?}"));
            assert_eq!(span.parent_span_id, call.span_id, "{id}");
            assert_eq!(attribute(span, "http.request.method"), sent.method);
            assert_eq!(
                attribute(span, "url.full"),
                format!("{}{}", atoti.url().trim_end_matches('/'), sent.target)
            );
            let repeats = sent.method == "PATCH" && number > 0;
            assert_eq!(attribute(span, "http.request.resend_count"), if repeats { "1" } else { "" }, "{id}");
            let status = id.strip_prefix('s').unwrap_or_default();
            if !status.is_empty() && !sent.target.ends_with("/versions/rest") {
                assert_eq!(attribute(span, "http.response.status_code"), status, "{id}");
                assert_eq!(attribute(span, "error.type"), status, "{id}");
            }
        }
    }

    let lines = all_events(&bridge);
    for (index, outcome) in OUTCOMES.iter().enumerate() {
        let request_id = format!("request-{index}");
        assert_eq!(events(&lines, "call ended", &request_id).len(), 1, "{}", outcome.id);
        let records = events(&lines, "cancel or delete attempted", &request_id);
        assert_eq!(records.len(), usize::from(outcome.method == CANCEL), "{}", outcome.id);
        for record in records {
            assert_eq!(record["trace_id"], *trace_id(index));
            assert_eq!(record["span_id"], events(&lines, "call ended", &request_id)[0]["span_id"]);
        }
    }
    let metrics = bridge.metrics().await;
    let value = |name: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    };
    for ((method, code), times) in calls {
        let labels =
            format!("rpc_system_name=\"grpc\",rpc_method=\"{method}\",rpc_response_status_code=\"{code}\"");
        assert_eq!(value(&format!("rpc_server_call_duration_seconds_count{{{labels}}}")), times, "{labels}");
    }
    for ((method, reason), times) in failures {
        let labels = format!("rpc_method=\"{method}\",reason=\"{reason}\"");
        assert_eq!(value(&format!("atoti_bridge_call_failures_total{{{labels}}}")), times, "{labels}");
    }
    let destination = format!("server_address=\"127.0.0.1\",server_port=\"{}\"", atoti.address().port());
    for (method, status, error, times) in [
        ("PATCH", "200", "", 1.0),
        ("PATCH", "503", "503", 2.0),
        ("PATCH", "", "connection_lost", 2.0),
        ("GET", "410", "410", 1.0),
    ] {
        let labels = format!(
            "http_request_method=\"{method}\",url_template=\"/query/{{id}}\",{destination},\
            http_response_status_code=\"{status}\",error_type=\"{error}\""
        );
        assert_eq!(
            value(&format!("http_client_request_duration_seconds_count{{{labels}}}")),
            times,
            "{labels}"
        );
    }
    let records = OUTCOMES.iter().filter(|outcome| outcome.method == CANCEL).count();
    assert_eq!(value("atoti_bridge_audit_records_total"), f64::from(u32::try_from(records).expect("few")));
    assert_eq!(value("atoti_bridge_deadlines_missed_total{request_sent=\"true\"}"), 2.0);
    assert_eq!(value("atoti_bridge_spans_lost_total"), 0.0);
    // A 503, and a connection that broke.
    assert_eq!(value("atoti_bridge_upstream_retries_total{decision=\"made\"}"), 2.0);

    let spans = format!("{:?}", collector.received());
    for canary in ["canary-token", "canary-body", "canary-text"] {
        assert!(!spans.contains(canary) && !metrics.contains(canary), "{canary}");
        assert!(!bridge.log_lines().iter().any(|line| line.contains(canary)), "{canary}");
    }
    assert!(collector.received().iter().all(|received| received.service == "atoti-grpc-bridge"));
}

#[tokio::test]
async fn a_caller_that_vanishes_is_cancelled_and_its_cancel_goes_on_in_the_trace() {
    let late = Answer::After(Duration::from_millis(300), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| late.clone()).await;
    let collector = Collector::start().await;
    let tracing =
        [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.endpoint()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let bridge = Bridge::start_in(&atoti.url(), &[], &tracing).await;
    let parent = format!("00-{}-{CALLERS_SPAN}-01", trace_id(0));
    let headers = [("traceparent", &*parent), ("x-request-id", "gone")];
    let client = bridge.client().await;
    let (response, mut stream) = client.start_cancel(&cancel("42"), &headers).await;
    eventually("it to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    let line = bridge.logged("its line", |line| line["message"] == "call ended").await;
    assert_eq!((&line["level"], &line["rpc.response.status_code"]), (&"INFO".into(), &"CANCELLED".into()));
    assert_eq!(bridge.audit("gone").await["code"], "OK");
    let spans = collector.spans(&trace_id(0), 2).await;
    let call = spans.iter().find(|span| span.kind == SERVER).expect("the call's");
    assert_eq!(attribute(call, "rpc.response.status_code"), "CANCELLED");
    let request = spans.iter().find(|span| span.kind == CLIENT).expect("the request's");
    assert_eq!(
        (&request.parent_span_id, attribute(request, "http.response.status_code")),
        (&call.span_id, "204".to_owned())
    );
}

#[tokio::test]
async fn what_is_not_sampled_is_passed_on_and_not_recorded() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let tracing = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let bridge = Bridge::start_in(&atoti.url(), &[], &tracing).await;
    let client = bridge.client().await;
    let call = async |index, flags| {
        let parent = format!("00-{}-{CALLERS_SPAN}-{flags}", trace_id(index));
        let headers = [("traceparent", &*parent), ("tracestate", "a=1")];
        assert_eq!(client.cancel_with(&cancel("42"), &headers).await.code(), 0);
    };
    call(0, "00").await;
    call(1, "01").await;
    collector.spans(&trace_id(1), 2).await;
    assert_eq!(collector.received().len(), 2, "nothing of the other");
    for (index, (seen, flags)) in atoti.seen().iter().zip(["00", "01"]).enumerate() {
        let parent = seen.header("traceparent")[0];
        assert!(
            parent.starts_with(&format!("00-{}-", trace_id(index))) && parent.ends_with(flags),
            "{parent}"
        );
        assert!(!parent.contains(CALLERS_SPAN), "its parent is the bridge's request");
        assert_eq!(seen.header("tracestate"), ["a=1"]);
    }
    // Only what somebody has recorded is an exemplar.
    let metrics = bridge.metrics().await;
    assert!(metrics.contains(&format!("# {{trace_id=\"{}\"}}", trace_id(1))), "{metrics}");
    assert!(!metrics.contains(&trace_id(0)), "{metrics}");
}

#[tokio::test]
async fn without_a_collector_the_callers_context_goes_along_as_it_came() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let parent = format!("00-{}-{CALLERS_SPAN}-01", trace_id(0));
    bridge
        .client()
        .await
        .cancel_with(&cancel("42"), &[("traceparent", &parent), ("x-request-id", "r")])
        .await;
    assert_eq!(atoti.seen()[0].header("traceparent"), [&*parent]);
    assert_eq!(bridge.audit("r").await["trace_id"], *trace_id(0));
    assert!(bridge.metrics().await.contains(&format!("# {{trace_id=\"{}\"}}", trace_id(0))));
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    // Nothing is sent of its own accord, and the words of whoever runs it are honoured.
    let tracing = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=night"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_SERVICE_NAME", "bridge-7"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let mut bridge = Bridge::start_in(&atoti.url(), &[], &tracing).await;
    assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0);
    assert_eq!(collector.received().len(), 0);
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
    let received = collector.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|span| span.service == "bridge-7" && span.metadata["x-tenant"] == "night"));
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nothing_but_its_spans() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let tracing = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
    ];
    let mut bridge = Bridge::start_in(&atoti.url(), &[], &tracing).await;
    let client = bridge.client().await;
    for _ in 0..20 {
        assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    }
    bridge
        .logged("it is said", |line| {
            line["message"] == "the collector does not take spans; they are lost until it does"
        })
        .await;
    let lost = bridge.metric("atoti_bridge_spans_lost_total").await.expect("the metric");
    assert!(lost > 0.0, "those that may wait, and those that may not: {lost}");
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn what_the_environment_says_of_traces_is_checked_before_anything_is_served() {
    for (environment, told) in [
        (&[("OTEL_TRACES_EXPORTER", "zipkin")][..], "write otlp or none"),
        (&[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "write grpc"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a b")], "OTEL_EXPORTER_OTLP_"),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such"),
            ],
            "/no/such: ",
        ),
    ] {
        let mut command = crate::support::bridge::command();
        let output = command
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .envs(environment.iter().copied())
            .output()
            .expect("it runs");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(64), "{environment:?}: {error}");
        assert!(error.contains(told) && !error.contains("listening"), "{environment:?}: {error}");
    }
    // Whatever else is set, these two mean no.
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_SDK_DISABLED", "true")];
    let bridge = Bridge::start_in("http://127.0.0.1:1", &[], &off).await;
    let line = bridge.logged("the configuration", |line| line["message"] == "configuration").await;
    assert_eq!(line["traces"], false);
}

#[tokio::test]
async fn healthy_calls_can_go_without_a_line_and_failures_never_do() {
    let atoti = Upstream::start(|_, before| answer(if before < 30 { 204 } else { 500 }, "", "")).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--access-log-ratio=0"]).await;
    let client = bridge.client().await;
    for _ in 0..30 {
        assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    }
    assert_eq!(client.cancel_with(&cancel("42"), &[("x-request-id", "failed")]).await.code(), 13);
    bridge
        .logged("the failure", |line| line["message"] == "call ended" && line["request_id"] == "failed")
        .await;
    let lines = all_events(&bridge).into_iter().filter(|line| line["message"] == "call ended").count();
    assert_eq!(lines, 1);
    assert_eq!(bridge.metric("atoti_bridge_log_lines_dropped_total").await, Some(0.0));
}

#[tokio::test]
async fn a_flood_of_refused_calls_has_a_few_lines_that_tell_of_all() {
    const FLOOD: u64 = 200;
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-in-flight=1"]).await;
    let client = bridge.client().await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.cancel(&cancel("1")).await }
    });
    eventually("the one place to be taken", || (!atoti.seen().is_empty()).then_some(())).await;
    let refused = async |request_id: &str| {
        let reply = client.cancel_with(&cancel("2"), &[("x-request-id", request_id)]).await;
        assert_eq!(reply.error().reason(), "OVERLOADED");
    };
    let began = Instant::now();
    for _ in 0..FLOOD {
        refused("flood").await;
    }
    let seconds = began.elapsed().as_secs() + 1;
    // By then there are lines again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    refused("last").await;
    // Its audit record has the id, too.
    let ended = |line: &Value| line["message"] == "call ended" && line["request_id"] == "last";
    let last = bridge.logged("the last line", ended).await;
    assert_eq!((&last["reason"], &last["level"]), (&json!("OVERLOADED"), &json!("WARN")));
    let lines = || all_events(&bridge).into_iter().filter(|line| line["reason"] == "OVERLOADED");
    assert!(lines().count() as u64 <= 10 * (seconds + 2), "{} lines in {seconds} s", lines().count());
    let told: u64 = lines().map(|line| 1 + line["left_out"].as_u64().unwrap_or(0)).sum();
    assert_eq!(told, FLOOD + 1, "none is forgotten");
    assert_eq!(bridge.metric("atoti_bridge_calls_shed_total").await, Some(FLOOD as f64 + 1.0));
    held.abort();
}

#[tokio::test]
async fn probes_leave_no_lines_and_no_spans() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let tracing = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let bridge = Bridge::start_in(&atoti.url(), &[], &tracing).await;
    let client = bridge.client().await;
    assert_eq!(client.call("/grpc.health.v1.Health/Check", &[], &[]).await.code(), 0);
    let parent = format!("00-{}-{CALLERS_SPAN}-01", trace_id(0));
    assert_eq!(client.cancel_with(&cancel("42"), &[("traceparent", &parent)]).await.code(), 0);
    collector.spans(&trace_id(0), 2).await;
    assert_eq!(collector.received().len(), 2, "the bridge's own probes of Atoti are in no trace either");
    let lines = all_events(&bridge).into_iter().filter(|line| line["message"] == "call ended").count();
    assert_eq!(lines, 1);
    let health = "rpc_server_call_duration_seconds_count{rpc_system_name=\"grpc\",\
        rpc_method=\"grpc.health.v1.Health/Check\",rpc_response_status_code=\"OK\"}";
    assert_eq!(bridge.metric(health).await, Some(1.0), "but they are counted");
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let classic = bridge.admin("/metrics").await;
    assert_eq!(classic.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(classic.text().contains("\n# TYPE atoti_bridge_panics_total counter\n"), "{}", classic.text());
    assert!(!classic.text().contains("# EOF") && !classic.text().contains("# UNIT"));
    let open = bridge.metrics().await;
    assert!(open.contains("\n# TYPE atoti_bridge_panics counter\n") && open.ends_with("# EOF\n"), "{open}");
    for process in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(bridge.metric(process).await.is_some_and(|value| value >= 0.0), "{process}");
    }
    let page = Connection::open(bridge.admin_address())
        .await
        .send("GET", "/metrics", &[("accept", "text/html")], "")
        .await;
    assert_eq!(page.header("content-type"), classic.header("content-type"));
}
