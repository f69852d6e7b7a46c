//! CancelQueries: which queries are stopped, which are left alone, and what the caller is told of each.

use std::{collections::BTreeSet, time::Duration};

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Outcome, Security, Simulator, Status};
use prost::Message as _;
use tonic_types::pb;

use crate::support::{
    bridge::Bridge,
    client::{CANCELLED, Client, FINISHED, REQUESTED, Reply},
    eventually,
    messages::{CancelQueriesRequest, CancelQueriesResponse, QueryFilter, of_user},
    stream::Stream,
    upstream::{Answer, Seen, Upstream, answer},
};

const JSON: &str = "Content-Type: application/json\r\n";
const ID: (&str, &str) = ("x-request-id", "bulk-1");

async fn atoti() -> Simulator {
    let options = Options { security: Security::Off, ..Options::default() };
    Simulator::start(options).await.expect("it starts")
}

/// Some queries of a user, running.
fn run(atoti: &Simulator, user: &str, count: usize) -> BTreeSet<String> {
    let query = || NewQuery { username: user.into(), ..NewQuery::default() };
    (0..count).map(|_| atoti.history().start_query(query())).collect()
}

fn of_ada() -> CancelQueriesRequest {
    CancelQueriesRequest { filter: Some(of_user("ada")), ..CancelQueriesRequest::default() }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn start(client: &Client, request: &CancelQueriesRequest) -> Stream<CancelQueriesResponse> {
    client.stream("CancelQueries", request, &[ID]).await
}

async fn all(client: &Client, request: &CancelQueriesRequest) -> (Vec<CancelQueriesResponse>, Reply) {
    let mut stream = start(client, request).await;
    (stream.rest().await, stream.end().await)
}

fn ids(answers: &[CancelQueriesResponse]) -> BTreeSet<String> {
    let ids: Vec<_> =
        answers.iter().map(|a| a.query.as_ref().expect("always set").query_id.clone()).collect();
    let unique: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), unique.len(), "none twice");
    unique
}

fn status(atoti: &Simulator, id: &str) -> Status {
    atoti.history().get(id).expect("it is known").status
}

/// The ids that Atoti has been asked to cancel, each as often as it was.
fn cancelled(atoti: &Simulator) -> Vec<String> {
    let patches = atoti.requests().into_iter().filter(|request| request.method == "PATCH");
    patches.map(|request| request.target.rsplit('/').next().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn exactly_the_matches_are_stopped_and_each_is_recorded() {
    let atoti = atoti().await;
    let (ada, bob) = (run(&atoti, "ada", 30), run(&atoti, "bob", 5));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let request = CancelQueriesRequest { wait: seconds(10), reason: "month end".to_owned(), ..of_ada() };
    let (answers, end) = all(&bridge.client().await, &request).await;
    assert_eq!(end.code(), 0);
    assert_eq!(ids(&answers), ada);
    for answer in &answers {
        assert_eq!((answer.outcome, &answer.error), (CANCELLED, &None));
        assert_eq!(answer.query.as_ref().expect("always set").status, 4, "as last read");
    }
    assert!(ada.iter().all(|id| status(&atoti, id) == Status::Cancelled));
    assert!(bob.iter().all(|id| status(&atoti, id) == Status::Running));
    assert_eq!(cancelled(&atoti).len(), 30, "each once");
    for id in &ada {
        let is_its = |line: &serde_json::Value| line["target"] == "audit" && line["query_id"] == **id;
        let record = bridge.logged("a record of each", is_its).await;
        assert_eq!(record["operation"], "CancelQueries");
        assert_eq!(record["outcome"], "CANCEL_OUTCOME_CANCELLED");
        assert_eq!(record["reason"], "month end");
        assert_eq!(record["request_id"], "bulk-1");
        assert_eq!(record["filter"], "user=ada&status=RUNNING");
    }
    let whole = bridge.logged("a record of the whole", |line| line["matches"] == 30).await;
    assert_eq!(
        (&whole["attempted"], &whole["failed"], &whole["code"]),
        (&30.into(), &0.into(), &"OK".into())
    );
    assert!(whole.get("query_id").is_none());
}

#[tokio::test]
async fn without_wait_each_is_told_as_accepted() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 3);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let (answers, end) = all(&bridge.client().await, &of_ada()).await;
    assert_eq!((end.code(), ids(&answers)), (0, ada));
    assert!(answers.iter().all(|answer| answer.outcome == REQUESTED));
}

