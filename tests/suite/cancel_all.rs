//! CancelAllQueries: everything is stopped, on every node that is known, and no more is claimed than was seen.

use std::time::{Duration, Instant};

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Security, Simulator};
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, rustls};

use crate::support::{
    bridge::Bridge,
    certs::Authority,
    client::{CANCELLED, Client, REQUESTED, Reply},
    eventually,
    messages::{CancelAllQueriesRequest, CancelAllQueriesResponse},
    upstream::{Answer, Upstream, answer},
};

const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const PATH: &str = "/activeviam/query-history/rest/v1/queries";
const JSON: &str = "Content-Type: application/json\r\n";

fn options(node: &str) -> Options {
    Options { security: Security::Off, node_name: node.to_owned(), ..Options::default() }
}

async fn atoti(running: usize) -> Simulator {
    let atoti = Simulator::start(options("node-1")).await.expect("it starts");
    run(&atoti, "node-1", running);
    atoti
}

fn run(atoti: &Simulator, node: &str, count: usize) {
    for _ in 0..count {
        atoti.history().start_query(NewQuery { node_name: Some(node.into()), ..NewQuery::default() });
    }
}

fn waiting(seconds: i64) -> CancelAllQueriesRequest {
    let wait = (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 });
    CancelAllQueriesRequest { reason: "the cluster is on fire".to_owned(), wait }
}

