//! The control API, by which tests in other languages steer a simulator; and the log of requests behind it.

use atoti_grpc_bridge::simulator::{Options, Simulator, Status};
use serde_json::{Value, json};

use super::{CANCELLED, HISTORY, JSON, USER, get, open, send, start};
use crate::support::eventually;

async fn post(atoti: &Simulator, path: &str, body: &str) -> (u16, Value) {
    let answer = send(atoti, "POST", &format!("/simulator/{path}"), &[], body).await;
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status.as_u16(), body)
}

#[tokio::test]
async fn a_query_is_started_watched_and_ended() {
    let atoti = open().await;
    let wanted = r#"{"username":"ada","query":"SELECT 1","isMdx":false,"nodeName":"node-9"}"#;
    let (status, started) = post(&atoti, "queries", wanted).await;
    let id = started["id"].as_str().expect("an id").to_owned();
    assert_eq!(status, 201);
    let running = get(&atoti, "/simulator/queries").await.json();
    assert_eq!(
        (&running["running"][0]["id"], &running["running"][0]["nodeName"]),
        (&json!(id), &json!("node-9"))
    );
    let record = atoti.history().get(&id).expect("it is known");
    assert_eq!((&*record.username, &*record.text, record.query_type.name()), ("ada", "SELECT 1", "UNKNOWN"));
    assert_eq!(post(&atoti, &format!("queries/{id}/end"), r#"{"outcome":"FAILED"}"#).await.0, 204);
    assert_eq!(atoti.history().get(&id).expect("it is known").status, Status::Failed);
    let (status, told) = post(&atoti, &format!("queries/{id}/end"), r#"{"outcome":"FAILED"}"#).await;
    assert_eq!((status, &told["error"]), (404, &json!("no running query has this id")));
    assert_eq!(get(&atoti, "/simulator/queries").await.json(), json!({"running": []}));
}

#[tokio::test]
async fn a_query_ends_as_it_was_told_to() {
    let atoti = open().await;
    let (_, started) = post(&atoti, "queries", r#"{"runsMilliseconds":20,"outcome":"FAILED"}"#).await;
    let id = started["id"].as_str().expect("an id");
    let ended = || atoti.history().get(id).filter(|record| record.ended.is_some());
    assert_eq!(eventually("its end", ended).await.status, Status::Failed);
    let (_, started) = post(&atoti, "queries", r#"{"cancelLatencyMilliseconds":0}"#).await;
    let id = started["id"].as_str().expect("an id");
    assert_eq!(super::cancel(&atoti, id).await.status, 204);
    assert_eq!(atoti.history().get(id).expect("it is known").status, Status::Cancelled, "at once");
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let atoti = start(Options { recorded_requests: 2, ..Options::default() }).await;
    get(&atoti, "/forgotten").await;
    get(&atoti, "/versions/rest?a=%20b").await;
    let headers = [JSON, USER, ("X-Request-Id", "r-1")];
    send(&atoti, "PATCH", &format!("{HISTORY}/query/7"), &headers, CANCELLED).await;
    let told = get(&atoti, "/simulator/requests").await.json();
    let requests = told["requests"].as_array().expect("a list");
    assert_eq!(requests.len(), 2, "the latest two, and none of the control API's own: {told}");
    assert_eq!(requests[0]["target"], "/versions/rest?a=%20b");
    let patch = &requests[1];
    assert_eq!(
        (&patch["method"], &patch["body"], &patch["complete"]),
        (&json!("PATCH"), &json!(CANCELLED), &json!(true))
    );
    assert_eq!((&patch["connection"], patch["millisecondsAgo"].is_u64()), (&json!(3), true));
    let headers = patch["headers"].as_array().expect("a list");
    assert!(headers.contains(&json!(["x-request-id", "r-1"])), "{headers:?}");
    let recorded = atoti.requests().remove(1);
    assert_eq!(recorded.header("X-Request-ID"), Some(&b"r-1"[..]));
    assert_eq!((recorded.path(), recorded.body.as_slice()), (&*recorded.target, CANCELLED.as_bytes()));
    assert_eq!(send(&atoti, "DELETE", "/simulator/requests", &[], "").await.status, 204);
    assert!(atoti.requests().is_empty());
}

#[tokio::test]
async fn every_fault_can_be_set_listed_and_cleared() {
    let atoti = open().await;
    for behaviour in [
        r#"{"status":{"code":503,"shape":"wrapped_error_chain","headers":{"Retry-After":"1"}}}"#,
        r#"{"answer":{"code":200,"headers":{"content-type":"text/plain"},"body":"x"}}"#,
        r#""html""#,
        r#"{"redirect":{"location":"/login"}}"#,
        r#""malformed_json""#,
        r#"{"delay":{"milliseconds":1}}"#,
        r#""hang""#,
        r#""cut_before_head""#,
        r#""cut_after_head""#,
        r#"{"trickle":{"bytes":1,"every_milliseconds":1}}"#,
        r#""endless_body""#,
        r#"{"huge_body":{"bytes":9}}"#,
        r#""missing_api""#,
    ] {
        let fault = format!(r#"{{"behaviour":{behaviour},"method":"GET","path":"/x","times":3}}"#);
        assert_eq!(post(&atoti, "faults", &fault).await.0, 201, "{behaviour}");
        let listed = get(&atoti, "/simulator/faults").await.json();
        let mut expected: Value = serde_json::from_str(&fault).expect("JSON");
        expected["after_effect"] = json!(false);
        assert_eq!(listed, json!({"faults": [expected]}));
        assert_eq!(send(&atoti, "DELETE", "/simulator/faults", &[], "").await.status, 204);
    }
    assert_eq!(post(&atoti, "faults", r#"{"behaviour":{"status":{"code":418}},"times":1}"#).await.0, 201);
    assert_eq!(get(&atoti, "/versions/rest").await.status, 418);
    assert_eq!(get(&atoti, "/simulator/faults").await.json(), json!({"faults": []}), "it is used up");
    assert_eq!(post(&atoti, "faults", r#"{"behaviour":"drop_connection","times":1}"#).await.0, 201);
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_with_a_reason() {
    let atoti = start(Options::default()).await;
    for (path, body, hint) in [
        ("faults", r#"{"behaviour":"drop_connection"}"#, "times"),
        ("faults", r#"{"behaviour":{"status":{"code":99}}}"#, "200 to 599"),
        ("faults", r#"{"behaviour":{"status":{"code":200,"headers":{"a b":"c"}}}}"#, "headers"),
        ("faults", r#"{"behaviour":{"trickle":{"bytes":0,"every_milliseconds":1}}}"#, "at least 1"),
        ("faults", r#"{"behaviour":{"redirect":{"location":"a\nb"}}}"#, "location"),
        ("faults", r#"{"behaviour":"explode"}"#, "explode"),
        ("faults", r#"{"behaviour":"hang","twice":true}"#, "twice"),
        ("queries", r#"{"user":"ada"}"#, "user"),
        ("queries", "[", "the body"),
        ("queries/1/end", "{}", "outcome"),
    ] {
        let (status, told) = post(&atoti, path, body).await;
        let error = told["error"].as_str().expect("an error");
        assert!(status == 400 && error.contains(hint), "{body}: {status} {error}");
    }
    let (status, told) = post(&atoti, "magic", "").await;
    assert_eq!(
        (status, told["error"].as_str().is_some_and(|e| e.contains("/simulator/queries"))),
        (404, true)
    );
    assert!(atoti.history().running().is_empty());
    assert_eq!(get(&atoti, "/simulator/faults").await.json(), json!({"faults": []}));
}
