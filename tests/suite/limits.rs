//! Overload and failure in bulk: what is shed, what keeps its pace, what Atoti is spared.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::support::{
    bridge::Bridge,
    client::{Client, cancel},
    eventually,
    messages::ListQueriesRequest,
    upstream::{Answer, Upstream, answer},
};

/// How long a load goes on; the gate asks for more than a developer would wait for.
pub fn duration() -> Duration {
    let seconds = std::env::var("ATOTI_BRIDGE_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

async fn health(client: &Client) -> i32 {
    client.call("/grpc.health.v1.Health/Check", &[], &[]).await.code()
}

#[tokio::test]
async fn reads_that_fill_every_slot_keep_no_cancel_out() {
    let atoti =
        Upstream::start(|seen, _| if seen.method == "GET" { Answer::Hang } else { answer(204, "", "") })
            .await;
    let flags = ["--max-in-flight=16", "--upstream-max-connections=8", "--max-deadline=20s"];
    let bridge = Bridge::start_with(&atoti.url(), &flags).await;
    let client = bridge.client().await;
    let reads: Vec<_> = (0..12)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("42").await.code() })
        })
        .collect();
    eventually("every turn of the reads to be taken", || (atoti.seen().len() == 6).then_some(())).await;
    let shed = client.get("43").await;
    assert_eq!((shed.code(), shed.error().reason()), (8, "OVERLOADED"), "three quarters are for reads");
    for id in 0..20 {
        assert_eq!(client.cancel(&cancel(&id.to_string())).await.code(), 0, "a cancel passes");
    }
    assert_eq!(health(&client).await, 0);
    // Asked every five seconds, without a turn of its own.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bridge.metric("atoti_bridge_upstream_up").await, Some(1.0), "busy is not down");
    reads.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn under_four_times_its_load_it_sheds_the_rest_at_once_and_stays_small() {
    const PLACES: usize = 16;
    let slow = Answer::After(Duration::from_millis(50), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let bridge = Bridge::start_with(&atoti.url(), &[&format!("--max-in-flight={PLACES}")]).await;
    let clients: Vec<Client> = {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(bridge.client().await);
        }
        clients
    };
    let mut unloaded = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        assert_eq!(clients[0].cancel(&cancel("42")).await.code(), 0);
        unloaded.push(began.elapsed());
    }
    let before = bridge.resident_kib();
    let (admitted, shed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let until = Instant::now() + duration();
    let callers: Vec<_> = (0..4 * PLACES)
        .map(|n| {
            let (client, admitted, shed) = (clients[n % 4].clone(), Arc::clone(&admitted), Arc::clone(&shed));
            tokio::spawn(async move {
                while Instant::now() < until {
                    let began = Instant::now();
                    let reply = client.cancel(&cancel("42")).await;
                    match (reply.code(), reply.text("grpc-retry-pushback-ms")) {
                        (0, _) => admitted.lock().expect("not poisoned").push(began.elapsed()),
                        (8, Some("100")) => {
                            // Half of what is asked for, so that the load stays at a multiple.
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            shed.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other:?} {:?}", reply.error()),
                    }
                }
            })
        })
        .collect();
    while Instant::now() < until {
        assert_eq!(health(&clients[0]).await, 0, "health answers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for caller in callers {
        caller.await.expect("only OK and OVERLOADED");
    }
    let (loaded, shed) =
        (std::mem::take(&mut *admitted.lock().expect("not poisoned")), shed.load(Ordering::Relaxed));
    let admitted = loaded.len();
    assert!(admitted > PLACES && shed > PLACES, "{admitted} admitted, {shed} shed");
    assert_eq!(atoti.seen().len() - 40, admitted, "what was shed cost Atoti nothing");
    let grown = bridge.resident_kib().saturating_sub(before);
    // For people: `cargo test --release limits::under_four -- --nocapture`.
    let (alone, crowded) = (p99(unloaded), p99(loaded));
    println!(
        "{admitted} admitted, {shed} shed; p99 alone {alone:?}, at four times the load {crowded:?}: {:.2} times; \
         {grown} KiB more",
        crowded.as_secs_f64() / alone.as_secs_f64()
    );
    assert!(grown < 16 * 1024, "{before} KiB grew by {grown}");
}

#[tokio::test]
async fn reads_that_keep_a_thread_too_busy_are_made_fewer_until_it_keeps_up() {
    // Of the 96 that may be at work by default.
    const READERS: usize = 90;
    // Little to make and to take, and much to read: the thread of the bridge has the most to do.
    let page = {
        let query = |id| format!(r#"{{"id":{id}}}"#);
        let queries: Vec<_> = (0..1000).map(query).collect();
        let body = format!(r#"{{"data":[{}],"pagination":{{"totalItems":1000}}}}"#, queries.join(","));
        answer(200, "Content-Type: application/json\r\n", &body)
    };
    let one = r#"{"id":"42","status":"RUNNING"}"#;
    let head = format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}", one.len());
    let slow = Answer::After(Duration::from_millis(500), format!("{head}\r\n\r\n{one}").into_bytes());
    let atoti = Upstream::start(move |seen, _| match &*seen.method {
        "PATCH" => answer(204, "", ""),
        _ if seen.target.contains("/query/") => slow.clone(),
        _ => page.clone(),
    })
    .await;
    let bridge = Bridge::start_as_slow_as_tests(&atoti.url()).await;
    let client = bridge.client().await;
    let (listed, shed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (client, listed, shed) = (client.clone(), Arc::clone(&listed), Arc::clone(&shed));
        readers.spawn(async move {
            let request = ListQueriesRequest { page_size: 1000, ..ListQueriesRequest::default() };
            loop {
                let reply = client.method("ListQueries", &request, &[]).await;
                match reply.code() {
                    0 => listed.fetch_add(1, Ordering::Relaxed),
                    8 => shed.fetch_add(1, Ordering::Relaxed),
                    other => panic!("{other}: {:?}", reply.error()),
                };
                if reply.code() == 8 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }
    let began = Instant::now();
    while shed.load(Ordering::Relaxed) == 0 {
        assert_eq!(client.cancel(&cancel("42")).await.code(), 0, "a cancel passes");
        if let Some(ended) = readers.try_join_next() {
            ended.expect("only OK and OVERLOADED");
        }
        let listed = listed.load(Ordering::Relaxed);
        assert!(began.elapsed() < Duration::from_secs(60), "{listed} pages, and nothing shed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    readers.shutdown().await;
    assert!(bridge.metric("atoti_bridge_reads_shed_total").await > Some(0.0));

    // When the thread has little to do, as many are let in as ever, however long they take. A few times, as the machine
    // may be in the way.
    for tries in 1.. {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let reads: Vec<_> = (0..READERS)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.get("42").await.code() })
            })
            .collect();
        let mut refused = 0;
        for read in reads {
            refused += usize::from(read.await.expect("an answer") != 0);
        }
        if refused == 0 {
            break;
        }
        assert!(tries < 10, "{refused} of {READERS} are refused");
    }
}

#[tokio::test]
async fn under_total_failure_atoti_is_hardly_asked_twice() {
    for failing in [Answer::BytesThenClose(Vec::new()), answer(503, "", "")] {
        let atoti = Upstream::start(move |_, _| failing.clone()).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let client = bridge.client().await;
        let calls = 600;
        for _ in 0..calls / 20 {
            let twenty: Vec<_> = (0..20)
                .map(|_| {
                    let client = client.clone();
                    tokio::spawn(async move { client.cancel(&cancel("42")).await.code() })
                })
                .collect();
            for call in twenty {
                assert_eq!(call.await.expect("an answer"), 14);
            }
        }
        let attempts = atoti.seen().len();
        // A tenth, and the ten that even an idle bridge has.
        assert!((calls..=calls * 11 / 10 + 10).contains(&attempts), "{attempts} attempts for {calls} calls");
    }
}

#[tokio::test]
async fn bodies_nobody_wants_cost_neither_connections_nor_memory() {
    let large = answer(500, "Content-Type: text/plain\r\n", &"x".repeat(200_000));
    let atoti = Upstream::start(move |_, _| large.clone()).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    for _ in 0..20 {
        assert_eq!(client.cancel(&cancel("42")).await.code(), 13);
    }
    assert!(atoti.connections() <= 2, "{} connections", atoti.connections());

    let head = b"HTTP/1.1 500 X\r\nContent-Length: 1000000000\r\n\r\n".to_vec();
    let endless = Upstream::start(move |_, _| Answer::Endless(head.clone())).await;
    let bridge = Bridge::start(&endless.url()).await;
    let client = bridge.client().await;
    assert_eq!(client.cancel(&cancel("1")).await.code(), 13);
    let before = bridge.resident_kib();
    let all_at_once: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.cancel(&cancel("42")).await.code() })
        })
        .collect();
    for call in all_at_once {
        assert_eq!(call.await.expect("an answer"), 13);
    }
    let grown = bridge.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{before} KiB grew by {grown}");
}

