//! One query's life: it runs, and it ends by itself, by a cancel, or by being deleted.

use std::time::Duration;

use atoti_grpc_bridge::simulator::{NewQuery, Outcome, QueryType, Status};
use serde_json::Value;

use super::{CANCELLED, HISTORY, JSON, cancel, exceptions, get, open, send, start_query};
use crate::support::eventually;

#[tokio::test]
async fn a_cancelled_query_runs_on_a_little_and_then_is_cancelled() {
    let atoti = open().await;
    let id = atoti
        .history()
        .start_query(NewQuery { cancel_latency: Some(Duration::from_millis(300)), ..NewQuery::default() });
    let other = start_query(&atoti);
    let answer = cancel(&atoti, &id).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    let status = || atoti.history().get(&id).expect("it is known").status;
    assert_eq!(status(), Status::Running, "cancelling is cooperative");
    // Signalled twice is stopped no sooner and no later.
    assert_eq!(cancel(&atoti, &id).await.status, 204);
    eventually("the cancel to take effect", || (status() == Status::Cancelled).then_some(())).await;
    let record = get(&atoti, &format!("{HISTORY}/query/{id}")).await.json();
    assert_eq!((record["status"].as_str(), record["endDate"].is_string()), (Some("CANCELLED"), true));
    let refused = cancel(&atoti, &id).await;
    assert_eq!((refused.status.as_u16(), &*exceptions(&refused)[0]), (404, "NotFoundException"));
    assert_eq!(atoti.history().get(&other).expect("it is known").status, Status::Running);
}

#[tokio::test]
async fn an_unknown_id_and_an_ended_query_are_refused_alike() {
    let atoti = open().await;
    let (succeeded, failed) = (start_query(&atoti), start_query(&atoti));
    assert!(atoti.history().finish(&succeeded) && atoti.history().fail(&failed));
    for id in [&*succeeded, &*failed, "1", "007", "x", "99999999999999999999999"] {
        let answer = cancel(&atoti, id).await;
        assert_eq!((answer.status.as_u16(), exceptions(&answer).len()), (404, 2), "{id}");
    }
    assert_eq!(atoti.history().get(&succeeded).expect("it is known").status, Status::Successful);
    assert_eq!(atoti.history().get(&failed).expect("it is known").status, Status::Failed);
}

#[tokio::test]
async fn a_change_other_than_to_cancelled_is_refused() {
    let atoti = open().await;
    let id = start_query(&atoti);
    let target = format!("{HISTORY}/query/{id}");
    for body in [r#"{"status":"SUCCESSFUL"}"#, r#"{"status":7}"#, "{}", "[]", "null"] {
        let answer = send(&atoti, "PATCH", &target, &[JSON], body).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, Some(JSON.1)), "{body}");
        assert!(answer.text().starts_with("Unsupported status"), "a bare text labelled JSON: {answer:?}");
    }
    assert_eq!(send(&atoti, "PATCH", &target, &[JSON], "{").await.status, 400);
    for wrong in [&[][..], &[("content-type", "text/plain")]] {
        let answer = send(&atoti, "PATCH", &target, wrong, CANCELLED).await;
        assert_eq!((answer.status.as_u16(), answer.json()["status"].as_u64()), (415, Some(415)));
    }
    assert_eq!(send(&atoti, "POST", &target, &[JSON], CANCELLED).await.status, 405);
    assert_eq!(atoti.history().get(&id).expect("it is known").status, Status::Running);
    let with_charset = [("content-type", "application/json;charset=utf-8")];
    assert_eq!(send(&atoti, "PATCH", &target, &with_charset, CANCELLED).await.status, 204);
}

#[tokio::test]
async fn all_running_queries_are_cancelled_at_once() {
    let atoti = open().await;
    let running = [start_query(&atoti), start_query(&atoti)];
    let ended = start_query(&atoti);
    assert!(atoti.history().finish(&ended));
    let all = async |query: &str| {
        send(&atoti, "PATCH", &format!("{HISTORY}/queries{query}"), &[JSON], CANCELLED).await
    };
    assert_eq!(all("").await.json()["error"], "Bad Request", "the parameter is required");
    let refused = all("?status=FAILED").await;
    assert_eq!((refused.status.as_u16(), refused.text().contains("RUNNING")), (400, true));
    assert_eq!(atoti.history().running().len(), 2);
    assert_eq!(all("?status=RUNNING").await.status, 204);
    eventually("both to end", || atoti.history().running().is_empty().then_some(())).await;
    for id in &running {
        assert_eq!(atoti.history().get(id).expect("it is known").status, Status::Cancelled);
    }
    assert_eq!(atoti.history().get(&ended).expect("it is known").status, Status::Successful);
}

