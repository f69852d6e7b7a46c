//! DeleteQuery and DeleteQueries: only what has ended goes, only who may makes it go, and every attempt is recorded.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Outcome, QueryType, Simulator, Status};

use crate::support::{
    bridge::Bridge,
    client::{Client, Reply},
    eventually,
    messages::{DeleteQueriesRequest, DeleteQueryRequest, Empty, QueryFilter, RUNNING, of_user},
    upstream::{Answer, Upstream, answer},
};

const ADMIN: (&str, &str) = ("authorization", "Basic YWRtaW46YWRtaW4=");
const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const WRONG: (&str, &str) = ("authorization", "Basic dXNlcjp3cm9uZw==");

async fn atoti() -> Simulator {
    Simulator::start(Options::default()).await.expect("it starts")
}

fn running(atoti: &Simulator) -> String {
    atoti.history().start_query(NewQuery::default())
}

fn ended(atoti: &Simulator) -> String {
    let id = running(atoti);
    assert!(atoti.history().finish(&id));
    id
}

fn delete(query_id: &str) -> DeleteQueryRequest {
    DeleteQueryRequest { query_id: query_id.to_owned(), reason: "no longer wanted".to_owned() }
}

async fn delete_one(client: &Client, query_id: &str, headers: &[(&'static str, &str)]) -> Reply {
    client.method("DeleteQuery", &delete(query_id), headers).await
}

async fn delete_many(client: &Client, filter: QueryFilter, headers: &[(&'static str, &str)]) -> Reply {
    let request = DeleteQueriesRequest { filter: Some(filter), reason: "spring cleaning".to_owned() };
    client.method("DeleteQueries", &request, headers).await
}

/// The requests of calls, without what the bridge asks of its own accord.
fn requests(atoti: &Simulator) -> Vec<(String, String)> {
    let requests = atoti.requests().into_iter();
    let called = requests.filter(|request| request.header("x-request-id").is_some());
    called.map(|request| (request.method, request.target)).collect()
}

#[tokio::test]
async fn a_query_that_has_ended_is_deleted_and_recorded() {
    let atoti = atoti().await;
    let (id, bystander) = (ended(&atoti), ended(&atoti));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let reply = delete_one(&client, &id, &[ADMIN, ("x-request-id", "one")]).await;
    assert_eq!(reply.message::<Empty>(), Empty {});
    assert!(atoti.history().get(&id).is_none());
    assert!(atoti.history().get(&bystander).is_some());
    let target = format!("/activeviam/query-history/rest/v1/query/{id}");
    assert_eq!(requests(&atoti), [("DELETE".to_owned(), target)]);

    let audit = bridge.audit("one").await;
    assert_eq!((&audit["operation"], &audit["query_id"]), (&"DeleteQuery".into(), &(&*id).into()));
    assert_eq!((&audit["reason"], &audit["filter"]), (&"no longer wanted".into(), &().into()));
    assert_eq!((&audit["code"], &audit["outcome"]), (&"OK".into(), &().into()));
    assert_eq!((&audit["attempts"], &audit["request_sent"]), (&1.into(), &true.into()));
    assert_eq!((&audit["caller.claimed_user"], &audit["caller_waited"]), (&"admin".into(), &true.into()));

    // It is gone.
    let again = delete_one(&client, &id, &[ADMIN]).await;
    assert_eq!((again.code(), again.error().reason()), (5, "QUERY_NOT_FOUND"));
}

#[tokio::test]
async fn a_query_that_still_runs_is_kept_and_the_reason_says_so() {
    let atoti = atoti().await;
    let id = running(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let reply = delete_one(&client, &id, &[ADMIN, ("x-request-id", "early")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (9, "QUERY_STILL_RUNNING"));
    assert_eq!((error.metadata("queryId"), error.metadata("httpStatus")), (Some(&*id), Some("400")));
    assert_eq!((error.metadata("requestSent"), error.metadata("retryable")), (Some("true"), Some("false")));
    let violation = &error.precondition.expect("a PreconditionFailure").violations[0];
    assert_eq!((&*violation.r#type, &*violation.subject), ("QUERY_STATE", &*id));
    assert_eq!(atoti.history().get(&id).expect("it is known").status, Status::Running);
    let audit = bridge.audit("early").await;
    assert_eq!(
        (&audit["code"], &audit["error_reason"], &audit["http_status"]),
        (&"FAILED_PRECONDITION".into(), &"QUERY_STILL_RUNNING".into(), &400.into())
    );
    // Stopped first, it can be deleted.
    assert!(atoti.history().end(&id, Outcome::Cancelled));
    assert_eq!(delete_one(&client, &id, &[ADMIN]).await.code(), 0);
}

#[tokio::test]
async fn a_bad_request_is_not_taken_for_a_query_that_runs() {
    let query = |status: &str| answer(200, "", &format!(r#"{{"id":"42","status":"{status}"}}"#));
    for (read, deletions, code, reason) in [
        // It has ended, and may have been running a moment ago: that is tried once.
        (query("SUCCESSFUL"), 2, 3, "BACKEND_REJECTED_REQUEST"),
        (query("SOMETHING_NEW"), 1, 3, "BACKEND_REJECTED_REQUEST"),
        (answer(404, "", ""), 1, 3, "BACKEND_REJECTED_REQUEST"),
        (answer(500, "", ""), 1, 3, "BACKEND_REJECTED_REQUEST"),
        (Answer::BytesThenClose(Vec::new()), 1, 3, "BACKEND_REJECTED_REQUEST"),
        (query("RUNNING"), 1, 9, "QUERY_STILL_RUNNING"),
    ] {
        let atoti = Upstream::start(move |seen, _| match &*seen.method {
            "DELETE" => answer(400, "", ""),
            _ => read.clone(),
        })
        .await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = delete_one(&bridge.client().await, "42", &[]).await;
        assert_eq!((reply.code(), reply.error().reason()), (code, reason));
        assert_eq!(reply.error().metadata("httpStatus"), Some("400"));
        assert_eq!(reply.error().metadata("attempts"), Some(&*deletions.to_string()));
        assert_eq!(atoti.seen().iter().filter(|seen| seen.method == "DELETE").count(), deletions);
    }
}

/// An Atoti that answers deletions one after the other, the last one for ever, and shows a query that has ended.
async fn just_ended(deletions: Vec<Answer>) -> Upstream {
    let made = AtomicUsize::new(0);
    let ended = answer(200, "", r#"{"id":"42","status":"SUCCESSFUL"}"#);
    Upstream::start(move |seen, _| match &*seen.method {
        "DELETE" => deletions[made.fetch_add(1, Ordering::SeqCst).min(deletions.len() - 1)].clone(),
        _ => ended.clone(),
    })
    .await
}

#[tokio::test]
async fn a_query_that_ends_while_atoti_refuses_to_delete_it_is_deleted() {
    let atoti = just_ended(vec![answer(400, "", ""), answer(204, "", "")]).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = delete_one(&bridge.client().await, "42", &[("x-request-id", "ends")]).await;
    assert_eq!(reply.code(), 0);
    let audit = bridge.audit("ends").await;
    assert_eq!((&audit["code"], &audit["attempts"]), (&"OK".into(), &2.into()));
    let methods: Vec<_> = atoti.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["DELETE", "GET", "DELETE"]);
}

#[tokio::test]
async fn what_becomes_of_the_deletion_that_is_made_once_more_is_told() {
    let (refused, gone, lost) =
        (answer(400, "", ""), answer(404, "", ""), Answer::BytesThenClose(Vec::new()));
    for (what, deletions, code, reason, attempts) in [
        ("somebody else was faster", vec![refused.clone(), gone.clone()], 5, "QUERY_NOT_FOUND", "2"),
        ("the answer is lost, and it was ours", vec![refused.clone(), lost.clone(), gone.clone()], 0, "", ""),
        ("lost before, and it was ours", vec![lost, refused.clone(), gone], 0, "", ""),
        ("not allowed", vec![refused.clone(), answer(403, "", "")], 7, "BACKEND_PERMISSION_DENIED", "2"),
        ("no time for an answer", vec![refused, Answer::Hang], 4, "BACKEND_TIMEOUT", ""),
    ] {
        let atoti = just_ended(deletions).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let client = bridge.client().await;
        let reply = delete_one(&client, "42", &[("grpc-timeout", "1500m")]).await;
        assert_eq!(reply.code(), code, "{what}");
        if code != 0 {
            let error = reply.error();
            assert_eq!((error.reason(), error.metadata("requestSent")), (reason, Some("true")), "{what}");
            assert!(attempts.is_empty() || error.metadata("attempts") == Some(attempts), "{what}");
        }
    }
}

#[tokio::test]
async fn only_an_administrator_deletes() {
    let atoti = atoti().await;
    let id = ended(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (headers, code, reason) in [
        (&[][..], 16, "BACKEND_UNAUTHENTICATED"),
        (&[WRONG], 16, "BACKEND_UNAUTHENTICATED"),
        (&[USER], 7, "BACKEND_PERMISSION_DENIED"),
        (&[GUEST], 7, "BACKEND_PERMISSION_DENIED"),
    ] {
        for (name, many) in [("one", false), ("many", true)] {
            let request_id = format!("{name}-{code}-{}", headers.len());
            let headers = [headers, &[("x-request-id", &*request_id)]].concat();
            let reply = if many {
                delete_many(&client, of_user("user"), &headers).await
            } else {
                delete_one(&client, &id, &headers).await
            };
            assert_eq!((reply.code(), reply.error().reason()), (code, reason), "{request_id}");
            let audit = bridge.audit(&request_id).await;
            assert_eq!((&audit["error_reason"], &audit["attempts"]), (&reason.into(), &1.into()));
        }
    }
    assert!(atoti.history().get(&id).is_some());
}

#[tokio::test]
async fn what_breaks_a_rule_costs_nothing_and_is_recorded() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let long = "ä".repeat(513);
    let one = DeleteQueryRequest { query_id: "..".to_owned(), reason: long.clone() };
    let reply = client.method("DeleteQuery", &one, &[("x-request-id", "one")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (3, "INVALID_QUERY_ID"));
    let violations = error.bad_request.expect("a BadRequest").field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| &*violation.field).collect();
    assert_eq!(fields, ["query_id", "reason"]);
    let audit = bridge.audit("one").await;
    assert_eq!((&audit["operation"], &audit["query_id"]), (&"DeleteQuery".into(), &"..".into()));
    assert_eq!((&audit["code"], &audit["request_sent"]), (&"INVALID_ARGUMENT".into(), &false.into()));
    assert_eq!(audit["reason"], "ä".repeat(512));

    for (id, filter, reason) in [
        ("unset", None, "EMPTY_FILTER"),
        ("empty", Some(QueryFilter::default()), "EMPTY_FILTER"),
        ("broken", Some(of_user("")), "INVALID_FILTER"),
    ] {
        let request = DeleteQueriesRequest { filter, reason: "everything?".to_owned() };
        let reply = client.method("DeleteQueries", &request, &[("x-request-id", id)]).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (3, reason), "{id}");
        assert_eq!(error.metadata("requestSent"), Some("false"));
        assert_eq!(error.bad_request.expect("a BadRequest").field_violations.len(), 1);
        let audit = bridge.audit(id).await;
        assert_eq!((&audit["operation"], &audit["error_reason"]), (&"DeleteQueries".into(), &reason.into()));
        assert_eq!((&audit["reason"], &audit["attempts"]), (&"everything?".into(), &0.into()));
        assert_eq!((&audit["code"], &audit["request_sent"]), (&"INVALID_ARGUMENT".into(), &false.into()));
    }
    let request = DeleteQueriesRequest { filter: Some(of_user("ada")), reason: long };
    let reply = client.method("DeleteQueries", &request, &[("x-request-id", "long")]).await;
    assert_eq!((reply.code(), reply.error().reason()), (3, "INVALID_REASON"));
    assert_eq!(bridge.audit("long").await["filter"], "user=ada", "what it was about is known");
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn deleting_many_deletes_what_matches_and_has_ended_and_nothing_else() {
    let atoti = atoti().await;
    let query = |user: &str, query_type, ends: Option<Outcome>| {
        atoti.history().start_query(NewQuery {
            username: user.into(),
            query_type,
            started_ago: Duration::from_secs(100),
            ends: ends.map(|outcome| (Duration::from_secs(1), outcome)),
            ..NewQuery::default()
        })
    };
    let gone = [
        query("ada", QueryType::Mdx, Some(Outcome::Successful)),
        query("ada", QueryType::Mdx, Some(Outcome::Failed)),
        query("ada", QueryType::Mdx, Some(Outcome::Cancelled)),
    ];
    let kept = [
        query("ada", QueryType::Mdx, None),
        query("ada", QueryType::Unknown, Some(Outcome::Successful)),
        query("bob", QueryType::Mdx, Some(Outcome::Successful)),
    ];
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let filter = QueryFilter { types: vec![2], ..of_user("ada") };
    let reply = delete_many(&client, filter.clone(), &[ADMIN, ("x-request-id", "many")]).await;
    assert_eq!(reply.message::<Empty>(), Empty {});
    assert!(gone.iter().all(|id| atoti.history().get(id).is_none()));
    assert!(kept.iter().all(|id| atoti.history().get(id).is_some()));
    let target = "/activeviam/query-history/rest/v1/queries?user=ada&type=MDX".to_owned();
    assert_eq!(requests(&atoti), [("DELETE".to_owned(), target)]);
    let audit = bridge.audit("many").await;
    assert_eq!((&audit["operation"], &audit["query_id"]), (&"DeleteQueries".into(), &().into()));
    assert_eq!(
        (&audit["filter"], &audit["reason"]),
        (&"user=ada&type=MDX".into(), &"spring cleaning".into())
    );
    assert_eq!((&audit["code"], &audit["attempts"]), (&"OK".into(), &1.into()));
    // Nothing is left that matches, and what runs is never deleted.
    assert_eq!(delete_many(&client, filter, &[ADMIN]).await.code(), 0);
    let all_running = QueryFilter { statuses: vec![RUNNING], ..QueryFilter::default() };
    assert_eq!(delete_many(&client, all_running, &[ADMIN]).await.code(), 0);
    assert_eq!(atoti.history().count(), 3);
}

#[tokio::test]
async fn a_failed_deletion_is_told_and_recorded_as_what_it_was() {
    let atoti = atoti().await;
    let id = ended(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (fault, code, reason, attempts) in [
        (Fault::status(500), 13, "BACKEND_ERROR", 1),
        (Fault::status(503), 14, "BACKEND_UNAVAILABLE", 2),
        (Fault::html(), 2, "BACKEND_UNEXPECTED_HTML", 1),
        (Fault::redirect("/login"), 16, "BACKEND_LOGIN_REDIRECT", 1),
        (Fault::cut_before_head(), 14, "BACKEND_CONNECTION_LOST", 2),
    ] {
        atoti.inject(fault.on("DELETE", ""));
        for many in [false, true] {
            let request_id = format!("{reason}-{many}");
            let headers = [ADMIN, ("x-request-id", &*request_id)];
            let reply = if many {
                delete_many(&client, of_user("user"), &headers).await
            } else {
                delete_one(&client, &id, &headers).await
            };
            let error = reply.error();
            assert_eq!((reply.code(), error.reason()), (code, reason), "{request_id}");
            assert_eq!(error.metadata("requestSent"), Some("true"));
            let audit = bridge.audit(&request_id).await;
            assert_eq!((&audit["error_reason"], &audit["attempts"]), (&reason.into(), &attempts.into()));
            assert_eq!(audit["request_sent"], true);
        }
        atoti.clear_faults();
    }
    assert!(atoti.history().get(&id).is_some());
}

#[tokio::test]
async fn a_deletion_whose_caller_hangs_up_or_is_out_of_time_is_recorded() {
    let slow = Answer::After(Duration::from_millis(300), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let path = |name: &str| format!("/atoti.queryhistory.v1.QueryHistoryService/{name}");
    let many = DeleteQueriesRequest { filter: Some(of_user("ada")), reason: String::new() };
    for (name, message) in [
        ("DeleteQuery", prost::Message::encode_to_vec(&delete("42"))),
        ("DeleteQueries", prost::Message::encode_to_vec(&many)),
    ] {
        let before = atoti.seen().len();
        let gone = format!("{name}-gone");
        let (response, mut stream) = client.start(&path(name), &message, &[("x-request-id", &*gone)]).await;
        eventually("it to reach Atoti", || (atoti.seen().len() > before).then_some(())).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        let audit = bridge.audit(&gone).await;
        assert_eq!((&audit["operation"], &audit["code"]), (&name.into(), &"OK".into()));
        assert_eq!((&audit["caller_waited"], &audit["request_sent"]), (&false.into(), &true.into()));
        assert_eq!(atoti.seen().len(), before + 1, "{name} was carried to its end, once");

        let late = format!("{name}-late");
        let headers = [("x-request-id", &*late), ("grpc-timeout", "100m")];
        let reply = client.call(&path(name), &message, &headers).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (4, "BACKEND_TIMEOUT"), "{name}");
        assert_eq!(error.metadata("requestSent"), Some("true"), "{name}");
        let audit = bridge.audit(&late).await;
        assert_eq!((&audit["operation"], &audit["request_sent"]), (&name.into(), &true.into()));
    }
    assert_eq!(atoti.connections(), 2, "only a deadline cuts one, and hanging up does not");
}

#[tokio::test]
async fn a_deletion_that_finds_no_place_is_recorded_too() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--max-in-flight=1"]).await;
    let client = bridge.client().await;
    let held = client.start_cancel(&crate::support::client::cancel("1"), &[]).await;
    eventually("the first call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    let one = delete_one(&client, "42", &[("x-request-id", "one")]).await;
    let many = delete_many(&client, of_user("ada"), &[("x-request-id", "many")]).await;
    for (reply, id) in [(one, "one"), (many, "many")] {
        assert_eq!((reply.code(), reply.error().reason()), (8, "OVERLOADED"));
        let audit = bridge.audit(id).await;
        assert_eq!((&audit["error_reason"], &audit["attempts"]), (&"OVERLOADED".into(), &0.into()));
    }
    drop(held);
}

#[tokio::test]
async fn an_answer_lost_after_the_deletion_took_effect_is_a_success_all_the_same() {
    let atoti = atoti().await;
    let id = ended(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    atoti.inject(Fault::cut_before_head().on("DELETE", &id).after_effect().times(1));
    let reply = delete_one(&bridge.client().await, &id, &[ADMIN, ("x-request-id", "lost")]).await;
    assert_eq!(reply.code(), 0, "{:?}", reply.error());
    let record = bridge.audit("lost").await;
    assert_eq!((&record["code"], &record["attempts"]), (&"OK".into(), &2.into()));
}
