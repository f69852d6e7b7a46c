//! What must hold of ids and of Atoti's answers, whatever they are. Each function panics where it does not; `fuzz/`
//! calls them by way of [`crate::fuzzing`].

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use url::Url;

use super::{
    Error, Fact, Listing, Query, QueryId, Refusal, Shape,
    answer::{self, BodyEnd, Expected},
    base::Base,
    body::Body,
    credentials::Token,
    wire,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A number of a few characters may be written out in up to 24.
const MOST_GROWTH: usize = 24;

/// A failure of which nothing is known but the fact, and what is given.
pub(crate) fn error(fact: Fact, node: Option<&str>, request_sent: bool, own_credentials: bool) -> Error {
    Error { node: node.map(Into::into), request_sent, own_credentials, ..Error::unsent(fact) }
}

/// What is taken for an id stays one segment of a path, byte for byte; what the rule allows is taken.
pub(crate) fn query_id(text: &str) {
    const ALLOWED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-";

    let fits = !text.is_empty() && text.len() <= 128 && text.chars().all(|c| ALLOWED.contains(c));
    let parsed = QueryId::parse(text);
    assert_eq!(parsed.is_some(), fits && text != "." && text != "..", "the rule");
    let Some(id) = parsed else { return };
    for base in ["http://atoti:9090", "https://atoti/a/b/"] {
        let node = Base::new(Url::parse(base).expect("a URL"));
        let path = format!("{}/activeviam/query-history/rest/v1/query/{text}", base.trim_end_matches('/'));
        let one = node.cancel_query(&id);
        let plan = node.query_plan(&id, "timeout=PT1.0S");
        assert_eq!(one.to_string(), path, "one segment, as it is");
        assert_eq!(plan.to_string(), format!("{path}/query-plan?timeout=PT1.0S"), "one segment, as it is");
        // Whoever reads it again sees the same.
        assert_eq!(one.url().expect("a URL").as_str(), path);
    }
}

/// `Retry-After` is nothing, or no more than a day; seconds and dates are read exactly.
pub(crate) fn retry_after(value: &[u8], now: Timestamp, ahead: i32) {
    let read = |value: &[u8]| {
        let head = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_bytes(value).ok()?)]);
        answer::retry_after(&head, now)
    };
    let delay = read(value);
    assert!(delay.is_none_or(|delay| delay <= DAY), "{delay:?}");
    let text = std::str::from_utf8(value).unwrap_or_default();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let significant = text.trim_start_matches('0');
        let seconds =
            if significant.len() > 5 { 99_999 } else { format!("0{significant}").parse().expect("digits") };
        assert_eq!(delay, Some(Duration::from_secs(seconds).min(DAY)), "seconds");
    }
    // A date of our own making.
    let Ok(then) = Timestamp::from_second(now.as_second() + i64::from(ahead)) else { return };
    let date = then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let ahead = Duration::from_secs(u64::try_from(ahead).unwrap_or_default()).min(DAY);
    let year = then.strftime("%Y").to_string();
    if year.len() == 4 && year.as_str() >= "1900" {
        assert_eq!(read(date.as_bytes()), Some(ahead), "{date}");
    }
}

/// The same, held against nothing.
pub(crate) fn read_retry_after(head: &HeaderMap, now: Timestamp) -> Option<Duration> {
    answer::retry_after(head, now)
}

/// A page of the history in one piece, held against nothing.
pub(crate) fn read_listing(bytes: Bytes) -> Option<Listing> {
    let mut body = Body::default();
    body.push(bytes);
    body.json().ok()
}

