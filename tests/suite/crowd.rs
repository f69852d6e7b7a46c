//! Ten thousand connections that say nothing: cheap to hold, no hindrance to who calls, and gone when they have gone.
//!
//! Both processes need as many open files. Where the machine's hard limit is lower, the test fails and says so; with
//! `ATOTI_BRIDGE_TEST_CONNECTIONS` it is made with fewer.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::support::{
    bridge::Bridge,
    client::cancel,
    frames::{Raw, SETTINGS},
    upstream::{Upstream, answer},
    within,
};

/// Connections allowed beyond the crowd.
const SPARE: usize = 50;
const MOST_KIB_EACH: u64 = 64;

fn crowd() -> usize {
    let crowd =
        std::env::var("ATOTI_BRIDGE_TEST_CONNECTIONS").ok().map(|text| text.parse().expect("a number"));
    crowd.unwrap_or(10_000)
}

async fn open(bridge: &Bridge, count: usize) -> Vec<Raw> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let some = (count - open.len()).min(200);
        open.extend(
            join_all((0..some).map(|_| async {
                let mut raw = Raw::greeted(bridge.address()).await;
                raw.next_of(SETTINGS).await.expect("it is served");
                raw
            }))
            .await,
        );
    }
    open
}

#[tokio::test]
async fn ten_thousand_idle_connections_are_held_and_let_go() {
    let crowd = crowd();
    let wanted = (crowd + SPARE + 1000) as u64;
    let limit = rlimit::increase_nofile_limit(wanted).expect("a limit of open files");
    assert!(
        limit >= wanted,
        "{wanted} files must be open at once, and this process may open {limit}: raise its hard limit (`ulimit -Hn`), \
         or set ATOTI_BRIDGE_TEST_CONNECTIONS to fewer than {crowd}"
    );
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let allowed = crowd + SPARE;
    let bridge = Bridge::start_with(&atoti.url(), &[&format!("--max-connections={allowed}")]).await;
    let before = bridge.resident_kib();
    let began = Instant::now();
    let held = open(&bridge, crowd).await;
    let each = (bridge.resident_kib() - before) * 1024 / crowd as u64;
    println!("{crowd} connections in {:?}, {each} bytes each", began.elapsed());
    assert!(each < MOST_KIB_EACH * 1024, "{each} bytes for a connection");
    assert_eq!(bridge.metric("atoti_bridge_connections").await, Some(crowd as f64));

    let client = bridge.client().await;
    for _ in 0..100 {
        assert_eq!(client.cancel(&cancel("42")).await.code(), 0, "who calls is served");
    }

    let others = open(&bridge, SPARE - 1).await;
    assert_eq!(bridge.metric("atoti_bridge_connections").await, Some(allowed as f64));
    for _ in 0..10 {
        let mut refused = TcpStream::connect(bridge.address()).await.expect("the kernel accepts");
        let mut nothing = Vec::new();
        within("its end", refused.read_to_end(&mut nothing)).await.expect("an orderly end");
        assert!(nothing.is_empty());
    }
    assert_eq!(bridge.metric("atoti_bridge_connections_refused_total").await, Some(10.0));
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0, "those who are in are served");

    drop((held, others, client));
    within("all to be gone", async {
        while bridge.metric("atoti_bridge_connections").await != Some(0.0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0, "and it serves on");
}
