//! Facts about requests that did not succeed, without judgement, and how the HTTP client's errors are read.

use std::{error::Error as StdError, fmt, io, time::Duration};

use super::{answer::Shape, gate::GateClosed, resolve::Unresolved};
use crate::telemetry::ErrorType;

/// An operation that did not succeed.
///
/// [`Debug`](fmt::Debug) shows everything and is for debug logs only; what may be shown at `info` is in the public
/// fields, which hold nothing that Atoti or the network put there.
#[derive(Debug, thiserror::Error)]
#[error("{fact:?}")]
pub struct Error {
    /// What happened, last.
    pub fact: Fact,
    /// The status of the answer, where there was one.
    pub http_status: Option<u16>,
    /// The Atoti node that was asked, or that runs the query, where that is known.
    pub node: Option<Box<str>>,
    /// Requests made, 1 or more; 0 when none was worth making.
    pub attempts: u32,
    /// Whether bytes of the request may have left. `false` is certain.
    pub request_sent: bool,
    /// An earlier attempt may have reached Atoti, and its answer was lost or refused.
    pub answer_lost: bool,
    /// What the body of the answer looked like.
    pub shape: Shape,
    /// The class of the cause, for the operator.
    pub cause: Cause,
    /// The request carried the bridge's own credentials, not its caller's.
    pub own_credentials: bool,
}

impl Error {
    /// Atoti answered a read with something else than it should.
    pub(super) fn malformed(attempts: u32, http_status: u16, why: &dyn fmt::Display) -> Self {
        Self {
            fact: Fact::MalformedBody,
            http_status: Some(http_status),
            node: None,
            attempts,
            request_sent: true,
            answer_lost: false,
            shape: Shape::Json,
            cause: Cause { class: "body is not what it should be", detail: why.to_string() },
            own_credentials: false,
        }
    }

    /// A failure of which nothing is known but the fact.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unsent(fact: Fact) -> Self {
        Self {
            fact,
            http_status: None,
            node: None,
            attempts: 0,
            request_sent: false,
            answer_lost: false,
            shape: Shape::Empty,
            cause: Cause::of("test"),
            own_credentials: false,
        }
    }

    /// The same, as the end of an operation that made another request before: with what is known of that one.
    #[must_use]
    pub fn after(self, first: &Self) -> Self {
        let request_sent = first.request_sent || self.request_sent;
        Self {
            fact: self.fact.of_a_whole(request_sent),
            attempts: first.attempts + self.attempts,
            request_sent,
            answer_lost: first.answer_lost || self.answer_lost,
            ..self
        }
    }

    /// Something answered that is not a proxy without Atoti behind it.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        match self.fact {
            Fact::Refused(Refusal { status, .. }) => status < 500,
            Fact::Html | Fact::MalformedBody | Fact::ResponseTooLarge => true,
            _ => false,
        }
    }

    /// Atoti's answer was a 404.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.fact, Fact::Refused(Refusal { status: 404, .. }))
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A whole answer whose status is not a success.
    Refused(Refusal),
    /// Success by its status, but an HTML page: a login form, a proxy's greeting.
    Html,
    /// Success, but its JSON cannot be read.
    MalformedBody,
    /// Success, but the connection broke before the body was complete.
    BodyTruncated,
    /// Success, but the body is longer than is read.
    ResponseTooLarge,
    /// No connection: refused, unreachable, or not in time.
    ConnectFailed,
    /// The host name could not be resolved.
    DnsFailed,
    /// The TLS handshake failed.
    TlsFailed,
    /// The certificate, or the name in it, was rejected.
    TlsUntrusted,
    /// The connection ended before the head of an answer.
    ConnectionLost,
    /// What came is not HTTP/1.1.
    Protocol,
    /// No answer in time, after the request had been sent.
    TimedOut,
    /// The caller's deadline was over before anything was sent.
    DeadlineBeforeSend,
    /// Atoti issues no token to the bridge.
    NoToken,
}

/// An answer whose status is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// It redirects towards a login page.
    pub to_login: bool,
    /// When to come back, from `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A bare status.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        Self { status, to_login: false, retry_after: None }
    }
}

impl Fact {
    /// The fact as OpenTelemetry's `error.type`: a bounded word.
    pub(super) const fn error_type(self) -> ErrorType {
        ErrorType::Class(match self {
            Self::Refused(refusal) => return ErrorType::Status(refusal.status),
            Self::Html => "unexpected_html",
            Self::MalformedBody => "malformed_body",
            Self::BodyTruncated => "body_truncated",
            Self::ResponseTooLarge => "response_too_large",
            Self::ConnectFailed => "connect_failed",
            Self::DnsFailed => "dns_failed",
            Self::TlsFailed => "tls_failed",
            Self::TlsUntrusted => "tls_untrusted",
            Self::ConnectionLost => "connection_lost",
            Self::Protocol => "protocol_error",
            Self::TimedOut => "timeout",
            Self::DeadlineBeforeSend => "deadline_before_send",
            Self::NoToken => "no_token",
        })
    }

    /// The fact as that of a whole operation: of one that sent something, no deadline was over before.
    pub(super) fn of_a_whole(self, request_sent: bool) -> Self {
        if self == Self::DeadlineBeforeSend && request_sent { Self::TimedOut } else { self }
    }

