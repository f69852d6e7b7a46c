//! A collector of spans: OTLP's own service, as its definition has it, that remembers what it gets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::server::TcpIncoming};

use super::eventually;

/// A running collector. Ends with the test.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: AbortHandle,
}

/// A span, and who sent it.
#[derive(Clone, Debug)]
pub struct Received {
    pub span: Span,
    pub service: String,
    /// The headers that came along.
    pub metadata: http::HeaderMap,
}

struct Service(Arc<Mutex<Vec<Received>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        #[expect(clippy::disallowed_methods, reason = "of the exporter, which sends no trailers")]
        let metadata = request.metadata().clone().into_headers();
        let mut received = self.0.lock().expect("not poisoned");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let name = attributes.iter().find(|attribute| attribute.key == "service.name");
            let service = name.map_or_else(String::new, |name| text(name.value.as_ref()));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                received.push(Received { span, service: service.clone(), metadata: metadata.clone() });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Service(Arc::clone(&received)))
            .accept_compressed(CompressionEncoding::Gzip);
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(serve).abort_handle();
        Self { address, received, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// The spans of a trace, when there are as many as expected.
    pub async fn spans(&self, trace_id: &str, expected: usize) -> Vec<Span> {
        let of_trace = || {
            let spans: Vec<_> = self.received().into_iter().map(|received| received.span).collect();
            let mine = spans.into_iter().filter(|span| hex(&span.trace_id) == trace_id);
            Some(mine.collect::<Vec<_>>()).filter(|spans| spans.len() >= expected)
        };
        eventually(&format!("{expected} spans of trace {trace_id}"), of_trace).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An id, as it is written.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute of a span, as text; empty when it has none of that name.
pub fn attribute(span: &Span, key: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key);
    attribute.map_or_else(String::new, |attribute| text(attribute.value.as_ref()))
}

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
