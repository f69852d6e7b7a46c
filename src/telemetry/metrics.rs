//! What is counted and measured, under the names that dashboards know: OpenTelemetry's RPC and HTTP conventions in
//! Prometheus' spelling, and `atoti_bridge_...` for what these do not name. Labels are bounded: no ids, no paths, no
//! callers. One file per concern; each registers its own.

mod audit;
mod calls;
mod classic;
mod connections;
mod durations;
mod files;
mod process;
mod upstream;
mod usual;

use std::{fmt, ops::Deref, sync::Arc};

use prometheus_client::{
    encoding::text,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};

use self::classic::classic;
pub use self::{
    audit::Audit,
    calls::{Calls, Method},
    connections::Connections,
    files::Files,
    process::Process,
    upstream::Upstream,
};
pub(super) use self::{durations::Usual, upstream::Request};

/// The metrics of one process; clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<All>);

/// All of them, by concern.
pub struct All {
    registry: Registry,
    /// The calls that the bridge serves.
    pub calls: Calls,
    /// The requests that it makes to Atoti.
    pub upstream: Upstream,
    /// The connections that calls come over.
    pub connections: Connections,
    /// What becomes of audit records.
    pub audit: Audit,
    /// Files that are read again.
    pub files: Files,
    /// The process itself.
    pub process: Process,
}

impl Deref for Metrics {
    type Target = All;

    fn deref(&self) -> &All {
        &self.0
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for All {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("All")
    }
}

impl Metrics {
    /// All of them, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        // The conventions that several systems share, each with its own name for them.
        let calls = Calls::register(&mut registry);
        let upstream = Upstream::register(&mut registry);
        process::register_system(&mut registry);
        let ours = registry.sub_registry_with_prefix("atoti_bridge");
        ours.register("build", "What runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        calls.register_ours(ours);
        upstream.register_ours(ours);
        let connections = Connections::register(ours);
        let audit = Audit::register(ours);
        let files = Files::register(ours);
        let process = Process::register(ours);
        Self(Arc::new(All { registry, calls, upstream, connections, audit, files, process }))
    }

    /// All of them, as OpenMetrics text.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        self.process.catch_up();
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.0.registry).expect("writing to a string does not fail");
        encoded
    }

    /// All of them in Prometheus' classic text format, which has no exemplars.
    #[must_use]
    pub fn classic(&self) -> String {
        classic(&self.open_metrics())
    }
}

/// Something that is counted while it lasts.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
