//! Files that are read again while the process runs.

use std::{
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// See the module.
#[derive(Debug)]
pub struct Files {
    certificate_expiry: Family<File, Gauge<f64, AtomicU64>>,
    reload_failed: Family<File, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct File {
    file: &'static str,
}

impl Files {
    pub(super) fn register(ours: &mut Registry) -> Self {
        let files = Self { certificate_expiry: Family::default(), reload_failed: Family::default() };
        ours.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate in use ends",
            Unit::Seconds,
            files.certificate_expiry.clone(),
        );
        ours.register(
            "reload_failed",
            "1 while a file cannot be used as it is, and an earlier content is",
            files.reload_failed.clone(),
        );
        files
    }

    /// When the certificate in use ends.
    pub fn certificate_expires(&self, file: &'static str, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.certificate_expiry.get_or_create(&File { file }).set(seconds);
    }

    /// Whether a file, as it is now, cannot be used, and an earlier content is.
    pub fn reload_failed(&self, file: &'static str, failed: bool) {
        self.reload_failed.get_or_create(&File { file }).set(i64::from(failed));
    }
}
