//! The audit trail: a record for every attempt, with who, what, why and what came of it, and never a secret.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose};

use crate::support::{
    bridge::Bridge,
    client::{Client, Reply, cancel},
    eventually,
    messages::{CancelQueriesRequest, CancelQueriesResponse, QueryFilter},
    upstream::{Upstream, answer},
    within,
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn an_accepted_cancel_leaves_who_what_why_and_what_came_of_it() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let credentials = format!("Basic {}", general_purpose::STANDARD.encode("ada:s3cret"));
    let mut request = cancel("42");
    request.reason = "eats\nall \"memory\" \u{1b}[31m".to_owned();
    let headers = [("authorization", &*credentials), ("x-request-id", "request-1"), ("traceparent", PARENT)];
    assert_eq!(bridge.client().await.cancel_with(&request, &headers).await.code(), 0);

    let audit = bridge.audit("request-1").await;
    assert_eq!(audit["operation"], "CancelQuery");
    assert_eq!(audit["query_id"], "42");
    assert_eq!(audit["reason"], request.reason);
    assert_eq!(audit["caller.claimed_user"], "ada");
    assert!(audit["caller.peer"].as_str().expect("a peer").starts_with("127.0.0.1:"));
    assert_eq!(audit["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(audit["outcome"], "CANCEL_OUTCOME_REQUESTED");
    assert_eq!((&audit["code"], &audit["attempts"]), (&"OK".into(), &1.into()));
    assert_eq!((&audit["request_sent"], &audit["caller_waited"]), (&true.into(), &true.into()));
    let written: jiff::Timestamp = audit["timestamp"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!(jiff::Timestamp::now().duration_since(written).as_secs() < 60);
}

#[tokio::test]
async fn a_refused_request_is_audited_too_whatever_its_id_looks_like() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let client = bridge.client().await;
    let hostile = format!("../\n\u{1b}[31m{}", "x".repeat(10_000));
    assert_eq!(client.cancel_with(&cancel(&hostile), &[("x-request-id", "request-1")]).await.code(), 3);
    let audit = bridge.audit("request-1").await;
    assert_eq!(
        (&audit["code"], &audit["error_reason"]),
        (&"INVALID_ARGUMENT".into(), &"INVALID_QUERY_ID".into())
    );
    assert_eq!((&audit["attempts"], &audit["request_sent"]), (&0.into(), &false.into()));
    let written = audit["query_id"].as_str().expect("a string");
    assert_eq!(written, &hostile[..128]);
}

#[tokio::test]
async fn audit_records_are_written_whatever_the_log_level() {
    for level in ["off", "error", "audit=off"] {
        let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
        // The test needs the line that names the port.
        let level = format!("{level},atoti_grpc_bridge::server=info");
        let bridge = Bridge::start_in(&atoti.url(), &[], &[("RUST_LOG", &level)]).await;
        bridge.client().await.cancel_with(&cancel("42"), &[("x-request-id", "request-1")]).await;
        assert_eq!(bridge.audit("request-1").await["code"], "OK", "{level}");
    }
}

#[tokio::test]
async fn no_credential_is_ever_logged_not_even_at_the_finest_level() {
    let atoti = Upstream::start(|_, before| answer([401, 204][before % 2], "", "")).await;
    let bridge = Bridge::start_in(&atoti.url(), &[], &[("RUST_LOG", "trace")]).await;
    let client = bridge.client().await;
    let basic = format!("Basic {}", general_purpose::STANDARD.encode("ada:s3cret-password"));
    let payload = general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"ada","pin":"s3cret-claim"}"#);
    let bearer = format!("Bearer e30.{payload}.s3cret-signature");
    for (id, credentials) in [("a", &basic), ("b", &basic), ("c", &bearer), ("d", &bearer)] {
        client.cancel_with(&cancel("42"), &[("authorization", credentials), ("x-request-id", id)]).await;
        assert_eq!(bridge.audit(id).await["caller.claimed_user"], "ada");
    }
    let secrets = ["s3cret", basic.trim_start_matches("Basic "), &payload];
    for line in bridge.log_lines() {
        assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
    }
}

/// A place for a trail.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn into(path: &Path) -> String {
    format!("--audit-log={}", path.display())
}

/// The request ids of the records in a file, in order.
fn recorded(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    whole.filter_map(|record| Some(record["request_id"].as_str()?.to_owned())).collect()
}

