//! Parts of a call that nothing outside of the crate can reach, each by itself and with nothing around it: what
//! `benches/micro.rs` measures. What else it measures is public.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;

use crate::{
    atoti::{self, Fact, Listing, QueryStatus, Refusal},
    audit::{self, Record},
    service,
    status::Failure,
};

/// The value of `grpc-timeout`.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Duration> {
    service::fuzzing::read_timeout(value)
}

/// `Retry-After` among the headers of an answer.
#[must_use]
pub fn retry_after(head: &HeaderMap, now: Timestamp) -> Option<Duration> {
    atoti::fuzzing::read_retry_after(head, now)
}

/// A page of the history as Atoti sent it.
#[must_use]
pub fn listing(body: Bytes) -> Option<Listing> {
    atoti::fuzzing::read_listing(body)
}

/// An attempt as its line in the audit trail.
#[must_use]
pub fn line(record: &Record<'_>, at: Timestamp) -> Vec<u8> {
    audit::fuzzing::write_line(record, at)
}

/// What a cancel comes to when the query has ended: the failure with the most details.
#[must_use]
pub fn not_running() -> Failure {
    let refusal = Refusal { status: 404, to_login: false, retry_after: None };
    let error = atoti::fuzzing::error(Fact::Refused(refusal), Some("atoti-1"), true, false);
    Failure::QueryNotRunning(error, QueryStatus::Successful)
}
