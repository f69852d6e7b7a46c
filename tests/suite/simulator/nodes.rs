//! Several nodes over one history, what a seed decides, and how a node ends.

use std::{collections::HashSet, time::Duration};

use atoti_grpc_bridge::simulator::{NewQuery, Options, QueryRecord, Security, Simulator, Status};

use super::{HISTORY, cancel, get, open, start, start_query};
use crate::support::eventually;

#[tokio::test]
async fn a_node_sees_every_query_and_cancels_only_its_own() {
    let first = open().await;
    let options = Options {
        node_name: "node-2".to_owned(),
        running_queries: 1,
        security: Security::Off,
        ..Options::default()
    };
    let second = Simulator::start_sharing(options, first.history()).await.expect("it starts");
    let of_second = first.history().running().remove(0);
    assert_eq!(&*of_second.node_name, "node-2");
    let of_first = start_query(&first);
    for (node, stranger) in [(&first, &of_second.id), (&second, &of_first)] {
        let read = get(node, &format!("{HISTORY}/query/{stranger}")).await.json();
        assert_eq!(read["status"], "RUNNING");
        assert_eq!(cancel(node, stranger).await.status, 404, "it runs on another node");
    }
    assert_eq!(cancel(&second, &of_second.id).await.status, 204);
    let status = |id| first.history().get(id).expect("it is known").status;
    eventually("the cancel", || (status(&of_second.id) == Status::Cancelled).then_some(())).await;
    assert_eq!(status(&of_first), Status::Running);
}

#[tokio::test]
async fn a_seed_decides_everything_but_the_dates() {
    let scene = async |seed: u64| {
        let options = Options {
            seed,
            running_queries: 20,
            finished_queries: 30,
            security: Security::Off,
            ..Options::default()
        };
        let atoti = start(options).await;
        let page = get(&atoti, &format!("{HISTORY}/queries?page_size=100")).await.json();
        let mut queries = page["data"].as_array().expect("a list").clone();
        let sessions = get(&atoti, "/versions/rest").await.header("set-cookie").map(str::to_owned);
        let next = start_query(&atoti);
        for query in &mut queries {
            let query = query.as_object_mut().expect("an object");
            query.remove("startDate").expect("a date");
            query.remove("endDate");
        }
        (queries, sessions, next)
    };
    let (first, second, other) = (scene(1).await, scene(1).await, scene(2).await);
    assert_eq!(first.0.len(), 50);
    assert_eq!(first, second);
    let ids = |scene: &Vec<serde_json::Value>| -> HashSet<String> {
        scene.iter().map(|query| query["id"].to_string()).collect()
    };
    assert_eq!(ids(&first.0).len(), 50, "no id twice");
    assert!(ids(&first.0).is_disjoint(&ids(&other.0)));
    assert_ne!((first.1, first.2), (other.1, other.2));
}

#[tokio::test]
async fn queries_arrive_and_end_by_themselves() {
    let options = Options { arrivals_per_second: 200.0, security: Security::Off, ..Options::default() };
    let atoti = start(options).await;
    eventually("an arrival that has ended", || {
        let history = atoti.history();
        (history.count() > 20 && history.running().len() < history.count()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_history_forgets_the_oldest_ended_query() {
    let options = Options { history_capacity: 2, ..Options::default() };
    let atoti = start(options).await;
    let ago = |minutes: u64| {
        let started_ago = Duration::from_secs(minutes * 60);
        atoti.history().start_query(NewQuery { started_ago, ..NewQuery::default() })
    };
    let (oldest, ended) = (ago(3), ago(2));
    assert!(atoti.history().finish(&ended));
    let newest = ago(1);
    let known = |id: &str| atoti.history().get(id).map(|QueryRecord { status, .. }| status);
    assert_eq!((known(&oldest), known(&ended)), (Some(Status::Running), None));
    assert_eq!((known(&newest), atoti.history().count()), (Some(Status::Running), 2));
}

#[tokio::test]
async fn a_stopped_node_frees_its_port_and_keeps_its_history() {
    let atoti = open().await;
    let id = start_query(&atoti);
    let (address, history) = (atoti.address(), atoti.history().clone());
    atoti.stop().await;
    let again = Options { listen: address, security: Security::Off, ..Options::default() };
    let again = Simulator::start_sharing(again, &history).await.expect("the port is free");
    assert_eq!(cancel(&again, &id).await.status, 204);
}

#[tokio::test]
async fn a_dropped_node_ends_its_connections() {
    let atoti = open().await;
    let mut connection = crate::support::http::Connection::open(atoti.address()).await;
    assert_eq!(connection.send("GET", "/versions/rest", &[], "").await.status, 200);
    drop(atoti);
    assert!(connection.try_send("GET", "/versions/rest", &[], "").await.is_err());
}
