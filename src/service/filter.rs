//! The filter of a request: checked, and in Atoti's terms. Pure.

use std::time::Duration;

use jiff::Timestamp;
use prost_types::Timestamp as ProtoTimestamp;

use super::check::{Check, duration};
use crate::{
    atoti::{self, Filter},
    proto::queryhistory::{QueryFilter, QueryStatus, QueryType},
    status::Reason,
};

/// Atoti's web server reads heads of up to 8 KiB, and credentials take their part of that.
const MOST_BYTES: usize = 4096;

impl Check {
    pub(super) fn filter(&mut self, filter: Option<&QueryFilter>) -> Option<Filter> {
        let Some(filter) = filter else { return Some(Filter::default()) };
        let mut bad = |field| self.refuse::<()>(field, Reason::InvalidFilter);
        let mut valid = true;
        let mut require = |field, good: bool| {
            if !good {
                bad(field);
                valid = false;
            }
        };

        require("filter.usernames", filter.usernames.iter().all(|user| !user.is_empty()));
        let statuses: Option<Vec<_>> = filter.statuses().map(status).collect();
        require(
            "filter.statuses",
            statuses.is_some() && filter.statuses.iter().all(|s| QueryStatus::is_valid(*s)),
        );
        let kinds: Option<Vec<_>> = filter.types().map(kind).collect();
        require("filter.types", kinds.is_some() && filter.types.iter().all(|t| QueryType::is_valid(*t)));
        let mut time = |field, value: Option<ProtoTimestamp>| {
            let read = value.map(time);
            require(field, read != Some(None));
            read.flatten()
        };
        let started_after = time("filter.started_after", filter.started_after);
        let started_before = time("filter.started_before", filter.started_before);
        let ended_after = time("filter.ended_after", filter.ended_after);
        let ended_before = time("filter.ended_before", filter.ended_before);
        let mut length = |field, value: Option<prost_types::Duration>| {
            let read: Option<Option<Duration>> = value.map(duration);
            require(field, read != Some(None));
            read.flatten()
        };
        let min_duration = length("filter.min_duration", filter.min_duration);
        let max_duration = length("filter.max_duration", filter.max_duration);
        require("filter.metadata", filter.metadata.keys().all(|key| !key.is_empty()));
        // Nothing could ever match: a mistake, and better told than answered with an empty list.
        require("filter.started_before", ordered(started_after, started_before));
        require("filter.ended_before", ordered(ended_after, ended_before));
        require("filter.max_duration", min_duration.zip(max_duration).is_none_or(|(min, max)| min <= max));

        let filter = Filter {
            users: filter.usernames.clone(),
            statuses: statuses.unwrap_or_default(),
            kinds: kinds.unwrap_or_default(),
            started_after,
            started_before,
            ended_after,
            ended_before,
            min_duration,
            max_duration,
            metadata: filter.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        require("filter", filter.parameters().len() <= MOST_BYTES);
        valid.then_some(filter)
    }

    /// The same, where an empty one would select everything.
    pub(super) fn filter_of_some(&mut self, filter: Option<&QueryFilter>) -> Option<Filter> {
        let filter = self.filter(filter)?;
        if filter.is_empty() {
            return self.refuse("filter", Reason::EmptyFilter);
        }
        Some(filter)
    }
}

fn ordered(after: Option<Timestamp>, before: Option<Timestamp>) -> bool {
    after.zip(before).is_none_or(|(after, before)| after < before)
}

fn status(status: QueryStatus) -> Option<atoti::QueryStatus> {
    match status {
        QueryStatus::Unspecified => None,
        QueryStatus::Running => Some(atoti::QueryStatus::Running),
        QueryStatus::Successful => Some(atoti::QueryStatus::Successful),
        QueryStatus::Failed => Some(atoti::QueryStatus::Failed),
        QueryStatus::Cancelled => Some(atoti::QueryStatus::Cancelled),
    }
}

fn kind(kind: QueryType) -> Option<atoti::QueryType> {
    match kind {
        QueryType::Unspecified => None,
        QueryType::Unknown => Some(atoti::QueryType::Unknown),
        QueryType::Mdx => Some(atoti::QueryType::Mdx),
    }
}

/// protobuf counts nanoseconds forwards from the second below.
fn time(time: ProtoTimestamp) -> Option<Timestamp> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(nanos);
    // From the year 1, as protobuf has it.
    const YEAR_ONE: i64 = -62_135_596_800;
    Timestamp::from_nanosecond(nanos).ok().filter(|_| time.seconds >= YEAR_ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Failure;

    fn at(seconds: i64, nanos: i32) -> Option<ProtoTimestamp> {
        Some(ProtoTimestamp { seconds, nanos })
    }

    fn lasting(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn faults(filter: &QueryFilter) -> Vec<&'static str> {
        let mut check = Check::default();
        let checked = check.filter(Some(filter));
        match check.done(&[], checked) {
            Ok(_) => Vec::new(),
            Err(Failure::Invalid(violations)) => violations.iter().map(|violation| violation.field).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_are_exact_on_both_sides_of_1970() {
        let text = |seconds, nanos| time(ProtoTimestamp { seconds, nanos }).map(|time| time.to_string());
        assert_eq!(text(-1, 999_999_999).as_deref(), Some("1969-12-31T23:59:59.999999999Z"));
        assert_eq!(text(0, 1).as_deref(), Some("1970-01-01T00:00:00.000000001Z"));
        for (seconds, nanos) in
            [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0)]
        {
            assert_eq!(text(seconds, nanos), None, "{seconds} {nanos}");
        }
    }

    #[test]
    fn every_field_has_its_rule() {
        let empty = QueryFilter::default();
        for (filter, field) in [
            (QueryFilter { usernames: vec![String::new()], ..empty.clone() }, "filter.usernames"),
            (QueryFilter { statuses: vec![0], ..empty.clone() }, "filter.statuses"),
            (QueryFilter { statuses: vec![1, 99], ..empty.clone() }, "filter.statuses"),
            (QueryFilter { types: vec![-1], ..empty.clone() }, "filter.types"),
            (QueryFilter { started_after: at(0, -1), ..empty.clone() }, "filter.started_after"),
            (QueryFilter { started_before: at(i64::MAX, 0), ..empty.clone() }, "filter.started_before"),
            (
                QueryFilter { started_after: at(2, 0), started_before: at(2, 0), ..empty.clone() },
                "filter.started_before",
            ),
            (
                QueryFilter { ended_after: at(2, 0), ended_before: at(1, 0), ..empty.clone() },
                "filter.ended_before",
            ),
            (QueryFilter { min_duration: lasting(-1), ..empty.clone() }, "filter.min_duration"),
            (
                QueryFilter { min_duration: lasting(2), max_duration: lasting(1), ..empty.clone() },
                "filter.max_duration",
            ),
            (
                QueryFilter { metadata: [(String::new(), "x".to_owned())].into(), ..empty.clone() },
                "filter.metadata",
            ),
            (QueryFilter { usernames: vec!["x".repeat(4096)], ..empty.clone() }, "filter"),
        ] {
            assert_eq!(faults(&filter), [field], "{filter:?}");
        }
        assert!(faults(&empty).is_empty());
        let mut check = Check::default();
        assert!(check.filter_of_some(Some(&empty)).is_none() && check.filter_of_some(None).is_none());
    }
}
