//! Log lines: one event a line on standard error, for people or as JSON for programs. `docs/LOGGING.md` has the fields.
//!
//! A thread of its own writes them, so that a terminal or a pipe that takes no more holds no call up. What it cannot
//! keep up with is dropped, and counted. Audit records do not come this way, see [`audit`](crate::audit).

use std::{backtrace::Backtrace, io::BufWriter, panic};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogFormat;

/// Lines that wait to be written: a second's worth of a very busy bridge.
const LINES_WAITING: usize = 50_000;
/// The OpenTelemetry libraries tell of every batch that fails; that it does so is said once (see `traces`), and
/// counted. A `RUST_LOG` that speaks of them brings it back.
const QUIET: [&str; 3] = ["opentelemetry=off", "opentelemetry_sdk=off", "opentelemetry-otlp=off"];

/// The log of this process. Lines that wait are written when it is dropped.
#[derive(Debug)]
pub struct Logs {
    /// How many lines have been dropped.
    pub dropped: ErrorCounter,
    _writing: WorkerGuard,
}

/// Starts logging, once per process; later calls have no effect on what is logged where.
///
/// The level comes from `RUST_LOG`, `info` by default.
#[must_use = "what is dropped logs no more"]
pub fn init(format: LogFormat) -> Logs {
    // The thread writes what there is at once, and lets nothing lie.
    let (writer, writing) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING)
        .thread_name("log")
        .finish(BufWriter::new(std::io::stderr()));
    let logs = Logs { dropped: writer.error_counter(), _writing: writing };
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    let mut filter = filter.from_env_lossy();
    if !std::env::var(EnvFilter::DEFAULT_ENV).is_ok_and(|asked| asked.contains("opentelemetry")) {
        for quiet in QUIET {
            filter = filter.add_directive(quiet.parse().expect("a target and a level"));
        }
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::force_capture();
        tracing::error!(%panic, %backtrace, "a bug: the call at hand fails, others go on");
    }));
    logs
}
