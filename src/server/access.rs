//! The line that the log has of a call: one, at its end, at the level that its code deserves.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tonic::Code;

use crate::{
    service::{Caller, Failed},
    status::code_name,
};

/// Whether a call that ended well is among those that get a line.
pub(super) fn drawn(ratio: f64) -> bool {
    // All and none need no dice.
    ratio >= 1.0 || (ratio > 0.0 && fastrand::f64() < ratio)
}

/// Lines a second for calls that are refused for overload, of all threads together. They tell who calls so much; a line
/// for each would be a second load on top of the first.
const OVERLOAD_LINES: u64 = 10;

/// Bounds the lines of refused calls. The metrics count them all, and cancels among them are in the audit record.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// Seconds since the server began, and lines in that second.
    second: AtomicU64,
    lines: AtomicU64,
    left_out: AtomicU64,
}

impl Overload {
    /// Whether a call that ended so long after the server began gets a line; with it goes how many got none before it.
    pub(super) fn line(&self, since: Duration) -> Option<u64> {
        let now = since.as_secs();
        if self.second.fetch_max(now, Ordering::Relaxed) < now {
            self.lines.store(0, Ordering::Relaxed);
        }
        // Threads that meet at the turn of a second write a line more or less.
        if self.lines.fetch_add(1, Ordering::Relaxed) < OVERLOAD_LINES {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Writes the line. What Atoti or the network wrote is not in it.
pub(super) fn write(
    method: &str,
    code: Code,
    took: Duration,
    caller: &Caller,
    failed: Option<&Failed>,
    left_out: u64,
) {
    let trace = caller.trace.as_ref();
    macro_rules! at {
        ($level:ident) => {
            tracing::$level!(
                request_id = &*caller.request_id,
                trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
                span_id = trace.map(|trace| tracing::field::display(trace.span_id())),
                rpc.method = method,
                rpc.response.status_code = code_name(code),
                duration_ms = milliseconds(took),
                peer = caller.peer.text.as_deref(),
                query_id = caller.subject().query_id,
                reason = failed.map(|failed| failed.reason.as_str()),
                cause = failed.and_then(|failed| failed.cause),
                http_status = failed.and_then(|failed| failed.http_status),
                node = failed.and_then(|failed| failed.node.as_deref()),
                body_shape = failed.and_then(|failed| failed.body_shape).map(tracing::field::debug),
                attempts = failed.and_then(|failed| failed.attempts),
                request_sent = failed.map(|failed| failed.request_sent),
                left_out = (left_out > 0).then_some(left_out),
                "call ended",
            )
        };
    }
    match code {
        // Something is broken: here, in Atoti, or between the two.
        Code::Internal | Code::Unknown | Code::DataLoss => at!(error),
        // Atoti, the way to it, or a limit: the operator's business when it goes on.
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unimplemented => {
            at!(warn)
        }
        // An answer that a caller must live with.
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => at!(info),
    }
}

/// To the microsecond: what is finer is noise.
fn milliseconds(took: Duration) -> f64 {
    f64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_share_of_lines() {
        let lines = |ratio| (0..10_000).filter(|_| drawn(ratio)).count();
        assert_eq!((lines(0.0), lines(1.0)), (0, 10_000));
        // Twenty standard deviations.
        assert!((400..1_600).contains(&lines(0.1)));
    }

    #[test]
    fn refused_calls_get_some_lines_a_second_and_the_others_are_told_of() {
        let overload = Overload::default();
        let second =
            |second| (0..100).filter_map(|_| overload.line(Duration::from_secs(second))).collect::<Vec<_>>();
        assert_eq!(second(0), [0; 10]);
        let lines = second(7);
        assert_eq!((lines.len(), lines[0], lines[1..].iter().sum()), (10, 90, 0));
    }
}
