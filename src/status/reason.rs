//! The reasons: for each, its gRPC code, whether repeating the call later may help, and the public text.
//!
//! Reasons are public surface (`ErrorInfo.reason`): clients switch on them, so none is ever renamed. Texts are fixed:
//! nothing of Atoti's or the network's is ever in them.

use tonic::Code;

use super::code_name;
use crate::atoti::{Fact, Refusal};

/// Declares the reasons once, so that the list, the names and the table cannot disagree.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident = $name:literal, $code:ident, $retryable:literal, $message:literal;)+) => {
        /// Why a call failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $reason,)+
        }

        impl Reason {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$reason),+];

            /// The public name, `UPPER_SNAKE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $name,)+ }
            }

            /// The gRPC code.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$reason => Code::$code,)+ }
            }

            /// Whether the same call may succeed when it is repeated later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$reason => $retryable,)+ }
            }

            /// The public text.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$reason => $message,)+ }
            }
        }
    };
}

reasons! {
    // The request itself. Atoti was not called.
    /// `query_id` breaks its rule.
    InvalidQueryId = "INVALID_QUERY_ID", InvalidArgument, false,
        "query_id must be 1 to 128 characters of A-Z a-z 0-9 _ . ~ - and neither \".\" nor \"..\"";
    /// `wait` breaks its rule.
    InvalidWait = "INVALID_WAIT", InvalidArgument, false,
        "wait must be a valid duration of 0 or more";
    /// `reason` breaks its rule.
    InvalidReason = "INVALID_REASON", InvalidArgument, false,
        "reason must have at most 512 characters";
    /// A field of a filter breaks its rule.
    InvalidFilter = "INVALID_FILTER", InvalidArgument, false,
        "a filter holds no empty or unspecified values, valid times and durations, lower bounds below upper ones, and at most 4096 bytes in all";
    /// A filter that must say something says nothing.
    EmptyFilter = "EMPTY_FILTER", InvalidArgument, false,
        "the filter must not be empty here: it would select everything";
    /// `min_running_time` breaks its rule.
    InvalidMinRunningTime = "INVALID_MIN_RUNNING_TIME", InvalidArgument, false,
        "min_running_time must be a valid duration of 0 or more";
    /// `max_cancellations` breaks its rule.
    InvalidMaxCancellations = "INVALID_MAX_CANCELLATIONS", InvalidArgument, false,
        "max_cancellations must be 0 (for 100) to 10000";
    /// `page_size` breaks its rule.
    InvalidPageSize = "INVALID_PAGE_SIZE", InvalidArgument, false,
        "page_size must not be negative";
    /// `page_token` is none of the bridge's, or belongs to another filter.
    InvalidPageToken = "INVALID_PAGE_TOKEN", InvalidArgument, false,
        "page_token must be a next_page_token that was given out for this very filter";
    /// `timeout` of a plan breaks its rule.
    InvalidPlanTimeout = "INVALID_PLAN_TIMEOUT", InvalidArgument, false,
        "timeout must be a valid duration longer than 0";
    /// The `authorization` metadata is ambiguous.
    InvalidAuthorization = "INVALID_AUTHORIZATION", InvalidArgument, false,
        "metadata authorization must be given at most once";
    /// The `grpc-timeout` header breaks the gRPC specification.
    InvalidTimeout = "INVALID_TIMEOUT", InvalidArgument, false,
        "grpc-timeout must be 1 to 8 digits and a unit of H, M, S, m, u or n";
    /// No such service or method.
    UnknownMethod = "UNKNOWN_METHOD", Unimplemented, false,
        "the bridge has no such service or method; ask its reflection service for those it has";
    /// The message is compressed.
    UnsupportedEncoding = "UNSUPPORTED_ENCODING", Unimplemented, false,
        "messages must not be compressed; grpc-accept-encoding says what is taken";
    /// The message is no valid protobuf.
    UnreadableMessage = "UNREADABLE_MESSAGE", Internal, false,
        "the request message cannot be read; client and bridge may have different definitions";
    /// The message is larger than any request of this API.
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, false,
        "the request message is larger than 64 KiB";
    /// The health service was asked for a name that there is not.
    UnknownHealthName = "UNKNOWN_HEALTH_NAME", NotFound, false,
        "the health service knows the names of the services, upstream, and the empty one";

    // The query.
    /// Atoti knows no such query.
    QueryNotFound = "QUERY_NOT_FOUND", NotFound, false,
        "Atoti knows no query with this id";
    /// The query has ended already.
    QueryNotRunning = "QUERY_NOT_RUNNING", NotFound, false,
        "the query has ended already; set allow_finished to take that for success";
    /// The query has left the history.
    QueryExpired = "QUERY_EXPIRED", NotFound, false,
        "Atoti no longer knows the query with this id";
    /// The history says that the query runs, but not where the bridge can reach it.
    QueryOnOtherNode = "QUERY_ON_OTHER_NODE", FailedPrecondition, false,
        "the query still runs, on an Atoti node that this bridge does not reach";
    /// What is to be deleted still runs.
    QueryStillRunning = "QUERY_STILL_RUNNING", FailedPrecondition, false,
        "the query still runs; cancel it first";
    /// The fuse of a bulk cancel has blown.
    TooManyMatches = "TOO_MANY_MATCHES", FailedPrecondition, false,
        "more queries match than max_cancellations allows; none was stopped";
    /// The operator has not allowed query plans.
    QueryPlanDisabled = "QUERY_PLAN_DISABLED", FailedPrecondition, false,
        "query plans are not allowed here, as Atoti executes the query again for them";
    /// The query is in no state to be cancelled.
    QueryNotCancellable = "QUERY_NOT_CANCELLABLE", FailedPrecondition, false,
        "the query is in no state to be cancelled";
    /// A precondition that Atoti sees does not hold.
    PreconditionFailed = "PRECONDITION_FAILED", FailedPrecondition, false,
        "a precondition of Atoti does not hold";
    /// Somebody else is at work on the query.
    QueryLocked = "QUERY_LOCKED", Aborted, true,
        "the query is locked; try again";

    // The caller, as Atoti sees it.
    /// Atoti wants credentials, or better ones.
    BackendUnauthenticated = "BACKEND_UNAUTHENTICATED", Unauthenticated, false,
        "Atoti did not accept the credentials; send valid ones as authorization metadata";
    /// Atoti redirects to a login page.
    BackendLoginRedirect = "BACKEND_LOGIN_REDIRECT", Unauthenticated, false,
        "Atoti asks to log in; send valid credentials as authorization metadata";
    /// Atoti knows who calls and does not allow it.
    BackendPermissionDenied = "BACKEND_PERMISSION_DENIED", PermissionDenied, false,
        "Atoti does not allow this with these credentials";

    /// Atoti issues no token to the bridge.
    BackendTokenFailed = "BACKEND_TOKEN_FAILED", Internal, false,
        "Atoti did not issue a token for the bridge's own account";

    // What Atoti answers otherwise.
    /// Atoti finds fault with the request.
    BackendRejectedRequest = "BACKEND_REJECTED_REQUEST", InvalidArgument, false,
        "Atoti rejected the request as invalid";
    /// The request is too large for Atoti.
    RequestTooLarge = "REQUEST_TOO_LARGE", ResourceExhausted, false,
        "the request is too large for Atoti";
    /// Atoti asks for fewer calls.
    BackendRateLimited = "BACKEND_RATE_LIMITED", ResourceExhausted, true,
        "Atoti limits the rate of calls; try again later";
    /// Atoti has run out of something.
    BackendOutOfResources = "BACKEND_OUT_OF_RESOURCES", ResourceExhausted, true,
        "Atoti has run out of resources";
    /// An answer to a read is longer than the bridge reads.
    BackendResponseTooLarge = "BACKEND_RESPONSE_TOO_LARGE", ResourceExhausted, false,
        "Atoti's answer is larger than this bridge takes";
    /// This Atoti Server has no Query History API.
    BackendApiMissing = "BACKEND_API_MISSING", Unimplemented, false,
        "this Atoti Server does not have the Query History REST API";
    /// Atoti does not know the method.
    BackendMethodNotAllowed = "BACKEND_METHOD_NOT_ALLOWED", Unimplemented, false,
        "this Atoti Server does not allow the operation";
    /// Atoti does not implement the method.
    BackendNotImplemented = "BACKEND_NOT_IMPLEMENTED", Unimplemented, false,
        "this Atoti Server does not implement the operation";
    /// Atoti failed.
    BackendError = "BACKEND_ERROR", Internal, false,
        "Atoti failed to carry out the request";
    /// Atoti finds fault with what the bridge itself adds to a request.
    BackendContract = "BACKEND_CONTRACT", Internal, false,
        "Atoti does not accept the form of the bridge's request";
    /// A proxy on the way wants credentials.
    BackendProxyAuth = "BACKEND_PROXY_AUTH", Internal, false,
        "a proxy between the bridge and Atoti wants credentials";
    /// A redirect, which is never followed.
    BackendRedirect = "BACKEND_REDIRECT", Internal, false,
        "Atoti redirects elsewhere; the bridge's base URL is probably wrong";
    /// What came is not HTTP, or not an answer.
    BackendProtocolError = "BACKEND_PROTOCOL_ERROR", Internal, false,
        "what answers in Atoti's place does not speak HTTP properly";
    /// A success without the promised document.
    BackendMalformedBody = "BACKEND_MALFORMED_BODY", Internal, false,
        "Atoti's answer cannot be read";
    /// A page in place of an answer.
    BackendUnexpectedHtml = "BACKEND_UNEXPECTED_HTML", Unknown, false,
        "a web page came in place of Atoti's answer; the outcome is unknown";
    /// A client error that the table does not name.
    BackendHttp4xx = "BACKEND_HTTP_4XX", Unknown, false,
        "Atoti refused the request for a reason the bridge does not know";
    /// A server error that the table does not name.
    BackendHttp5xx = "BACKEND_HTTP_5XX", Internal, false,
        "Atoti failed for a reason the bridge does not know";

    // Atoti cannot serve now.
    /// Atoti, or a proxy, gave up waiting for the request.
    BackendRequestTimeout = "BACKEND_REQUEST_TIMEOUT", Unavailable, true,
        "Atoti did not receive the request in time";
    /// Atoti wants another connection.
    BackendRetryConnection = "BACKEND_RETRY_CONNECTION", Unavailable, true,
        "Atoti asks to try again on another connection";
    /// A proxy closed the request.
    BackendHopClosed = "BACKEND_HOP_CLOSED", Unavailable, true,
        "a proxy between the bridge and Atoti gave the request up";
    /// A proxy could not reach Atoti.
    BackendBadGateway = "BACKEND_BAD_GATEWAY", Unavailable, true,
        "a proxy between the bridge and Atoti cannot reach it";
    /// Atoti is starting, stopping or overloaded.
    BackendUnavailable = "BACKEND_UNAVAILABLE", Unavailable, true,
        "Atoti cannot serve now";
    /// An answer to a read broke off.
    BackendBodyTruncated = "BACKEND_BODY_TRUNCATED", Unavailable, true,
        "the connection to Atoti broke in the middle of its answer";
    /// No connection.
    BackendConnectFailed = "BACKEND_CONNECT_FAILED", Unavailable, true,
        "Atoti cannot be reached";
    /// No address.
    BackendDnsFailed = "BACKEND_DNS_FAILED", Unavailable, true,
        "Atoti's host name cannot be resolved";
    /// No TLS.
    BackendTlsFailed = "BACKEND_TLS_FAILED", Unavailable, true,
        "the TLS handshake with Atoti failed";
    /// A certificate that cannot be trusted.
    BackendTlsUntrusted = "BACKEND_TLS_UNTRUSTED", Unavailable, false,
        "Atoti's certificate is not trusted";
    /// The connection ended before the answer.
    BackendConnectionLost = "BACKEND_CONNECTION_LOST", Unavailable, true,
        "the connection to Atoti was lost before its answer";

    // Time.
    /// A proxy gave up waiting for Atoti.
    BackendGatewayTimeout = "BACKEND_GATEWAY_TIMEOUT", DeadlineExceeded, true,
        "a proxy gave up waiting for Atoti; the request may have been carried out";
    /// The bridge gave up waiting for Atoti.
    BackendTimeout = "BACKEND_TIMEOUT", DeadlineExceeded, true,
        "Atoti did not answer in time; the request may have been carried out";
    /// There was no time left.
    DeadlineBeforeSend = "DEADLINE_BEFORE_SEND", DeadlineExceeded, true,
        "the deadline was over before anything was sent to Atoti";
    /// The deadline of a stream was over on the way.
    DeadlineOver = "DEADLINE_OVER", DeadlineExceeded, true,
        "the deadline was over before the stream came to its end; what it has told is true";
    /// The caller of a stream went away on the way, or took nothing for long.
    CallerGone = "CALLER_GONE", Cancelled, true,
        "the caller went away, or took no answers for too long; nothing further was begun";

    // The bridge.
    /// The caller's certificate names nobody who may call.
    CallerNotAllowed = "CALLER_NOT_ALLOWED", PermissionDenied, false,
        "the name in the caller's certificate is not among those that may call";
    /// As many calls at work as are taken on.
    Overloaded = "OVERLOADED", ResourceExhausted, true,
        "the bridge is at its limit of calls; try again shortly";
    /// The process is about to stop.
    Draining = "DRAINING", Unavailable, true,
        "this bridge is shutting down; try again, on another one";
    /// The operator wants no attempt without its record.
    AuditUnavailable = "AUDIT_UNAVAILABLE", Unavailable, true,
        "this bridge cannot write its audit records, and attempts nothing without; try again, on another one";
    /// The record of an attempt that was made is not written.
    AuditFailed = "AUDIT_FAILED", Internal, false,
        "Atoti accepted the request, but its audit record could not be written yet; do not repeat the call";
    /// A bug.
    BridgeBug = "BRIDGE_BUG", Internal, false,
        "the bridge failed; the operator finds the cause in its log";
}

