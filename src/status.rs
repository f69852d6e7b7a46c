//! Judgement: what a failure, from whichever room, means to a caller.
//!
//! The only place where a [`tonic::Status`] is built (clippy's `disallowed-methods` sees to that). Pure: no I/O, no
//! clock. [`Reason`] is the table; [`page`] prints it as `docs/STATUS.md`.

mod code;
pub mod page;
mod reason;

use std::{collections::HashMap, time::Duration};

use http::HeaderMap;
use prost::Message as _;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

pub use self::{
    code::{code_name, is_fault},
    reason::Reason,
};
use crate::atoti::{self, Fact, QueryStatus, Refusal};

/// `ErrorInfo.domain`.
pub const DOMAIN: &str = "atoti-grpc-bridge";
/// `ResourceInfo.resource_type`.
pub const RESOURCE_TYPE: &str = "atoti.queryhistory.v1.Query";
/// Tells gRPC clients when to try again (gRFC A6), in milliseconds.
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The text of `QUERY_NOT_FOUND` where nobody has looked whether the query runs elsewhere.
const HISTORY_UNREAD: &str = "Atoti says that it does not run this query, and its history could not be read: the \
    query may have ended, or run on another node; call again to know";
/// When to come back after having been refused for overload: a few round trips to Atoti later.
const OVERLOAD_PUSHBACK: Duration = Duration::from_millis(100);

/// A call that failed.
#[derive(Debug)]
pub enum Failure {
    /// Atoti refused, failed, or could not be reached.
    Atoti(atoti::Error),
    /// Atoti answered 404, and its history could not be read: the error's cause is why.
    HistoryUnread(atoti::Error),
    /// Atoti answered 404, and its history says that the query has ended.
    QueryNotRunning(atoti::Error, QueryStatus),
    /// Atoti answered 404, and its history says that the query runs on the error's node.
    QueryOnOtherNode(atoti::Error),
    /// Atoti answered 404, and its discovery document lacks the API.
    ApiMissing(atoti::Error),
    /// Atoti refused to delete, and its history says that the query runs.
    QueryStillRunning(atoti::Error),
    /// More queries match than may be stopped.
    TooManyMatches {
        /// How many match.
        matches: u64,
        /// How many may be stopped.
        most: usize,
    },
    /// The operator has not allowed query plans.
    QueryPlanDisabled,
    /// The deadline of a stream was over; whether Atoti was asked to do anything is known only from what it told.
    DeadlineOver,
    /// The caller of a stream went away, or takes nothing. Hardly anybody is told; it is for the record.
    CallerGone,
    /// The request breaks rules: at least one.
    Invalid(Vec<Violation>),
    /// The caller's certificate is good, but its name is not among those that may call.
    CallerNotAllowed,
    /// No such service or method.
    UnknownMethod,
    /// The message is compressed in a way that is not taken.
    UnsupportedEncoding,
    /// The message cannot be read.
    UnreadableMessage,
    /// The message is larger than any request of this API.
    MessageTooLarge,
    /// `grpc.health.v1` was asked for a name that there is not.
    UnknownHealthName,
    /// As many calls at work as are taken on.
    Overloaded,
    /// The process is about to stop.
    Draining,
    /// The deadline was over before anything was sent.
    DeadlineBeforeSend,
    /// The deadline was over while Atoti was at work.
    DeadlineAfterSend,
    /// The operator wants no attempt without its audit record, and none can be written now.
    AuditUnavailable,
    /// Atoti accepted, and the audit record that the operator wants is not written.
    AuditFailed,
    /// A panic.
    Bug,
}

/// A rule that a request breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The request field, or the metadata key.
    pub field: &'static str,
    /// Its message says what the rule is.
    pub reason: Reason,
}

/// What a failed call was about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The request id, the caller's or the bridge's own.
    pub request_id: &'a str,
    /// The query, once its id has been found valid.
    pub query_id: Option<&'a str>,
}

