//! Several Atoti nodes behind one history: a cancel gets to the node that runs the query, or says that it does not.

use std::io::Write as _;

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Security, Simulator, Status};
use tempfile::NamedTempFile;

use crate::support::{
    bridge::Bridge,
    client::{CANCELLED, REQUESTED, cancel, cancel_and_wait},
    eventually,
    messages::{CancelQueriesRequest, CancelQueriesResponse, of_user},
    stream::Stream,
};

fn options(node: &str) -> Options {
    Options { security: Security::Off, node_name: node.to_owned(), ..Options::default() }
}

/// Two nodes that share a history.
async fn two() -> (Simulator, Simulator) {
    let first = Simulator::start(options("node-1")).await.expect("it starts");
    let second = Simulator::start_sharing(options("node-2"), first.history()).await.expect("it starts");
    (first, second)
}

fn run(atoti: &Simulator, node: &str) -> String {
    let query = NewQuery { node_name: Some(node.into()), username: "ada".into(), ..NewQuery::default() };
    atoti.history().start_query(query)
}

/// A file of nodes.
fn nodes(nodes: &[(&str, &str)]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    let nodes: std::collections::BTreeMap<_, _> = nodes.iter().copied().collect();
    write!(file, "{}", serde_json::to_string(&nodes).expect("JSON")).expect("written");
    file
}

async fn bridge(atoti: &Simulator, file: &NamedTempFile) -> Bridge {
    let flag = format!("--nodes-file={}", file.path().display());
    Bridge::start_with(&atoti.base_url(), &[&flag]).await
}

fn requests(atoti: &Simulator, method: &str) -> usize {
    atoti.requests().iter().filter(|request| request.method == method).count()
}

#[tokio::test]
async fn a_cancel_goes_to_the_node_that_runs_the_query() {
    let (first, second) = two().await;
    let file = nodes(&[("node-1", &first.base_url()), ("node-2", &second.base_url())]);
    let bridge = bridge(&first, &file).await;
    let client = bridge.client().await;
    let id = run(&first, "node-2");
    let response = client.cancel(&cancel_and_wait(&id, 10)).await.cancelled();
    assert_eq!(response.outcome, CANCELLED);
    assert_eq!(first.history().get(&id).expect("known").status, Status::Cancelled);
    assert_eq!((requests(&first, "PATCH"), requests(&second, "PATCH")), (1, 1));
    // What runs where the base URL leads takes no detour.
    let near = run(&first, "node-1");
    assert_eq!(client.cancel(&cancel(&near)).await.cancelled().outcome, REQUESTED);
    assert_eq!((requests(&first, "PATCH"), requests(&second, "PATCH")), (2, 1));
}

#[tokio::test]
async fn a_query_on_a_node_that_nobody_named_is_never_nothing_to_do() {
    let (first, _second) = two().await;
    let file = nodes(&[("node-1", &first.base_url())]);
    let bridge = bridge(&first, &file).await;
    let client = bridge.client().await;
    let id = run(&first, "node-2");
    let reply = client.cancel_with(&cancel(&id), &[("x-request-id", "lost")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (9, "QUERY_ON_OTHER_NODE"));
    assert_eq!(error.metadata("nodeName"), Some("node-2"));
    assert_eq!(requests(&first, "GET") - 1, 2, "read twice, the probe aside: {:?}", first.requests());
    assert_eq!(bridge.audit("lost").await["error_reason"], "QUERY_ON_OTHER_NODE");
}

#[tokio::test]
async fn a_node_that_denies_the_query_is_not_believed_before_the_history() {
    let (first, _second) = two().await;
    let third = Simulator::start_sharing(options("node-3"), first.history()).await.expect("it starts");
    // The map is wrong: it leads to a node that does not run it.
    let file = nodes(&[("node-2", &third.base_url())]);
    let bridge = bridge(&first, &file).await;
    let id = run(&first, "node-2");
    let reply = bridge.client().await.cancel(&cancel(&id)).await;
    assert_eq!((reply.code(), reply.error().reason()), (9, "QUERY_ON_OTHER_NODE"));
    assert_eq!(reply.error().metadata("attempts"), Some("2"));
    assert_eq!(first.history().get(&id).expect("known").status, Status::Running);
}

#[tokio::test]
async fn a_node_that_fails_is_named() {
    let (first, second) = two().await;
    let file = nodes(&[("node-2", &second.base_url())]);
    let bridge = bridge(&first, &file).await;
    second.inject(Fault::status(403).on("PATCH", "/query/"));
    let id = run(&first, "node-2");
    let error = bridge.client().await.cancel(&cancel(&id)).await;
    assert_eq!((error.code(), error.error().reason()), (7, "BACKEND_PERMISSION_DENIED"));
    assert_eq!(error.error().metadata("nodeName"), Some("node-2"));
    second.stop().await;
    let error = bridge.client().await.cancel(&cancel(&id)).await;
    assert_eq!((error.code(), error.error().reason()), (14, "BACKEND_CONNECT_FAILED"));
    assert_eq!(error.error().metadata("requestSent"), Some("true"), "to the base URL");
}

#[tokio::test]
async fn a_bulk_cancel_asks_each_querys_own_node() {
    let (first, second) = two().await;
    let file = nodes(&[("node-1", &first.base_url()), ("node-2", &second.base_url())]);
    let bridge = bridge(&first, &file).await;
    for index in 0..20 {
        run(&first, if index % 2 == 0 { "node-1" } else { "node-2" });
    }
    let lost = run(&first, "node-3");
    let request = CancelQueriesRequest { filter: Some(of_user("ada")), ..CancelQueriesRequest::default() };
    let client = bridge.client().await;
    let mut stream: Stream<CancelQueriesResponse> = client.stream("CancelQueries", &request, &[]).await;
    let answers = stream.rest().await;
    assert_eq!((answers.len(), stream.end().await.code()), (21, 0));
    let failed: Vec<_> = answers.iter().filter(|answer| answer.error.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].query.as_ref().expect("always set").query_id, lost);
    assert_eq!(failed[0].error.as_ref().expect("an error").code, 9);
    assert_eq!(
        (requests(&first, "PATCH"), requests(&second, "PATCH")),
        (12, 10),
        "no detours but for the lost one, which is asked for twice"
    );
}

#[tokio::test]
async fn the_file_is_followed() {
    let (first, second) = two().await;
    let file = nodes(&[("node-1", &first.base_url())]);
    let bridge = bridge(&first, &file).await;
    let client = bridge.client().await;
    let id = run(&first, "node-2");
    assert_eq!(client.cancel(&cancel(&id)).await.error().reason(), "QUERY_ON_OTHER_NODE");
    std::fs::write(file.path(), "{").expect("written");
    bridge
        .logged("a bad file", |line| line["message"] == "cannot be read again; the one before is kept")
        .await;
    assert_eq!(bridge.metric(r#"atoti_bridge_reload_failed{file="nodes"}"#).await, Some(1.0));
    std::fs::write(file.path(), format!(r#"{{"node-2": "{}"}}"#, second.base_url())).expect("written");
    bridge.logged("a good one", |line| line["message"] == "read again").await;
    assert_eq!(client.cancel(&cancel(&id)).await.code(), 0);
    eventually("it to stop", || {
        (first.history().get(&id).expect("known").status == Status::Cancelled).then_some(())
    })
    .await;
}
