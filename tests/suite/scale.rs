//! A long history and much going on: every query listed once, exactly the matches stopped, and little memory for it.

use std::collections::BTreeSet;

use atoti_grpc_bridge::simulator::{NewQuery, Options, Security, Simulator, Status};

use crate::support::{
    bridge::Bridge,
    client::Client,
    messages::{
        CancelQueriesRequest, CancelQueriesResponse, ListQueriesRequest, ListQueriesResponse, of_user,
    },
    stream::Stream,
};

const HISTORY: usize = 50_000;
const RUNNING: usize = 1_000;
const MOST_RESIDENT_KIB: u64 = 64 * 1024;

/// All pages of everything, in pages of one size.
async fn list(client: &Client, page_size: i32) -> Vec<String> {
    let (mut ids, mut page_token, mut total) = (Vec::new(), String::new(), None);
    loop {
        let request = ListQueriesRequest { page_size, page_token, ..ListQueriesRequest::default() };
        let page: ListQueriesResponse = client.method("ListQueries", &request, &[]).await.message();
        assert_eq!(
            *total.get_or_insert(page.total_size),
            page.total_size,
            "told when the first page was read"
        );
        ids.extend(page.queries.into_iter().map(|query| query.query_id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_queries_are_listed_once_each_and_a_thousand_are_stopped() {
    let options = Options {
        security: Security::Off,
        finished_queries: HISTORY,
        arrivals_per_second: 20.0,
        ..Options::default()
    };
    let atoti = Simulator::start(options).await.expect("it starts");
    let query = || NewQuery { username: "runaway".into(), ..NewQuery::default() };
    let running: BTreeSet<_> = (0..RUNNING).map(|_| atoti.history().start_query(query())).collect();
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;

    for page_size in [1000, 333] {
        let known = atoti.history().count();
        let started = std::time::Instant::now();
        let ids = list(&client, page_size).await;
        let unique: BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "none twice");
        assert!(ids.len() >= known, "{} of {known}", ids.len());
        assert!(running.iter().all(|id| unique.contains(id)));
        let arrived = atoti.history().count() - known;
        println!(
            "{} queries in pages of {page_size} in {:?}, {arrived} arrived",
            ids.len(),
            started.elapsed()
        );
    }

    // Ended ones drop out of the list while it is read.
    let ending: BTreeSet<_> = running.iter().step_by(10).cloned().collect();
    let request = CancelQueriesRequest {
        filter: Some(of_user("runaway")),
        max_cancellations: 2_000,
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        reason: "a runaway batch".to_owned(),
        ..CancelQueriesRequest::default()
    };
    let started = std::time::Instant::now();
    let mut stream: Stream<CancelQueriesResponse> = client.stream("CancelQueries", &request, &[]).await;
    for id in &ending {
        atoti.history().finish(id);
    }
    let answers = stream.rest().await;
    assert_eq!(stream.end().await.code(), 0);
    println!("{} stopped and seen to stop in {:?}", answers.len(), started.elapsed());
    let told: Vec<_> =
        answers.iter().map(|a| a.query.as_ref().expect("always set").query_id.clone()).collect();
    let unique: BTreeSet<_> = told.iter().cloned().collect();
    assert_eq!(unique.len(), told.len(), "none twice");
    assert!(unique.is_subset(&running), "nothing but the matches");
    for id in &running {
        // Those that ended by themselves may have done so before the call began.
        assert!(unique.contains(id) || ending.contains(id), "{id} was passed over");
        let status = atoti.history().get(id).expect("it is known").status;
        assert!(status == Status::Cancelled || ending.contains(id), "{id} is {status:?}");
    }
    let others = atoti.requests().into_iter().filter(|request| request.method == "PATCH");
    assert!(
        others
            .map(|request| request.target.rsplit('/').next().expect("an id").to_owned())
            .all(|id| running.contains(&id))
    );

    let peak = bridge.peak_kib();
    println!("peak resident memory: {peak} KiB");
    assert!(peak < MOST_RESIDENT_KIB, "{peak} KiB");
}
