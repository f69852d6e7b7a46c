//! What goes wrong on demand: each kind of fault on the wire, and which requests it befalls.

use std::time::{Duration, Instant};

use atoti_grpc_bridge::simulator::{Fault, Simulator, Status};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{HISTORY, cancel, get, open, start_query};
use crate::support::{eventually, http::Connection, within};

const VERSIONS: &str = "/versions/rest";

/// The first bytes of an answer, as they come, then the end of the connection from this side.
async fn raw(atoti: &Simulator, most: usize) -> String {
    let mut stream = TcpStream::connect(atoti.address()).await.expect("it listens");
    let request = format!("GET {VERSIONS} HTTP/1.1\r\nhost: atoti\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut received = Vec::new();
    let mut limited = stream.take(most as u64);
    within("bytes or an end", limited.read_to_end(&mut received)).await.expect("an orderly end");
    String::from_utf8_lossy(&received).into_owned()
}

/// Whether one request gets no whole answer.
async fn breaks(atoti: &Simulator) -> bool {
    Connection::open(atoti.address()).await.try_send("GET", VERSIONS, &[], "").await.is_err()
}

fn running(atoti: &Simulator, id: &str) -> bool {
    atoti.history().get(id).expect("it is known").status == Status::Running
}

#[tokio::test]
async fn a_status_and_an_answer_are_what_was_asked_for() {
    let atoti = open().await;
    atoti.inject(Fault::status(503).with_header("Retry-After", "7").times(1));
    let busy = get(&atoti, VERSIONS).await;
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (503, Some("7")));
    atoti.inject(Fault::answer(299, "text/plain", "hello").with_header("x-note", "odd").times(1));
    let odd = get(&atoti, VERSIONS).await;
    assert_eq!((odd.status.as_u16(), odd.header("x-note"), odd.text()), (299, Some("odd"), "hello"));
    atoti.inject(Fault::redirect("/login").times(1));
    let moved = get(&atoti, VERSIONS).await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (302, Some("/login")));
    atoti.inject(Fault::html().times(1));
    let page = get(&atoti, VERSIONS).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html;charset=UTF-8")));
    assert!(page.text().contains("password"));
    atoti.inject(Fault::malformed_json().times(1));
    let broken = get(&atoti, VERSIONS).await;
    assert_eq!((broken.status.as_u16(), broken.header("content-type")), (200, Some("application/json")));
    assert!(serde_json::from_slice::<serde_json::Value>(&broken.body).is_err());
    assert_eq!(get(&atoti, VERSIONS).await.json()["version"], 1, "all are used up");
}

#[tokio::test]
async fn a_connection_is_cut_before_or_after_the_head() {
    let atoti = open().await;
    atoti.inject(Fault::cut_before_head().times(1));
    assert_eq!(raw(&atoti, 1000).await, "");
    atoti.inject(Fault::cut_after_head().times(2));
    let cut = raw(&atoti, 1000).await;
    assert!(cut.starts_with("HTTP/1.1 200 OK") && cut.contains("content-length: 1000"), "{cut}");
    assert!(breaks(&atoti).await);
    atoti.inject(Fault::drop_connection());
    let dropped = atoti.requests().len();
    assert!(breaks(&atoti).await);
    assert_eq!(atoti.requests().len(), dropped, "it never was a request");
    assert!(!breaks(&atoti).await);
}

#[tokio::test]
async fn an_answer_is_late_or_never_comes() {
    let atoti = open().await;
    atoti.inject(Fault::delay(Duration::from_millis(300)).times(1));
    let sent = Instant::now();
    assert_eq!(get(&atoti, VERSIONS).await.status, 200);
    assert!(sent.elapsed() >= Duration::from_millis(300));
    atoti.inject(Fault::hang().times(1));
    let waiting = tokio::time::timeout(Duration::from_millis(300), get(&atoti, VERSIONS)).await;
    assert!(waiting.is_err(), "{waiting:?}");
}

