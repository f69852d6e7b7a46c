//! What `fuzz/` throws bytes at: one function for each target, which splits its input and holds the outcome against
//! what must be true of every input. Only there with the cargo feature `fuzzing`, and no part of the bridge's interface.
//!
//! Inputs are text where that is possible, so that a seed or a find can be read and written by hand.
//!
//! [`parts`] holds nothing against anything: it is for `benches/micro.rs`.

pub mod parts;

use std::{
    str,
    sync::{LazyLock, Once},
};

use clap::{Args as _, Command, FromArgMatches as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    atoti::{self, Fact, Filter, QueryId, QueryStatus, Refusal},
    config::{self, Settings},
    proto::queryhistory,
    service,
    status::{DOMAIN, Failure, PUSHBACK, Reason, Subject, Violation},
    telemetry::TraceContext,
};

/// Stands where a password would: to be found wherever it is told.
const SECRET: &str = "HUNTER2";
/// As large as the headers of a failure may be, so that every client takes them.
const MOST_HEADERS: usize = 4096;

/// Ids of queries: the text of one.
pub fn query_id(input: &[u8]) {
    atoti::fuzzing::query_id(&String::from_utf8_lossy(input));
}

/// Deadlines: the value of `grpc-timeout`.
pub fn timeout(input: &[u8]) {
    service::fuzzing::timeout(input);
}

/// `Retry-After`: a line with the seconds of a clock and seconds ahead of it; the value.
pub fn retry_after(input: &[u8]) {
    let (line, value) = line(input);
    let mut numbers = numbers(line);
    let now = Timestamp::from_second(numbers.next().unwrap_or_default()).unwrap_or(Timestamp::UNIX_EPOCH);
    let ahead = i32::try_from(numbers.next().unwrap_or_default()).unwrap_or_default();
    atoti::fuzzing::retry_after(value, now, ahead);
}

/// Answers of Atoti: a line with status, how the body ended, and where it is cut; headers; an empty line; the body.
pub fn answers(input: &[u8]) {
    let (first, rest) = line(input);
    let mut numbers = numbers(first);
    let mut number = || numbers.next().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
    let (status, end, cut) = (number(), number(), usize::from(number()));
    let (head, body) = head(rest);
    atoti::fuzzing::answer(status, &head, body, cut, end.to_le_bytes()[0]);
    let queries = atoti::fuzzing::document(body, cut);
    for query in queries {
        let most = 200 + 64 * body.len();
        let message = queryhistory::Query::from(query);
        assert!(message.encoded_len() <= most, "{} bytes of {}", message.encoded_len(), body.len());
    }
    let digits = first.trim_ascii();
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0' {
        atoti::fuzzing::number_as_id(str::from_utf8(digits).expect("digits"));
    }
    atoti::fuzzing::token(body);
}

/// Page tokens: a line that chooses the filter and what is listed; a token, or what is in one.
pub fn page_token(input: &[u8]) {
    let (first, rest) = line(input);
    let mut numbers = numbers(first);
    let users = numbers.next().filter(|user| *user != 0).map(|user| user.to_string());
    let filter = Filter { users: users.into_iter().collect(), ..Filter::default() };
    service::fuzzing::page_token(&String::from_utf8_lossy(rest), &filter);
    let listed = numbers.next().and_then(|listed| u64::try_from(listed).ok()).unwrap_or_default();
    service::fuzzing::position(rest, &filter, listed);
}

/// The headers of a call.
pub fn headers(input: &[u8]) {
    service::fuzzing::caller(&head(input).0);
}

/// Messages of a call: headers; an empty line; the bytes of a message.
pub fn requests(input: &[u8]) {
    let (head, message) = head(input);
    let caller = service::fuzzing::caller(&head);
    service::fuzzing::requests(message, &caller, |failure| {
        assert!(matches!(failure, Failure::Invalid(violations) if !violations.is_empty()), "{failure:?}");
        judge(failure, caller.subject());
    });
}