async fn cancel_all(
    client: &Client,
    request: &CancelAllQueriesRequest,
    headers: &[(&'static str, &str)],
) -> Reply {
    client.method("CancelAllQueries", request, headers).await
}

fn told(reply: &Reply) -> (i32, Option<i64>) {
    let response: CancelAllQueriesResponse = reply.message();
    (response.outcome, response.still_running)
}

/// The file of nodes, and the flag that names it.
struct Nodes {
    folder: TempDir,
}

impl Nodes {
    fn new(nodes: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let object: serde_json::Map<_, _> =
            nodes.iter().map(|(name, url)| ((*name).to_owned(), url.clone().into())).collect();
        let text = serde_json::Value::from(object).to_string();
        std::fs::write(folder.path().join("nodes.json"), text).expect("written");
        Self { folder }
    }

    fn flag(&self) -> String {
        format!("--nodes-file={}", self.folder.path().join("nodes.json").display())
    }
}

#[tokio::test]
async fn everything_is_seen_to_stop() {
    let atoti = atoti(5).await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let reply = cancel_all(&bridge.client().await, &waiting(10), &[("x-request-id", "all")]).await;
    assert_eq!(told(&reply), (CANCELLED, Some(0)));
    assert!(atoti.history().running().is_empty());
    assert_eq!(atoti.history().count(), 5);

    let audit = bridge.audit("all").await;
    assert_eq!((&audit["operation"], &audit["query_id"]), (&"CancelAllQueries".into(), &().into()));
    assert_eq!(
        (&audit["filter"], &audit["reason"]),
        (&"status=RUNNING".into(), &"the cluster is on fire".into())
    );
    assert_eq!((&audit["outcome"], &audit["code"]), (&"CANCEL_OUTCOME_CANCELLED".into(), &"OK".into()));
    assert_eq!((&audit["attempts"], &audit["request_sent"]), (&1.into(), &true.into()));
}

#[tokio::test]
async fn without_waiting_the_answer_claims_no_more_than_was_accepted() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = cancel_all(&bridge.client().await, &waiting(0), &[("x-request-id", "all")]).await;
    assert_eq!(told(&reply), (REQUESTED, None));
    let seen = atoti.seen();
    assert_eq!((seen.len(), &*seen[0].method), (1, "PATCH"));
    assert_eq!(seen[0].target, format!("{PATH}?status=RUNNING"));
    assert_eq!(seen[0].body, br#"{"status":"CANCELLED"}"#);
    assert_eq!(seen[0].header("content-type"), ["application/json"]);
    assert_eq!(bridge.audit("all").await["outcome"], "CANCEL_OUTCOME_REQUESTED");
}

#[tokio::test]
async fn nothing_that_runs_is_a_success_too() {
    let atoti = atoti(0).await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    assert_eq!(told(&cancel_all(&client, &waiting(10), &[]).await), (CANCELLED, Some(0)));
}

#[tokio::test]
async fn queries_of_nodes_that_are_not_known_are_not_claimed() {
    let first = atoti(2).await;
    let second = Simulator::start_sharing(options("node-2"), first.history()).await.expect("it starts");
    run(&second, "node-2", 3);
    let bridge = Bridge::start(&first.base_url()).await;
    let client = bridge.client().await;
    let started = Instant::now();
    let reply = cancel_all(&client, &waiting(1), &[("x-request-id", "all")]).await;
    assert_eq!(told(&reply), (REQUESTED, Some(3)));
    assert!(started.elapsed() >= Duration::from_secs(1), "it waited: {:?}", started.elapsed());
    assert!(first.history().running().iter().all(|query| &*query.node_name == "node-2"));
    assert_eq!(bridge.audit("all").await["outcome"], "CANCEL_OUTCOME_REQUESTED");
}

#[tokio::test]
async fn every_node_that_is_known_is_told() {
    let first = atoti(2).await;
    let second = Simulator::start_sharing(options("node-2"), first.history()).await.expect("it starts");
    run(&second, "node-2", 3);
    let nodes = Nodes::new(&[("node-1", first.base_url()), ("node-2", second.base_url())]);
    let bridge = Bridge::start_with(&first.base_url(), &[&nodes.flag()]).await;
    let reply = cancel_all(&bridge.client().await, &waiting(10), &[("x-request-id", "all")]).await;
    assert_eq!(told(&reply), (CANCELLED, Some(0)));
    assert!(first.history().running().is_empty());
    let patches = |atoti: &Simulator| {
        let requests = atoti.requests();
        let patch = |request: &&atoti_grpc_bridge::simulator::RecordedRequest| request.method == "PATCH";
        requests.iter().filter(patch).map(|request| request.target.clone()).collect::<Vec<_>>()
    };
    assert_eq!(patches(&second), [format!("{PATH}?status=RUNNING")]);
    assert!(patches(&first).contains(&format!("{PATH}?status=RUNNING")));
    assert_eq!(bridge.audit("all").await["code"], "OK");
}

#[tokio::test]
async fn one_node_that_fails_fails_the_call_and_is_named_while_the_others_are_told() {
    for (fault, code, reason) in [
        (Fault::status(500), 13, "BACKEND_ERROR"),
        (Fault::status(403), 7, "BACKEND_PERMISSION_DENIED"),
        (Fault::status(503), 14, "BACKEND_UNAVAILABLE"),
        (Fault::cut_before_head(), 14, "BACKEND_CONNECTION_LOST"),
    ] {
        let first = atoti(2).await;
        let second = Simulator::start_sharing(options("node-2"), first.history()).await.expect("it starts");
        run(&second, "node-2", 1);
        second.inject(fault.on("PATCH", ""));
        let nodes = Nodes::new(&[("node-1", first.base_url()), ("node-2", second.base_url())]);
        let bridge = Bridge::start_with(&first.base_url(), &[&nodes.flag()]).await;
        let reply = cancel_all(&bridge.client().await, &waiting(10), &[("x-request-id", "all")]).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (code, reason));
        assert_eq!(error.metadata("nodeName"), Some("node-2"));
        assert_eq!(error.metadata("requestSent"), Some("true"));
        eventually("the other node's queries to stop", || {
            first.history().running().iter().all(|query| &*query.node_name == "node-2").then_some(())
        })
        .await;
        assert_eq!(first.history().running().len(), 1);
        let audit = bridge.audit("all").await;
        assert_eq!((&audit["error_reason"], &audit["request_sent"]), (&reason.into(), &true.into()));
    }
}

/// Two nodes, one of which is not there: what was sent to the other one must be owned up to, however late it left.
#[tokio::test]
async fn what_reached_one_node_was_sent_whatever_became_of_the_others() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("spiffe://test/atoti").der();
    let config = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("protocol versions")
    .with_no_client_auth()
    .with_single_cert(chain, key)
    .expect("a pair");
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
    // Slow to be reached: by then it has long been known that the other one is not there.
    let slow = move |stream| {
        let acceptor = acceptor.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            acceptor.accept(stream).await
        }
    };
    let node = Upstream::start_behind(|_, _| answer(204, "", ""), slow).await;
    let nodes = Nodes::new(&[("node-1", format!("https://{}", node.address()))]);
    let ca = format!("--upstream-ca-file={}", authority.file().display());
    let flags = [&*nodes.flag(), &ca, "--upstream-connect-timeout=5s"];
    let bridge = Bridge::start_with("https://127.0.0.1:1", &flags).await;
    let reply = cancel_all(&bridge.client().await, &waiting(0), &[("x-request-id", "all")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (14, "BACKEND_CONNECT_FAILED"));
    assert_eq!(node.seen().len(), 1, "the node was told");
    assert_eq!(error.metadata("requestSent"), Some("true"));
    assert_eq!(bridge.audit("all").await["request_sent"], true);
}

#[tokio::test]
async fn a_wait_ends_inside_the_deadline_with_a_success() {
    let running = r#"{"data":[{"id":"1","status":"RUNNING"}],"pagination":{"totalItems":7}}"#;
    let hanging = |answers: Answer| {
        Upstream::start(move |seen, _| match &*seen.method {
            "PATCH" => answer(204, "", ""),
            _ => answers.clone(),
        })
    };
    for (reads, still_running) in
        [(answer(200, JSON, running), Some(7)), (Answer::Hang, None), (answer(500, "", ""), None)]
    {
        let atoti = hanging(reads).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let client = bridge.client().await;
        for deadline in ["350m", "450m", "550m", "650m"] {
            let reply = cancel_all(&client, &waiting(3600), &[("grpc-timeout", deadline)]).await;
            assert_eq!(told(&reply), (REQUESTED, still_running), "{deadline}");
        }
    }
}