#[tokio::test]
async fn a_dry_run_tells_every_match_and_stops_nothing() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 7);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let request = CancelQueriesRequest { validate_only: true, max_cancellations: 2, ..of_ada() };
    let (answers, end) = all(&bridge.client().await, &request).await;
    assert_eq!((end.code(), ids(&answers)), (0, ada.clone()));
    assert!(answers.iter().all(|answer| answer.outcome == 0 && answer.error.is_none()));
    assert!(cancelled(&atoti).is_empty());
    assert!(ada.iter().all(|id| status(&atoti, id) == Status::Running));
    let record = bridge.audit("bulk-1").await;
    assert_eq!((&record["validate_only"], &record["matches"]), (&true.into(), &7.into()));
}

#[tokio::test]
async fn the_fuse_keeps_everything_running() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 101);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (fuse, most) in [(0, "100"), (100, "100"), (3, "3")] {
        let request = CancelQueriesRequest { max_cancellations: fuse, ..of_ada() };
        let (answers, end) = all(&client, &request).await;
        let error = end.error();
        assert_eq!((end.code(), error.reason(), answers.len()), (9, "TOO_MANY_MATCHES", 0));
        assert_eq!(
            (error.metadata("matches"), error.metadata("maxCancellations")),
            (Some("101"), Some(most))
        );
        assert_eq!(error.metadata("requestSent"), Some("false"));
        assert_eq!(
            error.precondition.expect("a PreconditionFailure").violations[0].subject,
            "max_cancellations"
        );
    }
    assert!(cancelled(&atoti).is_empty());
    let record = bridge.audit("bulk-1").await;
    assert_eq!(
        (&record["code"], &record["error_reason"]),
        (&"FAILED_PRECONDITION".into(), &"TOO_MANY_MATCHES".into())
    );
    let (answers, end) = all(&client, &CancelQueriesRequest { max_cancellations: 101, ..of_ada() }).await;
    assert_eq!((end.code(), ids(&answers)), (0, ada));
}