/// An answer, cut into pieces: success is a 2xx that is no web page, and whole where it matters; and nothing is read
/// differently for how it was cut.
pub(crate) fn answer(status: u16, head: &HeaderMap, body: &[u8], cut: usize, end: u8) {
    let Ok(status) = StatusCode::from_u16(status) else { return };
    let end = [BodyEnd::Complete, BodyEnd::Cut, BodyEnd::Capped, BodyEnd::TimedOut][usize::from(end % 4)];
    let pieces = pieces(body, cut);
    let beginning = pieces.beginning();
    for expected in [Expected::Nothing, Expected::Json] {
        let judged = answer::verdict(status, head, &beginning, end, expected, || Timestamp::UNIX_EPOCH);
        if judged.is_ok() {
            assert!((200..300).contains(&status.as_u16()), "{status} is a success");
            assert!(!looks_like_a_page(head, body), "a web page is a success");
            assert!(expected == Expected::Nothing || end == BodyEnd::Complete, "a part of a document is one");
        }
        let refused = matches!(judged, Err(Fact::Refused(_)));
        assert_eq!(refused, !status.is_success(), "a refusal is what is no 2xx");
        if let Err(Fact::Refused(Refusal { retry_after: Some(delay), .. })) = judged {
            assert!(delay <= DAY, "{delay:?}");
        }
    }
    let shape = Shape::of(head, &beginning);
    assert_eq!(shape == Shape::Empty, trimmed(&beginning).is_empty(), "{shape:?}");
    let from = Url::parse("http://atoti:9090/context/").expect("a URL");
    assert!(answer::redirect_class(&from, head).starts_with("redirect "));
}

/// A document: read the same however it is cut into pieces, never when a part of it is missing, and never much larger
/// than it came. Yields the queries of a listing.
pub(crate) fn document(body: &[u8], cut: usize) -> Vec<Query> {
    let query = read::<Query>(body, cut);
    let listing = read::<Listing>(body, cut);
    let _ = wire::discovery(pieces(body, cut), "activeviam/query-history");
    let _ = Token::from_json(body);
    if let Some(query) = &query {
        assert!(!query.id.is_empty(), "a query without an id");
        assert!(size(query) <= MOST_GROWTH * body.len(), "{} bytes of {}", size(query), body.len());
    }
    let queries = listing.map(|listing| listing.queries).unwrap_or_default();
    let whole = queries.iter().map(size).sum::<usize>();
    assert!(whole <= MOST_GROWTH * body.len(), "{whole} bytes of {}", body.len());
    queries
}

/// The whole id of a query is read, or none: another one would be somebody else's query.
pub(crate) fn number_as_id(digits: &str) {
    let body = format!(r#"{{"id":{digits}}}"#);
    if let Some(query) = read::<Query>(body.as_bytes(), 1) {
        assert_eq!(query.id, digits, "an id of digits");
    }
}

/// A token of any content is kept or refused, and never panics.
pub(crate) fn token(claims: &[u8]) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let token = format!("e30.{}.s", URL_SAFE_NO_PAD.encode(claims));
    assert!(Token::from_json(format!(r#"{{"token":"{token}"}}"#).as_bytes()).is_some(), "{token}");
}

fn read<T: DeserializeOwned + PartialEq + std::fmt::Debug>(body: &[u8], cut: usize) -> Option<T> {
    let whole = pieces(body, body.len()).json::<T>().ok();
    assert_eq!(pieces(body, cut).json::<T>().ok(), whole, "cut at {cut}");
    if whole.is_some() {
        let end = body.trim_ascii_end().len();
        for part in [end - 1, cut.min(end - 1)] {
            assert_eq!(pieces(&body[..part], cut).json::<T>().ok(), None, "{part} bytes of {end}");
        }
    }
    whole
}

/// In two pieces, and then the rest byte by byte where that is little.
fn pieces(body: &[u8], cut: usize) -> Body {
    let (one, rest) = body.split_at(cut.min(body.len()));
    let mut pieces = Body::default();
    pieces.push(Bytes::copy_from_slice(one));
    for piece in rest.chunks(if rest.len() < 64 { 1 } else { rest.len() }) {
        pieces.push(Bytes::copy_from_slice(piece));
    }
    pieces
}

fn size(query: &Query) -> usize {
    let metadata = query.metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let texts = [&query.id, &query.text, &query.node_name, &query.trace_id, &query.username];
    metadata + texts.iter().map(|text| text.len()).sum::<usize>()
}

fn trimmed(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii()
}

fn looks_like_a_page(head: &HeaderMap, body: &[u8]) -> bool {
    let text = trimmed(body);
    let label = head.get(header::CONTENT_TYPE).and_then(|label| label.to_str().ok()).unwrap_or_default();
    text.first() == Some(&b'<') || (!text.is_empty() && label.to_ascii_lowercase().starts_with("text/html"))
}
