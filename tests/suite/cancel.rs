//! What `CancelQuery` promises, beyond the status of one answer: what it reads, when it repeats, how long it waits,
//! and that a cancel once sent is carried to its end.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::{
    bridge::Bridge,
    client::{CANCELLED, CancelQueryRequest, FINISHED, REQUESTED, cancel, cancel_and_wait},
    eventually,
    upstream::{Answer, Upstream, answer},
};

const JSON: &str = "Content-Type: application/json\r\n";

fn query(status: &str) -> Answer {
    let body = format!(
        r#"{{"id":"42","status":"{status}","type":"MDX","query":"SELECT x","nodeName":"node-b","username":"ada",
            "startDate":"2026-11-23T10:00:00.123456789+01:00","endDate":null,"traceId":"abc",
            "queryMetadata":{{"cube":"Sales"}},"addedLater":[1]}}"#
    );
    answer(200, JSON, &body)
}

fn allowing_finished() -> CancelQueryRequest {
    CancelQueryRequest { allow_finished: true, ..cancel("42") }
}

/// An Atoti that answers PATCH in one way, and reads one after the other, the last one for ever.
async fn atoti(patch: Answer, reads: Vec<Answer>) -> Upstream {
    let read = AtomicUsize::new(0);
    Upstream::start(move |request, _| {
        if request.method == "PATCH" {
            return patch.clone();
        }
        let index = read.fetch_add(1, Ordering::SeqCst);
        reads[index.min(reads.len() - 1)].clone()
    })
    .await
}

