//! The process itself: whether it drains, what it could not tell, and what it uses of its machine under the names that
//! every Prometheus client has for that.

use std::{
    fmt,
    sync::{OnceLock, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tracing_appender::non_blocking::ErrorCounter;

/// See the module.
#[derive(Debug)]
pub struct Process {
    draining: Gauge,
    spans_exported: Counter,
    spans_lost: Counter,
    log_lines_dropped: Counter,
    log: OnceLock<ErrorCounter>,
}

impl Process {
    pub(super) fn register(ours: &mut Registry) -> Self {
        let process = Self {
            draining: Gauge::default(),
            spans_exported: Counter::default(),
            spans_lost: Counter::default(),
            log_lines_dropped: Counter::default(),
            log: OnceLock::new(),
        };
        ours.register("draining", "1 from the signal to stop", process.draining.clone());
        ours.register("spans_exported", "Spans that the collector took", process.spans_exported.clone());
        ours.register(
            "spans_lost",
            "Spans that the collector did not take, or that came faster than they could be sent",
            process.spans_lost.clone(),
        );
        ours.register(
            "log_lines_dropped",
            "Log lines that came faster than they could be written",
            process.log_lines_dropped.clone(),
        );
        process
    }

    /// Where it is counted what the log drops; the first one counts.
    pub fn log(&self, dropped: ErrorCounter) {
        let _ = self.log.set(dropped);
    }

    /// Takes over what others count, before somebody reads it.
    pub(super) fn catch_up(&self) {
        let dropped = self.log.get().map_or(0, ErrorCounter::dropped_lines);
        self.log_lines_dropped.inner().store(dropped as u64, Ordering::Relaxed);
    }

    /// The drain has begun.
    pub fn draining(&self) {
        self.draining.set(1);
    }

    /// The collector took so many spans.
    pub fn spans_exported(&self, spans: usize) {
        self.spans_exported.inc_by(spans as u64);
    }

    /// So many spans are gone.
    pub fn spans_lost(&self, spans: usize) {
        self.spans_lost.inc_by(spans as u64);
    }
}

/// Registers what the process uses, read from the system whenever somebody asks.
pub(super) fn register_system(registry: &mut Registry) {
    registry.register_collector(Box::new(System));
}

#[derive(Debug)]
struct System;

#[cfg(not(target_os = "linux"))]
impl Collector for System {
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for System {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Nothing where /proc is not to be read: a missing metric is better than a wrong one.
        linux::read().map_or(Ok(()), |usage| linux::encode(&usage, &mut encoder))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::{WithCurrentSystemInfo as _, process::LimitValue, process::Process};
    use prometheus_client::{
        encoding::{DescriptorEncoder, EncodeMetric as _},
        metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
        registry::Unit,
    };

    pub(super) struct Usage {
        cpu_seconds: f64,
        started_at: f64,
        resident_bytes: u64,
        virtual_bytes: u64,
        threads: i64,
        open_fds: usize,
        max_fds: u64,
    }

    #[expect(clippy::cast_precision_loss, reason = "ticks and seconds stay far below 2^53")]
    pub(super) fn read() -> Option<Usage> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = procfs::ticks_per_second() as f64;
        let max_fds = match process.limits().ok()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => limit,
            LimitValue::Unlimited => u64::MAX,
        };
        Some(Usage {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            started_at: procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks,
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            threads: stat.num_threads,
            open_fds: process.fd_count().ok()?,
            max_fds,
        })
    }

    pub(super) fn encode(usage: &Usage, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let (help, seconds) = ("Processor time used, by user and system.", Some(&Unit::Seconds));
        cpu.encode(encoder.encode_descriptor("process_cpu", help, seconds, MetricType::Counter)?)?;
        let mut gauge = |name, help, unit: Option<&Unit>, value: f64| {
            let encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; no process is that large")]
        let [resident, virtual_, open, most, threads] = [
            usage.resident_bytes as f64,
            usage.virtual_bytes as f64,
            usage.open_fds as f64,
            usage.max_fds as f64,
            usage.threads as f64,
        ];
        gauge("process_start_time", "When the process started.", seconds, usage.started_at)?;
        gauge("process_resident_memory", "Resident memory.", Some(&Unit::Bytes), resident)?;
        gauge("process_virtual_memory", "Virtual memory.", Some(&Unit::Bytes), virtual_)?;
        gauge("process_open_fds", "Files open.", None, open)?;
        gauge("process_max_fds", "Files that may be open.", None, most)?;
        gauge("process_threads", "Threads.", None, threads)
    }
}
