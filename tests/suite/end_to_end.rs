//! The bridge in front of a simulated Atoti Server: what a caller is told, against what became of the query.

use std::time::Duration;

use atoti_grpc_bridge::simulator::{
    Fault, NewQuery, Options, Outcome, RecordedRequest, Security, Simulator, Status,
};

use crate::support::{
    bridge::Bridge,
    client::{CANCELLED, CancelQueryRequest, FINISHED, REQUESTED, Reply, cancel, cancel_and_wait},
    eventually,
};

/// user:user, admin:admin would do as well.
const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");

async fn open_atoti() -> Simulator {
    start(Options { security: Security::Off, ..Options::default() }).await
}

async fn start(options: Options) -> Simulator {
    Simulator::start(options).await.expect("it starts")
}

fn long_query(atoti: &Simulator) -> String {
    atoti.history().start_query(NewQuery::default())
}

fn status(atoti: &Simulator, id: &str) -> Status {
    atoti.history().get(id).expect("it is known").status
}

fn allowing_finished(id: &str) -> CancelQueryRequest {
    CancelQueryRequest { allow_finished: true, ..cancel(id) }
}

fn failed(reply: &Reply) -> (i32, String) {
    (reply.code(), reply.error().reason().to_owned())
}

/// The requests of calls; what the bridge asks of its own accord carries no request id.
fn requests(atoti: &Simulator) -> Vec<RecordedRequest> {
    atoti.requests().into_iter().filter(|request| request.header("x-request-id").is_some()).collect()
}

fn methods(atoti: &Simulator) -> Vec<String> {
    requests(atoti).into_iter().map(|request| request.method).collect()
}

#[tokio::test]
async fn a_cancelled_query_is_seen_to_stop() {
    let atoti = open_atoti().await;
    let (id, bystander) = (long_query(&atoti), long_query(&atoti));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let response = bridge.client().await.cancel(&cancel_and_wait(&id, 10)).await.cancelled();
    assert_eq!(response.outcome, CANCELLED);
    let query = response.query.expect("it was read");
    let record = atoti.history().get(&id).expect("it is known");
    assert_eq!((query.query_id, query.status), (id, 4));
    assert_eq!((&*query.username, &*query.text), (&*record.username, &*record.text));
    let seconds = |at: Option<prost_types::Timestamp>| at.expect("a date").seconds;
    assert_eq!(seconds(query.start_time), record.started.as_second());
    assert_eq!(seconds(query.end_time), record.ended.expect("it ended").as_second());
    assert_eq!(record.status, Status::Cancelled);
    assert_eq!(status(&atoti, &bystander), Status::Running);
}

