//! Who calls, what goes along to Atoti, and how long it may take: all that a call's HTTP/2 headers and its connection say.
//!
//! Read once, from the headers, when the call arrives. Never from `tonic::Request::metadata`: request trailers
//! overwrite that, so what a proxy checked at the front would not be what is used.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose};
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::{Instant, sleep_until};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::metadata::MetadataMap;

use super::{failed::Failed, timeout};
use crate::{
    atoti::{Call, Gate, Lane, QueryId},
    status::{Failure, Reason, Subject, Violation},
    telemetry::TraceContext,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The answer leaves this much before the deadline, so that the caller gets it, with its details, and not only its
/// own timer.
const ANSWER_MARGIN: Duration = Duration::from_millis(10);
/// Reads end this much before the answer must leave.
const READ_MARGIN: Duration = Duration::from_millis(10);

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address; a Unix socket has none.
    pub address: Option<SocketAddr>,
    /// The same as text, for every line and record of its calls.
    pub text: Option<Box<str>>,
    /// What its certificate calls it, if it showed one.
    pub name: Option<String>,
    /// Cancelled when the connection has reached its age: watches on it go elsewhere.
    pub closing: CancellationToken,
    /// Bulk cancels at work on the connection: it is not cut before they have ended.
    pub at_work: TaskTracker,
    /// Bytes that its requests hold which have not come to their end.
    pub half_sent: Arc<AtomicUsize>,
}

impl Peer {
    /// The other end of a connection that has just been accepted.
    #[must_use]
    pub fn at(address: Option<SocketAddr>) -> Self {
        let text = address.map(|address| address.to_string().into());
        Self { address, text, ..Self::default() }
    }
}

/// The caller of one call, and what becomes known of the call on its way.
#[derive(Debug)]
pub struct Caller {
    /// The caller's `x-request-id`, or one of our own.
    pub request_id: RequestId,
    /// What the call and all its requests are a part of, where somebody traces.
    pub trace: Option<TraceContext>,
    /// The other end of the connection.
    pub peer: Arc<Peer>,
    /// When the headers were there.
    pub arrived: Instant,
    /// When the answer must leave at the latest.
    pub answer_by: Instant,
    /// When a stream must have ended: by the caller's own deadline, however late that is.
    pub end_by: Option<Instant>,
    /// What is wrong with the headers.
    pub violations: Vec<Violation>,
    /// Whether any byte of the call's request to Atoti has left.
    pub gate: Gate,
    forwarded: Arc<HeaderMap>,
    max_deadline: Duration,
    query_id: OnceLock<QueryId>,
    failed: OnceLock<Failed>,
}

impl Caller {
    /// Reads the headers of a call that has just arrived; `trace` is what it is a part of.
    #[must_use]
    pub fn read(
        headers: &HeaderMap,
        peer: Arc<Peer>,
        max_deadline: Duration,
        trace: Option<TraceContext>,
    ) -> Self {
        let arrived = Instant::now();
        let mut violations = Vec::new();
        let mut forwarded = HeaderMap::with_capacity(6);

        let timeout = headers.get(GRPC_TIMEOUT).map(|value| timeout::parse(value.as_bytes()));
        if timeout == Some(None) {
            violations.push(Violation { field: "grpc-timeout", reason: Reason::InvalidTimeout });
        }
        let deadline = timeout.flatten().map_or(max_deadline, |timeout| timeout.min(max_deadline));

        let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
        match (credentials.next(), credentials.next()) {
            (Some(_), Some(_)) => {
                violations.push(Violation { field: "authorization", reason: Reason::InvalidAuthorization });
            }
            (Some(only), None) => {
                let mut only = only.clone();
                only.set_sensitive(true);
                forwarded.insert(header::AUTHORIZATION, only);
            }
            (None, _) => {}
        }
        if trace.is_some() {
            TraceContext::pass_on(headers, &mut forwarded);
        }
        let request_id = RequestId::of(headers);
        forwarded.insert(REQUEST_ID, request_id.0.clone());

        Self {
            request_id,
            trace,
            peer,
            arrived,
            answer_by: arrived + deadline.saturating_sub(ANSWER_MARGIN),
            // One past the end of the clock is none.
            end_by: timeout.flatten().and_then(|own| arrived.checked_add(own.saturating_sub(ANSWER_MARGIN))),
            violations,
            gate: Gate::default(),
            forwarded: Arc::new(forwarded),
            max_deadline,
            query_id: OnceLock::new(),
            failed: OnceLock::new(),
        }
    }