impl Reason {
    /// The name of the gRPC code.
    #[must_use]
    pub const fn code_name(self) -> &'static str {
        code_name(self.code())
    }

    /// What a fact about Atoti means to a caller.
    ///
    /// Base: the HTTP column of `google.rpc.Code` and AIP-193, not gRPC's `http-grpc-status-mapping`, which is for
    /// broken proxies.
    #[must_use]
    pub const fn of(fact: &Fact) -> Self {
        match fact {
            Fact::Refused(refusal) => Self::of_refusal(refusal),
            Fact::Html => Self::BackendUnexpectedHtml,
            Fact::MalformedBody => Self::BackendMalformedBody,
            Fact::BodyTruncated => Self::BackendBodyTruncated,
            Fact::ResponseTooLarge => Self::BackendResponseTooLarge,
            Fact::ConnectFailed => Self::BackendConnectFailed,
            Fact::DnsFailed => Self::BackendDnsFailed,
            Fact::TlsFailed => Self::BackendTlsFailed,
            Fact::TlsUntrusted => Self::BackendTlsUntrusted,
            Fact::ConnectionLost => Self::BackendConnectionLost,
            Fact::Protocol => Self::BackendProtocolError,
            Fact::TimedOut => Self::BackendTimeout,
            Fact::DeadlineBeforeSend => Self::DeadlineBeforeSend,
            Fact::NoToken => Self::BackendTokenFailed,
        }
    }

    #[expect(
        clippy::match_overlapping_arm,
        reason = "the statuses of note stand before the rest of their class"
    )]
    const fn of_refusal(refusal: &Refusal) -> Self {
        match refusal.status {
            302 | 303 | 307 if refusal.to_login => Self::BackendLoginRedirect,
            300..=399 => Self::BackendRedirect,
            400 | 414 | 422 => Self::BackendRejectedRequest,
            401 => Self::BackendUnauthenticated,
            403 => Self::BackendPermissionDenied,
            404 => Self::QueryNotFound,
            405 => Self::BackendMethodNotAllowed,
            // The bridge's own fault, not the caller's.
            406 | 411 | 415 | 431 => Self::BackendContract,
            407 | 511 => Self::BackendProxyAuth,
            408 => Self::BackendRequestTimeout,
            409 => Self::QueryNotCancellable,
            410 => Self::QueryExpired,
            412 => Self::PreconditionFailed,
            413 => Self::RequestTooLarge,
            421 | 425 => Self::BackendRetryConnection,
            423 => Self::QueryLocked,
            429 => Self::BackendRateLimited,
            // CANCELLED would blame our caller.
            499 => Self::BackendHopClosed,
            400..=499 => Self::BackendHttp4xx,
            500 => Self::BackendError,
            501 => Self::BackendNotImplemented,
            502 => Self::BackendBadGateway,
            503 => Self::BackendUnavailable,
            504 => Self::BackendGatewayTimeout,
            507 => Self::BackendOutOfResources,
            500..=599 => Self::BackendHttp5xx,
            // 1xx as a final answer, or a number that HTTP does not have. A success is no refusal.
            0..=299 | 600..=u16::MAX => Self::BackendProtocolError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_within_the_rules_of_error_info() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let name = reason.as_str();
            assert!(
                name.len() <= 63
                    && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(Reason::ALL[..index].iter().all(|other| other.as_str() != name), "{name} twice");
            assert!(reason.message().len() <= 512 && reason.message().is_ascii(), "{name}");
        }
    }

    #[test]
    fn no_refusal_is_ok_and_none_panics() {
        for status in 0..=u16::MAX {
            for to_login in [false, true] {
                let fact = Fact::Refused(Refusal { to_login, ..Refusal::of(status) });
                assert_ne!(Reason::of(&fact).code(), Code::Ok, "{status}");
            }
        }
    }
}
