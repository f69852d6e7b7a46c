//! What is counted and measured, under the names that dashboards know: OpenTelemetry's RPC conventions in Prometheus'
//! spelling, and `atoti_bridge_...` for what these do not name. Labels are bounded: no ids, no paths, no callers.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

/// From half a millisecond, a good answer of a near Atoti, to the longest deadline by default.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];

/// The metrics of one process; clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    calls: Family<CallLabels, Histogram, Buckets>,
    failures: Family<FailureLabels, Counter>,
    in_flight: Gauge,
    panics: Counter,
    connections: Gauge,
    connections_refused: Counter,
    accept_errors: Counter,
    draining: Gauge,
    upstream_up: Gauge,
    certificate_expiry: Family<FileLabels, Gauge<f64, AtomicU64>>,
    reload_failed: Family<FileLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc_method: Arc<str>,
    rpc_response_status_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    rpc_method: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    file: &'static str,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Metrics")
    }
}

impl Metrics {
    /// All of them, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::default(),
            calls: Family::new_with_constructor(Buckets),
            failures: Family::default(),
            in_flight: Gauge::default(),
            panics: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            accept_errors: Counter::default(),
            draining: Gauge::default(),
            upstream_up: Gauge::default(),
            certificate_expiry: Family::default(),
            reload_failed: Family::default(),
        };
        inner.register();
        Self(Arc::new(inner))
    }

    /// All of them, as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.0.registry).expect("writing to a string does not fail");
        encoded
    }

    /// A call has arrived. What it counts as in flight ends with the value given back.
    #[must_use]
    pub fn call_started(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// A call has its outcome.
    pub fn call_ended(&self, method: &Arc<str>, code: &'static str, took: Duration) {
        let labels = CallLabels { rpc_method: Arc::clone(method), rpc_response_status_code: code };
        self.0.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A call has failed.
    pub fn call_failed(&self, method: &Arc<str>, reason: &'static str) {
        let labels = FailureLabels { rpc_method: Arc::clone(method), reason };
        self.0.failures.get_or_create(&labels).inc();
    }

    /// Calls that have arrived and have no outcome yet.
    #[must_use]
    pub fn calls_in_flight(&self) -> i64 {
        self.0.in_flight.get()
    }

    /// A call has panicked.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// A connection is open for as long as the value given back lives.
    #[must_use]
    pub fn connection_opened(&self) -> InFlight {
        self.0.connections.inc();
        InFlight(self.0.connections.clone())
    }

    /// A connection was closed at once, because as many as allowed were open.
    pub fn connection_refused(&self) {
        self.0.connections_refused.inc();
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.0.accept_errors.inc();
    }

    /// The drain has begun.
    pub fn draining(&self) {
        self.0.draining.set(1);
    }

    /// Whether Atoti answered when last asked.
    pub fn upstream_up(&self, up: bool) {
        self.0.upstream_up.set(i64::from(up));
    }

    /// When the certificate in use ends.
    pub fn certificate_expires(&self, file: &'static str, at: SystemTime) {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.0.certificate_expiry.get_or_create(&FileLabels { file }).set(seconds);
    }

    /// Whether a file, as it is now, cannot be used, and an earlier content is.
    pub fn reload_failed(&self, file: &'static str, failed: bool) {
        self.0.reload_failed.get_or_create(&FileLabels { file }).set(i64::from(failed));
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "rpc_server_call_duration",
            "Calls by method and outcome, from the arrival of their headers to their end",
            Unit::Seconds,
            self.calls.clone(),
        );
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("atoti_bridge_build", "What runs", build);
        let ours = registry.sub_registry_with_prefix("atoti_bridge");
        ours.register("call_failures", "Calls that failed, by method and reason", self.failures.clone());
        ours.register(
            "calls_in_flight",
            "Calls of the service that have no outcome yet",
            self.in_flight.clone(),
        );
        ours.register("panics", "Calls that met a bug", self.panics.clone());
        ours.register("connections", "Connections open", self.connections.clone());
        ours.register(
            "connections_refused",
            "Connections closed at once because as many as allowed were open",
            self.connections_refused.clone(),
        );
        ours.register(
            "accept_errors",
            "Connections that could not be accepted, mostly for want of file descriptors",
            self.accept_errors.clone(),
        );
        ours.register("draining", "1 from the signal to stop", self.draining.clone());
        ours.register("upstream_up", "1 when Atoti answered when last asked", self.upstream_up.clone());
        ours.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate in use ends",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        ours.register(
            "reload_failed",
            "1 while a file cannot be used as it is, and an earlier content is",
            self.reload_failed.clone(),
        );
    }
}

/// Something that is counted while it lasts.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
