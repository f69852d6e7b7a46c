//! What becomes of audit records: written, waiting, lost.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// See the module.
#[derive(Debug)]
pub struct Audit {
    written: Counter,
    errors: Counter,
    lost: Counter,
    pending: Gauge,
}

impl Audit {
    pub(super) fn register(ours: &mut Registry) -> Self {
        let audit = Self {
            written: Counter::default(),
            errors: Counter::default(),
            lost: Counter::default(),
            pending: Gauge::default(),
        };
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

    /// So many were written.
    pub fn written(&self, records: usize) {
        self.written.inc_by(records as u64);
    }

    /// Some could not be written now.
    pub fn failed(&self) {
        self.errors.inc();
    }

    /// So many are gone.
    pub fn lost(&self, records: usize) {
        self.lost.inc_by(records as u64);
    }

    /// So many wait.
    pub fn pending(&self, records: usize) {
        self.pending.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}
