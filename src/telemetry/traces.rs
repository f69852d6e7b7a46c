//! Traces: one span for each call, one for each request to Atoti on its behalf, sent to a collector over OTLP.
//!
//! Off unless the environment names a collector; all about it is set by OpenTelemetry's own variables (`OTEL_...`).
//! Attributes follow OpenTelemetry's RPC and HTTP conventions, whose names are spelt out here once.

mod context;
mod export;
mod settings;

use std::{borrow::Cow, fmt, net::SocketAddr, sync::Arc, time::Duration};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

pub use self::{context::TraceContext, settings::TraceSettings};
use super::{
    Metrics,
    attempt::{ErrorType, Target},
};

/// Attributes that a span of ours may come to have: room for them is made once.
const MOST_ATTRIBUTES: usize = 10;

/// Where spans go, if anywhere. Clones are the same.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Exporting>>);

struct Exporting {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

impl fmt::Debug for Traces {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_on() { "Traces(on)" } else { "Traces(off)" })
    }
}

/// How a call ended, for its span.
#[derive(Clone, Copy, Debug)]
pub struct CallEnd<'a> {
    /// The gRPC code's name.
    pub code: &'static str,
    /// Whether the code says that the server failed, not its caller.
    pub is_fault: bool,
    /// `ErrorInfo.reason` of a failure.
    pub reason: Option<&'static str>,
    /// The request id.
    pub request_id: &'a str,
    /// The query that the call was about.
    pub query_id: Option<&'a str>,
}

/// Whose child a request's span is, and what only a span has room for.
#[derive(Clone, Copy)]
pub(super) struct TraceParent<'a> {
    pub(super) context: &'a TraceContext,
    pub(super) url: &'a dyn fmt::Display,
    /// Attempts before this one.
    pub(super) before: u32,
}

impl Traces {
    /// Starts to send spans. To be called inside of the runtime.
    ///
    /// # Errors
    ///
    /// What of the environment cannot be used all the same.
    pub fn start(settings: TraceSettings, metrics: &Metrics) -> Result<Self, String> {
        let provider = export::provider(settings, metrics)?;
        let tracer = provider.tracer("atoti-grpc-bridge");
        Ok(Self(Some(Arc::new(Exporting { tracer, provider }))))
    }

    /// Whether there is a collector to send spans to.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of a call that has just arrived.
    #[must_use]
    pub fn call(
        &self,
        method: &'static str,
        parent: Option<&TraceContext>,
        peer: Option<SocketAddr>,
    ) -> CallSpan {
        let Some(exporting) = &self.0 else { return CallSpan(None) };
        let mut attributes = Vec::with_capacity(MOST_ATTRIBUTES);
        attributes.push(KeyValue::new("rpc.system.name", "grpc"));
        attributes.push(KeyValue::new("rpc.method", method));
        attributes.extend(peer.map(|peer| KeyValue::new("network.peer.address", peer.ip().to_string())));
        CallSpan(Some(Box::new(exporting.begin(method.into(), SpanKind::Server, attributes, parent))))
    }

    /// Begins the span of a request to Atoti.
    pub(super) fn request(&self, target: &Target, parent: Option<TraceParent<'_>>) -> RequestSpan {
        let (Some(exporting), Some(parent)) = (&self.0, parent) else { return RequestSpan(None) };
        let Target { method, template, destination, .. } = target;
        let (mut name, mut attributes) = (Cow::Borrowed(*method), Vec::new());
        // Every sampler that there is decides as for the parent.
        if parent.context.is_sampled() {
            name = format!("{method} {template}").into();
            attributes.reserve(MOST_ATTRIBUTES);
            attributes.extend([
                KeyValue::new("http.request.method", *method),
                KeyValue::new("url.template", *template),
                KeyValue::new("url.full", parent.url.to_string()),
                KeyValue::new("server.address", Value::from(Arc::clone(destination.address()))),
                KeyValue::new("server.port", i64::from(destination.port())),
            ]);
            if parent.before > 0 {
                attributes.push(KeyValue::new("http.request.resend_count", i64::from(parent.before)));
            }
        }
        let span = exporting.begin(name, SpanKind::Client, attributes, Some(parent.context));
        RequestSpan(Some(Box::new(span)))
    }

    /// Sends what has not been sent yet, for as long as that may take, and no more after that.
    pub async fn finish(&self, within: Duration) {
        let Some(exporting) = self.0.clone() else { return };
        // It blocks until the collector has answered, or not.
        let shut_down = move || exporting.provider.shutdown_with_timeout(within);
        let done = tokio::time::timeout(within, tokio::task::spawn_blocking(shut_down)).await;
        if !matches!(done, Ok(Ok(Ok(())))) {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

impl Exporting {
    fn begin(
        &self,
        name: Cow<'static, str>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        parent: Option<&TraceContext>,
    ) -> Span {
        let builder = SpanBuilder {
            span_kind: Some(kind),
            attributes: Some(attributes),
            ..SpanBuilder::from_name(name)
        };
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(parent.0.clone()),
            None => context,
        };
        self.tracer.build_with_context(builder, &context)
    }
}

/// The span of a call. Without a collector there is none.
#[derive(Debug)]
pub struct CallSpan(Option<Box<Span>>);

impl CallSpan {
    /// No span, of what is none.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// What happens on behalf of the call happens in this context.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|span| TraceContext(span.span_context().clone()))
    }

    /// Ends it; later calls change nothing.
    pub fn end(&mut self, end: &CallEnd<'_>) {
        let Some(span) = self.0.as_mut().filter(|span| span.is_recording()) else { return };
        span.set_attribute(KeyValue::new("rpc.response.status_code", end.code));
        if end.is_fault {
            span.set_attribute(KeyValue::new("error.type", end.code));
            span.set_status(Status::error(end.reason.unwrap_or(end.code)));
        }
        span.set_attributes(end.reason.map(|reason| KeyValue::new("atoti_bridge.reason", reason)));
        span.set_attribute(KeyValue::new("atoti_bridge.request_id", end.request_id.to_owned()));
        span.set_attributes(end.query_id.map(|id| KeyValue::new("atoti.query.id", id.to_owned())));
        span.end();
    }
}

/// The span of a request to Atoti. Without a collector there is none.
#[derive(Debug)]
pub(super) struct RequestSpan(Option<Box<Span>>);

impl RequestSpan {
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|span| TraceContext(span.span_context().clone()))
    }

    pub(super) fn end(&mut self, http_status: Option<u16>, error: Option<ErrorType>) {
        let Some(span) = self.0.as_mut().filter(|span| span.is_recording()) else { return };
        span.set_attributes(
            http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))),
        );
        if let Some(error) = error {
            let error: Value = match error {
                ErrorType::Status(status) => status.to_string().into(),
                ErrorType::Class(class) => class.into(),
            };
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}
