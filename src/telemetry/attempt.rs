//! One request to Atoti as it is seen from outside: a measurement and a span, whatever becomes of it.

use std::{fmt, sync::Arc};

use http::HeaderMap;
use prometheus_client::encoding::EncodeLabelSet;
use tokio::time::Instant;

use super::{
    Counted, Telemetry, TraceContext,
    metrics::{Request, Usual},
    traces::{RequestSpan, TraceParent},
};

/// What a request asks of whom, in bounded words: fit for labels.
#[derive(Debug)]
pub struct Target {
    pub(super) method: &'static str,
    pub(super) template: &'static str,
    pub(super) destination: Destination,
    usual: Usual<Request>,
}

impl Target {
    /// The HTTP method, the path below the API's with `{id}` for the id, and who is asked.
    #[must_use]
    pub fn new(method: &'static str, template: &'static str, destination: Destination) -> Self {
        Self { method, template, destination, usual: Usual::default() }
    }
}

/// A server, as OpenTelemetry names one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Destination {
    server_address: Arc<str>,
    server_port: u16,
}

impl Destination {
    /// A host and a port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { server_address: host.into(), server_port: port }
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.server_address
    }

    pub(super) const fn port(&self) -> u16 {
        self.server_port
    }
}

/// Why a request failed: OpenTelemetry's `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// By the status of its answer.
    Status(u16),
    /// There was no answer, or none that could be used.
    Class(&'static str),
}

/// Its caller lost interest before there was an answer.
const CANCELLED: ErrorType = ErrorType::Class("cancelled");

/// A request at work. Dropped before its end is known, it is one that was given up.
#[derive(Debug)]
pub struct Attempt<'a> {
    telemetry: &'a Telemetry,
    target: &'a Target,
    started: Instant,
    span: RequestSpan,
    http_status: Option<u16>,
    error: Option<ErrorType>,
    _in_flight: Counted,
}

impl<'a> Attempt<'a> {
    /// Begins one, now: `before` attempts of the same operation came before it. What nobody's call has asked for, such as a
    /// probe, has no parent, and no span.
    #[must_use]
    pub fn start(
        telemetry: &'a Telemetry,
        target: &'a Target,
        url: &dyn fmt::Display,
        parent: Option<&TraceContext>,
        started: Instant,
        before: u32,
    ) -> Self {
        let parent = parent.map(|context| TraceParent { context, url, before });
        Self {
            telemetry,
            target,
            started,
            span: telemetry.traces.request(target, parent),
            http_status: None,
            error: Some(CANCELLED),
            _in_flight: telemetry.metrics.upstream.started(),
        }
    }

    /// Makes whatever Atoti does for it a part of the trace.
    pub fn propagate(&self, headers: &mut HeaderMap) {
        if let Some(context) = self.span.context() {
            context.write(headers);
        }
    }

    /// It has ended.
    pub fn ended(mut self, http_status: Option<u16>, error: Option<ErrorType>) {
        (self.http_status, self.error) = (http_status, error);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Target { method, template, destination, usual } = self.target;
        let request = Request {
            http_request_method: method,
            url_template: template,
            destination: destination.clone(),
            http_response_status_code: self.http_status,
            error_type: self.error,
        };
        let trace = self.span.context();
        self.telemetry.metrics.upstream.ended(usual, request, self.started.elapsed(), trace.as_ref());
        self.span.end(self.http_status, self.error);
    }
}
