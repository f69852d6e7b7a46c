//! What Tomcat and Spring do around the API: connections, sessions, refusals of strange requests.

use std::time::Duration;

use atoti_grpc_bridge::simulator::{Fault, Options, Security, Shape, Simulator};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{CANCELLED, HISTORY, JSON, get, open, send, start, start_query};
use crate::support::{http::Connection, within};

#[tokio::test]
async fn a_connection_is_closed_after_its_last_request() {
    let atoti =
        start(Options { requests_per_connection: 3, security: Security::Off, ..Options::default() }).await;
    let mut connection = Connection::open(atoti.address()).await;
    for expected in [None, None, Some("close")] {
        let answer = connection.send("GET", "/versions/rest", &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, expected));
    }
    assert!(connection.try_send("GET", "/versions/rest", &[], "").await.is_err(), "it is closed indeed");
    assert_eq!(atoti.connections(), 1);
}

#[tokio::test]
async fn answers_400_and_500_close_the_connection_and_others_do_not() {
    let atoti = open().await;
    for (target, status, closed) in
        [("page=x", 400, true), ("started_after=x", 500, true), ("page=9", 200, false)]
    {
        let answer = get(&atoti, &format!("{HISTORY}/queries?{target}")).await;
        let close = answer.header("connection") == Some("close");
        assert_eq!((answer.status.as_u16(), close), (status, closed), "{target}");
    }
    assert_eq!(get(&atoti, &format!("{HISTORY}/query/1")).await.header("connection"), None);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle_timeout = Duration::from_millis(100);
    let atoti = start(Options { idle_timeout, ..Options::default() }).await;
    let mut stream = TcpStream::connect(atoti.address()).await.expect("it listens");
    let mut rest = Vec::new();
    within("its end", stream.read_to_end(&mut rest)).await.expect("an orderly end");
}

#[tokio::test]
async fn a_caller_without_a_cookie_gets_a_new_session_each_time() {
    let atoti = open().await;
    let mut connection = Connection::open(atoti.address()).await;
    let first = connection.send("GET", "/versions/rest", &[], "").await;
    let cookie = first.header("set-cookie").expect("a session");
    assert!(cookie.starts_with("JSESSIONID=") && cookie.ends_with("; Path=/; HttpOnly"), "{cookie}");
    let second = connection.send("GET", "/versions/rest", &[], "").await;
    assert_ne!(second.header("set-cookie").expect("a session"), cookie);
    let session = cookie.split(';').next().expect("a name and a value");
    let known = connection.send("GET", "/versions/rest", &[("cookie", session)], "").await;
    assert_eq!(known.header("set-cookie"), None);
}

#[tokio::test]
async fn strange_paths_are_refused_before_anybody_looks() {
    let atoti = open().await;
    let id = start_query(&atoti);
    for path in
        ["1%2F2", "..", "../queries", "%2e%2e/queries", "1//2", "%00", "1;2", "1%5c2", "%25", "%zz", "%2"]
    {
        let answer = send(&atoti, "PATCH", &format!("{HISTORY}/query/{path}"), &[JSON], CANCELLED).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains("<h1>HTTP Status 400"), "{path}: {answer:?}");
    }
    assert_eq!(get(&atoti, &format!("{HISTORY}/query/{id}")).await.json()["status"], "RUNNING");
}

#[tokio::test]
async fn a_head_has_8_kib_and_a_body_64() {
    let atoti = open().await;
    // The request line, `host: atoti`, `x:` and the line ends come on top.
    for (bytes, status) in [(8 * 1024 - 100, 200), (8 * 1024, 400), (32 * 1024, 400)] {
        let long = "x".repeat(bytes);
        let answer = send(&atoti, "GET", "/versions/rest", &[("x", &long)], "").await;
        assert_eq!(answer.status.as_u16(), status, "{bytes}");
    }
    let target = format!("{HISTORY}/query/1");
    let long = format!("{{\"status\":\"CANCELLED\",\"x\":\"{}\"}}", "x".repeat(64 * 1024));
    assert_eq!(send(&atoti, "PATCH", &target, &[JSON], &long).await.status, 413);
}

#[tokio::test]
async fn errors_come_in_five_shapes_and_a_wrapping() {
    let atoti = open().await;
    for (shape, begins, kind) in [
        (Shape::ErrorChain, "{\"errorChain\":[{", "application/json"),
        (Shape::WrappedErrorChain, "{\"error\":{\"errorChain\":[{", "application/json"),
        (Shape::Spring, "{\"error\":\"Gateway Timeout\",\"path\":\"/versions/rest\"", "application/json"),
        (Shape::Text, "A simulated fault", "application/json"),
        (Shape::TomcatHtml, "<!doctype html>", "text/html;charset=utf-8"),
    ] {
        atoti.inject(Fault::status(504).with_shape(shape).times(1));
        let answer = get(&atoti, "/versions/rest").await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (504, Some(kind)), "{shape:?}");
        assert!(answer.text().starts_with(begins), "{shape:?}: {}", answer.text());
    }
    atoti.inject(Fault::status(504).with_shape(Shape::Empty).times(1));
    let empty = get(&atoti, "/versions/rest").await;
    assert_eq!((empty.body.len(), empty.header("content-type")), (0, None));
}

#[tokio::test]
async fn who_takes_only_plain_text_gets_no_json_error() {
    let atoti = open().await;
    let target = format!("{HISTORY}/query/1");
    let told = async |accept: &str| send(&atoti, "GET", &target, &[("accept", accept)], "").await.body.len();
    assert_eq!(told("text/plain").await, 0);
    for accept in ["application/json", "application/json, */*", "*/*", "text/html, application/*"] {
        assert!(told(accept).await > 0, "{accept}");
    }
}

#[tokio::test]
async fn the_versions_name_the_api_below_any_context_path() {
    let options = Options { context_path: "/atoti/prod".to_owned(), ..Options::default() };
    let atoti = start(options).await;
    assert!(atoti.base_url().ends_with("/atoti/prod"));
    let api = &get(&atoti, "/atoti/prod/versions/rest").await.json()["apis"]["activeviam/query-history"];
    assert_eq!(api["versions"][0]["restPath"], HISTORY);
    let outside = get(&atoti, "/versions/rest").await;
    assert_eq!(
        (outside.status.as_u16(), outside.header("content-type")),
        (404, Some("text/html;charset=utf-8"))
    );
    let cookie = get(&atoti, "/atoti/prod/versions/rest").await;
    assert!(cookie.header("set-cookie").is_some_and(|cookie| cookie.contains("Path=/atoti/prod;")));
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let atoti = open().await;
    let mut stream = TcpStream::connect(atoti.address()).await.expect("it listens");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.expect("an orderly end");
    assert!(!answer.starts_with(&[0]), "no HTTP/2 frame: {answer:?}");
}

#[tokio::test]
async fn options_that_contradict_themselves_are_refused_by_name() {
    for (options, name) in [
        (Options { context_path: "atoti".to_owned(), ..Options::default() }, "context_path"),
        (Options { context_path: "/a b".to_owned(), ..Options::default() }, "context_path"),
        (Options { context_path: "/simulator/x".to_owned(), ..Options::default() }, "context_path"),
        (Options { arrivals_per_second: -1.0, ..Options::default() }, "arrivals_per_second"),
        (Options { arrivals_per_second: f64::NAN, ..Options::default() }, "arrivals_per_second"),
        (Options { utc_offset_hours: 19, ..Options::default() }, "utc_offset_hours"),
        (Options { history_capacity: 0, ..Options::default() }, "history_capacity"),
    ] {
        let error = Simulator::start(options).await.expect_err(name);
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
}
