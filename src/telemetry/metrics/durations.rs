//! How long things take: histograms by labels, each bucket with the trace of one of those it counts.

use std::{fmt, hash::Hash, sync::OnceLock, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{
        exemplar::HistogramWithExemplars,
        family::{Family, MetricConstructor},
    },
};

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

/// The durations of a thing that nearly always ends in the same way: looked up by its labels once, when it first does.
#[derive(Debug)]
pub(in crate::telemetry) struct Usual<L>(OnceLock<(L, HistogramWithExemplars<Exemplar>)>);

impl<L> Default for Usual<L> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

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
        let (took, exemplar) = (took.as_secs_f64(), exemplar(trace));
        match self.0.get() {
            Some((known, histogram)) if *known == labels => histogram.observe(took, exemplar, None),
            Some(_) => durations.get_or_create(&labels).observe(took, exemplar, None),
            None => {
                let histogram = durations.get_or_create(&labels).clone();
                histogram.observe(took, exemplar, None);
                if usual {
                    // Another thread may have come first, with the same.
                    let _ = self.0.set((labels, histogram));
                }
            }
        }
    }
}

/// The trace that shows one measured thing at work. Spelt out only when somebody asks for the metrics.
#[derive(Clone, Debug)]
pub(super) struct Exemplar(TraceContext);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("trace_id", self.0.trace_id().to_string())].encode(encoder)
    }
}

/// Only what somebody has recorded can be looked up.
fn exemplar(trace: Option<&TraceContext>) -> Option<Exemplar> {
    trace.filter(|trace| trace.is_sampled()).cloned().map(Exemplar)
}
