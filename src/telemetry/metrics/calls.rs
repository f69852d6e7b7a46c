//! The calls that the bridge serves: how many, how long, how they end.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Counted,
    durations::{Buckets, Durations, Usual},
};
use crate::telemetry::TraceContext;

/// See the module.
#[derive(Debug)]
pub struct Calls {
    durations: Durations<Call>,
    failures: Family<Failure, Counter>,
    in_flight: Gauge,
    limit: Gauge,
    watches: Gauge,
    shed: Counter,
    reads_shed: Counter,
    deadlines_missed: Family<Missed, Counter>,
    panics: Counter,
}

/// A method of gRPC, and how its calls usually end.
#[derive(Debug)]
pub struct Method {
    name: &'static str,
    usual: Usual<Call>,
}

impl Method {
    /// A name that is fit for labels.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, usual: Usual::default() }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    rpc_method: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Missed {
    request_sent: &'static str,
}

impl Calls {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let calls = Self {
            durations: Family::new_with_constructor(Buckets),
            failures: Family::default(),
            in_flight: Gauge::default(),
            limit: Gauge::default(),
            watches: Gauge::default(),
            shed: Counter::default(),
            reads_shed: Counter::default(),
            deadlines_missed: Family::default(),
            panics: Counter::default(),
        };
        // A counter that begins with its first event has no increase to show for it.
        for request_sent in ["true", "false"] {
            drop(calls.deadlines_missed.get_or_create(&Missed { request_sent }));
        }
        registry.sub_registry_with_label(("rpc_system_name".into(), "grpc".into())).register_with_unit(
            "rpc_server_call_duration",
            "Calls by method and outcome, from the arrival of their headers to their end",
            Unit::Seconds,
            calls.durations.clone(),
        );
        calls
    }

    pub(super) fn register_ours(&self, ours: &mut Registry) {
        ours.register("call_failures", "Calls that failed, by method and reason", self.failures.clone());
        ours.register(
            "calls_in_flight",
            "Calls of the service that have no outcome yet",
            self.in_flight.clone(),
        );
        ours.register("calls_in_flight_limit", "Calls that may be at work at once", self.limit.clone());
        ours.register("watches", "Streams of WatchQuery that are open", self.watches.clone());
        ours.register(
            "calls_shed",
            "Calls refused at once because as many as allowed were at work, or more reads than the processor can do",
            self.shed.clone(),
        );
        ours.register(
            "reads_shed",
            "Reads among them, refused because their thread was behind",
            self.reads_shed.clone(),
        );
        ours.register(
            "deadlines_missed",
            "Unary calls whose deadline was over, by whether their request had left for Atoti",
            self.deadlines_missed.clone(),
        );
        ours.register("panics", "Calls that met a bug", self.panics.clone());
    }

    /// As many calls may be at work at once.
    pub fn limit(&self, calls: usize) {
        self.limit.set(i64::try_from(calls).unwrap_or(i64::MAX));
    }

    /// A call has arrived; it is in flight for as long as the value given back lives.
    #[must_use]
    pub fn started(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// Somebody watches a query, for as long as the value given back lives.
    #[must_use]
    pub fn watching(&self) -> Counted {
        Counted::new(&self.watches)
    }

    /// A call has its outcome.
    pub fn ended(&self, method: &Method, code: &'static str, took: Duration, trace: Option<&TraceContext>) {
        let labels = Call { rpc_method: method.name, rpc_response_status_code: code };
        method.usual.observe(&self.durations, labels, code == "OK", took, trace);
    }

    /// A call has failed.
    pub fn failed(&self, rpc_method: &'static str, reason: &'static str) {
        self.failures.get_or_create(&Failure { rpc_method, reason }).inc();
    }

    /// A call was refused because as many as allowed were at work.
    pub fn shed(&self) {
        self.shed.inc();
    }

    /// A read was refused because its thread was behind.
    pub fn read_shed(&self) {
        self.reads_shed.inc();
    }

    /// A unary call's deadline was over.
    pub fn deadline_missed(&self, request_sent: bool) {
        let request_sent = if request_sent { "true" } else { "false" };
        self.deadlines_missed.get_or_create(&Missed { request_sent }).inc();
    }

    /// A call has panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Calls that have arrived and have no outcome yet.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }
}
