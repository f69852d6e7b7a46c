//! The line that the log has of a call: one, at its end, at the level that its code deserves.

use std::time::Duration;

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

/// Writes the line. What Atoti or the network wrote is not in it.
pub(super) fn write(method: &str, code: Code, took: Duration, caller: &Caller, failed: Option<&Failed>) {
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
    use super::drawn;

    #[test]
    fn the_ratio_is_the_share_of_lines() {
        let lines = |ratio| (0..10_000).filter(|_| drawn(ratio)).count();
        assert_eq!((lines(0.0), lines(1.0)), (0, 10_000));
        // Twenty standard deviations.
        assert!((400..1_600).contains(&lines(0.1)));
    }
}