#[tokio::test]
async fn only_what_has_run_long_enough_is_stopped() {
    let atoti = atoti().await;
    let ago = |seconds| NewQuery { started_ago: Duration::from_secs(seconds), ..NewQuery::default() };
    let old = atoti.history().start_query(ago(700));
    let young = atoti.history().start_query(ago(500));
    let bridge = Bridge::start(&atoti.base_url()).await;
    // No filter is needed: this says something.
    let request = CancelQueriesRequest { min_running_time: seconds(600), ..CancelQueriesRequest::default() };
    let (answers, end) = all(&bridge.client().await, &request).await;
    assert_eq!((end.code(), ids(&answers)), (0, BTreeSet::from([old])));
    assert_eq!(status(&atoti, &young), Status::Running);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_at_once_and_recorded_and_asks_atoti_nothing() {
    let atoti = Upstream::start(|_, _| answer(500, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let nothing = QueryFilter::default();
    let running = QueryFilter { statuses: vec![1], ..nothing.clone() };
    let ended = QueryFilter { statuses: vec![2], ..of_user("ada") };
    let mixed = QueryFilter { statuses: vec![1, 2], ..of_user("ada") };
    let request = CancelQueriesRequest::default;
    for (request, fields, reason) in [
        (request(), vec!["filter"], "EMPTY_FILTER"),
        (CancelQueriesRequest { filter: Some(nothing), ..request() }, vec!["filter"], "EMPTY_FILTER"),
        (CancelQueriesRequest { filter: Some(running), ..request() }, vec!["filter"], "EMPTY_FILTER"),
        (CancelQueriesRequest { min_running_time: seconds(0), ..request() }, vec!["filter"], "EMPTY_FILTER"),
        (
            CancelQueriesRequest { filter: Some(ended), ..request() },
            vec!["filter.statuses"],
            "INVALID_FILTER",
        ),
        (
            CancelQueriesRequest { filter: Some(mixed), ..request() },
            vec!["filter.statuses"],
            "INVALID_FILTER",
        ),
        (
            CancelQueriesRequest { max_cancellations: -1, ..of_ada() },
            vec!["max_cancellations"],
            "INVALID_MAX_CANCELLATIONS",
        ),
        (
            CancelQueriesRequest { max_cancellations: 10_001, ..of_ada() },
            vec!["max_cancellations"],
            "INVALID_MAX_CANCELLATIONS",
        ),
        (
            CancelQueriesRequest { min_running_time: seconds(-1), ..of_ada() },
            vec!["min_running_time"],
            "INVALID_MIN_RUNNING_TIME",
        ),
        (
            CancelQueriesRequest {
                filter: Some(of_user("")),
                min_running_time: seconds(-1),
                max_cancellations: -1,
                validate_only: true,
                reason: "x".repeat(513),
                wait: seconds(-1),
            },
            vec!["filter.usernames", "wait", "min_running_time", "max_cancellations", "reason"],
            "INVALID_FILTER",
        ),
    ] {
        let (answers, end) = all(&client, &request).await;
        let error = end.error();
        assert_eq!((end.code(), error.reason(), answers.len()), (3, reason, 0), "{request:?}");
        let told = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!(told.iter().map(|violation| &*violation.field).collect::<Vec<_>>(), fields, "{request:?}");
    }
    assert!(atoti.seen().is_empty());
    assert_eq!(bridge.audit("bulk-1").await["error_reason"], "EMPTY_FILTER");
}

#[tokio::test]
async fn one_that_cannot_be_stopped_does_not_keep_the_others_running() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 10);
    let stubborn = ada.first().expect("there are ten").clone();
    atoti.inject(Fault::status(500).on("PATCH", &stubborn));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let (answers, end) = all(&bridge.client().await, &of_ada()).await;
    assert_eq!((end.code(), ids(&answers)), (0, ada.clone()));
    for answer in answers {
        let id = answer.query.expect("always set").query_id;
        let Some(error) = answer.error else {
            assert!(id != stubborn && answer.outcome == REQUESTED);
            continue;
        };
        assert_eq!((&id, answer.outcome, error.code), (&stubborn, 0, 13));
        let info = error.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo"));
        let info = pb::ErrorInfo::decode(&*info.expect("an ErrorInfo").value).expect("it decodes");
        assert_eq!(info.reason, "BACKEND_ERROR");
        assert_eq!(info.metadata["queryId"], stubborn);
        assert_eq!(info.metadata["requestSent"], "true");
    }
    let whole = bridge.logged("a record of the whole", |line| line["matches"] == 10).await;
    assert_eq!((&whole["attempted"], &whole["failed"]), (&10.into(), &1.into()));
}

/// A scripted Atoti: this list, and this answer to anything else.
async fn listing(list: &'static str, other: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Upstream {
    Upstream::start(
        move |seen, _| if seen.target.contains("/queries?") { answer(200, JSON, list) } else { other(seen) },
    )
    .await
}

#[tokio::test]
async fn nothing_is_stopped_on_the_word_of_a_list_alone() {
    // As of a server that does not know the parameters: it lists everything.
    const EVERYTHING: &str = r#"{"data":[
        {"id":"1","status":"RUNNING","username":"bob","startDate":"2020-01-01T00:00:00Z"},
        {"id":"2","status":"SUCCESSFUL","username":"ada","startDate":"2020-01-01T00:00:00Z"},
        {"id":"3","status":"RUNNING","username":"ada","startDate":"2099-01-01T00:00:00Z"},
        {"id":"4","status":"RUNNING","username":"ada"},
        {"id":"5","status":"RUNNING","username":"ada","startDate":"2020-01-01T00:00:00Z"},
        {"id":"a/b","status":"RUNNING","username":"ada","startDate":"2020-01-01T00:00:00Z"}
    ],"pagination":{"totalItems":6}}"#;
    let atoti = listing(EVERYTHING, |_| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let request = CancelQueriesRequest { min_running_time: seconds(60), ..of_ada() };
    let (answers, end) = all(&bridge.client().await, &request).await;
    assert_eq!((end.code(), ids(&answers)), (0, BTreeSet::from(["5".to_owned(), "a/b".to_owned()])));
    let refused =
        answers.iter().find_map(|answer| answer.error.as_ref()).expect("an id that is no path segment");
    assert_eq!(refused.code, 3);
    let patched: Vec<_> = atoti.seen().into_iter().filter(|seen| seen.method == "PATCH").collect();
    assert_eq!(patched.len(), 1);
    assert!(patched[0].target.ends_with("/query/5"));
}

