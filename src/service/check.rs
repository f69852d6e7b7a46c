//! Validation that several RPCs share. Pure: every violation of a request is told at once.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;

use crate::{
    atoti::QueryId,
    status::{Failure, Reason, Violation},
};

pub(super) const MAX_REASON_CHARS: usize = 512;
/// The bound that `google.protobuf.Duration` sets.
const MAX_SECONDS: u64 = 315_576_000_000;

/// Collects violations; each check yields nothing exactly when it has noted one.
#[derive(Debug, Default)]
pub(super) struct Check {
    violations: Vec<Violation>,
}

impl Check {
    pub(super) fn refuse<T>(&mut self, field: &'static str, reason: Reason) -> Option<T> {
        self.violations.push(Violation { field, reason });
        None
    }

    pub(super) fn query_id(&mut self, id: &str) -> Option<QueryId> {
        QueryId::parse(id).or_else(|| self.refuse("query_id", Reason::InvalidQueryId))
    }

    /// A duration of 0 or more; 0 where there is none.
    pub(super) fn duration(
        &mut self,
        field: &'static str,
        reason: Reason,
        value: Option<ProtoDuration>,
    ) -> Option<Duration> {
        let value = value.map_or(Some(Duration::ZERO), duration);
        value.or_else(|| self.refuse(field, reason))
    }

    pub(super) fn wait(&mut self, wait: Option<ProtoDuration>) -> Option<Duration> {
        self.duration("wait", Reason::InvalidWait, wait)
    }

    pub(super) fn reason(&mut self, reason: &str) {
        if reason.chars().nth(MAX_REASON_CHARS).is_some() {
            self.violations.push(Violation { field: "reason", reason: Reason::InvalidReason });
        }
    }

    /// What was checked, unless something is wrong; `found` is what is wrong with the headers.
    pub(super) fn done<T>(mut self, found: &[Violation], checked: Option<T>) -> Result<T, Failure> {
        self.violations.extend_from_slice(found);
        match checked {
            Some(checked) if self.violations.is_empty() => Ok(checked),
            _ => Err(Failure::Invalid(self.violations)),
        }
    }
}

/// A protobuf duration of 0 or more.
pub(super) fn duration(value: ProtoDuration) -> Option<Duration> {
    let seconds = u64::try_from(value.seconds).ok().filter(|seconds| *seconds <= MAX_SECONDS)?;
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_violations_are_told_at_once() {
        let mut check = Check::default();
        let id = check.query_id("..");
        let wait = check.wait(Some(ProtoDuration { seconds: -1, nanos: 0 }));
        check.reason(&"ä".repeat(513));
        let header = Violation { field: "authorization", reason: Reason::InvalidAuthorization };
        let Err(Failure::Invalid(violations)) = check.done(&[header], id.zip(wait)) else {
            panic!("it is invalid");
        };
        let fields: Vec<_> = violations.iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["query_id", "wait", "reason", "authorization"]);
    }

    #[test]
    fn a_reason_is_measured_in_characters() {
        let mut check = Check::default();
        check.reason(&"ä".repeat(512));
        assert!(check.done(&[], Some(())).is_ok());
    }

    #[test]
    fn durations_within_protobufs_bounds_are_taken() {
        for (seconds, nanos, taken) in [
            (0, 0, true),
            (0, 999_999_999, true),
            (315_576_000_000, 0, true),
            (315_576_000_001, 0, false),
            (0, 1_000_000_000, false),
            (0, -1, false),
            (-1, 0, false),
            (i64::MAX, i32::MAX, false),
        ] {
            assert_eq!(duration(ProtoDuration { seconds, nanos }).is_some(), taken, "{seconds} {nanos}");
        }
    }

    proptest! {
        #[test]
        fn only_a_valid_id_passes(id in any::<String>()) {
            let mut check = Check::default();
            let checked = check.query_id(&id);
            prop_assert_eq!(check.done(&[], checked).is_ok(), QueryId::parse(&id).is_some());
        }
    }
}