    /// Whether the fact alone proves that no byte of the request left.
    pub(super) fn precludes_sending(self) -> bool {
        match self {
            Self::ConnectFailed
            | Self::DnsFailed
            | Self::TlsFailed
            | Self::TlsUntrusted
            | Self::DeadlineBeforeSend
            | Self::NoToken => true,
            Self::Refused(_)
            | Self::Html
            | Self::MalformedBody
            | Self::BodyTruncated
            | Self::ResponseTooLarge
            | Self::ConnectionLost
            | Self::Protocol
            | Self::TimedOut => false,
        }
    }
}

/// Why, for the operator.
#[derive(Clone, Debug)]
pub struct Cause {
    /// From a fixed set of texts: may be logged at any level.
    pub class: &'static str,
    /// May hold what Atoti or the network put there: debug logs only.
    detail: String,
}

impl Cause {
    pub(super) const fn of(class: &'static str) -> Self {
        Self { class, detail: String::new() }
    }

    pub(super) fn detailed(class: &'static str, detail: String) -> Self {
        Self { class, detail }
    }
}

/// For debug logs only.
impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.class, self.detail.escape_debug())
    }
}

/// Reads what kept a connection from being opened.
pub(super) fn connect_failure(error: &(dyn StdError + 'static), encrypted: bool) -> (Fact, &'static str) {
    if cause::<Unresolved>(error).is_some() {
        return (Fact::DnsFailed, "host name not resolved");
    }
    if let Some(tls) = cause::<rustls::Error>(error) {
        return tls_failure(tls);
    }
    // The innermost: outer ones only say "other".
    let kind = causes(error).filter_map(|cause| cause.downcast_ref()).last().map(io::Error::kind);
    broken_off(kind, encrypted)
}

fn broken_off(kind: Option<io::ErrorKind>, encrypted: bool) -> (Fact, &'static str) {
    match kind {
        // A TCP connect cannot end early or carry invalid data: that was the TLS handshake.
        Some(io::ErrorKind::UnexpectedEof) => (Fact::TlsFailed, "connection closed in the TLS handshake"),
        Some(io::ErrorKind::InvalidData) => (Fact::TlsFailed, "TLS handshake failed"),
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) if encrypted => {
            (Fact::TlsFailed, "connection reset in the TLS handshake")
        }
        // Whoever accepts and resets at once is faster than the end of a connect.
        Some(io::ErrorKind::ConnectionReset) => (Fact::ConnectFailed, "connection reset while connecting"),
        Some(io::ErrorKind::TimedOut) => (Fact::ConnectFailed, "connect timeout"),
        Some(io::ErrorKind::ConnectionRefused) => (Fact::ConnectFailed, "connection refused"),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            (Fact::ConnectFailed, "host or network unreachable")
        }
        _ => (Fact::ConnectFailed, "connect failed"),
    }
}

fn tls_failure(error: &rustls::Error) -> (Fact, &'static str) {
    use rustls::CertificateError as Bad;

    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            (Fact::TlsUntrusted, "certificate from an unknown issuer")
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            (Fact::TlsUntrusted, "certificate expired")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            (Fact::TlsUntrusted, "certificate not valid for the host name")
        }
        rustls::Error::InvalidCertificate(_) => (Fact::TlsUntrusted, "certificate rejected"),
        rustls::Error::AlertReceived(_) => (Fact::TlsFailed, "server refused the TLS handshake"),
        _ => (Fact::TlsFailed, "TLS handshake failed"),
    }
}

/// Reads the failure of a request before the head of its answer arrived.
pub(super) fn exchange_failure(error: &hyper::Error) -> (Fact, &'static str) {
    if error.is_parse() {
        (Fact::Protocol, "answer is not HTTP/1.1")
    } else if error.is_incomplete_message() {
        (Fact::ConnectionLost, "connection closed before the answer")
    } else if cause::<GateClosed>(error).is_some() {
        (Fact::DeadlineBeforeSend, "deadline over before sending")
    } else {
        (Fact::ConnectionLost, "connection broke before the answer")
    }
}

/// The chain of causes.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| next_cause(*error))
}

/// What lies behind an error. `io::Error` is looked into, as its `source` skips the very error it wraps.
fn next_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The first cause of a type.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error with all its causes, for the operator.
pub(super) fn full_text(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_first_is_known_after_the_second_request_too() {
        let error = |fact, request_sent| Error { request_sent, attempts: 1, ..Error::unsent(fact) };
        let unsent = error(Fact::DeadlineBeforeSend, false);
        let after = unsent.after(&error(Fact::Refused(Refusal::of(404)), true));
        assert_eq!((after.fact, after.request_sent, after.attempts), (Fact::TimedOut, true, 2));
        let after = error(Fact::DeadlineBeforeSend, false).after(&error(Fact::ConnectFailed, false));
        assert_eq!((after.fact, after.request_sent), (Fact::DeadlineBeforeSend, false));
        let lost = Error { answer_lost: true, ..error(Fact::Refused(Refusal::of(404)), true) };
        assert!(error(Fact::Refused(Refusal::of(404)), true).after(&lost).answer_lost);
    }

    #[test]
    fn a_connection_reset_at_once_has_to_do_with_tls_only_where_there_is_tls() {
        let reset = Some(io::ErrorKind::ConnectionReset);
        assert_eq!(broken_off(reset, true), (Fact::TlsFailed, "connection reset in the TLS handshake"));
        assert_eq!(broken_off(reset, false), (Fact::ConnectFailed, "connection reset while connecting"));
    }
}