    /// Notes which query the call is about, once its id has been found valid.
    pub(super) fn is_about(&self, id: &QueryId) {
        let _ = self.query_id.set(id.clone());
    }

    /// Notes why the call failed; the first failure counts.
    pub(super) fn failed(&self, failure: &Failure) {
        self.failed.get_or_init(|| Failed::from(failure));
    }

    /// Why the call failed, if it did and the bridge knows why.
    #[must_use]
    pub fn failure(&self) -> Option<&Failed> {
        self.failed.get()
    }

    /// What the call is about.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject { request_id: &self.request_id, query_id: self.query_id.get().map(QueryId::as_str) }
    }

    /// What goes along to Atoti.
    #[must_use]
    pub fn call(&self, lane: Lane) -> Call {
        Call {
            headers: Arc::clone(&self.forwarded),
            begin_by: self.answer_by,
            read_by: self.answer_by.checked_sub(READ_MARGIN).unwrap_or(self.answer_by),
            carry_until: self.arrived + self.max_deadline,
            gate: self.gate.clone(),
            lane,
            trace: self.trace.clone(),
        }
    }

    /// The same for one piece of work of a stream that begins now: bounded like a call of its own, and by the end of
    /// the stream.
    #[must_use]
    pub fn piece(&self, lane: Lane) -> Call {
        let longest = Instant::now() + self.max_deadline;
        self.until(self.end_by.map_or(longest, |end| end.min(longest)), longest, lane)
    }

    /// The same for a look that others share, which the end of this caller's stream is nothing to.
    #[must_use]
    pub fn poll(&self, lane: Lane) -> Call {
        let longest = Instant::now() + self.max_deadline;
        self.until(longest, longest, lane)
    }

    fn until(&self, begin_by: Instant, longest: Instant, lane: Lane) -> Call {
        Call {
            headers: Arc::clone(&self.forwarded),
            begin_by,
            read_by: begin_by.checked_sub(READ_MARGIN).unwrap_or(begin_by),
            carry_until: longest,
            gate: Gate::default(),
            lane,
            trace: self.trace.clone(),
        }
    }

    /// How long a stream may have an answer that nobody takes, before its caller counts as gone: as long as a call may
    /// last.
    pub(super) fn patience(&self) -> Duration {
        self.max_deadline
    }

    /// Waits until a stream must have ended; for ever, when the caller has set no deadline.
    pub(super) async fn over(&self) {
        match self.end_by {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    /// The caller's `authorization`, if it sent one.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.forwarded.get(header::AUTHORIZATION)
    }

    /// A success, with the request id in its headers; failures carry it in their details.
    #[must_use]
    pub fn response<T>(&self, message: T) -> tonic::Response<T> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(REQUEST_ID, self.request_id.0.clone());
        tonic::Response::from_parts(MetadataMap::from_headers(headers), message, http::Extensions::new())
    }

    /// Who the forwarded credentials name: the user of Basic, the subject of a JWT. Nothing else of them is read.
    #[must_use]
    pub fn claimed_user(&self) -> Option<String> {
        const LONGEST: usize = 128;
        let credentials = self.forwarded.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = credentials.split_once(' ')?;
        let user = if scheme.eq_ignore_ascii_case("basic") {
            let pair = String::from_utf8(general_purpose::STANDARD.decode(token.trim()).ok()?).ok()?;
            // Without a colon it is anything, perhaps a password.
            pair.split_once(':')?.0.to_owned()
        } else {
            let payload = general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
            let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
            payload.get("sub")?.as_str()?.to_owned()
        };
        Some(user.chars().take(LONGEST).collect())
    }
}

