//! How spans get to a collector, and the counting of what arrives and what does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _, tonic_types::transport};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter as Export,
        SpanProcessor,
    },
};

use super::settings::TraceSettings;
use crate::telemetry::Metrics;

/// The service's name, where the environment gives none.
const SERVICE_NAME: &str = "atoti-grpc-bridge";

/// What makes spans, and sends them.
pub(super) fn provider(settings: TraceSettings, metrics: &Metrics) -> Result<SdkTracerProvider, String> {
    let TraceSettings { authorities, queue } = settings;
    let mut exporter = SpanExporter::builder().with_tonic();
    if let Some(pem) = authorities {
        let authorities = transport::Certificate::from_pem(pem);
        exporter = exporter.with_tls_config(transport::ClientTlsConfig::new().ca_certificate(authorities));
    }
    let exporter = exporter.build().map_err(|error| error.to_string())?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Counting {
        exporter,
        waiting: Arc::clone(&waiting),
        metrics: metrics.clone(),
        failing: AtomicBool::new(false),
    };
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let processor = Bounded { batches, waiting, most: queue, metrics: metrics.clone() };
    Ok(SdkTracerProvider::builder().with_resource(resource()).with_span_processor(processor).build())
}

fn resource() -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = || Resource::builder().with_attribute(version.clone());
    let told = builder().build();
    // So the SDK calls what has not been given a name.
    let unnamed = told
        .get(&opentelemetry::Key::from_static_str("service.name"))
        .is_none_or(|name| name.as_str().starts_with("unknown_service"));
    if unnamed { builder().with_service_name(SERVICE_NAME).build() } else { told }
}

/// Takes no more spans than may wait, so that it is known how many are lost: the SDK drops them without a count.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    most: usize,
    metrics: Metrics,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.most {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.process.spans_lost(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what becomes of the spans that are sent.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
    /// The last batch did not arrive.
    failing: AtomicBool,
}

impl Export for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Ok(()) => {
                self.metrics.process.spans_exported(spans);
                if failed_before {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.metrics.process.spans_lost(spans);
                if !failed_before {
                    tracing::warn!(%error, "the collector does not take spans; they are lost until it does");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