#[tokio::test]
async fn without_waiting_the_answer_claims_no_more_than_was_accepted() {
    let atoti = open_atoti().await;
    let id = long_query(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let response = bridge.client().await.cancel(&cancel(&id)).await.cancelled();
    assert_eq!((response.outcome, response.query), (REQUESTED, None));
    assert_eq!(methods(&atoti), ["PATCH"]);
    eventually("the query to stop", || (status(&atoti, &id) == Status::Cancelled).then_some(())).await;
}

#[tokio::test]
async fn a_query_that_has_ended_is_told_from_one_that_never_was() {
    let atoti = open_atoti().await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (end, ended, outcome) in [
        (Outcome::Successful, "SUCCESSFUL", FINISHED),
        (Outcome::Failed, "FAILED", FINISHED),
        (Outcome::Cancelled, "CANCELLED", CANCELLED),
    ] {
        let id = long_query(&atoti);
        assert!(atoti.history().end(&id, end));
        let reply = client.cancel(&cancel(&id)).await;
        assert_eq!(failed(&reply), (5, "QUERY_NOT_RUNNING".to_owned()));
        assert_eq!(reply.error().metadata("queryStatus"), Some(ended));
        assert_eq!(client.cancel(&allowing_finished(&id)).await.cancelled().outcome, outcome);
    }
    for request in [cancel("42"), allowing_finished("42")] {
        assert_eq!(failed(&client.cancel(&request).await), (5, "QUERY_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn the_callers_credentials_decide() {
    let atoti = start(Options::default()).await;
    let id = long_query(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (headers, code, reason) in [
        (&[][..], 16, "BACKEND_UNAUTHENTICATED"),
        (&[("authorization", "Basic dXNlcjp3cm9uZw==")], 16, "BACKEND_UNAUTHENTICATED"),
        (&[("authorization", "Bearer a.b.c")], 16, "BACKEND_UNAUTHENTICATED"),
        (&[GUEST], 7, "BACKEND_PERMISSION_DENIED"),
    ] {
        let reply = client.cancel_with(&cancel(&id), headers).await;
        assert_eq!(failed(&reply), (code, reason.to_owned()), "{headers:?}");
        assert_eq!(status(&atoti, &id), Status::Running);
    }
    assert_eq!(client.cancel_with(&cancel_and_wait(&id, 10), &[USER]).await.cancelled().outcome, CANCELLED);
}

#[tokio::test]
async fn an_answer_lost_after_the_cancel_took_effect_is_a_success_all_the_same() {
    let atoti =
        start(Options { security: Security::Off, cancel_latency: Duration::ZERO, ..Options::default() })
            .await;
    let id = long_query(&atoti);
    // Whether the connection is a fresh one or an old one makes a difference to clients of HTTP: warm it up.
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    assert_eq!(client.cancel(&cancel("42")).await.code(), 5);
    atoti.clear_requests();
    atoti.inject(Fault::cut_before_head().on("PATCH", &id).after_effect().times(1));
    let reply = client.cancel(&cancel(&id)).await;
    assert_eq!(reply.cancelled().outcome, CANCELLED);
    assert_eq!(methods(&atoti), ["PATCH", "PATCH", "GET"]);
    assert_eq!(status(&atoti, &id), Status::Cancelled);
}

#[tokio::test]
async fn an_answer_lost_before_the_cancel_took_effect_is_tried_once_more() {
    let atoti = open_atoti().await;
    let id = long_query(&atoti);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    atoti.inject(Fault::cut_before_head().on("PATCH", &id).times(1));
    assert_eq!(client.cancel(&cancel_and_wait(&id, 10)).await.cancelled().outcome, CANCELLED);
    let other = long_query(&atoti);
    atoti.inject(Fault::cut_before_head().on("PATCH", &other));
    let reply = client.cancel(&cancel(&other)).await;
    assert_eq!(reply.code(), 14, "{:?}", reply.error());
    assert_eq!(reply.error().metadata("requestSent"), Some("true"));
    assert_eq!(status(&atoti, &other), Status::Running);
}

#[tokio::test]
async fn a_server_without_the_api_is_unimplemented() {
    let atoti = open_atoti().await;
    let id = long_query(&atoti);
    atoti.inject(Fault::missing_api());
    let bridge = Bridge::start(&atoti.base_url()).await;
    let reply = bridge.client().await.cancel(&cancel(&id)).await;
    assert_eq!(failed(&reply), (12, "BACKEND_API_MISSING".to_owned()));
}

#[tokio::test]
async fn a_query_of_another_node_is_not_claimed() {
    let first = open_atoti().await;
    let options = Options { security: Security::Off, node_name: "node-2".to_owned(), ..Options::default() };
    let second = Simulator::start_sharing(options, first.history()).await.expect("it starts");
    let id = long_query(&first);
    let bridge = Bridge::start(&second.base_url()).await;
    let reply = bridge.client().await.cancel(&cancel(&id)).await;
    assert_eq!(failed(&reply), (9, "QUERY_ON_OTHER_NODE".to_owned()));
    assert_eq!(status(&first, &id), Status::Running);
}

#[tokio::test]
async fn faults_of_the_server_are_never_ok_and_leave_the_query_running() {
    let atoti = open_atoti().await;
    let id = long_query(&atoti);
    let bridge = Bridge::start_with(&atoti.base_url(), &["--upstream-timeout=300ms"]).await;
    let client = bridge.client().await;
    for fault in [
        Fault::status(500),
        Fault::status(503),
        Fault::html(),
        Fault::redirect("/login"),
        Fault::cut_before_head(),
        Fault::hang(),
        Fault::drop_connection().times(1000),
    ] {
        atoti.inject(fault.clone());
        let reply = client.cancel(&cancel(&id)).await;
        assert_ne!(reply.code(), 0, "{fault:?}");
        assert!(!reply.error().reason().is_empty(), "{fault:?}");
        assert_eq!(status(&atoti, &id), Status::Running, "{fault:?}");
        atoti.clear_faults();
    }
    assert_eq!(client.cancel(&cancel_and_wait(&id, 10)).await.cancelled().outcome, CANCELLED);
}

#[tokio::test]
async fn reads_that_go_wrong_leave_an_accepted_cancel_a_success_and_claim_nothing_more() {
    let atoti = open_atoti().await;
    let bridge = Bridge::start_with(&atoti.base_url(), &["--upstream-timeout=300ms"]).await;
    let client = bridge.client().await;
    for fault in [
        Fault::status(500),
        Fault::html(),
        Fault::malformed_json(),
        Fault::cut_after_head(),
        Fault::endless_body(),
        Fault::huge_body(10_000_000),
        Fault::hang(),
        Fault::trickle(1, Duration::from_millis(100)),
    ] {
        let id = long_query(&atoti);
        atoti.inject(fault.clone().on("GET", &id));
        let response = client.cancel(&cancel_and_wait(&id, 1)).await.cancelled();
        assert_eq!((response.outcome, response.query), (REQUESTED, None), "{fault:?}");
        assert_eq!(status(&atoti, &id), Status::Cancelled, "{fault:?}");
        atoti.clear_faults();
    }
}

#[tokio::test]
async fn connections_that_the_server_closes_now_and_then_cost_no_call() {
    let options = Options { security: Security::Off, requests_per_connection: 3, ..Options::default() };
    let atoti = start(options).await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for _ in 0..100 {
        let id = long_query(&atoti);
        assert_eq!(client.cancel(&cancel(&id)).await.cancelled().outcome, REQUESTED);
    }
    assert_eq!(requests(&atoti).len(), 100, "and no request was repeated");
    assert!((33..=35).contains(&atoti.connections()), "{}", atoti.connections());
}

#[tokio::test]
async fn a_context_path_is_kept() {
    let options =
        Options { security: Security::Off, context_path: "/pivot/eu".to_owned(), ..Options::default() };
    let atoti = start(options).await;
    let id = long_query(&atoti);
    for slash in ["", "/"] {
        let bridge = Bridge::start(&format!("{}{slash}", atoti.base_url())).await;
        assert_eq!(bridge.client().await.cancel(&allowing_finished(&id)).await.code(), 0);
    }
    let target = format!("/pivot/eu/activeviam/query-history/rest/v1/query/{id}");
    assert!(requests(&atoti).iter().all(|request| request.target == target));
}

#[tokio::test]
async fn a_session_of_one_caller_never_serves_another() {
    let atoti = start(Options::default()).await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for headers in [&[USER][..], &[], &[GUEST]] {
        client.cancel_with(&cancel("42"), headers).await;
    }
    let requests = requests(&atoti);
    assert!(requests.len() >= 3);
    assert!(requests.iter().all(|request| request.header("cookie").is_none()), "{requests:?}");
}
