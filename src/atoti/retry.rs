//! What may be repeated: a request, once, and only after failures that say "not now" or "never arrived".
//!
//! Every operation of the API is idempotent in effect (setting a fixed status, reading, deleting), so the failure
//! alone decides. A budget keeps repeats to a tenth of the calls, so that a dead Atoti is not hit twice as hard.

use std::time::Duration;

use tower::retry::budget::TpsBudget;

use super::error::{Fact, Refusal};

/// Repeats in relation to calls.
const BUDGET_RATIO: f32 = 0.1;
/// Repeats granted whatever the ratio, so that a bridge with few calls has any.
const BUDGET_PER_SECOND: u32 = 1;
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// Longest pause before the repeat. Short: a stale connection, the usual cause, is cured at once.
const MAX_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn budget() -> TpsBudget {
    TpsBudget::new(BUDGET_WINDOW, BUDGET_PER_SECOND, BUDGET_RATIO)
}

/// A random pause, so that calls that failed together do not come back together.
pub(super) fn pause() -> Duration {
    MAX_PAUSE.mul_f64(fastrand::f64())
}

/// Whether Atoti has not asked for more patience than one pause.
pub(super) fn worth_waiting(fact: &Fact, pause: Duration) -> bool {
    !matches!(fact, Fact::Refused(Refusal { retry_after: Some(delay), .. }) if *delay > pause)
}

/// Whether a request that failed so may be repeated: the column "again" of the status table.
#[must_use]
pub fn may_repeat(fact: &Fact) -> bool {
    match fact {
        Fact::ConnectFailed
        | Fact::DnsFailed
        | Fact::TlsFailed
        | Fact::ConnectionLost
        | Fact::BodyTruncated => true,
        // 408, 499: the request was given up on the way. 421, 425: another connection is asked for.
        // 502, 503: nobody could take it. Not 500, which Atoti answers to bad requests too; not 504, which may mean
        // that the request is at work.
        Fact::Refused(refusal) => matches!(refusal.status, 408 | 421 | 425 | 499 | 502 | 503),
        // A certificate does not get better by asking again; a timeout means that the request is perhaps at work.
        Fact::TlsUntrusted
        | Fact::Html
        | Fact::MalformedBody
        | Fact::ResponseTooLarge
        | Fact::Protocol
        | Fact::TimedOut
        | Fact::DeadlineBeforeSend
        | Fact::NoToken => false,
    }
}
