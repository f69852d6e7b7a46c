//! Arguments that several parts have.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;

/// How fast to call, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Pace {
    /// Connections to open
    #[arg(long, default_value = "1")]
    pub(crate) connections: NonZeroU32,
    /// Calls that each connection carries at once
    #[arg(long, default_value = "1")]
    pub(crate) streams: NonZeroU32,
    /// Calls a second, by a fixed timetable; without it, a stream calls again as soon as it has its answer
    #[arg(long)]
    pub(crate) rate: Option<NonZeroU32>,
    /// Seconds to call before anything is counted
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Seconds to count
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Calls to make at most, those of the warm-up included
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) calls: u64,
    /// Seconds after which a call is given up, counted from when it should have begun
    #[arg(long, value_parser = seconds)]
    pub(crate) deadline: Option<Duration>,
    /// Process whose processor time is counted as well; may be given several times
    #[arg(long, value_name = "PID")]
    pub(crate) watch: Vec<i32>,
}

/// Seconds, perhaps with a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|why| format!("{why}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())
}
