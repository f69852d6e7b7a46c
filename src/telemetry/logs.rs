//! Log lines: one event a line on standard error, for people or as JSON for programs. `docs/LOGGING.md` has the fields.
//!
//! A thread of its own writes them, so that a terminal or a pipe that takes no more holds no call up. What it cannot
//! keep up with is dropped, and counted. Audit records do not come this way, see [`audit`](crate::audit).

use std::{backtrace::Backtrace, env, io::BufWriter, panic};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::LogFormat;

/// Lines that wait to be written: a second's worth of a very busy bridge.
const LINES_WAITING: usize = 50_000;
/// The OpenTelemetry libraries tell of every batch that fails; that it does so is said once (see `traces`), and
/// counted. A `RUST_LOG` that speaks of them brings it back.
const QUIET: [&str; 3] = ["opentelemetry", "opentelemetry_sdk", "opentelemetry-otlp"];

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
    let asked = env::var("RUST_LOG").unwrap_or_default();
    let (filter, unknown) = filter(&asked);
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
    for part in unknown {
        tracing::warn!(part, "a part of RUST_LOG is neither a level nor target=level, and is ignored");
    }
    logs
}

/// What `RUST_LOG` lets through, and the parts of it that cannot be understood. Not `EnvFilter`: fields and spans are
/// nothing that anybody filters by here, and an engine for regular expressions would come along with it.
fn filter(asked: &str) -> (Targets, Vec<&str>) {
    let parts = asked.split(',').map(str::trim).filter(|part| !part.is_empty());
    // Of spans, and without a level: what `EnvFilter` may take, and `Targets` would misunderstand.
    let is_known =
        |part: &&str| part.parse::<Targets>().is_ok() && !part.contains('[') && !part.ends_with('=');
    let (known, unknown): (Vec<_>, Vec<_>) = parts.partition(is_known);
    let mut filter = match known.join(",").parse() {
        Ok(filter) if !known.is_empty() => filter,
        _ => Targets::new().with_default(LevelFilter::INFO),
    };
    if !asked.contains("opentelemetry") {
        filter = filter.with_targets(QUIET.map(|quiet| (quiet, LevelFilter::OFF)));
    }
    (filter, unknown)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_asked_for_is_let_through_and_what_is_not_understood_is_told() {
        let lets = |asked, target, level| filter(asked).0.would_enable(target, &level);
        for asked in ["", " ", "nonsense=loud"] {
            assert!(lets(asked, "any", Level::INFO) && !lets(asked, "any", Level::DEBUG), "{asked:?}");
            assert!(!lets(asked, "opentelemetry_sdk", Level::ERROR), "{asked:?}");
        }
        let parts = "warn, atoti_grpc_bridge::server=debug,hyper=loud,[span]=info,tokio=";
        assert!(lets(parts, "any", Level::WARN) && !lets(parts, "any", Level::INFO));
        assert!(lets(parts, "atoti_grpc_bridge::server::stack", Level::DEBUG));
        assert_eq!(filter(parts).1, ["hyper=loud", "[span]=info", "tokio="]);
        assert!(lets("opentelemetry=debug", "opentelemetry_sdk", Level::DEBUG));
        assert!(!lets("off", "any", Level::ERROR));
    }
}
