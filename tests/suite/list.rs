//! ListQueries: what a filter asks of Atoti and selects, and pages that hold every query exactly once.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use atoti_grpc_bridge::simulator::{NewQuery, Options, Outcome, QueryType, Security, Simulator};
use jiff::Timestamp;

use crate::support::{
    bridge::Bridge,
    client::{Client, Reply},
    messages::{ListQueriesRequest, ListQueriesResponse, QueryFilter, RUNNING, of_user},
    upstream::{Answer, Seen, Upstream, answer},
};

const SUCCESSFUL: i32 = 2;
const FAILED: i32 = 3;
const CANCELLED: i32 = 4;
const UNKNOWN: i32 = 1;
const MDX: i32 = 2;

const JSON: &str = "Content-Type: application/json\r\n";
const PATH: &str = "/activeviam/query-history/rest/v1/queries";
/// What most clients take of a message, unless told otherwise.
const MOST_BYTES: usize = 4 * 1024 * 1024;

async fn open_atoti() -> Simulator {
    let options = Options { security: Security::Off, ..Options::default() };
    Simulator::start(options).await.expect("it starts")
}

fn request(filter: &QueryFilter, page_size: i32, page_token: &str) -> ListQueriesRequest {
    ListQueriesRequest { filter: Some(filter.clone()), page_size, page_token: page_token.to_owned() }
}

async fn list(client: &Client, filter: &QueryFilter, page_size: i32, page_token: &str) -> Reply {
    client.method("ListQueries", &request(filter, page_size, page_token), &[]).await
}

fn ids(page: &ListQueriesResponse) -> Vec<String> {
    page.queries.iter().map(|query| query.query_id.clone()).collect()
}

/// Every page up to the end; none larger than asked for, and none that claims another total.
async fn walk(client: &Client, filter: &QueryFilter, sizes: &[i32]) -> Vec<ListQueriesResponse> {
    let mut pages: Vec<ListQueriesResponse> = Vec::new();
    loop {
        let size = sizes[pages.len() % sizes.len()];
        let token = pages.last().map_or("", |page| &page.next_page_token).to_owned();
        let page: ListQueriesResponse = list(client, filter, size, &token).await.message();
        assert!(page.queries.len() <= usize::try_from(size).expect("positive"), "a page of {size}");
        assert!(pages.len() < 1000, "it ends");
        assert_eq!(page.total_size, pages.first().unwrap_or(&page).total_size);
        let end = page.next_page_token.is_empty();
        pages.push(page);
        if end {
            return pages;
        }
    }
}

fn all_ids(pages: &[ListQueriesResponse]) -> Vec<String> {
    pages.iter().flat_map(ids).collect()
}

#[track_caller]
fn assert_each_once(seen: &[String], expected: impl IntoIterator<Item = String>, what: &str) {
    let unique: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(unique.len(), seen.len(), "{what}: one came twice");
    assert_eq!(unique, expected.into_iter().collect(), "{what}");
}

fn proto_time(time: Timestamp) -> Option<prost_types::Timestamp> {
    let nanos = time.as_nanosecond();
    Some(prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).expect("in range"),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("in range"),
    })
}

fn at(text: &str) -> Option<prost_types::Timestamp> {
    proto_time(text.parse().expect("a time"))
}

