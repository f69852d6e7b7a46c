//! The requests that the bridge makes to Atoti: each attempt, the turns they wait for, what is repeated.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Counted,
    durations::{Buckets, Durations, Usual},
};
use crate::telemetry::{ErrorType, TraceContext, attempt::Destination};

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    durations: Durations<Request>,
    in_flight: Gauge,
    waiting: Gauge,
    limit: Gauge,
    retries: Family<Retry, Counter>,
    up: Gauge,
}

/// One attempt: OpenTelemetry's attributes of an HTTP client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::telemetry) struct Request {
    pub(in crate::telemetry) http_request_method: &'static str,
    pub(in crate::telemetry) url_template: &'static str,
    #[prometheus(flatten)]
    pub(in crate::telemetry) destination: Destination,
    pub(in crate::telemetry) http_response_status_code: Option<u16>,
    pub(in crate::telemetry) error_type: Option<ErrorType>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Retry {
    decision: &'static str,
}

impl EncodeLabelValue for ErrorType {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.encode(encoder),
            Self::Class(class) => class.encode(encoder),
        }
    }
}

impl Upstream {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let upstream = Self {
            durations: Family::new_with_constructor(Buckets),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            limit: Gauge::default(),
            retries: Family::default(),
            up: Gauge::default(),
        };
        for decision in [MADE, NO_BUDGET] {
            drop(upstream.retries.get_or_create(&Retry { decision }));
        }
        registry.register_with_unit(
            "http_client_request_duration",
            "Requests to Atoti, attempt by attempt, from their turn to the end of the answer",
            Unit::Seconds,
            upstream.durations.clone(),
        );
        upstream
    }

    pub(super) fn register_ours(&self, ours: &mut Registry) {
        ours.register("upstream_up", "1 when Atoti answered when last asked", self.up.clone());
        ours.register("upstream_requests_in_flight", "Requests at work at Atoti", self.in_flight.clone());
        ours.register(
            "upstream_requests_waiting",
            "Requests that wait for their turn at Atoti",
            self.waiting.clone(),
        );
        ours.register(
            "upstream_requests_limit",
            "Requests that may be at work at Atoti at once",
            self.limit.clone(),
        );
        ours.register(
            "upstream_retries",
            "Attempts that failed and could be repeated: made, or not because the budget was used up",
            self.retries.clone(),
        );
    }

    /// Whether Atoti answered when last asked.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// As many requests may be at work at once.
    pub fn limit(&self, requests: usize) {
        self.limit.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// A request waits for its turn, for as long as the value given back lives.
    #[must_use]
    pub fn waiting(&self) -> Counted {
        Counted::new(&self.waiting)
    }

    /// A failed attempt could be repeated, and is if the budget allows.
    pub fn repeated(&self, within_budget: bool) {
        let decision = if within_budget { MADE } else { NO_BUDGET };
        self.retries.get_or_create(&Retry { decision }).inc();
    }

    /// An attempt is at work, for as long as the value given back lives.
    pub(in crate::telemetry) fn started(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// An attempt has ended.
    pub(in crate::telemetry) fn ended(
        &self,
        usual: &Usual<Request>,
        request: Request,
        took: Duration,
        trace: Option<&TraceContext>,
    ) {
        let succeeded = request.error_type.is_none();
        usual.observe(&self.durations, request, succeeded, took, trace);
    }
}

const MADE: &str = "made";
const NO_BUDGET: &str = "no_budget";