async fn cancel_as(client: &Client, request_id: &str) -> Reply {
    client.cancel_with(&cancel("42"), &[("x-request-id", request_id)]).await
}

async fn until_recorded(path: &Path, request_ids: &[&str]) {
    eventually(&format!("{request_ids:?} in {path:?}"), || (recorded(path) == request_ids).then_some(()))
        .await;
}

#[tokio::test]
async fn a_trail_in_a_file_goes_on_in_a_new_one_when_it_is_rotated() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let folder = folder();
    let (path, rotated) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    std::fs::write(&path, "{\"request_id\":\"of a life before\"}\n").expect("written");
    let mut bridge = Bridge::start_with(&atoti.url(), &[&into(&path)]).await;
    let client = bridge.client().await;
    assert_eq!(cancel_as(&client, "a").await.code(), 0);
    until_recorded(&path, &["of a life before", "a"]).await;
    std::fs::rename(&path, &rotated).expect("moved away");
    assert_eq!(cancel_as(&client, "b").await.code(), 0);
    until_recorded(&path, &["b"]).await;
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(cancel_as(&client, "c").await.code(), 0);
    until_recorded(&path, &["c"]).await;
    // As copytruncate does it: the file stays, and is emptied.
    std::fs::write(&path, "").expect("emptied");
    assert_eq!(cancel_as(&client, "d").await.code(), 0);
    until_recorded(&path, &["d"]).await;
    assert_eq!(recorded(&rotated), ["of a life before", "a"]);
    assert!(!bridge.log_lines().iter().any(|line| line.contains("cancel or delete attempted")));
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_is_counted_told_and_written_later() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let folder = folder();
    let (path, roomy) = (folder.path().join("audit.log"), folder.path().join("roomy.log"));
    symlink("/dev/full", &path).expect("a link");
    let bridge = Bridge::start_with(&atoti.url(), &[&into(&path)]).await;
    let client = bridge.client().await;
    for id in ["a", "b"] {
        assert_eq!(cancel_as(&client, id).await.code(), 0, "the query is more urgent than its record");
    }
    bridge
        .logged("it is told", |line| {
            line["level"] == "ERROR"
                && line["message"] == "audit records cannot be written; they are kept and tried again"
        })
        .await;
    let metric =
        async |name: &str| bridge.metric(&format!("atoti_bridge_audit_{name}")).await.expect("a metric");
    within("both to wait", async {
        while metric("records_pending").await < 2.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(metric("write_errors_total").await >= 1.0);
    assert_eq!((metric("records_total").await, metric("records_lost_total").await), (0.0, 0.0));
    // Room is made.
    std::fs::remove_file(&path).expect("removed");
    symlink(&roomy, &path).expect("a link");
    until_recorded(&roomy, &["a", "b"]).await;
    bridge.logged("it is told", |line| line["message"] == "audit records are written again").await;
    assert_eq!((metric("records_total").await, metric("records_pending").await), (2.0, 0.0));
}

#[tokio::test]
async fn where_records_are_required_nothing_is_attempted_without() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let folder = folder();
    let (path, roomy) = (folder.path().join("audit.log"), folder.path().join("roomy.log"));
    symlink("/dev/full", &path).expect("a link");
    let bridge = Bridge::start_with(&atoti.url(), &[&into(&path), "--audit-required=true"]).await;
    let client = bridge.client().await;
    // Nobody knew yet that the disk is full. Atoti has accepted, and the answer says no less.
    let first = cancel_as(&client, "a").await;
    let error = first.error();
    assert_eq!((first.code(), error.reason()), (13, "AUDIT_FAILED"));
    assert_eq!((error.metadata("requestSent"), error.metadata("retryable")), (Some("true"), Some("false")));
    assert_eq!(atoti.seen().len(), 1);
    // From now on it is known.
    let refused = cancel_as(&client, "b").await;
    let error = refused.error();
    assert_eq!((refused.code(), error.reason()), (14, "AUDIT_UNAVAILABLE"));
    assert_eq!((error.metadata("requestSent"), error.metadata("retryable")), (Some("false"), Some("true")));
    assert_eq!(atoti.seen().len(), 1, "nothing was attempted");
    assert_eq!(client.get("42").await.error().reason(), "BACKEND_MALFORMED_BODY", "reads need no record");
    std::fs::remove_file(&path).expect("removed");
    symlink(&roomy, &path).expect("a link");
    until_recorded(&roomy, &["a", "b"]).await;
    let record = |id: &str| {
        let text = std::fs::read_to_string(&roomy).expect("a trail");
        let mut records =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        records.find(|record| record["request_id"] == id).expect("a record")
    };
    assert_eq!((&record("a")["code"], &record("a")["request_sent"]), (&"OK".into(), &true.into()));
    assert_eq!((&record("b")["code"], &record("b")["request_sent"]), (&"UNAVAILABLE".into(), &false.into()));
    assert_eq!(cancel_as(&client, "c").await.code(), 0);
    assert_eq!(recorded(&roomy), ["a", "b", "c"], "written before the answer");
}

