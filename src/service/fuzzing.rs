//! What must hold of a call's headers, messages and page tokens, whatever they are. Each function panics where it does
//! not; `fuzz/` calls them by way of [`crate::fuzzing`].

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header};
use jiff::Timestamp;
use prost::Message as _;

use super::{Caller, bulk, cancel, check::Check, list, pages::Position, timeout};
use crate::{
    atoti::{Filter, Lane, Listing, Part, Query},
    proto::queryhistory::{CancelQueriesRequest, CancelQueryRequest, ListQueriesRequest},
    status::Failure,
    telemetry::TraceContext,
};

const MAX_DEADLINE: Duration = Duration::from_secs(30);

/// `grpc-timeout`, against another reading of the specification.
pub(crate) fn timeout(value: &[u8]) {
    let another = || {
        let text = std::str::from_utf8(value).ok()?;
        let unit: u128 = match text.chars().last()? {
            'H' => 3_600_000_000_000,
            'M' => 60_000_000_000,
            'S' => 1_000_000_000,
            'm' => 1_000_000,
            'u' => 1_000,
            'n' => 1,
            _ => return None,
        };
        let digits = &text[..text.len() - 1];
        let plain = digits.len() <= 8 && !digits.starts_with('+');
        digits.parse::<u32>().ok().filter(|_| plain).map(|amount| u128::from(amount) * unit)
    };
    assert_eq!(timeout::parse(value).map(|timeout| timeout.as_nanos()), another());
}

/// The same, held against nothing.
pub(crate) fn read_timeout(value: &[u8]) -> Option<Duration> {
    timeout::parse(value)
}

/// The headers of a call: what goes along is on the list, ids are fit for logs, and nothing is endless.
pub(crate) fn caller(headers: &HeaderMap) -> Caller {
    let caller = Caller::read(headers, Arc::default(), MAX_DEADLINE, TraceContext::read(headers));
    let call = caller.call(Lane::Cancels);
    for name in call.headers.keys() {
        let listed = ["authorization", "traceparent", "tracestate", "x-request-id"];
        assert!(listed.contains(&name.as_str()), "{name} goes along");
    }
    assert!(call.headers.get_all(header::AUTHORIZATION).iter().count() <= 1);
    let states = call.headers.get_all("tracestate");
    assert!(states.iter().map(http::HeaderValue::len).sum::<usize>() <= 512);
    let id = &caller.request_id;
    assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    assert!(caller.answer_by <= caller.arrived + MAX_DEADLINE);
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        assert!(!caller.violations.is_empty() && caller.authorization().is_none(), "two credentials");
    }
    if let Some(user) = caller.claimed_user() {
        assert!(user.chars().count() <= 128, "{user:?}");
    }
    caller
}

/// A message of any content is refused with a status, or yields what its rule allows.
pub(crate) fn requests(message: &[u8], caller: &Caller, mut refused: impl FnMut(&Failure)) {
    let mut see = |failure: Option<Failure>| failure.iter().for_each(&mut refused);
    if let Ok(request) = CancelQueryRequest::decode(message) {
        see(cancel::check(&request, caller).err());
    }
    if let Ok(request) = CancelQueriesRequest::decode(message) {
        see(bulk::check(request, caller, Timestamp::UNIX_EPOCH).err());
    }
    if let Ok(request) = ListQueriesRequest::decode(message) {
        let mut check = Check::default();
        if let Some(filter) = check.filter(request.filter.as_ref()) {
            assert!(filter.parameters().len() <= 4096, "longer than Atoti's web server reads");
            assert!(filter.parameters().bytes().all(|byte| byte.is_ascii_graphic()), "no URL");
            page_token(&request.page_token, &filter);
        }
        see(check.done(&caller.violations, Some(())).err());
    }
}

/// A token that nobody gave out is refused, or is a position like any other.
pub(crate) fn page_token(token: &str, filter: &Filter) {
    if let Some(position) = list::position(token, filter) {
        page(&position, filter, 0);
    }
}

/// A position, whoever made it up: it survives its token, is good for its filter alone, and leads on.
pub(crate) fn position(bytes: &[u8], filter: &Filter, listed: u64) {
    let Ok(position) = Position::decode(bytes) else { return };
    let token = list::token(&position, filter);
    let Some(read) = list::position(&token, filter) else { return };
    assert_eq!(read, position, "a token is what was put into it");
    let other = Filter { users: vec!["another filter's".to_owned()], ..filter.clone() };
    assert_eq!(list::position(&token, &other), None, "a token of another filter");
    page(&read, filter, listed);
}

/// Goes on from a position, in a listing of which each bit of `listed` is a query; most are in order.
fn page(position: &Position, filter: &Filter, listed: u64) {
    const WANTED: u32 = 7;

    assert!(position.before().is_ok(), "a position that is taken is a bug");
    let Part { size, page } = position.part(WANTED);
    assert!(size > 0);
    let query = |bit: u32| Query {
        id: (listed >> bit & 3).to_string(),
        start: Timestamp::from_second(i64::from(listed >> bit & 1 == 1) * 100 - i64::from(bit)).ok(),
        ..Query::default()
    };
    let queries = (0..listed.count_ones()).map(query).collect();
    let total = (listed & 1 == 1).then_some(listed >> 32);
    let page = position.after(Listing { queries, total }, Part { size, page }, WANTED, 0, 500);
    assert!(page.queries.len() <= WANTED as usize, "more than wanted");
    if let Some(next) = page.next {
        let next = next.within_a_token();
        assert_eq!(list::position(&list::token(&next, filter), filter), Some(next), "the next token");
    }
}