#[tokio::test]
async fn a_look_that_hangs_does_not_hold_up_the_wait() {
    let atoti = Upstream::start(|seen, _| match &*seen.method {
        "PATCH" => answer(204, "", ""),
        _ => Answer::Hang,
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let started = Instant::now();
    let reply = cancel_all(&bridge.client().await, &waiting(1), &[]).await;
    assert_eq!(told(&reply), (REQUESTED, None));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn looks_that_fail_do_not_end_the_wait() {
    let atoti = Upstream::start(|seen, before| match (&*seen.method, before) {
        ("PATCH", _) => answer(204, "", ""),
        (_, 1) => answer(500, "", ""),
        (_, 2) => answer(200, JSON, "{broken"),
        (_, 3) => answer(200, JSON, r#"{"data":[{"id":"1"}]}"#),
        _ => answer(200, JSON, r#"{"data":[]}"#),
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let reply = cancel_all(&bridge.client().await, &waiting(10), &[]).await;
    assert_eq!(told(&reply), (CANCELLED, Some(0)));
    let looks = atoti.seen().into_iter().filter(|seen| seen.method == "GET");
    assert!(looks.map(|seen| seen.target).all(|target| target.contains("status=RUNNING")));
}

#[tokio::test]
async fn the_callers_credentials_decide() {
    let atoti = Simulator::start(Options::default()).await.expect("it starts");
    run(&atoti, "node-1", 2);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (headers, code, reason) in
        [(&[][..], 16, "BACKEND_UNAUTHENTICATED"), (&[GUEST], 7, "BACKEND_PERMISSION_DENIED")]
    {
        let headers = [headers, &[("x-request-id", reason)]].concat();
        let reply = cancel_all(&client, &waiting(0), &headers).await;
        assert_eq!((reply.code(), reply.error().reason()), (code, reason));
        assert_eq!(reply.error().metadata("queryId"), None);
        assert_eq!(bridge.audit(reason).await["error_reason"], reason);
        assert_eq!(atoti.history().running().len(), 2);
    }
    assert_eq!(told(&cancel_all(&client, &waiting(10), &[USER]).await), (CANCELLED, Some(0)));
}

#[tokio::test]
async fn a_rule_that_is_broken_costs_nothing_and_is_recorded() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let wait = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let request = CancelAllQueriesRequest { reason: "r".repeat(513), wait };
    let reply = cancel_all(&client, &request, &[("x-request-id", "bad")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (3, "INVALID_WAIT"));
    let fields = error.bad_request.expect("a BadRequest").field_violations;
    let fields: Vec<_> = fields.iter().map(|violation| &*violation.field).collect();
    assert_eq!(fields, ["wait", "reason"]);
    let audit = bridge.audit("bad").await;
    assert_eq!(
        (&audit["operation"], &audit["code"]),
        (&"CancelAllQueries".into(), &"INVALID_ARGUMENT".into())
    );
    assert_eq!((&audit["attempts"], &audit["request_sent"]), (&0.into(), &false.into()));
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn a_caller_that_hangs_up_or_is_out_of_time_leaves_a_record_of_what_was_done() {
    let slow = Answer::After(Duration::from_millis(400), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let path = "/atoti.queryhistory.v1.QueryHistoryService/CancelAllQueries";
    let message = prost::Message::encode_to_vec(&waiting(3600));
    let (response, mut stream) = client.start(path, &message, &[("x-request-id", "gone")]).await;
    eventually("it to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    let audit = bridge.audit("gone").await;
    assert_eq!((&audit["outcome"], &audit["code"]), (&"CANCEL_OUTCOME_REQUESTED".into(), &"OK".into()));
    assert_eq!((&audit["caller_waited"], &audit["request_sent"]), (&false.into(), &true.into()));

    let reply = cancel_all(&client, &waiting(0), &[("grpc-timeout", "100m"), ("x-request-id", "late")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (4, "BACKEND_TIMEOUT"));
    assert_eq!(error.metadata("requestSent"), Some("true"));
    let audit = bridge.audit("late").await;
    assert_eq!((&audit["code"], &audit["caller_waited"]), (&"OK".into(), &false.into()));
    assert_eq!(atoti.connections(), 1, "no connection was cut");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_once_more() {
    let atoti = atoti(3).await;
    atoti.inject(Fault::cut_before_head().on("PATCH", "").after_effect().times(1));
    let bridge = Bridge::start(&atoti.base_url()).await;
    let reply = cancel_all(&bridge.client().await, &waiting(10), &[("x-request-id", "all")]).await;
    assert_eq!(told(&reply), (CANCELLED, Some(0)));
    assert_eq!(bridge.audit("all").await["attempts"], 2);
}
