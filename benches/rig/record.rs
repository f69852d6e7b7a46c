//! What became of the calls: how many, with which answer, and how long each took.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// In microseconds; what takes longer counts as a minute.
const LONGEST: u64 = 60_000_000;
const PERCENTILES: [(&str, f64); 4] = [("50", 0.5), ("90", 0.9), ("99", 0.99), ("99.9", 0.999)];

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It was answered as it should have been.
    Good(u16),
    /// It was answered otherwise: a gRPC code, or an HTTP status.
    Other(u16),
    /// Its deadline was over.
    GaveUp,
    /// The stream or the connection was reset, with this code of HTTP/2.
    Reset(u32),
    /// There was no answer that could be understood.
    Broken,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(code) | Self::Other(code) => write!(out, "{code}"),
            Self::Reset(reason) => write!(out, "{:?}", h2::Reason::from(*reason)),
            Self::GaveUp => out.write_str("gave up"),
            Self::Broken => out.write_str("broken"),
        }
    }
}

/// The calls of a run; what began before its warm-up was over is passed over.
#[derive(Debug)]
pub(crate) struct Record {
    from: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    begun: u64,
    outcomes: BTreeMap<Outcome, u64>,
    good: Histogram<u64>,
    /// Those that were answered otherwise.
    other: Histogram<u64>,
    /// By how much the calls began later than they should have: this program's own fault.
    late: Histogram<u64>,
    last: Instant,
}

impl Record {
    pub(crate) fn new(from: Instant) -> Self {
        let histogram = || {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds in their order");
            histogram.auto(false);
            histogram
        };
        let counts = Counts {
            begun: 0,
            outcomes: BTreeMap::new(),
            good: histogram(),
            other: histogram(),
            late: histogram(),
            last: from,
        };
        Self { from, counts: Mutex::new(counts) }
    }

    /// A call begins now, that should have begun at this instant.
    pub(crate) fn begin(&self, intended: Instant) {
        if intended >= self.from {
            let mut counts = self.counts.lock().expect("nobody panics with it");
            counts.begun += 1;
            counts.late.saturating_record(microseconds(intended.elapsed()));
        }
    }

    /// It has ended.
    pub(crate) fn end(&self, intended: Instant, outcome: Outcome) {
        if intended >= self.from {
            let mut counts = self.counts.lock().expect("nobody panics with it");
            let now = Instant::now();
            let took = microseconds(now - intended);
            *counts.outcomes.entry(outcome).or_default() += 1;
            counts.last = now;
            match outcome {
                Outcome::Good(_) => counts.good.saturating_record(took),
                Outcome::Other(_) => counts.other.saturating_record(took),
                Outcome::GaveUp | Outcome::Reset(_) | Outcome::Broken => {}
            }
        }
    }

    /// Everything, when the calls of a time table of this length, or of none, are through.
    pub(crate) fn report(&self, timetable: Option<Duration>, cpu_seconds: f64) -> Value {
        let counts = self.counts.lock().expect("nobody panics with it");
        let good: u64 = counts.good.len();
        let ended: u64 = counts.outcomes.values().sum();
        let seconds = timetable.unwrap_or_else(|| counts.last - self.from).as_secs_f64();
        let by_code: BTreeMap<_, _> =
            counts.outcomes.iter().map(|(outcome, count)| (outcome.to_string(), count)).collect();
        let distribution: Vec<_> = counts
            .good
            .iter_quantiles(5)
            .map(|step| (step.quantile_iterated_to() * 100.0, step.value_iterated_to()))
            .collect();
        json!({
            "calls": counts.begun,
            "good": good,
            "by_code": by_code,
            "unanswered": counts.begun - ended,
            "seconds": seconds,
            "rate": good as f64 / seconds,
            "cpu_seconds": cpu_seconds,
            "latency": summary(&counts.good),
            "latency_of_others": summary(&counts.other),
            "late": summary(&counts.late),
            "distribution": distribution,
        })
    }
}

fn summary(histogram: &Histogram<u64>) -> Value {
    let mut summary: serde_json::Map<_, _> = PERCENTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), histogram.value_at_quantile(*quantile).into()))
        .collect();
    summary.insert("max".to_owned(), histogram.max().into());
    Value::Object(summary)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LONGEST)
}