impl Failure {
    /// The row of the table.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Atoti(error) | Self::HistoryUnread(error) => Reason::of(&error.fact),
            Self::QueryNotRunning(..) => Reason::QueryNotRunning,
            Self::QueryOnOtherNode(_) => Reason::QueryOnOtherNode,
            Self::ApiMissing(_) => Reason::BackendApiMissing,
            Self::QueryStillRunning(_) => Reason::QueryStillRunning,
            Self::TooManyMatches { .. } => Reason::TooManyMatches,
            Self::QueryPlanDisabled => Reason::QueryPlanDisabled,
            Self::DeadlineOver => Reason::DeadlineOver,
            Self::CallerGone => Reason::CallerGone,
            Self::Invalid(violations) => violations.first().map_or(Reason::BridgeBug, |first| first.reason),
            Self::CallerNotAllowed => Reason::CallerNotAllowed,
            Self::UnknownMethod => Reason::UnknownMethod,
            Self::UnsupportedEncoding => Reason::UnsupportedEncoding,
            Self::UnreadableMessage => Reason::UnreadableMessage,
            Self::MessageTooLarge => Reason::MessageTooLarge,
            Self::UnknownHealthName => Reason::UnknownHealthName,
            Self::Overloaded => Reason::Overloaded,
            Self::Draining => Reason::Draining,
            Self::DeadlineBeforeSend => Reason::DeadlineBeforeSend,
            Self::DeadlineAfterSend => Reason::BackendTimeout,
            Self::AuditUnavailable => Reason::AuditUnavailable,
            Self::AuditFailed => Reason::AuditFailed,
            Self::Bug => Reason::BridgeBug,
        }
    }

    /// What is known of the dealings with Atoti, if there were any.
    #[must_use]
    pub fn atoti_error(&self) -> Option<&atoti::Error> {
        match self {
            Self::Atoti(error)
            | Self::HistoryUnread(error)
            | Self::QueryNotRunning(error, _)
            | Self::QueryOnOtherNode(error)
            | Self::QueryStillRunning(error)
            | Self::ApiMissing(error) => Some(error),
            Self::TooManyMatches { .. }
            | Self::QueryPlanDisabled
            | Self::DeadlineOver
            | Self::CallerGone
            | Self::Invalid(_)
            | Self::CallerNotAllowed
            | Self::UnknownMethod
            | Self::UnsupportedEncoding
            | Self::UnreadableMessage
            | Self::MessageTooLarge
            | Self::UnknownHealthName
            | Self::Overloaded
            | Self::Draining
            | Self::DeadlineBeforeSend
            | Self::DeadlineAfterSend
            | Self::AuditUnavailable
            | Self::AuditFailed
            | Self::Bug => None,
        }
    }

    /// Whether bytes of the request may have left for Atoti. `false` is certain.
    #[must_use]
    pub fn request_sent(&self) -> bool {
        match self {
            Self::DeadlineAfterSend | Self::DeadlineOver | Self::CallerGone | Self::AuditFailed => true,
            _ => self.atoti_error().is_some_and(|error| error.request_sent),
        }
    }

    /// The status a caller gets.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place of clippy.toml's ban")]
    pub fn to_status(&self, subject: Subject<'_>) -> Status {
        let reason = self.reason();
        let message = self.message(reason, subject);
        let mut details =
            ErrorDetails::with_error_info(reason.as_str(), DOMAIN, self.metadata(reason, subject));
        details.set_request_info(subject.request_id, "");
        if let Self::Invalid(violations) = self {
            details.set_bad_request(violations.iter().map(field_violation).collect::<Vec<_>>());
        }
        if let Some(violated) = self.precondition() {
            details.add_precondition_failure_violation("BRIDGE", violated, message);
        }
        match (reason.code(), subject.query_id) {
            (Code::NotFound | Code::PermissionDenied, Some(query_id)) => {
                details.set_resource_info(RESOURCE_TYPE, query_id, "", message);
            }
            (Code::FailedPrecondition, Some(query_id)) if self.precondition().is_none() => {
                details.add_precondition_failure_violation("QUERY_STATE", query_id, message);
            }
            _ => {}
        }
        let mut metadata = MetadataMap::new();
        if let Some(delay) = self.retry_delay() {
            details.set_retry_info(Some(delay));
            metadata.insert(PUSHBACK, u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).into());
        }
        Status::with_error_details_and_metadata(reason.code(), message, details, metadata)
    }

    /// The same as a message, for a failure that does not end its call.
    ///
    /// # Panics
    ///
    /// Never: the details of a status are this very message.
    #[must_use]
    pub fn to_message(&self, subject: Subject<'_>) -> tonic_types::Status {
        let status = self.to_status(subject);
        tonic_types::Status::decode(status.details()).expect("the details are a google.rpc.Status")
    }

    /// What of the bridge's own, request or settings, stands in the way.
    const fn precondition(&self) -> Option<&'static str> {
        match self {
            Self::TooManyMatches { .. } => Some("max_cancellations"),
            Self::QueryPlanDisabled => Some("ATOTI_BRIDGE_ALLOW_QUERY_PLAN"),
            _ => None,
        }
    }

    fn metadata(&self, reason: Reason, subject: Subject<'_>) -> HashMap<String, String> {
        let error = self.atoti_error();
        let mut metadata = HashMap::new();
        let mut put = |key: &str, value: &str| metadata.insert(key.to_owned(), value.to_owned());
        put("requestSent", flag(self.request_sent()));
        put("retryable", flag(reason.retryable()));
        if let Some(error) = error {
            put("attempts", &error.attempts.to_string());
            if let Some(status) = error.http_status {
                put("httpStatus", &status.to_string());
            }
            if let Some(node) = &error.node {
                put("nodeName", &node_name_to_show(node));
            }
        }
        if let Some(query_id) = subject.query_id {
            put("queryId", query_id);
        }
        match self {
            Self::QueryNotRunning(_, status) => drop(put("queryStatus", status.as_str())),
            Self::HistoryUnread(_) => drop(put("historyRead", flag(false))),
            Self::TooManyMatches { matches, most } => {
                put("matches", &matches.to_string());
                put("maxCancellations", &most.to_string());
            }
            _ if reason.code() == Code::Unauthenticated => {
                drop(put("credentialSource", if self.is_about_the_bridge() { "bridge" } else { "caller" }));
            }
            _ => {}
        }
        metadata
    }

    /// The public text.
    fn message(&self, reason: Reason, subject: Subject<'_>) -> &'static str {
        match reason.code() {
            // The call was about no query in particular.
            Code::NotFound if self.atoti_error().is_some() && subject.query_id.is_none() => {
                "Atoti found nothing there; its operator should check the bridge's base URL"
            }
            _ if matches!(self, Self::HistoryUnread(_)) => HISTORY_UNREAD,
            // A caller can do nothing about these.
            Code::Unauthenticated if self.is_about_the_bridge() => {
                "Atoti did not accept the bridge's own credentials; its operator must renew them"
            }
            _ => reason.message(),
        }
    }

    /// Whether Atoti judged the bridge's own credentials.
    fn is_about_the_bridge(&self) -> bool {
        self.atoti_error().is_some_and(|error| error.own_credentials)
    }

    /// When to come back, as far as somebody has said so.
    fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Overloaded => Some(OVERLOAD_PUSHBACK),
            Self::Atoti(atoti::Error {
                fact: Fact::Refused(Refusal { status: 429 | 503, retry_after, .. }),
                ..
            }) => *retry_after,
            _ => None,
        }
    }
}

