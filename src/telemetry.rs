//! What the process says of itself: log lines on standard error, and metrics.
//!
//! Knows nobody else in the house but the settings.

mod metrics;

use std::{backtrace::Backtrace, panic};

use tracing_subscriber::{
    EnvFilter, filter::Directive, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

pub use self::metrics::{InFlight, Metrics};
use crate::{audit, config::LogFormat};

/// Starts logging, once per process; a second call changes nothing.
///
/// The level comes from `RUST_LOG`, `info` by default. Audit records are written whatever it says.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let audit: Directive = format!("{}=info", audit::TARGET).parse().expect("a target and a level");
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter.add_directive(audit));
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::force_capture();
        tracing::error!(%panic, %backtrace, "a bug: the call at hand fails, others go on");
    }));
}