#[tokio::test]
async fn waiting_shows_the_query_turn_cancelled() {
    let atoti =
        atoti(answer(204, "", ""), vec![query("RUNNING"), query("RUNNING"), query("CANCELLED")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let response = bridge.client().await.cancel(&cancel_and_wait("42", 10)).await.cancelled();
    assert_eq!(response.outcome, CANCELLED);
    let query = response.query.expect("it was read");
    assert_eq!((query.query_id.as_str(), query.status, query.kind), ("42", 4, 2));
    assert_eq!((query.text.as_str(), query.node_name.as_str()), ("SELECT x", "node-b"));
    assert_eq!((query.username.as_str(), query.trace_id.as_str()), ("ada", "abc"));
    assert_eq!(query.start_time, Some(prost_types::Timestamp { seconds: 1_795_424_400, nanos: 123_456_789 }));
    assert_eq!(query.end_time, None);
    assert_eq!(query.metadata["cube"], "Sales");
    let reads: Vec<_> = atoti.seen().into_iter().skip(1).collect();
    assert_eq!(reads.len(), 3);
    assert!(reads.iter().all(|read| read.method == "GET" && read.target.ends_with("/v1/query/42")));
}

#[tokio::test]
async fn a_wait_that_runs_out_is_a_success_that_claims_nothing() {
    let atoti = atoti(answer(204, "", ""), vec![query("RUNNING")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let response = bridge.client().await.cancel(&cancel_and_wait("42", 1)).await.cancelled();
    assert_eq!(response.outcome, REQUESTED);
    assert_eq!(response.query.expect("it was read").status, 1);
}

#[tokio::test]
async fn a_wait_ends_inside_the_deadline_with_a_success() {
    let atoti = atoti(answer(204, "", ""), vec![query("RUNNING")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let reply = client.cancel_with(&cancel_and_wait("42", 3600), &[("grpc-timeout", "400m")]).await;
    assert_eq!(reply.cancelled().outcome, REQUESTED);
}

#[tokio::test]
async fn a_read_that_hangs_does_not_hold_up_the_wait() {
    let atoti = atoti(answer(204, "", ""), vec![Answer::Hang]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let reply = client.cancel_with(&cancel_and_wait("42", 3600), &[("grpc-timeout", "400m")]).await;
    let response = reply.cancelled();
    assert_eq!((response.outcome, response.query), (REQUESTED, None));
}

#[tokio::test]
async fn a_query_that_ends_by_itself_after_the_cancel_is_finished() {
    for status in ["SUCCESSFUL", "FAILED"] {
        let atoti = atoti(answer(204, "", ""), vec![query(status)]).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let response = bridge.client().await.cancel(&cancel_and_wait("42", 10)).await.cancelled();
        assert_eq!(response.outcome, FINISHED, "{status}");
    }
}

#[tokio::test]
async fn reads_that_fail_do_not_end_the_wait() {
    let reads = vec![
        answer(500, "", ""),
        answer(404, "", ""),
        answer(200, JSON, "{broken"),
        answer(200, JSON, r#"{"id":"42","status":"SOMETHING_NEW"}"#),
        query("CANCELLED"),
    ];
    let atoti = atoti(answer(204, "", ""), reads).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let response = bridge.client().await.cancel(&cancel_and_wait("42", 10)).await.cancelled();
    assert_eq!(response.outcome, CANCELLED);
}

#[tokio::test]
async fn a_query_that_had_ended_is_not_found_and_the_reason_says_so() {
    for status in ["SUCCESSFUL", "FAILED", "CANCELLED"] {
        let atoti = atoti(answer(404, "", ""), vec![query(status)]).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = bridge.client().await.cancel(&cancel("42")).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (5, "QUERY_NOT_RUNNING"), "{status}");
        assert_eq!(error.metadata("queryStatus"), Some(status));
        assert_eq!(error.metadata("httpStatus"), Some("404"));
        assert_eq!(error.resource.expect("a ResourceInfo").resource_name, "42");
        assert_eq!(atoti.seen().len(), 2, "one PATCH, one GET");
    }
}

#[tokio::test]
async fn allow_finished_takes_a_query_that_had_ended_for_success() {
    for (status, outcome) in [("SUCCESSFUL", FINISHED), ("FAILED", FINISHED), ("CANCELLED", CANCELLED)] {
        let atoti = atoti(answer(404, "", ""), vec![query(status)]).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let response = bridge.client().await.cancel(&allowing_finished()).await.cancelled();
        assert_eq!(response.outcome, outcome, "{status}");
        assert_eq!(response.query.expect("it was read").query_id, "42");
    }
}

#[tokio::test]
async fn allow_finished_is_no_excuse_for_a_query_nobody_knows_or_can_place() {
    for (read, reason) in [
        (answer(404, "", ""), "QUERY_NOT_FOUND"),
        (answer(500, "", ""), "QUERY_NOT_FOUND"),
        (answer(200, JSON, r#"{"id":"42","status":"SOMETHING_NEW"}"#), "QUERY_NOT_RUNNING"),
        (query("RUNNING"), "QUERY_ON_OTHER_NODE"),
    ] {
        let atoti = atoti(answer(404, "", ""), vec![read]).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = bridge.client().await.cancel(&allowing_finished()).await;
        assert_eq!(reply.error().reason(), reason);
    }
}

#[tokio::test]
async fn a_404_that_cannot_be_explained_in_time_stands() {
    let atoti = atoti(answer(404, "", ""), vec![Answer::Hang]).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--upstream-timeout=300ms"]).await;
    let reply = bridge.client().await.cancel(&cancel("42")).await;
    assert_eq!((reply.code(), reply.error().reason()), (5, "QUERY_NOT_FOUND"));
    assert_eq!(reply.error().metadata("historyRead"), Some("false"));
}

#[tokio::test]
async fn a_404_that_the_history_could_not_explain_says_so() {
    let page = answer(200, "Content-Type: text/html\r\n", "<html>");
    for (read, told) in [
        (answer(404, "", ""), None),
        (answer(500, "", ""), Some("false")),
        (answer(403, "", ""), Some("false")),
        (page, Some("false")),
        (answer(200, JSON, "{broken"), Some("false")),
        (Answer::BytesThenClose(Vec::new()), Some("false")),
    ] {
        let atoti = atoti(answer(404, "", ""), vec![read]).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = bridge.client().await.cancel(&allowing_finished()).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (5, "QUERY_NOT_FOUND"));
        assert_eq!((error.metadata("historyRead"), error.metadata("httpStatus")), (told, Some("404")));
        assert_eq!(error.message.contains("history could not be read"), told.is_some(), "{}", error.message);
        assert_eq!(error.metadata("attempts"), Some("1"), "of the cancel");
    }
}

#[tokio::test]
async fn a_query_that_runs_on_where_it_cannot_be_reached_is_never_called_gone() {
    let atoti = atoti(answer(404, "", ""), vec![query("RUNNING")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = bridge.client().await.cancel(&cancel("42")).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (9, "QUERY_ON_OTHER_NODE"));
    assert_eq!(error.metadata("nodeName"), Some("node-b"));
    assert_eq!(error.metadata("attempts"), Some("2"));
    assert_eq!(error.precondition.expect("a PreconditionFailure").violations[0].subject, "42");
    let methods: Vec<_> = atoti.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["PATCH", "GET", "PATCH", "GET"]);
}

#[tokio::test]
async fn an_atoti_that_answers_404_to_everything_for_a_moment_is_asked_again() {
    let atoti = Upstream::start(|request, before| match (request.method.as_str(), before) {
        ("PATCH", 0) => answer(404, "", ""),
        ("PATCH", _) => answer(204, "", ""),
        _ => query("RUNNING"),
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let reply = client.cancel_with(&cancel("42"), &[("x-request-id", "back")]).await;
    assert_eq!(reply.cancelled().outcome, REQUESTED);
    let audit = bridge.audit("back").await;
    assert_eq!((&audit["code"], &audit["attempts"]), (&"OK".into(), &2.into()));
    assert_eq!(atoti.seen().len(), 3);
}

#[tokio::test]
async fn what_becomes_of_a_cancel_that_is_sent_again_is_told() {
    let lost = Answer::BytesThenClose(Vec::new());
    for (what, patches, reads, code, told, attempts) in [
        ("not allowed", vec![answer(403, "", "")], vec!["RUNNING"], 7, "BACKEND_PERMISSION_DENIED", 2),
        (
            "away again",
            vec![answer(503, "Retry-After: 9\r\n", "")],
            vec!["RUNNING"],
            14,
            "BACKEND_UNAVAILABLE",
            2,
        ),
        ("it ended first", vec![answer(404, "", "")], vec!["RUNNING", "FAILED"], 5, "QUERY_NOT_RUNNING", 2),
        ("lost, and ours", vec![lost, answer(404, "", "")], vec!["RUNNING", "CANCELLED"], 0, "", 3),
    ] {
        let (patched, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let patches = [vec![answer(404, "", "")], patches].concat();
        let next = |counter: &AtomicUsize, most: usize| counter.fetch_add(1, Ordering::SeqCst).min(most - 1);
        let atoti = Upstream::start(move |request, _| match request.method.as_str() {
            "PATCH" => patches[next(&patched, patches.len())].clone(),
            _ => query(reads[next(&read, reads.len())]),
        })
        .await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = bridge.client().await.cancel_with(&cancel("42"), &[("x-request-id", "again")]).await;
        assert_eq!(reply.code(), code, "{what}");
        assert_eq!(bridge.audit("again").await["attempts"], attempts, "{what}");
        if code == 0 {
            assert_eq!(reply.cancelled().outcome, CANCELLED, "{what}");
        } else {
            assert_eq!((reply.error().reason(), reply.error().metadata("requestSent")), (told, Some("true")));
        }
    }
}

#[tokio::test]
async fn a_query_that_was_just_ending_is_read_once_more() {
    let atoti = atoti(answer(404, "", ""), vec![query("RUNNING"), query("SUCCESSFUL")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = bridge.client().await.cancel(&cancel("42")).await;
    assert_eq!((reply.code(), reply.error().reason()), (5, "QUERY_NOT_RUNNING"));
}

#[tokio::test]
async fn an_atoti_without_the_api_is_told_from_one_without_the_query() {
    let discovery = r#"{"version":1,"serverVersion":"6.0.9","apis":{"activeviam/pivot":{}}}"#;
    let missing = Upstream::start(move |request, _| match request.target.as_str() {
        "/versions/rest" => answer(200, JSON, discovery),
        _ => answer(404, "", ""),
    })
    .await;
    let bridge = Bridge::start(&missing.url()).await;
    let reply = bridge.client().await.cancel(&cancel("42")).await;
    assert_eq!((reply.code(), reply.error().reason()), (12, "BACKEND_API_MISSING"));
    assert_eq!(
        bridge.audit(&reply.error().request.expect("a RequestInfo").request_id).await["code"],
        "UNIMPLEMENTED"
    );
}

#[tokio::test]
async fn a_cancel_whose_answer_was_lost_is_repeated_and_recognised_as_our_own() {
    let atoti = Upstream::start(|request, before| match (request.method.as_str(), before) {
        ("PATCH", 0) => Answer::BytesThenClose(Vec::new()),
        ("PATCH", _) => answer(404, "", ""),
        _ => query("CANCELLED"),
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let reply = client.cancel_with(&cancel("42"), &[("x-request-id", "lost")]).await;
    assert_eq!(reply.cancelled().outcome, CANCELLED);
    let audit = bridge.audit("lost").await;
    assert_eq!((&audit["attempts"], &audit["code"]), (&2.into(), &"OK".into()));
}

#[tokio::test]
async fn a_lost_answer_does_not_claim_a_query_that_ended_by_itself() {
    let atoti = Upstream::start(|request, before| match (request.method.as_str(), before) {
        ("PATCH", 0) => Answer::BytesThenClose(Vec::new()),
        ("PATCH", _) => answer(404, "", ""),
        _ => query("SUCCESSFUL"),
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = bridge.client().await.cancel(&cancel("42")).await;
    assert_eq!((reply.code(), reply.error().reason()), (5, "QUERY_NOT_RUNNING"));
}

#[tokio::test]
async fn a_stale_connection_costs_no_call() {
    // The second request on a connection is answered by closing it.
    let atoti = Upstream::start(|_, before| match before {
        1 => Answer::BytesThenClose(Vec::new()),
        _ => answer(204, "", ""),
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    for _ in 0..3 {
        assert_eq!(client.cancel(&cancel("42")).await.cancelled().outcome, REQUESTED);
    }
    assert_eq!((atoti.seen().len(), atoti.connections()), (4, 2));
}

#[tokio::test]
async fn repeats_stay_within_their_budget() {
    let atoti = Upstream::start(|_, _| answer(503, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    for _ in 0..200 {
        assert_eq!(client.cancel(&cancel("42")).await.code(), 14);
    }
    // A tenth of the calls, and ten that a bridge with few calls has at hand (and one more a second).
    let repeats = atoti.seen().len() - 200;
    assert!((10..=40).contains(&repeats), "{repeats} repeats of 200 calls");
}

#[tokio::test]
async fn a_cancel_whose_caller_hangs_up_reaches_atoti_whole_and_is_audited() {
    let slow = Answer::After(Duration::from_millis(300), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let (response, mut stream) = client.start_cancel(&cancel("42"), &[("x-request-id", "gone")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop((response, client));

    let audit = bridge.audit("gone").await;
    assert_eq!(audit["outcome"], "CANCEL_OUTCOME_REQUESTED");
    assert_eq!((&audit["code"], &audit["request_sent"]), (&"OK".into(), &true.into()));
    assert_eq!(audit["caller_waited"], false);
    let seen = atoti.seen();
    assert_eq!((seen.len(), &*seen[0].body), (1, &br#"{"status":"CANCELLED"}"#[..]));
    assert_eq!(atoti.connections(), 1, "the connection was not cut");
}

#[tokio::test]
async fn a_deadline_is_answered_in_time_while_the_cancel_goes_on() {
    let slow = Answer::After(Duration::from_millis(500), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let headers = [("grpc-timeout", "100m"), ("x-request-id", "late")];
    let reply = client.cancel_with(&cancel("42"), &headers).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (4, "BACKEND_TIMEOUT"));
    assert_eq!(error.metadata("requestSent"), Some("true"));

    let audit = bridge.audit("late").await;
    assert_eq!(audit["outcome"], "CANCEL_OUTCOME_REQUESTED");
    assert_eq!(audit["caller_waited"], false);
    assert_eq!(atoti.seen().len(), 1);
}

#[tokio::test]
async fn the_longest_deadline_holds_for_callers_that_send_none_or_a_longer_one() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-deadline=200ms"]).await;
    let client = bridge.client().await;
    assert_eq!(client.cancel(&cancel("42")).await.code(), 4);
    assert_eq!(client.cancel_with(&cancel("42"), &[("grpc-timeout", "99999999H")]).await.code(), 4);
}

#[tokio::test]
async fn a_full_bridge_refuses_at_once_and_says_when_to_come_back() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-in-flight=1"]).await;
    let client = bridge.client().await;
    let (held, stream) = client.start_cancel(&cancel("1"), &[]).await;
    eventually("the first call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;

    let reply = client.cancel_with(&cancel("42"), &[("x-request-id", "shed")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (8, "OVERLOADED"));
    assert_eq!(error.metadata("requestSent"), Some("false"));
    assert_eq!(reply.text("grpc-retry-pushback-ms"), Some("100"));
    assert_eq!(error.retry.expect("a RetryInfo").retry_delay.expect("a delay").nanos, 100_000_000);
    assert_eq!(bridge.audit("shed").await["error_reason"], "OVERLOADED");
    assert_eq!(atoti.seen().len(), 1);
    drop((held, stream));
}

#[tokio::test]
async fn a_field_that_breaks_its_rule_is_named_and_costs_nothing() {
    let atoti = atoti(answer(204, "", ""), vec![query("RUNNING")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let wait = |seconds, nanos| CancelQueryRequest {
        wait: Some(prost_types::Duration { seconds, nanos }),
        ..cancel("42")
    };
    let reason = |reason: String| CancelQueryRequest { reason, ..cancel("42") };
    for (request, field, expected) in [
        (wait(-1, 0), "wait", "INVALID_WAIT"),
        (wait(0, -1), "wait", "INVALID_WAIT"),
        (wait(0, 1_000_000_000), "wait", "INVALID_WAIT"),
        (wait(i64::MAX, 0), "wait", "INVALID_WAIT"),
        (reason("r".repeat(513)), "reason", "INVALID_REASON"),
    ] {
        let reply = client.cancel(&request).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (3, expected));
        assert_eq!(error.metadata("requestSent"), Some("false"));
        assert_eq!(error.metadata("retryable"), Some("false"));
        let violations = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!((violations.len(), violations[0].field.as_str()), (1, field));
    }
    assert_eq!(atoti.connections(), 0);
    assert_eq!(client.cancel(&reason("ä".repeat(512))).await.code(), 0, "512 characters, not bytes");
}