/// Reads the head of an answer: an error of the gRPC library's own making, which it gave no details.
/// `known` says whether there is such a method.
#[must_use]
pub fn of_library(head: &HeaderMap, known: bool) -> Option<Failure> {
    let code = Code::from_bytes(head.get(Status::GRPC_STATUS)?.as_bytes());
    if head.contains_key("grpc-status-details-bin") {
        return None;
    }
    match code {
        Code::Unimplemented if !known => Some(Failure::UnknownMethod),
        Code::Unimplemented => Some(Failure::UnsupportedEncoding),
        Code::Internal => Some(Failure::UnreadableMessage),
        Code::OutOfRange | Code::ResourceExhausted => Some(Failure::MessageTooLarge),
        _ => None,
    }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(violation.field, violation.reason.message())
}

const fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// A node's name is Atoti's text, and the one piece of it that a caller is shown: it says where to go. Only what a
/// name consists of passes.
fn node_name_to_show(name: &str) -> String {
    const LONGEST: usize = 128;
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.:/@".contains(*c)).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_status_stays_small_whatever_the_failure_is_about(
            request_id in "[!-~]{0,128}",
            query_id in "[A-Za-z0-9_.~-]{1,128}",
            node in any::<String>(),
        ) {
            let violations = |reason| Violation { field: "some_field_with_a_name_of_forty_characters", reason };
            let failures = [
                Failure::Invalid(Reason::ALL.iter().copied().take(5).map(violations).collect()),
                Failure::QueryOnOtherNode(atoti::Error {
                    node: Some(node.into()),
                    ..atoti::Error::unsent(Fact::Refused(Refusal::of(404)))
                }),
            ];
            for failure in failures {
                let status = failure.to_status(Subject { request_id: &request_id, query_id: Some(&query_id) });
                let encoded = status.into_http::<()>();
                let size: usize = encoded.headers().iter().map(|(k, v)| k.as_str().len() + v.len() + 32).sum();
                prop_assert!(size <= 4096, "{size}");
            }
        }
    }
}