#[tokio::test]
async fn a_body_trickles_or_does_not_end() {
    let atoti = open().await;
    let whole = get(&atoti, VERSIONS).await;
    atoti.inject(Fault::trickle(50, Duration::from_millis(20)).times(1));
    let sent = Instant::now();
    let trickled = get(&atoti, VERSIONS).await;
    assert_eq!(
        (trickled.body.clone(), trickled.header("content-length")),
        (whole.body.clone(), whole.header("content-length"))
    );
    let pieces = u32::try_from(whole.body.len().div_ceil(50)).expect("a few");
    assert!(sent.elapsed() >= Duration::from_millis(20) * pieces);
    atoti.inject(Fault::endless_body().times(1));
    assert_eq!(raw(&atoti, 5_000_000).await.len(), 5_000_000);
    atoti.inject(Fault::huge_body(1_000_000).times(1));
    let huge = get(&atoti, VERSIONS).await;
    assert_eq!((huge.body.len(), huge.json().as_str().map(str::len)), (1_000_000, Some(999_998)));
}

#[tokio::test]
async fn without_the_api_its_paths_are_unknown_and_the_versions_do_not_name_it() {
    let atoti = open().await;
    let id = start_query(&atoti);
    atoti.inject(Fault::missing_api());
    let unknown = cancel(&atoti, &id).await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["error"].as_str()), (404, Some("Not Found")));
    let apis = get(&atoti, VERSIONS).await.json()["apis"].clone();
    assert!(apis.get("activeviam/query-history").is_none() && apis.get("activeviam/pivot").is_some());
    assert_eq!(get(&atoti, "/activeviam/pivot/rest/v10/ping").await.text(), "pong");
    atoti.clear_faults();
    assert!(running(&atoti, &id));
    assert_eq!(cancel(&atoti, &id).await.status, 204);
}

#[tokio::test]
async fn a_fault_befalls_the_requests_that_it_names_and_as_often_as_it_says() {
    let atoti = open().await;
    atoti.inject(Fault::status(501).on("PATCH", "/query/"));
    atoti.inject(Fault::status(502).on("", "page=7").times(2));
    atoti.inject(Fault::status(503).times(0));
    let page = format!("{HISTORY}/queries?page=7");
    assert_eq!(cancel(&atoti, "1").await.status, 501);
    assert_eq!(get(&atoti, VERSIONS).await.status, 200, "neither the method nor the path fits");
    for expected in [502, 502, 200] {
        assert_eq!(get(&atoti, &page).await.status, expected);
    }
    assert_eq!(cancel(&atoti, "1").await.status, 501, "for ever");
    atoti.clear_faults();
    assert_eq!(cancel(&atoti, "1").await.status, 404);
}

#[tokio::test]
async fn a_fault_replaces_the_effect_or_follows_it() {
    let atoti = open().await;
    let (spared, lost) = (start_query(&atoti), start_query(&atoti));
    atoti.inject(Fault::status(500).times(1));
    assert_eq!(cancel(&atoti, &spared).await.status, 500);
    atoti.inject(Fault::status(500).after_effect().times(1));
    assert_eq!(cancel(&atoti, &lost).await.status, 500);
    eventually("the cancel that failed", || (!running(&atoti, &lost)).then_some(())).await;
    assert!(running(&atoti, &spared));
    let slow = start_query(&atoti);
    atoti.inject(Fault::delay(Duration::from_secs(60)).after_effect().times(1));
    let answer = tokio::time::timeout(Duration::from_millis(500), cancel(&atoti, &slow)).await;
    assert!(answer.is_err(), "{answer:?}");
    eventually("the cancel without an answer", || (!running(&atoti, &slow)).then_some(())).await;
}

#[tokio::test]
async fn the_effect_comes_about_although_the_caller_hangs_up() {
    let atoti = open().await;
    let id = start_query(&atoti);
    atoti.inject(Fault::delay(Duration::from_millis(200)).times(1));
    let answer = tokio::time::timeout(Duration::from_millis(50), cancel(&atoti, &id)).await;
    assert!(answer.is_err(), "{answer:?}");
    eventually("the cancel", || (!running(&atoti, &id)).then_some(())).await;
}
