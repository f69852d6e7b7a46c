//! What is attempted, by outcome, and what becomes of the records: written, waiting, lost.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::usual::Usual;

/// See the module.
#[derive(Debug)]
pub struct Audit {
    attempts: Family<Attempt, Counter>,
    /// Cancels that end well.
    usual: Usual<Attempt, Counter>,
    written: Counter,
    errors: Counter,
    lost: Counter,
    pending: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    operation: &'static str,
    code: &'static str,
}

impl Audit {
    pub(super) fn register(ours: &mut Registry) -> Self {
        let audit = Self {
            attempts: Family::default(),
            usual: Usual::default(),
            written: Counter::default(),
            errors: Counter::default(),
            lost: Counter::default(),
            pending: Gauge::default(),
        };
        ours.register(
            "attempts",
            "Attempts to cancel or delete, those on single queries of a bulk cancel included, by outcome",
            audit.attempts.clone(),
        );
        ours.register("audit_records", "Audit records written", audit.written.clone());
        ours.register(
            "audit_write_errors",
            "Times that audit records could not be written; they are kept and tried again",
            audit.errors.clone(),
        );
        ours.register(
            "audit_records_lost",
            "Audit records that could not be kept until they could be written",
            audit.lost.clone(),
        );
        ours.register(
            "audit_records_pending",
            "Audit records that wait to be written",
            audit.pending.clone(),
        );
        audit
    }

    /// Something was attempted, and this is how it ended.
    pub fn attempted(&self, operation: &'static str, code: &'static str) {
        let usual = operation == "CancelQuery" && code == "OK";
        self.usual.count(&self.attempts, Attempt { operation, code }, usual, |attempts| {
            attempts.inc();
        });
    }

    /// One more waits to be written.
    pub fn waits(&self) {
        self.pending.inc();
    }

    /// So many of those that waited were written.
    pub fn written(&self, records: u32) {
        self.pending.dec_by(records.into());
        self.written.inc_by(records.into());
    }

    /// Some could not be written now.
    pub fn failed(&self) {
        self.errors.inc();
    }

    /// So many of those that waited are gone.
    pub fn lost(&self, records: u32) {
        self.pending.dec_by(records.into());
        self.lost.inc_by(records.into());
    }

    /// How many wait.
    #[must_use]
    pub fn pending(&self) -> i64 {
        self.pending.get()
    }
}
