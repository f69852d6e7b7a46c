//! WatchQuery: what a watcher sees, how often Atoti is asked for it, and how a watch ends.

use std::time::Duration;

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Outcome, Security, Simulator};

use crate::support::{
    bridge::Bridge,
    client::{Client, GetQueryRequest},
    eventually,
    messages::WatchQueryResponse,
    stream::Stream,
};

const RUNNING: i32 = 1;
const SUCCESSFUL: i32 = 2;
const CANCELLED: i32 = 4;

const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const ADMIN: (&str, &str) = ("authorization", "Basic YWRtaW46YWRtaW4=");

async fn atoti() -> (Simulator, String) {
    start(Security::Off).await
}

async fn start(security: Security) -> (Simulator, String) {
    let atoti = Simulator::start(Options { security, ..Options::default() }).await.expect("it starts");
    let id = atoti.history().start_query(NewQuery::default());
    (atoti, id)
}

async fn watch(client: &Client, id: &str, headers: &[(&'static str, &str)]) -> Stream<WatchQueryResponse> {
    client.stream("WatchQuery", &GetQueryRequest { query_id: id.to_owned() }, headers).await
}

async fn next_status(watch: &mut Stream<WatchQueryResponse>) -> Option<i32> {
    watch.next().await.map(|seen| seen.query.expect("always set").status)
}

/// How often a query has been read.
fn reads(atoti: &Simulator, id: &str) -> usize {
    atoti.requests().iter().filter(|request| request.target.ends_with(id)).count()
}

#[tokio::test]
async fn a_watch_tells_changes_only_and_ends_with_the_query() {
    let (atoti, id) = atoti().await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let mut watch = watch(&client, &id, &[]).await;
    assert_eq!(next_status(&mut watch).await, Some(RUNNING));
    eventually("several looks", || (reads(&atoti, &id) >= 3).then_some(())).await;
    atoti.history().end(&id, Outcome::Cancelled);
    let last = watch.next().await.and_then(|seen| seen.query).expect("the end");
    assert_eq!(last.status, CANCELLED);
    assert!(last.end_time.is_some());
    assert!(watch.next().await.is_none(), "nothing was told in between");
    assert_eq!(watch.end().await.code(), 0);
}

#[tokio::test]
async fn a_query_that_has_ended_is_told_once() {
    let (atoti, id) = atoti().await;
    atoti.history().finish(&id);
    let bridge = Bridge::start(&atoti.base_url()).await;
    let mut watch = watch(&bridge.client().await, &id, &[]).await;
    assert_eq!(next_status(&mut watch).await, Some(SUCCESSFUL));
    assert_eq!(watch.end().await.code(), 0);
    assert_eq!(reads(&atoti, &id), 1);
}

#[tokio::test]
async fn many_watch_and_atoti_is_asked_by_one() {
    let (atoti, id) = atoti().await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let (one, other) = (bridge.client().await, bridge.client().await);
    let mut watches = Vec::new();
    for index in 0..200 {
        watches.push(watch(if index % 2 == 0 { &one } else { &other }, &id, &[]).await);
    }
    for watch in &mut watches {
        assert_eq!(next_status(watch).await, Some(RUNNING));
    }
    let before = reads(&atoti, &id);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let asked = reads(&atoti, &id) - before;
    // One poller looks every 100 ms at first. Two hundred of them would look many hundred times.
    assert!((1..=15).contains(&asked), "{asked} looks");
    atoti.history().finish(&id);
    for mut watch in watches {
        assert_eq!(next_status(&mut watch).await, Some(SUCCESSFUL));
        assert_eq!(watch.end().await.code(), 0);
    }
}

#[tokio::test]
async fn nobody_watches_with_the_credentials_of_another() {
    let (atoti, id) = start(Security::on()).await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let mut allowed = watch(&client, &id, &[USER]).await;
    assert_eq!(next_status(&mut allowed).await, Some(RUNNING));
    let reply = watch(&client, &id, &[]).await.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (16, "BACKEND_UNAUTHENTICATED"));
    let mut another = watch(&client, &id, &[ADMIN]).await;
    assert_eq!(next_status(&mut another).await, Some(RUNNING));
    let users: std::collections::BTreeSet<_> = atoti
        .requests()
        .iter()
        .filter(|request| request.target.ends_with(&id))
        .filter_map(|request| request.header("authorization").map(<[u8]>::to_vec))
        .collect();
    assert_eq!(users.len(), 2, "{users:?}");
}

#[tokio::test]
async fn the_last_watcher_ends_the_looking() {
    let (atoti, id) = atoti().await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let mut first = watch(&client, &id, &[]).await;
    let mut second = watch(&client, &id, &[]).await;
    assert_eq!(next_status(&mut first).await, Some(RUNNING));
    assert_eq!(next_status(&mut second).await, Some(RUNNING));
    drop(first);
    let before = reads(&atoti, &id);
    eventually("the other is still served", || (reads(&atoti, &id) > before + 1).then_some(())).await;
    drop(second);
    // One look may be under way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = reads(&atoti, &id);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(reads(&atoti, &id), after, "nobody watches any more");
    // And whoever comes later finds a living one.
    let mut third = watch(&client, &id, &[]).await;
    assert_eq!(next_status(&mut third).await, Some(RUNNING));
    atoti.history().finish(&id);
    assert_eq!(next_status(&mut third).await, Some(SUCCESSFUL));
}

#[tokio::test]
async fn a_watch_fails_as_a_read_does_and_bears_what_passes() {
    let (atoti, id) = atoti().await;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (query_id, code, reason) in [("42", 5, "QUERY_NOT_FOUND"), ("..", 3, "INVALID_QUERY_ID")] {
        let reply = watch(&client, query_id, &[]).await.end().await;
        assert_eq!((reply.code(), reply.error().reason()), (code, reason));
        assert_eq!(reply.error().metadata("queryId"), (code == 5).then_some(query_id));
    }
    // Before anything has been told, a failure is told at once.
    atoti.inject(Fault::status(504).on("GET", &id).times(1));
    let reply = watch(&client, &id, &[]).await.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (4, "BACKEND_GATEWAY_TIMEOUT"));
    // Later, it is borne for a while.
    let mut watching = watch(&client, &id, &[]).await;
    assert_eq!(next_status(&mut watching).await, Some(RUNNING));
    atoti.inject(Fault::status(504).on("GET", &id).times(3));
    let before = reads(&atoti, &id);
    eventually("the faults to be over", || (reads(&atoti, &id) >= before + 5).then_some(())).await;
    // What does not pass is not.
    atoti.inject(Fault::status(403).on("GET", &id));
    let reply = watching.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (7, "BACKEND_PERMISSION_DENIED"));
}

