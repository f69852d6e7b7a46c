//! Sees the outcome of a call, whatever it is, and counts it: once, at the end of its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::SERVICE;
use crate::{
    service::Caller,
    status::{Reason, code_name},
    telemetry::{InFlight, Metrics},
};

/// A call in progress. Dropped before its outcome is known, it is one whose caller has gone.
pub(super) struct Observed {
    metrics: Metrics,
    method: Arc<str>,
    caller: Arc<Caller>,
    code: Code,
    /// For calls of the service itself: watches of health would drown the others.
    _in_flight: Option<InFlight>,
}

impl Observed {
    pub(super) fn new(metrics: &Metrics, method: &Arc<str>, caller: &Arc<Caller>) -> Self {
        Self {
            metrics: metrics.clone(),
            method: Arc::clone(method),
            caller: Arc::clone(caller),
            code: Code::Cancelled,
            _in_flight: method.starts_with(SERVICE).then(|| metrics.call_started()),
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
        self.metrics.call_ended(&self.method, code_name(self.code), self.caller.arrived.elapsed());
        if self.code != Code::Ok
            && let Some(reason) = self.caller.reason()
        {
            self.metrics.call_failed(&self.method, reason.as_str());
            // Wherever it was met: in the call itself, or in the task that carries its cancel.
            if reason == Reason::BridgeBug {
                self.metrics.panicked();
            }
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
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}
