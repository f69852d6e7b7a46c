//! What nearly always has the same labels: looked up by them once.

use std::{hash::Hash, sync::OnceLock};

use prometheus_client::metrics::family::{Family, MetricConstructor};

/// The metric of a family that a thing nearly always counts for.
#[derive(Debug)]
pub(in crate::telemetry) struct Usual<L, M>(OnceLock<(L, M)>);

impl<L, M> Default for Usual<L, M> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<L: Clone + Eq + Hash, M: Clone> Usual<L, M> {
    /// Counts for the metric with these labels; `usual` says whether it is the one that is to be remembered.
    pub(super) fn count<C: MetricConstructor<M>>(
        &self,
        family: &Family<L, M, C>,
        labels: L,
        usual: bool,
        count: impl FnOnce(&M),
    ) {
        match self.0.get() {
            Some((known, metric)) if *known == labels => count(metric),
            Some(_) => count(&family.get_or_create(&labels)),
            None => {
                let metric = family.get_or_create(&labels).clone();
                count(&metric);
                if usual {
                    // Another thread may have come first, with the same.
                    let _ = self.0.set((labels, metric));
                }
            }
        }
    }
}