#[tokio::test]
async fn a_watch_ends_at_its_own_deadline_and_at_no_other() {
    let (atoti, id) = atoti().await;
    let bridge = Bridge::start_with(&atoti.base_url(), &["--max-deadline=300ms"]).await;
    let client = bridge.client().await;
    let mut unbounded = watch(&client, &id, &[]).await;
    assert_eq!(next_status(&mut unbounded).await, Some(RUNNING));
    let started = std::time::Instant::now();
    let mut bounded = watch(&client, &id, &[("grpc-timeout", "900m")]).await;
    assert_eq!(next_status(&mut bounded).await, Some(RUNNING));
    let reply = bounded.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (4, "DEADLINE_OVER"));
    assert!(
        started.elapsed() >= Duration::from_millis(880),
        "the caller's, not the cap: {:?}",
        started.elapsed()
    );
    atoti.history().finish(&id);
    assert_eq!(next_status(&mut unbounded).await, Some(SUCCESSFUL));
    assert_eq!(unbounded.end().await.code(), 0);
}

#[tokio::test]
async fn a_watch_is_sent_elsewhere_when_the_bridge_stops_or_its_connection_grows_old() {
    let (atoti, id) = atoti().await;
    let mut bridge = Bridge::start(&atoti.base_url()).await;
    let mut watching = watch(&bridge.client().await, &id, &[]).await;
    assert_eq!(next_status(&mut watching).await, Some(RUNNING));
    bridge.signal("-TERM");
    let reply = watching.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (14, "DRAINING"));
    assert_eq!(reply.error().metadata("retryable"), Some("true"));
    assert_eq!(bridge.exit().await.code(), Some(0));

    let bridge = Bridge::start_with(&atoti.base_url(), &["--max-connection-age=500ms"]).await;
    let mut watching = watch(&bridge.client().await, &id, &[]).await;
    assert_eq!(next_status(&mut watching).await, Some(RUNNING));
    let reply = watching.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (14, "DRAINING"));
}

#[tokio::test]
async fn watches_take_no_places_of_calls_and_are_bounded_themselves() {
    let (atoti, id) = atoti().await;
    let bridge = Bridge::start_with(&atoti.base_url(), &["--max-in-flight=4"]).await;
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(bridge.client().await);
    }
    let mut watches = Vec::new();
    for index in 0..1024 {
        // At most 256 streams are open on one connection.
        watches.push(watch(&connections[index / 250], &id, &[]).await);
    }
    for watch in &mut watches {
        assert_eq!(next_status(watch).await, Some(RUNNING));
    }
    let reply = watch(&connections[4], &id, &[]).await.end().await;
    assert_eq!((reply.code(), reply.error().reason()), (8, "OVERLOADED"));
    assert_eq!(connections[4].get(&id).await.code(), 0);
}