#[tokio::test]
async fn a_bulk_cancel_stops_where_its_records_can_be_written_no_more() {
    let listing = r#"{"data":[
        {"id":"1","status":"RUNNING","username":"ada","startDate":"2026-01-01T00:00:00Z"},
        {"id":"2","status":"RUNNING","username":"ada","startDate":"2026-01-01T00:00:01Z"}],
        "pagination":{"pageNumber":0,"pageSize":500,"totalItems":2,"totalPages":1}}"#;
    let folder = folder();
    let path = folder.path().join("audit.log");
    let full = path.clone();
    let atoti = Upstream::start(move |seen, _| {
        if seen.method == "GET" {
            // The disk fills up while matches are looked for.
            let _ = std::fs::remove_file(&full);
            symlink("/dev/full", &full).expect("a link");
            return answer(200, "Content-Type: application/json\r\n", listing);
        }
        answer(204, "", "")
    })
    .await;
    let bridge = Bridge::start_with(&atoti.url(), &[&into(&path), "--audit-required=true"]).await;
    let request = CancelQueriesRequest {
        filter: Some(QueryFilter { usernames: vec!["ada".to_owned()], ..QueryFilter::default() }),
        ..CancelQueriesRequest::default()
    };
    let mut stream =
        bridge.client().await.stream::<CancelQueriesResponse>("CancelQueries", &request, &[]).await;
    let answers = stream.rest().await;
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        let error = answer.error.as_ref().expect("no success without a record");
        assert!([13, 14].contains(&error.code) && error.message.contains("audit record"), "{error:?}");
    }
    assert_eq!(stream.end().await.code(), 13, "nor is the whole");
}

#[tokio::test]
async fn records_still_waiting_are_written_before_the_end() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let folder = folder();
    let path = folder.path().join("audit.fifo");
    assert!(Command::new("mkfifo").arg(&path).status().expect("it runs").success());
    // Open both ways, so that nobody waits for the other; nobody reads yet, and a pipe holds 64 KiB.
    let pipe = File::options().read(true).write(true).open(&path).expect("a pipe");
    let mut bridge = Bridge::start_with(&atoti.url(), &[&into(&path)]).await;
    let client = bridge.client().await;
    let ids: Vec<_> = (0..300).map(|number| format!("r-{number}")).collect();
    let mut request = cancel("42");
    request.reason = "r".repeat(500);
    for id in &ids {
        assert_eq!(client.cancel_with(&request, &[("x-request-id", id)]).await.code(), 0);
    }
    let waiting = bridge.metric("atoti_bridge_audit_records_pending").await.expect("a metric");
    assert!(waiting > 50.0, "{waiting}");
    bridge.signal("-TERM");
    let seen = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            // Whoever does not wait for the trail has ended by now.
            std::thread::sleep(Duration::from_millis(500));
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                let id = record["request_id"].as_str().expect("an id").to_owned();
                seen.lock().expect("not poisoned").push(id);
            }
        }
    });
    assert_eq!(bridge.exit().await.code(), Some(0));
    eventually("all of them", || (*seen.lock().expect("not poisoned") == ids).then_some(())).await;
}

#[tokio::test]
async fn a_trail_that_cannot_be_opened_is_told_before_anything_is_served() {
    for (place, told) in
        [("audit.log", "stdout, stderr, or the path"), ("/no/such/audit.log", "cannot be appended to")]
    {
        let mut command = crate::support::bridge::command();
        let flags = ["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--audit-log", place];
        let output = command.args(flags).output().expect("it runs");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(told) && !error.contains("listening"), "{error}");
    }
}