/// Statuses: a line with which failure, the status of Atoti's answer, its `Retry-After`, and flags; then a request id,
/// the id of a query, and the name of a node, each on a line.
pub fn status(input: &[u8]) {
    let (first, rest) = line(input);
    let (request_id, rest) = line(rest);
    let (query_id, node) = line(rest);
    let mut numbers = numbers(first);
    let mut number = || numbers.next().and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    let (which, http_status, retry_after, flags) = (number(), number(), number(), number());
    let refusal = Refusal {
        status: u16::try_from(http_status).unwrap_or_default(),
        to_login: flags & 1 == 1,
        // The most that is read of it.
        retry_after: (flags & 2 == 2).then(|| std::time::Duration::from_secs(retry_after.min(86_400))),
    };
    let node = String::from_utf8_lossy(node);
    let error = || {
        let fact = match which / 32 % 8 {
            0 => Fact::Html,
            1 => Fact::BodyTruncated,
            2 => Fact::TlsUntrusted,
            3 => Fact::NoToken,
            _ => Fact::Refused(refusal),
        };
        atoti::fuzzing::error(fact, Some(&node), flags & 4 == 4, flags & 8 == 8)
    };
    let violation = |(index, reason): (usize, &Reason)| {
        let field = "metadata-of-a-name-as-long-as-any";
        (flags >> (index % 64) & 1 == 1).then_some(Violation { field, reason: *reason })
    };
    let failure = match which % 32 {
        0 => Failure::QueryNotRunning(error(), QueryStatus::Cancelled),
        1 => Failure::QueryOnOtherNode(error()),
        2 => Failure::ApiMissing(error()),
        3 => Failure::QueryStillRunning(error()),
        4 => Failure::TooManyMatches { matches: http_status, most: usize::MAX },
        5 => Failure::Invalid(Reason::ALL.iter().enumerate().filter_map(violation).take(12).collect()),
        6 => Failure::Overloaded,
        7 => Failure::QueryPlanDisabled,
        8 => Failure::Bug,
        9 => Failure::CallerNotAllowed,
        10 => Failure::DeadlineAfterSend,
        11 => Failure::MessageTooLarge,
        _ => Failure::Atoti(error()),
    };
    let request_id: String = request_id
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte))
        .take(128)
        .collect();
    let query_id = str::from_utf8(query_id).ok().and_then(QueryId::parse);
    judge(&failure, Subject { request_id: &request_id, query_id: query_id.as_ref().map(QueryId::as_str) });
}

/// Trace context: headers.
pub fn trace(input: &[u8]) {
    let (incoming, _) = head(input);
    let Some(context) = TraceContext::read(&incoming) else { return };
    assert_eq!(incoming.get_all("traceparent").iter().count(), 1, "two parents");
    let mut outgoing = HeaderMap::new();
    context.write(&mut outgoing);
    let written = outgoing["traceparent"].to_str().expect("text").to_owned();
    let read = incoming["traceparent"].to_str().expect("text");
    assert_eq!(written[3..52], read[3..52], "another parent");
    assert_eq!(written.len(), 55);
    assert_ne!(&written[3..35], "0".repeat(32), "an invalid trace");
    assert!(outgoing.get("tracestate").is_none_or(|state| state.len() <= 512), "an endless state");
    let again = TraceContext::read(&outgoing).expect("what was written can be read");
    let mut twice = HeaderMap::new();
    again.write(&mut twice);
    assert_eq!(twice, outgoing, "what was written is read as it is");
}