#[tokio::test]
async fn restarts_under_load_lose_no_call_but_those_told_to_come_back() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let flags = ["--drain-delay=200ms", "--drain-grace=10s"];
    let mut bridges =
        [Bridge::start_with(&atoti.url(), &flags).await, Bridge::start_with(&atoti.url(), &flags).await];
    let addresses: Arc<Vec<Mutex<std::net::SocketAddr>>> =
        Arc::new(bridges.iter().map(|bridge| Mutex::new(bridge.address())).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let (addresses, stop) = (Arc::clone(&addresses), Arc::clone(&stop));
            tokio::spawn(async move { balance(&addresses, n, &stop).await })
        })
        .collect();
    let until = Instant::now() + duration();
    let mut restarts = 0;
    while Instant::now() < until {
        let turn = restarts % 2;
        bridges[turn].signal("-TERM");
        assert_eq!(bridges[turn].exit().await.code(), Some(0));
        bridges[turn] = Bridge::start_with(&atoti.url(), &flags).await;
        *addresses[turn].lock().expect("not poisoned") = bridges[turn].address();
        restarts += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("no call failed");
    }
    println!("{calls} calls during {restarts} restarts");
    assert!(calls > 100, "{calls} calls");
}

/// Calls as a balancing gRPC client does: on one connection until it is told to go, then on the next address; yields
/// how many calls succeeded. A call that never began, or is told DRAINING, is made again.
async fn balance(addresses: &[Mutex<std::net::SocketAddr>], mut turn: usize, stop: &AtomicBool) -> usize {
    let mut succeeded = 0;
    while !stop.load(Ordering::Relaxed) {
        let address = *addresses[turn % addresses.len()].lock().expect("not poisoned");
        turn += 1;
        let Ok(client) = Client::try_connect(address).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            match client.try_cancel(&cancel("42")).await {
                Ok(reply) if reply.code() == 0 => succeeded += 1,
                Ok(reply) if reply.error().reason() == "DRAINING" => break,
                Ok(reply) => panic!("a call failed: {:?}", reply.error()),
                // The stream was never begun, or refused by GOAWAY: nobody has seen the call.
                Err(error) if never_seen(&error) => break,
                Err(error) => panic!("a call was lost: {error}"),
            }
        }
    }
    succeeded
}

/// What a gRPC client repeats of its own accord: transparent retries of gRFC A6.
fn never_seen(error: &h2::Error) -> bool {
    error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}