#[tokio::test]
async fn a_query_ends_by_itself_when_its_time_is_over() {
    let atoti = open().await;
    for (outcome, status) in [(Outcome::Successful, Status::Successful), (Outcome::Failed, Status::Failed)] {
        let ends = Some((Duration::from_millis(50), outcome));
        let id = atoti.history().start_query(NewQuery { ends, ..NewQuery::default() });
        let record = eventually("its end", || atoti.history().get(&id).filter(|r| r.ended.is_some())).await;
        let lasted = record.ended.expect("it ended").duration_since(record.started);
        assert_eq!((record.status, lasted.as_millis()), (status, 50));
    }
}

#[tokio::test]
async fn a_query_is_shown_with_all_its_fields() {
    let atoti = open().await;
    let metadata = std::iter::once(("dashboard".to_owned(), "7".to_owned())).collect();
    // An odd id leaves `endDate` out while the query runs, an even one shows null.
    let id = atoti.history().start_query(NewQuery {
        id: Some(9_223_372_036_854_775_806),
        username: "ada".into(),
        text: "SELECT".into(),
        metadata: std::sync::Arc::new(metadata),
        node_name: Some("node-7".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        fraction_digits: 0,
        ..NewQuery::default()
    });
    let shown = get(&atoti, &format!("{HISTORY}/query/{id}")).await.json();
    let start = shown["startDate"].as_str().expect("a date");
    assert!(start.ends_with("+02:00") && !start.contains('.'), "{start}");
    let started = atoti.history().get(&id).expect("it is known").started;
    assert_eq!(start.parse().ok(), Some(started), "the same moment in another zone");
    let expected = serde_json::json!({
        "id": "9223372036854775806", "status": "RUNNING", "type": "MDX", "query": "SELECT", "nodeName": "node-7",
        "startDate": start, "endDate": Value::Null, "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "username": "ada", "queryMetadata": {"dashboard": "7"},
    });
    assert_eq!(shown, expected);
    let odd = atoti.history().start_query(NewQuery { id: Some(7), ..NewQuery::default() });
    assert_eq!(get(&atoti, &format!("{HISTORY}/query/{odd}")).await.json().get("endDate"), None);
}

#[tokio::test]
async fn a_plan_is_made_for_mdx_only() {
    let atoti = open().await;
    let mdx = start_query(&atoti);
    let query_type = QueryType::Unknown;
    let unknown = atoti.history().start_query(NewQuery { query_type, ..NewQuery::default() });
    let plan =
        async |id: &str, query: &str| get(&atoti, &format!("{HISTORY}/query/{id}/query-plan{query}")).await;
    let good = plan(&mdx, "?timeout=PT30S").await;
    assert_eq!((good.status.as_u16(), good.json().as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(plan(&mdx, "").await.status, 200);
    assert_eq!(plan(&mdx, "?timeout=30").await.status, 400);
    assert_eq!(plan(&unknown, "").await.status, 400);
    assert_eq!(plan("1", "").await.status, 404);
}

#[tokio::test]
async fn only_what_has_ended_is_deleted() {
    let atoti = open().await;
    let delete = async |target: &str| send(&atoti, "DELETE", &format!("{HISTORY}/{target}"), &[], "").await;
    let [running, ended, adas] = [start_query(&atoti), start_query(&atoti), start_query(&atoti)];
    assert!(atoti.history().finish(&ended) && atoti.history().finish(&adas));
    let refused = delete(&format!("query/{running}")).await;
    assert_eq!((refused.status.as_u16(), &*exceptions(&refused)[0]), (400, "BadRequestException"));
    assert_eq!(delete(&format!("query/{ended}")).await.status, 204);
    assert_eq!(delete(&format!("query/{ended}")).await.status, 404);
    assert_eq!(delete("queries?user=nobody").await.status, 204);
    assert_eq!(atoti.history().count(), 2, "the filter holds");
    assert_eq!(delete("queries?started_before=yesterday").await.status, 500);
    assert_eq!(atoti.history().count(), 2, "a filter that cannot be read deletes nothing");
    assert_eq!(delete("queries").await.status, 204);
    assert_eq!((atoti.history().count(), atoti.history().running().len()), (1, 1));
}