/// Settings: lines of `flag=value`.
pub fn settings(input: &[u8]) {
    static DEFAULTS: LazyLock<Settings> = LazyLock::new(|| {
        let bare = Settings::augment_args(Command::new("bridge")).get_matches_from(["bridge"]);
        Settings::from_arg_matches(&bare).expect("the defaults")
    });

    let Some(text) = str::from_utf8(input).ok().filter(|text| !text.contains(SECRET)) else { return };
    let mut settings = DEFAULTS.clone();
    for (flag, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let tuning = &mut settings.tuning;
        let setting = match flag {
            "listen" => &mut settings.listen,
            "admin-listen" => &mut tuning.admin_listen,
            "upstream-url" => &mut settings.upstream.upstream_url,
            "credentials" => &mut settings.upstream.credentials,
            "upstream-connect-timeout" => &mut tuning.upstream_connect_timeout,
            "upstream-timeout" => &mut tuning.upstream_timeout,
            "upstream-max-connections" => &mut tuning.upstream_max_connections,
            "upstream-max-body" => &mut tuning.upstream_max_body,
            "max-deadline" => &mut tuning.max_deadline,
            "max-in-flight" => &mut tuning.max_in_flight,
            "max-connections" => &mut tuning.max_connections,
            "max-connection-age" => &mut tuning.max_connection_age,
            "drain-delay" => &mut settings.drain_delay,
            "drain-grace" => &mut tuning.drain_grace,
            "allow-query-plan" => &mut tuning.allow_query_plan,
            "reflection" => &mut tuning.reflection,
            "log-format" => tuning.log_format.get_or_insert_default(),
            "access-log-ratio" => &mut tuning.access_log_ratio,
            "audit-log" => &mut settings.audit_log,
            "audit-required" => &mut settings.audit_required,
            "tls-client-names" => settings.callers.tls_client_names.get_or_insert_default(),
            "allow-anonymous-callers" => settings.callers.allow_anonymous_callers.get_or_insert_default(),
            _ => continue,
        };
        value.clone_into(setting);
    }
    // What names a file would be opened, and written to.
    settings.audit_log.retain(|c| c != '/');
    let url = &mut settings.upstream.upstream_url;
    *url = url.replace('@', &format!(":{SECRET}@"));
    config::fuzzing::settings(&settings, SECRET);
}

/// Files of credentials, nodes, certificates and keys: the content of one.
pub fn files(input: &[u8]) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(crate::install_crypto_provider);

    match str::from_utf8(input) {
        Ok(text) if text.contains(SECRET) => {}
        Ok(text) => config::fuzzing::files(text.replace('@', &format!(":{SECRET}@")).as_bytes(), SECRET),
        Err(_) => config::fuzzing::files(input, SECRET),
    }
}

/// A status says what its failure is, in headers that every client takes.
fn judge(failure: &Failure, subject: Subject<'_>) {
    let status = failure.to_status(subject);
    let reason = failure.reason();
    assert_ne!(status.code(), Code::Ok, "a failure is OK");
    assert_eq!(status.code(), reason.code());
    assert!(!status.message().is_empty(), "{reason:?} says nothing");
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has one");
    assert_eq!((&*info.reason, &*info.domain), (reason.as_str(), DOMAIN));
    for (key, value) in &info.metadata {
        let plain = value.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(plain && value.len() <= 128, "{key} is {value:?}");
    }
    let headers = status.into_http::<()>().into_parts().0.headers;
    if let Some(pushback) = headers.get(PUSHBACK) {
        let milliseconds = pushback.to_str().expect("text").parse::<u64>().expect("a number");
        assert!(milliseconds <= 86_400_000, "{milliseconds}");
    }
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size <= MOST_HEADERS, "{size} bytes of headers for {failure:?}");
}

/// The first line, and what follows it.
fn line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// What is not a number counts as none.
fn numbers(line: &[u8]) -> impl Iterator<Item = i64> {
    let words = str::from_utf8(line).unwrap_or_default().split_ascii_whitespace();
    words.map(|word| word.parse().unwrap_or_default())
}

/// Lines of `name: value` up to an empty one, and what follows it. What is no header is passed over.
fn head(mut input: &[u8]) -> (HeaderMap, &[u8]) {
    let mut head = HeaderMap::new();
    while !input.is_empty() {
        let (field, rest) = line(input);
        input = rest;
        if field.is_empty() {
            break;
        }
        let mut parts = field.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value.trim_ascii_start()).ok());
        if let Some((name, value)) = name.zip(value) {
            head.append(name, value);
        }
    }
    (head, input)
}
