//! How long things take: histograms by labels, each bucket with the trace of one of those it counts.

use std::{fmt, hash::Hash, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{
        exemplar::HistogramWithExemplars,
        family::{Family, MetricConstructor},
    },
};

use super::usual;
use crate::telemetry::TraceContext;

/// From half a millisecond, a good answer of a near Atoti, to the longest deadline by default.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];

/// Durations, each bucket with the trace of one of them.
pub(super) type Durations<L> = Family<L, HistogramWithExemplars<Exemplar>, Buckets>;

#[derive(Clone)]
pub(super) struct Buckets;

impl MetricConstructor<HistogramWithExemplars<Exemplar>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<Exemplar> {
        HistogramWithExemplars::new(SECONDS.into_iter())
    }
}

/// The durations of a thing that nearly always ends in the same way.
pub(in crate::telemetry) type Usual<L> = usual::Usual<L, HistogramWithExemplars<Exemplar>>;

impl<L: Clone + Eq + Hash> Usual<L> {
    /// Notes a duration; `usual` says whether it is the end that is to be remembered.
    pub(super) fn observe(
        &self,
        durations: &Durations<L>,
        labels: L,
        usual: bool,
        took: Duration,
        trace: Option<&TraceContext>,
    ) {
        self.count(durations, labels, usual, |histogram| {
            histogram.observe(took.as_secs_f64(), exemplar(trace), None);
        });
    }
}

/// The trace that shows one measured thing at work. Spelt out only when somebody asks for the metrics.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Exemplar(TraceContext);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("trace_id", self.0.trace_id().to_string())].encode(encoder)
    }
}

/// Only what somebody has recorded can be looked up.
fn exemplar(trace: Option<&TraceContext>) -> Option<Exemplar> {
    trace.filter(|trace| trace.is_sampled()).cloned().map(Exemplar)
}