#[tokio::test]
async fn a_match_that_ended_by_itself_before_its_turn_is_no_failure() {
    const ONE: &str =
        r#"{"data":[{"id":"5","status":"RUNNING","username":"ada"}],"pagination":{"totalItems":1}}"#;
    for (status, outcome) in [("SUCCESSFUL", FINISHED), ("CANCELLED", CANCELLED)] {
        let atoti = listing(ONE, move |seen| match &*seen.method {
            "PATCH" => answer(404, "", ""),
            _ => answer(200, JSON, &format!(r#"{{"id":"5","status":"{status}"}}"#)),
        });
        let atoti = atoti.await;
        let bridge = Bridge::start(&atoti.url()).await;
        let (answers, end) = all(&bridge.client().await, &of_ada()).await;
        assert_eq!((end.code(), answers.len()), (0, 1));
        assert_eq!((answers[0].outcome, &answers[0].error), (outcome, &None), "{status}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_stops_nothing() {
    for (list, code, reason) in [
        ("[]", 13, "BACKEND_MALFORMED_BODY"),
        ("{}", 13, "BACKEND_MALFORMED_BODY"),
        ("<html>", 2, "BACKEND_UNEXPECTED_HTML"),
    ] {
        let atoti = listing(list, |_| answer(204, "", "")).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let (answers, end) = all(&bridge.client().await, &of_ada()).await;
        assert_eq!((end.code(), end.error().reason(), answers.len()), (code, reason, 0));
        assert!(atoti.seen().iter().all(|seen| seen.method == "GET"));
    }
    let atoti = Upstream::start(|_, _| answer(403, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let (_, end) = all(&bridge.client().await, &of_ada()).await;
    assert_eq!((end.code(), end.error().reason()), (7, "BACKEND_PERMISSION_DENIED"));
}

#[tokio::test]
async fn pages_that_are_too_large_are_read_in_smaller_ones() {
    let atoti = atoti().await;
    let long = NewQuery { username: "ada".into(), text: "x".repeat(4096).into(), ..NewQuery::default() };
    let ada: BTreeSet<_> = (0..90).map(|_| atoti.history().start_query(long.clone())).collect();
    let bridge = Bridge::start_with(&atoti.base_url(), &["--upstream-max-body=65536"]).await;
    let (answers, end) = all(&bridge.client().await, &of_ada()).await;
    assert_eq!((end.code(), ids(&answers)), (0, ada));
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_it_and_what_was_sent_is_carried_to_its_end() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 100);
    atoti.inject(Fault::delay(Duration::from_millis(300)).on("PATCH", "/query/"));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let mut stream = start(&bridge.client().await, &of_ada()).await;
    assert!(stream.next().await.is_some());
    drop(stream);
    let whole = bridge.logged("a record of the whole", |line| line["matches"] == 100).await;
    let attempted = whole["attempted"].as_u64().expect("a number");
    assert!((1..100).contains(&attempted), "{attempted}");
    assert_eq!((&whole["caller_waited"], &whole["error_reason"]), (&false.into(), &"CALLER_GONE".into()));
    let sent = cancelled(&atoti);
    assert_eq!(sent.len() as u64, attempted, "nothing was begun and not recorded");
    for id in sent {
        assert!(ada.contains(&id));
        let record = |line: &serde_json::Value| line["query_id"] == *id && line["code"] == "OK";
        bridge.logged("its record", record).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cancelled(&atoti).len() as u64, attempted, "nothing goes on");
}

#[tokio::test]
async fn a_deadline_on_the_way_ends_it_and_does_not_look_like_success() {
    let atoti = atoti().await;
    run(&atoti, "ada", 100);
    atoti.inject(Fault::delay(Duration::from_millis(300)).on("PATCH", "/query/"));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let headers = [ID, ("grpc-timeout", "700m")];
    let mut stream: Stream<CancelQueriesResponse> = client.stream("CancelQueries", &of_ada(), &headers).await;
    let answers = stream.rest().await;
    assert!((1..100).contains(&answers.len()), "{}", answers.len());
    let end = stream.end().await;
    assert_eq!((end.code(), end.error().reason()), (4, "DEADLINE_OVER"));
    let whole = bridge
        .logged("a record of the whole", |line| {
            line["operation"] == "CancelQueries" && line["query_id"].is_null()
        })
        .await;
    assert_eq!(whole["code"], "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn it_may_take_longer_than_the_longest_deadline_of_a_unary_call() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 160);
    atoti.inject(Fault::delay(Duration::from_millis(300)).on("PATCH", "/query/"));
    let bridge =
        Bridge::start_with(&atoti.base_url(), &["--max-deadline=700ms", "--max-connection-age=300ms"]).await;
    let started = std::time::Instant::now();
    let request = CancelQueriesRequest { max_cancellations: 200, ..of_ada() };
    let (answers, end) = all(&bridge.client().await, &request).await;
    // Age, longest deadline, and a second for the last bytes.
    assert!(
        started.elapsed() > Duration::from_millis(2100),
        "{:?}: it was not put to the test",
        started.elapsed()
    );
    assert_eq!((end.code(), ids(&answers)), (0, ada), "nor is it cut with its old connection");
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_up_its_own_cancels_only() {
    let atoti = atoti().await;
    let long = NewQuery { username: "ada".into(), text: "x".repeat(20_000).into(), ..NewQuery::default() };
    let ada: BTreeSet<_> = (0..99).map(|_| atoti.history().start_query(long.clone())).collect();
    let bob = run(&atoti, "bob", 1).pop_first().expect("one");
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let mut stream = start(&client, &of_ada()).await;
    eventually("some to be stopped", || (cancelled(&atoti).len() >= 16).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held_up = cancelled(&atoti).len();
    assert!(held_up < 70, "{held_up} though nobody reads");
    let other = bridge.client().await.cancel(&crate::support::client::cancel(&bob)).await;
    assert_eq!(other.code(), 0);
    let answers = stream.rest().await;
    assert_eq!((ids(&answers), stream.end().await.code()), (ada, 0));
}

#[tokio::test]
async fn a_bulk_cancel_at_work_is_finished_when_the_bridge_stops() {
    let atoti = atoti().await;
    let ada = run(&atoti, "ada", 64);
    atoti.inject(Fault::delay(Duration::from_millis(400)).on("PATCH", "/query/"));
    let mut bridge = Bridge::start(&atoti.base_url()).await;
    let mut stream = start(&bridge.client().await, &of_ada()).await;
    let first = stream.next().await.expect("an answer");
    bridge.signal("-TERM");
    let mut answers = stream.rest().await;
    answers.push(first);
    assert_eq!((ids(&answers), stream.end().await.code()), (ada, 0));
    assert_eq!(bridge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn queries_that_end_while_others_are_stopped_are_told_as_they_are() {
    let atoti = atoti().await;
    let query = |after| NewQuery {
        username: "ada".into(),
        ends: Some((Duration::from_millis(after), Outcome::Successful)),
        ..NewQuery::default()
    };
    let ada: BTreeSet<_> = (0..80).map(|index| atoti.history().start_query(query(600 + index * 5))).collect();
    atoti.inject(Fault::delay(Duration::from_millis(200)).on("PATCH", "/query/"));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let (answers, end) =
        all(&bridge.client().await, &CancelQueriesRequest { wait: seconds(5), ..of_ada() }).await;
    assert_eq!((end.code(), ids(&answers)), (0, ada));
    for answer in answers {
        let id = answer.query.expect("always set").query_id;
        let expected = if answer.outcome == FINISHED { Status::Successful } else { Status::Cancelled };
        assert_eq!(
            (status(&atoti, &id), answer.error),
            (expected, None),
            "what is told is what became of it"
        );
    }
}

#[tokio::test]
async fn a_caller_that_never_reads_holds_nothing_beyond_its_deadline() {
    let atoti = atoti().await;
    let long = NewQuery { username: "ada".into(), text: "x".repeat(20_000).into(), ..NewQuery::default() };
    for _ in 0..99 {
        atoti.history().start_query(long.clone());
    }
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let headers = [ID, ("grpc-timeout", "1S")];
    let _unread: Stream<CancelQueriesResponse> = client.stream("CancelQueries", &of_ada(), &headers).await;
    let whole = bridge.logged("a record of the whole", |line| line["matches"] == 99).await;
    assert_eq!(whole["code"], "DEADLINE_EXCEEDED");
    let attempted = whole["attempted"].as_u64().expect("a number");
    let sent = cancelled(&atoti);
    // Some had their turn too late to be sent, and are recorded as such.
    assert!((sent.len() as u64..99).contains(&attempted), "{attempted} for {}", sent.len());
    for id in sent {
        let record = |line: &serde_json::Value| line["query_id"] == *id && line["request_sent"] == true;
        bridge.logged("its record", record).await;
    }
}
