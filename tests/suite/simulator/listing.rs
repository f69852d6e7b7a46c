//! `GET /queries`: filters, pages, and the order of it all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use atoti_grpc_bridge::simulator::{NewQuery, Options, Outcome, QueryType, Security, Simulator};
use serde_json::Value;

use super::{HISTORY, exceptions, get, open, start};
use crate::support::http::Answer;

async fn list(atoti: &Simulator, query: &str) -> Answer {
    get(atoti, &format!("{HISTORY}/queries{query}")).await
}

/// The ids of a listing, separated by blanks.
async fn ids(atoti: &Simulator, query: &str) -> String {
    let answer = list(atoti, query).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let body = answer.json();
    let ids: Vec<_> =
        body["data"].as_array().expect("a list").iter().filter_map(|q| q["id"].as_str()).collect();
    ids.join(" ")
}

/// Five queries, the newest with the smallest id.
async fn five() -> Simulator {
    let atoti = open().await;
    let query = |id: u64, username: &str, ends: Option<(u64, Outcome)>| NewQuery {
        id: Some(id),
        username: username.into(),
        started_ago: Duration::from_secs(id * 100),
        ends: ends.map(|(seconds, outcome)| (Duration::from_secs(seconds), outcome)),
        ..NewQuery::default()
    };
    let history = atoti.history();
    history.start_query(query(4, "grace", Some((40, Outcome::Failed))));
    history.start_query(NewQuery {
        metadata: Arc::new(BTreeMap::from([("widget".to_owned(), "a table".to_owned())])),
        ..query(1, "ada", None)
    });
    history.start_query(query(3, "ada", Some((30, Outcome::Successful))));
    history.start_query(NewQuery { query_type: QueryType::Unknown, ..query(2, "grace", None) });
    history.start_query(query(5, "ada,grace", Some((50, Outcome::Cancelled))));
    atoti
}

#[tokio::test]
async fn each_filter_narrows_the_list() {
    let atoti = five().await;
    let moment = |seconds_ago: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
        at.to_string()
    };
    let expected = [
        (String::new(), "1 2 3 4 5"),
        ("?user=ada".to_owned(), "1 3"),
        ("?user=ada,grace".to_owned(), "5"),
        ("?user=%5B%22ada%22,%22grace%22%5D".to_owned(), "1 2 3 4"),
        ("?status=RUNNING".to_owned(), "1 2"),
        ("?status=%5B%22FAILED%22,%22CANCELLED%22%5D".to_owned(), "4 5"),
        ("?type=UNKNOWN".to_owned(), "2"),
        ("?type=MDX&user=grace".to_owned(), "4"),
        ("?metadata.widget=a+table".to_owned(), "1"),
        ("?metadata.widget=a+chair".to_owned(), ""),
        (format!("?started_after={}", moment(250)), "1 2"),
        (format!("?started_before={}", moment(250)), "3 4 5"),
        (format!("?ended_after={}", moment(300)), "3"),
        (format!("?ended_before={}", moment(300)), "4 5"),
        ("?min_duration=40000".to_owned(), "1 2 4 5"),
        ("?max_duration=PT40S".to_owned(), "3 4"),
        ("?min_duration=PT31S&max_duration=60000".to_owned(), "4 5"),
        ("?nobody_knows=this".to_owned(), "1 2 3 4 5"),
    ];
    for (query, expected) in expected {
        assert_eq!(ids(&atoti, &query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let atoti = five().await;
    for (query, status, exception) in [
        ("?status=WAITING", 400, "BadRequestException"),
        ("?status=running", 400, "BadRequestException"),
        ("?type=SQL", 400, "BadRequestException"),
        ("?page=-1", 400, "BadRequestException"),
        ("?page_size=0", 400, "BadRequestException"),
        ("?started_after=2026-01-01", 500, "DateTimeParseException"),
        ("?ended_before=noon", 500, "DateTimeParseException"),
        ("?min_duration=long", 500, "DateTimeParseException"),
    ] {
        let answer = list(&atoti, query).await;
        assert_eq!((answer.status.as_u16(), &*exceptions(&answer)[0]), (status, exception), "{query}");
    }
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let atoti = five().await;
    assert_eq!(ids(&atoti, "?page_size=2").await, "1 2");
    assert_eq!(ids(&atoti, "?page_size=2&page=1").await, "3 4");
    assert_eq!(ids(&atoti, "?page_size=2&page=2").await, "5");
    assert_eq!(ids(&atoti, "?page_size=2&page=3").await, "");
    let last = list(&atoti, "?page_size=2&page=2&user=ada").await.json();
    let numbers = |body: &Value| {
        ["pageNumber", "pageSize", "totalItems", "totalPages"].map(|name| body["pagination"][name].as_u64())
    };
    assert_eq!(numbers(&last), [Some(2), Some(2), Some(2), Some(1)]);
    let full = start(Options { finished_queries: 25, security: Security::Off, ..Options::default() }).await;
    let body = list(&full, "").await.json();
    assert_eq!(numbers(&body), [Some(0), Some(10), Some(25), Some(3)]);
    assert_eq!(body["data"].as_array().map(Vec::len), Some(10), "ten by default");
}