/// What a call is called in headers, lines and records: printable ASCII, of bounded length.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    const LONGEST: usize = 128;

    /// The caller's own if it is fit to be written into logs and headers, else one of ours.
    fn of(headers: &HeaderMap) -> Self {
        let fit = |id: &&HeaderValue| {
            (1..=Self::LONGEST).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let mut id = headers.get(REQUEST_ID).filter(fit).cloned().unwrap_or_else(Self::fresh);
        // No secret, but never the same twice: what remembers header values, as HTTP/2 does, need not remember it.
        id.set_sensitive(true);
        Self(id)
    }

    fn fresh() -> HeaderValue {
        let mut digits = [0; 32];
        HEXLOWER.encode_mut(&fastrand::u128(..).to_be_bytes(), &mut digits);
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits")
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.to_str().expect("printable ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&'static str, &str)]) -> Caller {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        Caller::read(&map, Arc::default(), Duration::from_secs(30), TraceContext::read(&map))
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[tokio::test]
    async fn only_allow_listed_headers_go_along() {
        let caller = caller(&[
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("host", "evil"),
            ("x-api-key", "k"),
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("x-request-id", "r-1"),
        ]);
        let headers = caller.call(Lane::Cancels).headers;
        let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "traceparent", "tracestate", "tracestate", "x-request-id"]);
        assert!(headers["authorization"].is_sensitive());
    }

    #[tokio::test]
    async fn a_malformed_trace_context_is_dropped_whole() {
        let malformed = [("traceparent", "00-0-0-0"), ("tracestate", "a=1")];
        let headers = caller(&malformed).call(Lane::Cancels).headers;
        assert!(!headers.contains_key("traceparent") && !headers.contains_key("tracestate"));
        let long = format!("a={}", "x".repeat(600));
        let headers = caller(&[("traceparent", PARENT), ("tracestate", &long)]).call(Lane::Cancels).headers;
        assert!(headers.contains_key("traceparent") && !headers.contains_key("tracestate"));
    }

    #[tokio::test]
    async fn an_unfit_request_id_is_replaced() {
        let long = "x".repeat(129);
        for id in ["", "a b", "tab\tbed", &long] {
            let caller = caller(&[("x-request-id", id)]);
            assert_eq!(caller.request_id.len(), 32, "{id:?}");
            assert_eq!(caller.call(Lane::Cancels).headers["x-request-id"], *caller.request_id);
        }
        assert_eq!(&*caller(&[("x-request-id", "r-1")]).request_id, "r-1");
    }

    #[tokio::test]
    async fn the_claimed_user_is_read_and_no_secret_ever() {
        let basic = |pair: &str| format!("Basic {}", general_purpose::STANDARD.encode(pair));
        let jwt = |scheme: &str, payload: &str| {
            format!("{scheme} e30.{}.sig", general_purpose::URL_SAFE_NO_PAD.encode(payload))
        };
        for (credentials, user) in [
            (basic("ada:secret"), Some("ada")),
            (basic("secret"), None),
            (jwt("Bearer", r#"{"sub":"ada"}"#), Some("ada")),
            (jwt("Jwt", r#"{"sub":"ada"}"#), Some("ada")),
            (jwt("Bearer", "{}"), None),
            ("Bearer opaque".to_owned(), None),
            ("nothing".to_owned(), None),
            ("Basic !!!".to_owned(), None),
        ] {
            assert_eq!(
                caller(&[("authorization", &credentials)]).claimed_user().as_deref(),
                user,
                "{credentials}"
            );
        }
    }
}