fn lasting(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

fn notes(notes: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Parameters of a target, decoded.
fn parameters(target: &str) -> Vec<(String, String)> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn parameter(target: &str, name: &str) -> Option<String> {
    parameters(target).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[tokio::test]
async fn every_field_of_a_filter_reaches_atoti_in_atotis_words() {
    let atoti = Upstream::start(|_, _| answer(200, JSON, r#"{"data":[]}"#)).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let none = QueryFilter::default;
    let users = |names: &[&str]| QueryFilter {
        usernames: names.iter().map(|name| (*name).to_owned()).collect(),
        ..none()
    };
    for (filter, expected) in [
        (none(), &[][..]),
        (of_user("ada"), &[("user", "ada")]),
        (of_user("d\"k & co=+%/ü"), &[("user", "d\"k & co=+%/ü")]),
        (users(&["ada", "d\"k"]), &[("user", r#"["ada","d\"k"]"#)]),
        (of_user("[x]"), &[("user", r#"["[x]"]"#)]),
        (QueryFilter { statuses: vec![RUNNING], ..none() }, &[("status", "RUNNING")]),
        (
            QueryFilter { statuses: vec![SUCCESSFUL, FAILED, CANCELLED], ..none() },
            &[("status", r#"["SUCCESSFUL","FAILED","CANCELLED"]"#)],
        ),
        (QueryFilter { types: vec![MDX], ..none() }, &[("type", "MDX")]),
        (QueryFilter { types: vec![UNKNOWN, MDX], ..none() }, &[("type", r#"["UNKNOWN","MDX"]"#)]),
        (
            QueryFilter { started_after: at("2026-11-23T10:00:00.123456789+01:00"), ..none() },
            &[("started_after", "2026-11-23T09:00:00.123456789Z")],
        ),
        (
            QueryFilter { started_before: at("2026-11-23T10:00:00Z"), ..none() },
            &[("started_before", "2026-11-23T10:00:00Z")],
        ),
        (
            QueryFilter { ended_after: at("1969-12-31T23:59:59.000000001Z"), ..none() },
            &[("ended_after", "1969-12-31T23:59:59.000000001Z")],
        ),
        (
            QueryFilter { ended_before: at("2026-02-28T23:59:59.5Z"), ..none() },
            &[("ended_before", "2026-02-28T23:59:59.5Z")],
        ),
        // Whole milliseconds, rounded so that nothing more is selected than was asked for.
        (QueryFilter { min_duration: lasting(1, 1), ..none() }, &[("min_duration", "1001")]),
        (QueryFilter { max_duration: lasting(1, 999_999), ..none() }, &[("max_duration", "1000")]),
        (
            QueryFilter { min_duration: lasting(0, 0), max_duration: lasting(315_576_000_000, 0), ..none() },
            &[("min_duration", "0"), ("max_duration", "315576000000000")],
        ),
        (
            QueryFilter { metadata: notes(&[("cube", "a=b&c"), ("my widget", "")]), ..none() },
            &[("metadata.cube", "a=b&c"), ("metadata.my widget", "")],
        ),
        (
            QueryFilter { statuses: vec![FAILED], metadata: notes(&[("page", "7")]), ..of_user("ada") },
            &[("user", "ada"), ("status", "FAILED"), ("metadata.page", "7")],
        ),
    ] {
        let page: ListQueriesResponse = list(&client, &filter, 20, "").await.message();
        assert_eq!((page.queries.len(), page.total_size, &*page.next_page_token), (0, 0, ""));
        let seen = atoti.seen().pop().expect("a request");
        assert_eq!(seen.method, "GET");
        assert!(seen.target.starts_with(&format!("{PATH}?")), "{}", seen.target);
        assert!(seen.target.bytes().all(|byte| byte.is_ascii_graphic()), "{}", seen.target);
        assert!(!seen.target.contains(['"', '[', ']', '<', '>']), "Tomcat takes them raw nowhere");
        let paging = [("page", "0"), ("page_size", "20")];
        let asked: BTreeSet<_> = parameters(&seen.target).into_iter().collect();
        let expected: BTreeSet<_> = expected
            .iter()
            .chain(&paging)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(asked, expected, "{filter:?}");
    }
    let before = atoti.seen().len();
    let unset: ListQueriesResponse =
        client.method("ListQueries", &ListQueriesRequest::default(), &[]).await.message();
    assert!(unset.queries.is_empty());
    assert_eq!(atoti.seen()[before].target, format!("{PATH}?page=0&page_size=50"));
}

/// Seven queries, newest first, of different users, states, languages, times, lengths and notes.
fn varied_history(atoti: &Simulator) {
    let query = |id, user: &str, query_type, ago, ends: Option<(u64, Outcome)>, noted: &[(&str, &str)]| {
        let id = atoti.history().start_query(NewQuery {
            id: Some(id),
            username: user.into(),
            query_type,
            started_ago: Duration::from_secs(ago),
            ends: ends.map(|(millis, outcome)| (Duration::from_millis(millis), outcome)),
            metadata: std::sync::Arc::new(notes(noted)),
            fraction_digits: 9,
            ..NewQuery::default()
        });
        assert_eq!(id.len(), 1);
    };
    query(1, "ada", QueryType::Mdx, 10, None, &[("cube", "Sales")]);
    let kpi = [("cube", "Sales"), ("widget", "kpi")];
    query(2, "ada", QueryType::Mdx, 100, Some((5_000, Outcome::Successful)), &kpi);
    query(3, "bob", QueryType::Unknown, 200, Some((20_000, Outcome::Failed)), &[("cube", "Equity")]);
    query(4, "bob", QueryType::Mdx, 300, Some((2_000, Outcome::Cancelled)), &[("cube", "Sales")]);
    query(5, "d\"k & co", QueryType::Unknown, 400, Some((60_000, Outcome::Successful)), &[]);
    query(6, "ada", QueryType::Mdx, 500, Some((500, Outcome::Failed)), &[("cube", "a=b&c")]);
    query(7, "[x]", QueryType::Unknown, 600, None, &[]);
}

#[tokio::test]
async fn a_filter_selects_what_it_says_alone_and_together() {
    let atoti = open_atoti().await;
    varied_history(&atoti);
    let third = atoti.history().get("3").expect("it is known");
    let (start, end) = (third.started, third.ended.expect("it ended"));
    let tick = Duration::from_nanos(1);
    let none = QueryFilter::default;
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (filter, expected) in [
        (none(), "1234567"),
        (of_user("ada"), "126"),
        (QueryFilter { usernames: vec!["bob".to_owned(), "d\"k & co".to_owned()], ..none() }, "345"),
        (of_user("[x]"), "7"),
        (of_user("nobody"), ""),
        (QueryFilter { statuses: vec![RUNNING], ..none() }, "17"),
        (QueryFilter { statuses: vec![SUCCESSFUL, FAILED], ..none() }, "2356"),
        (QueryFilter { statuses: vec![CANCELLED], ..none() }, "4"),
        (QueryFilter { types: vec![MDX], ..none() }, "1246"),
        (QueryFilter { types: vec![UNKNOWN], ..none() }, "357"),
        (QueryFilter { types: vec![UNKNOWN, MDX], ..none() }, "1234567"),
        (QueryFilter { started_after: proto_time(start), ..none() }, "12"),
        (QueryFilter { started_after: proto_time(start - tick), ..none() }, "123"),
        (QueryFilter { started_before: proto_time(start), ..none() }, "4567"),
        (QueryFilter { started_before: proto_time(start + tick), ..none() }, "34567"),
        (QueryFilter { ended_after: proto_time(end), ..none() }, "2"),
        (QueryFilter { ended_after: proto_time(end - tick), ..none() }, "23"),
        (QueryFilter { ended_before: proto_time(end), ..none() }, "456"),
        (QueryFilter { ended_before: proto_time(end + tick), ..none() }, "3456"),
        (QueryFilter { min_duration: lasting(5, 0), ..none() }, "12357"),
        (QueryFilter { min_duration: lasting(5, 1), ..none() }, "1357"),
        (QueryFilter { max_duration: lasting(2, 0), ..none() }, "46"),
        (QueryFilter { max_duration: lasting(1, 999_999_999), ..none() }, "6"),
        (QueryFilter { metadata: notes(&[("cube", "Sales")]), ..none() }, "124"),
        (QueryFilter { metadata: notes(&[("cube", "Sales"), ("widget", "kpi")]), ..none() }, "2"),
        (QueryFilter { metadata: notes(&[("cube", "a=b&c")]), ..none() }, "6"),
        (
            QueryFilter {
                statuses: vec![SUCCESSFUL, FAILED],
                types: vec![MDX],
                started_after: proto_time(start),
                ..of_user("ada")
            },
            "2",
        ),
        (
            QueryFilter {
                started_after: proto_time(start - Duration::from_secs(250)),
                started_before: proto_time(start + Duration::from_secs(50)),
                min_duration: lasting(2, 0),
                max_duration: lasting(30, 0),
                ..none()
            },
            "34",
        ),
        (QueryFilter { metadata: notes(&[("cube", "Sales")]), ..of_user("bob") }, "4"),
        (QueryFilter { ended_after: at("2000-01-01T00:00:00Z"), statuses: vec![RUNNING], ..none() }, ""),
    ] {
        let page: ListQueriesResponse = list(&client, &filter, 0, "").await.message();
        assert_eq!(ids(&page).concat(), expected, "{filter:?}");
        assert_eq!(page.total_size, i64::try_from(expected.len()).expect("few"), "{filter:?}");
        assert_eq!(page.next_page_token, "", "{filter:?}");
        // The same in pages of two: the token is good for its filter, and the filter holds on every page.
        assert_eq!(all_ids(&walk(&client, &filter, &[2]).await).concat(), expected, "{filter:?}");
    }
    let page: ListQueriesResponse = list(&client, &of_user("bob"), 1, "").await.message();
    let query = &page.queries[0];
    assert_eq!((query.status, query.kind, &*query.username), (FAILED, UNKNOWN, "bob"));
    assert_eq!((query.start_time, query.end_time), (proto_time(start), proto_time(end)));
    assert_eq!((&*query.text, &*query.trace_id), (&*third.text, &*third.trace_id));
    assert_eq!((&*query.node_name, &query.metadata["cube"]), ("node-1", &"Equity".to_owned()));
}

#[tokio::test]
async fn a_page_size_is_fifty_by_default_a_thousand_at_most_and_never_negative() {
    let atoti = open_atoti().await;
    for _ in 0..1100 {
        atoti.history().start_query(NewQuery::default());
    }
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (size, listed) in [(0, 50), (1, 1), (999, 999), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
        let page: ListQueriesResponse = list(&client, &QueryFilter::default(), size, "").await.message();
        assert_eq!((page.queries.len(), page.total_size), (listed, 1100), "{size}");
        assert!(!page.next_page_token.is_empty());
    }
    atoti.clear_requests();
    for size in [-1, i32::MIN] {
        let reply = list(&client, &QueryFilter::default(), size, "").await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (3, "INVALID_PAGE_SIZE"));
        assert_eq!(error.metadata("requestSent"), Some("false"));
        let violations = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!((violations.len(), &*violations[0].field), (1, "page_size"));
    }
    assert!(atoti.requests().iter().all(|request| request.header("x-request-id").is_none()));
}

#[tokio::test]
async fn pages_of_changing_sizes_hold_every_query_once_the_newest_first() {
    let options = Options { security: Security::Off, finished_queries: 150, ..Options::default() };
    let atoti = Simulator::start(options).await.expect("it starts");
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let whole: ListQueriesResponse = list(&client, &QueryFilter::default(), 1000, "").await.message();
    let whole = ids(&whole);
    assert_eq!(whole.len(), 150);
    for sizes in [&[1][..], &[7], &[1, 13, 2, 40, 3], &[149], &[150], &[151]] {
        let pages = walk(&client, &QueryFilter::default(), sizes).await;
        assert_eq!(all_ids(&pages), whole, "{sizes:?}");
        assert_eq!(pages[0].total_size, 150);
    }
}

#[tokio::test]
async fn every_query_that_stays_comes_once_while_others_begin_and_end() {
    let atoti = open_atoti().await;
    let running = QueryFilter { statuses: vec![RUNNING], ..QueryFilter::default() };
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for size in [1, 2, 7] {
        let history = atoti.history();
        let mut staying: BTreeSet<_> = (0..40).map(|_| history.start_query(NewQuery::default())).collect();
        let total = history.running().len();
        let (mut seen, mut token): (Vec<String>, _) = (Vec::new(), String::new());
        for turn in 0.. {
            let page: ListQueriesResponse = list(&client, &running, size, &token).await.message();
            assert!(
                page.queries.len() <= size as usize,
                "{} queries on a page of {size}",
                page.queries.len()
            );
            assert_eq!(
                page.total_size,
                i64::try_from(total).expect("few"),
                "it was counted at the beginning"
            );
            seen.extend(ids(&page));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            assert!(turn < 200, "it ends");
            // Some begin; the one given out last ends, and now and then one that is yet to come.
            history.start_query(NewQuery::default());
            history.start_query(NewQuery::default());
            let last = seen.last().expect("a page is not empty while more run").clone();
            let coming = history.running().pop().map(|query| query.id).filter(|_| turn % 3 == 0);
            for id in [Some(last), coming].into_iter().flatten() {
                history.finish(&id);
                staying.remove(&id);
            }
        }
        let unique: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(unique.len(), seen.len(), "one came twice in pages of {size}");
        let missing: Vec<_> = staying.difference(&unique).collect();
        assert!(missing.is_empty(), "{missing:?} never came in pages of {size}");
        for query in history.running() {
            history.finish(&query.id);
        }
    }
}

#[tokio::test]
async fn many_that_start_at_the_same_moment_come_once_each() {
    let atoti = open_atoti().await;
    let mut expected = Vec::new();
    for _ in 0..60 {
        // Whole seconds.
        expected.push(atoti.history().start_query(NewQuery { fraction_digits: 0, ..NewQuery::default() }));
    }
    for _ in 0..60 {
        expected.push(atoti.history().start_query(NewQuery { fraction_digits: 3, ..NewQuery::default() }));
    }
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for size in [1, 7, 59, 60, 61] {
        let pages = walk(&client, &QueryFilter::default(), &[size]).await;
        assert_each_once(&all_ids(&pages), expected.clone(), &format!("pages of {size}"));
    }
}

#[tokio::test]
async fn a_token_that_was_not_given_out_for_this_very_filter_is_refused_unseen() {
    let atoti = open_atoti().await;
    for _ in 0..10 {
        atoti.history().start_query(NewQuery::default());
    }
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    let all = QueryFilter::default();
    let page: ListQueriesResponse = list(&client, &all, 3, "").await.message();
    let good = page.next_page_token;
    let users: ListQueriesResponse = list(&client, &of_user("user"), 3, "").await.message();
    atoti.clear_requests();

    let mut tokens = vec![users.next_page_token.clone(), " ".to_owned(), format!("{good} "), good.repeat(2)];
    let mut rng = fastrand::Rng::with_seed(1);
    for length in 1..60 {
        tokens.push(std::iter::repeat_with(|| rng.alphanumeric()).take(length).collect());
        tokens.push(std::iter::repeat_with(|| rng.char('\u{1}'..)).take(length).collect());
    }
    for at in 0..good.len() {
        tokens.push(good[..at].to_owned());
        let mut bent = good.clone().into_bytes();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        tokens.push(String::from_utf8(bent).expect("ASCII"));
    }
    for token in tokens.iter().filter(|token| !token.is_empty()) {
        let reply = list(&client, &all, 3, token).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (3, "INVALID_PAGE_TOKEN"), "{token:?}");
        let violations = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!((violations.len(), &*violations[0].field), (1, "page_token"));
        assert!(token.len() < 8 || !reply.everything().contains(&**token), "{token:?} is repeated");
    }
    for filter in [of_user("user"), of_user("ada"), QueryFilter { statuses: vec![RUNNING], ..all.clone() }] {
        assert_eq!(list(&client, &filter, 3, &good).await.error().reason(), "INVALID_PAGE_TOKEN");
    }
    assert!(
        atoti.requests().iter().all(|request| request.header("x-request-id").is_none()),
        "Atoti was not asked"
    );
    // And those that were given out are good, in any replica.
    let other = Bridge::start(&atoti.base_url()).await;
    for client in [&client, &other.client().await] {
        assert_eq!(list(client, &all, 1, &good).await.code(), 0);
        assert_eq!(list(client, &of_user("user"), 9, &users.next_page_token).await.code(), 0);
    }
}

/// A query of a scripted history: its id and when it started, in milliseconds.
fn scripted(id: usize, millis: i64, text: &str) -> (Timestamp, String) {
    let start = Timestamp::from_millisecond(1_795_424_400_000 + millis).expect("a time");
    (start, format!(r#"{{"id":"{id}","status":"SUCCESSFUL","startDate":"{start}","query":"{text}"}}"#))
}

/// A server that lists a history in the order given, in pages that are no longer than a cap.
fn serve(
    history: Vec<(Timestamp, String)>,
    cap: usize,
) -> impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static {
    move |seen, _| {
        let number =
            |name| parameter(&seen.target, name).map_or(0, |number| number.parse().expect("a number"));
        let before = parameter(&seen.target, "started_before");
        let before: Option<Timestamp> = before.map(|before| before.parse().expect("a time"));
        let size = cap.min(number("page_size"));
        let fits = |query: &&(Timestamp, String)| before.is_none_or(|before| query.0 < before);
        let matching: Vec<_> = history.iter().filter(fits).collect();
        let page = matching.iter().skip(number("page") * size).take(size);
        let data: Vec<_> = page.map(|query| &*query.1).collect();
        let mut body = format!(r#"{{"data":[{}],"#, data.join(","));
        let _ = write!(body, r#""pagination":{{"totalItems":{}}}}}"#, matching.len());
        answer(200, JSON, &body)
    }
}

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|id| id.to_string())
}

#[tokio::test]
async fn a_server_that_lists_in_another_order_is_read_to_the_end_all_the_same() {
    const COUNT: usize = 45;
    let rising: Vec<_> = (0..COUNT).map(|id| scripted(id, 10 * id as i64, "x")).collect();
    let mut shuffled = rising.clone();
    fastrand::Rng::with_seed(2).shuffle(&mut shuffled);
    let undated = (0..COUNT).map(|id| (Timestamp::UNIX_EPOCH, format!(r#"{{"id":"{id}"}}"#))).collect();
    for (order, history) in [("rising", rising), ("shuffled", shuffled), ("undated", undated)] {
        for cap in [1000, 10] {
            let atoti = Upstream::start(serve(history.clone(), cap)).await;
            let bridge = Bridge::start(&atoti.url()).await;
            let client = bridge.client().await;
            for size in [1, 2, 3, 7, 20, 44, 45, 50] {
                let what = format!("{order}, pages of {size} where Atoti gives {cap} at most");
                let pages = walk(&client, &QueryFilter::default(), &[size]).await;
                assert_each_once(&all_ids(&pages), numbers(COUNT), &what);
                assert_eq!(pages[0].total_size, 45, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn an_unsorted_listing_of_many_pages_does_not_outgrow_the_messages() {
    const COUNT: usize = 9000;
    let history: Vec<_> = (0..COUNT).map(|id| scripted(id, id as i64, "x")).collect();
    let atoti = Upstream::start(serve(history, 1000)).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let pages = walk(&bridge.client().await, &QueryFilter::default(), &[1000]).await;
    assert_each_once(&all_ids(&pages), numbers(COUNT), "rising");
}

#[tokio::test]
async fn a_server_that_gives_shorter_pages_than_asked_for_is_read_to_the_end() {
    let history: Vec<_> = (0..45).map(|id| scripted(id, -(id as i64), "x")).collect();
    for cap in [1, 2, 10, 44] {
        let atoti = Upstream::start(serve(history.clone(), cap)).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let pages = walk(&bridge.client().await, &QueryFilter::default(), &[50]).await;
        assert_each_once(&all_ids(&pages), numbers(45), &format!("pages of {cap}"));
    }
}

#[tokio::test]
async fn an_answer_above_the_cap_is_read_in_smaller_pages() {
    let text = "x".repeat(3000);
    let history: Vec<_> = (0..100).map(|id| scripted(id, -(id as i64), &text)).collect();
    let atoti = Upstream::start(serve(history, 1000)).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--upstream-max-body=65536"]).await;
    let client = bridge.client().await;
    for size in [1000, 33] {
        let pages = walk(&client, &QueryFilter::default(), &[size]).await;
        assert_each_once(&all_ids(&pages), numbers(100), &format!("pages of {size}"));
    }
    // One alone that is above it cannot be shown.
    let huge = vec![scripted(0, 0, &"x".repeat(100_000))];
    let atoti = Upstream::start(serve(huge, 1000)).await;
    let bridge = Bridge::start_with(&atoti.url(), &["--upstream-max-body=65536"]).await;
    let reply = list(&bridge.client().await, &QueryFilter::default(), 50, "").await;
    assert_eq!((reply.code(), reply.error().reason()), (8, "BACKEND_RESPONSE_TOO_LARGE"));
    assert_eq!(reply.error().metadata("retryable"), Some("false"));
}

#[tokio::test]
async fn a_page_of_long_texts_is_no_longer_than_clients_take() {
    let text = "x".repeat(200_000);
    let falling: Vec<_> = (0..50).map(|id| scripted(id, -(id as i64), &text)).collect();
    let rising: Vec<_> = (0..50).map(|id| scripted(id, id as i64, &text)).collect();
    for (order, history) in [("falling", falling), ("rising", rising)] {
        for flag in ["--upstream-max-body=67108864", "--upstream-max-body=8388608"] {
            let atoti = Upstream::start(serve(history.clone(), 1000)).await;
            let bridge = Bridge::start_with(&atoti.url(), &[flag]).await;
            let client = bridge.client().await;
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let reply = list(&client, &QueryFilter::default(), 50, &token).await;
                assert!(reply.body.len() <= MOST_BYTES, "{order} {flag}: {} bytes", reply.body.len());
                let page: ListQueriesResponse = reply.message();
                assert!(!page.queries.is_empty() || page.next_page_token.is_empty(), "it goes on");
                assert_eq!(page.total_size, 50);
                seen.extend(ids(&page));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_each_once(&seen, numbers(50), &format!("{order} {flag}"));
        }
    }
}

#[tokio::test]
async fn times_are_exact_to_the_nanosecond_whatever_their_offset_and_length() {
    let times = [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("2026-11-23T10:00Z", "2026-11-23T10:00:00Z"),
        ("2026-11-23T10:00:00.1+02:00", "2026-11-23T08:00:00.1Z"),
        ("2026-11-23T10:00:00.123-05:30", "2026-11-23T15:30:00.123Z"),
        ("2026-11-23T10:00:00.123456+14:00", "2026-11-22T20:00:00.123456Z"),
        ("2026-11-23T10:00:00.123456789-12:00", "2026-11-23T22:00:00.123456789Z"),
        ("2026-11-23T10:00:00.000000001+01:00[Europe/Paris]", "2026-11-23T09:00:00.000000001Z"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
    ];
    let query =
        |(id, (spelt, _)): (usize, &(&str, &str))| format!(r#"{{"id":"{id}","startDate":"{spelt}"}}"#);
    let data: Vec<_> = times.iter().enumerate().map(query).collect();
    let body = format!(r#"{{"data":[{}],"pagination":{{"totalItems":8}}}}"#, data.join(","));
    let atoti = Upstream::start(move |_, _| answer(200, JSON, &body)).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let page: ListQueriesResponse =
        list(&bridge.client().await, &QueryFilter::default(), 50, "").await.message();
    for (query, (spelt, exact)) in page.queries.iter().zip(times) {
        assert_eq!(query.start_time, at(exact), "{spelt}");
    }
    assert_eq!(page.queries.len(), times.len());
}

#[tokio::test]
async fn what_is_new_or_odd_in_a_listing_is_passed_over() {
    let body = r#"{"data":[
        {"id":9007199254740993,"status":"QUEUED","type":"DAX","query":null,"startDate":"yesterday","endDate":5,
         "username":[{}],"queryMetadata":"none","traceId":{"a":[1]},"later":{"deep":[[]]}},
        {"id":"2","status":"RUNNING","type":"MDX","queryMetadata":{"n":3,"t":true,"o":{}},"nodeName":"a"}],
        "pagination":{"pageNumber":0,"totalItems":2,"nextPage":null},"links":[]}"#;
    let atoti = Upstream::start(move |_, _| answer(200, JSON, body)).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let page: ListQueriesResponse =
        list(&bridge.client().await, &QueryFilter::default(), 50, "").await.message();
    assert_eq!((page.total_size, &*page.next_page_token), (2, ""));
    let odd = &page.queries[0];
    assert_eq!((&*odd.query_id, odd.status, odd.kind), ("9007199254740993", 0, 0), "no digit is lost");
    assert_eq!((odd.start_time, odd.end_time), (None, None));
    assert!(odd.text.is_empty() && odd.username.is_empty() && odd.metadata.is_empty());
    let known = &page.queries[1];
    assert_eq!((known.status, known.kind, &*known.metadata["n"]), (RUNNING, MDX, "3"));
}

#[tokio::test]
async fn what_is_no_listing_is_never_one() {
    let whole = |headers: &str, body: &str| answer(200, headers, body);
    let cut = format!("HTTP/1.1 200 X\r\n{JSON}Content-Length: 100\r\n\r\n{{\"data\":[]}}");
    for (what, script, code, reason) in [
        ("no data", whole(JSON, "{}"), 13, "BACKEND_MALFORMED_BODY"),
        ("null", whole(JSON, r#"{"data":null}"#), 13, "BACKEND_MALFORMED_BODY"),
        ("an object", whole(JSON, r#"{"data":{}}"#), 13, "BACKEND_MALFORMED_BODY"),
        ("no ids", whole(JSON, r#"{"data":[{"status":"RUNNING"}]}"#), 13, "BACKEND_MALFORMED_BODY"),
        ("no objects", whole(JSON, r#"{"data":["1"]}"#), 13, "BACKEND_MALFORMED_BODY"),
        ("an array", whole(JSON, "[]"), 13, "BACKEND_MALFORMED_BODY"),
        ("breaks off", whole(JSON, r#"{"data":[{"id":"1"}"#), 13, "BACKEND_MALFORMED_BODY"),
        ("more behind it", whole(JSON, r#"{"data":[]}{}"#), 13, "BACKEND_MALFORMED_BODY"),
        ("text", whole("Content-Type: text/plain\r\n", "none"), 13, "BACKEND_MALFORMED_BODY"),
        ("nothing", whole(JSON, ""), 13, "BACKEND_MALFORMED_BODY"),
        ("204", answer(204, "", ""), 13, "BACKEND_MALFORMED_BODY"),
        ("a page", whole("Content-Type: text/html\r\n", "<html>"), 2, "BACKEND_UNEXPECTED_HTML"),
        ("a page in disguise", whole(JSON, "<!DOCTYPE html>"), 2, "BACKEND_UNEXPECTED_HTML"),
        ("cut off", Answer::BytesThenClose(cut.into()), 14, "BACKEND_BODY_TRUNCATED"),
    ] {
        let atoti = Upstream::start(move |_, _| script.clone()).await;
        let bridge = Bridge::start(&atoti.url()).await;
        let reply = list(&bridge.client().await, &QueryFilter::default(), 50, "").await;
        assert_eq!((reply.code(), reply.error().reason()), (code, reason), "{what}");
        assert_eq!(reply.error().metadata("queryId"), None, "{what}");
        assert!(reply.body.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn every_rule_that_a_filter_breaks_is_told_at_once_and_atoti_is_not_asked() {
    let atoti = Upstream::start(|_, _| answer(200, JSON, r#"{"data":[]}"#)).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let bad_time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    let filter = QueryFilter {
        usernames: vec!["ada".to_owned(), String::new()],
        statuses: vec![RUNNING, 0],
        types: vec![99],
        started_after: bad_time,
        started_before: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        ended_after: at("2026-01-02T00:00:00Z"),
        ended_before: at("2026-01-01T00:00:00Z"),
        min_duration: lasting(-1, 0),
        max_duration: lasting(0, 1_000_000_000),
        metadata: notes(&[("", "x")]),
    };
    let reply = client.method("ListQueries", &request(&filter, -1, ""), &[("grpc-timeout", "soon")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (3, "INVALID_FILTER"));
    assert_eq!(error.metadata("requestSent"), Some("false"));
    let violations = error.bad_request.expect("a BadRequest").field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| &*violation.field).collect();
    let expected = [
        "filter.usernames",
        "filter.statuses",
        "filter.types",
        "filter.started_after",
        "filter.started_before",
        "filter.min_duration",
        "filter.max_duration",
        "filter.metadata",
        "filter.ended_before",
        "page_size",
        "grpc-timeout",
    ];
    assert_eq!(fields, expected);
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));

    let none = QueryFilter::default;
    for (filter, field) in [
        (QueryFilter { statuses: vec![-1], ..none() }, "filter.statuses"),
        (QueryFilter { types: vec![0], ..none() }, "filter.types"),
        (
            QueryFilter {
                started_after: at("2026-01-01T00:00:00Z"),
                started_before: at("2026-01-01T00:00:00Z"),
                ..none()
            },
            "filter.started_before",
        ),
        (
            QueryFilter { min_duration: lasting(2, 0), max_duration: lasting(1, 0), ..none() },
            "filter.max_duration",
        ),
        // Longer as Atoti gets it than as it came.
        (of_user(&"ä".repeat(1000)), "filter"),
        (QueryFilter { metadata: notes(&[(&"k".repeat(5000), "")]), ..none() }, "filter"),
    ] {
        let reply = list(&client, &filter, 0, "").await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (3, "INVALID_FILTER"), "{filter:?}");
        let violations = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!((violations.len(), &*violations[0].field), (1, field), "{filter:?}");
    }
    assert_eq!(atoti.connections(), 0);
    assert_eq!(list(&client, &of_user(&"x".repeat(4000)), 0, "").await.code(), 0);
}
