//! Sees the outcome of a call, whatever it is, once, at the end of its answer: counts it, ends its span, and writes its
//! line in the log.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::{SERVICE, access};
use crate::{
    service::{Caller, Failed, Peer},
    status::{Reason, code_name, is_fault},
    telemetry::{CallEnd, CallSpan, Counted, Method, Telemetry, TraceContext},
};

/// A method, in words that are fit for labels.
#[derive(Debug)]
pub(super) struct Rpc {
    method: Method,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the service itself.
    Ours,
    /// Health and reflection, which platforms and tools call: they would drown the others in spans and lines.
    Probe,
    /// There is no such method.
    Unknown,
}

impl Rpc {
    /// Leaks the name: there are few, once for each server, and every call needs it.
    pub(super) fn new(name: String) -> Self {
        let ours = name.strip_prefix(SERVICE).is_some_and(|rest| rest.starts_with('/'));
        Self { method: Method::new(name.leak()), kind: if ours { Kind::Ours } else { Kind::Probe } }
    }

    /// All that there are not, by OpenTelemetry's word for them.
    pub(super) fn unknown() -> Self {
        Self { method: Method::new("_OTHER"), kind: Kind::Unknown }
    }

    /// `package.Service/Method`.
    pub(super) const fn name(&self) -> &'static str {
        self.method.name()
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }
}

/// Where the outcomes of calls are told.
#[derive(Debug)]
pub(super) struct Observer {
    telemetry: Telemetry,
    /// Share of the calls that ended well which get a line in the log.
    access_log_ratio: f64,
    began: Instant,
    overload: access::Overload,
}

impl Observer {
    pub(super) fn new(telemetry: Telemetry, access_log_ratio: f64) -> Self {
        Self { telemetry, access_log_ratio, began: Instant::now(), overload: access::Overload::default() }
    }

    /// Whether a call gets a line; with it goes how many have got none.
    fn line(&self, kind: Kind, code: Code, failed: Option<&Failed>) -> Option<u64> {
        match (kind, code) {
            (Kind::Probe, _) => None,
            (_, Code::Ok) => access::drawn(self.access_log_ratio).then_some(0),
            // A failure always does, but for a flood of this one.
            _ if failed.is_some_and(|failed| failed.reason == Reason::Overloaded) => {
                self.overload.line(self.began.elapsed())
            }
            _ => Some(0),
        }
    }

    /// Begins a call's span.
    pub(super) fn span(&self, rpc: &Rpc, parent: Option<&TraceContext>, peer: &Peer) -> CallSpan {
        match rpc.kind {
            Kind::Ours | Kind::Unknown => self.telemetry.traces.call(rpc.name(), parent, peer.address),
            Kind::Probe => CallSpan::none(),
        }
    }
}

/// A call in progress. Dropped before its outcome is known, it is one whose caller has gone.
pub(super) struct Observed {
    observer: Arc<Observer>,
    rpc: Arc<Rpc>,
    caller: Arc<Caller>,
    span: CallSpan,
    code: Code,
    _in_flight: Option<Counted>,
}

impl Observed {
    pub(super) fn new(
        observer: &Arc<Observer>,
        rpc: &Arc<Rpc>,
        caller: &Arc<Caller>,
        span: CallSpan,
    ) -> Self {
        Self {
            observer: Arc::clone(observer),
            rpc: Arc::clone(rpc),
            caller: Arc::clone(caller),
            span,
            code: Code::Cancelled,
            _in_flight: (rpc.kind == Kind::Ours).then(|| observer.telemetry.metrics.calls.started()),
        }
    }

    /// Goes along with the answer until its end.
    pub(super) fn response(mut self, response: Response<Body>) -> Response<Body> {
        if !response.status().is_success() {
            // What a gRPC client makes of such an answer.
            self.code = Code::Unknown;
        } else if let Some(code) = code(response.headers()) {
            self.code = code;
        } else {
            return response.map(|body| Body::new(Observing { body, observed: Some(self) }));
        }
        response
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let Self { observer, rpc, caller, code, .. } = self;
        let (code, took) = (*code, caller.arrived.elapsed());
        let calls = &observer.telemetry.metrics.calls;
        let failed = caller.failure().filter(|_| code != Code::Ok);
        calls.ended(&rpc.method, code_name(code), took, caller.trace.as_ref());
        if let Some(failed) = failed {
            calls.failed(rpc.name(), failed.reason.as_str());
            match failed.reason {
                Reason::Overloaded => calls.shed(),
                // Wherever it was met: in the call itself, or in the task that carries its cancel.
                Reason::BridgeBug => calls.panicked(),
                // A stream ends at its caller's deadline as its caller wants it.
                Reason::DeadlineOver => {}
                _ if code == Code::DeadlineExceeded => calls.deadline_missed(failed.request_sent),
                _ => {}
            }
        }
        let subject = caller.subject();
        self.span.end(&CallEnd {
            code: code_name(code),
            is_fault: is_fault(code),
            reason: failed.map(|failed| failed.reason.as_str()),
            request_id: subject.request_id,
            query_id: subject.query_id,
        });
        if let Some(left_out) = observer.line(rpc.kind, code, failed) {
            access::write(rpc.name(), code, took, caller, failed, left_out);
        }
    }
}

/// The body of an answer whose outcome is in its trailers.
struct Observing {
    body: Body,
    observed: Option<Observed>,
}

impl HttpBody for Observing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let outcome = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(code),
            Some(Err(_)) => Some(Code::Unknown),
            None => None,
        };
        if let Some(code) = outcome
            && let Some(mut observed) = self.observed.take()
        {
            observed.code = code;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}
