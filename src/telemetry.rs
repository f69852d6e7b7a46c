//! What the process says of itself: log lines, metrics, traces.
//!
//! Knows nobody else in the house but the settings. Three things leave from here, each by a way of its own that nothing
//! on a call's path waits for: lines to standard error (`logs`), numbers that Prometheus fetches (`metrics`), spans to
//! a collector (`traces`).

mod attempt;
mod logs;
mod metrics;
mod traces;

pub use self::{
    attempt::{Attempt, Destination, ErrorType, Target},
    logs::{Logs, init},
    metrics::{Audit, Calls, Connections, Counted, Files, Method, Metrics, Process, Upstream},
    traces::{CallEnd, CallSpan, TraceContext, TraceSettings, Traces},
};

/// Where the rooms report to. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Counts and durations.
    pub metrics: Metrics,
    /// Spans.
    pub traces: Traces,
}
