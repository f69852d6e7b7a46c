//! The filters and the paging of a listing: read from a query string, applied to a record.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo, Timestamp};
use url::form_urlencoded;

use super::{
    super::problem::Problem,
    record::{QueryRecord, QueryType, Status},
};

/// Which queries are wanted. Empty lists and absent bounds want all.
#[derive(Debug, Default)]
pub(in super::super) struct Filter {
    users: Vec<String>,
    statuses: Vec<Status>,
    types: Vec<QueryType>,
    metadata: Vec<(String, String)>,
    started_after: Option<Timestamp>,
    started_before: Option<Timestamp>,
    ended_after: Option<Timestamp>,
    ended_before: Option<Timestamp>,
    min_duration: Option<Duration>,
    max_duration: Option<Duration>,
    constrained: bool,
}

/// Which part of the matches is wanted.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Paging {
    pub(in super::super) page: usize,
    pub(in super::super) size: usize,
}

impl Filter {
    /// Reads a query string. Parameters nobody knows are passed over, as Spring does.
    pub(in super::super) fn parse(query: &str) -> Result<(Self, Paging), Problem> {
        let mut filter = Self::default();
        let mut paging = Paging { page: 0, size: 10 };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.as_ref();
            let mut constrains = true;
            match name.as_ref() {
                "user" => filter.users = one_or_many(value),
                "status" => filter.statuses = words("status", value, &Status::ALL, Status::name)?,
                "type" => filter.types = words("type", value, &QueryType::ALL, QueryType::name)?,
                "started_after" => filter.started_after = Some(date(value)?),
                "started_before" => filter.started_before = Some(date(value)?),
                "ended_after" => filter.ended_after = Some(date(value)?),
                "ended_before" => filter.ended_before = Some(date(value)?),
                "min_duration" => filter.min_duration = Some(duration(value)?),
                "max_duration" => filter.max_duration = Some(duration(value)?),
                "page" => (paging.page, constrains) = (number("page", value, 0)?, false),
                "page_size" => (paging.size, constrains) = (number("page_size", value, 1)?, false),
                other => match other.strip_prefix("metadata.") {
                    Some(key) => filter.metadata.push((key.to_owned(), value.to_owned())),
                    None => constrains = false,
                },
            }
            filter.constrained |= constrains;
        }
        Ok((filter, paging))
    }

    pub(super) const fn is_empty(&self) -> bool {
        !self.constrained
    }

    pub(super) fn wants_only_running(&self) -> bool {
        self.statuses == [Status::Running]
    }

    /// Bounds in time are open, bounds of duration are closed. A running query has lasted until now, and has no end
    /// that could be before or after anything.
    pub(super) fn matches(&self, record: &QueryRecord, now: Timestamp) -> bool {
        let listed =
            |list: &[String], value: &str| list.is_empty() || list.iter().any(|wanted| wanted == value);
        listed(&self.users, &record.username)
            && (self.statuses.is_empty() || self.statuses.contains(&record.status))
            && (self.types.is_empty() || self.types.contains(&record.query_type))
            && self.metadata.iter().all(|(key, value)| record.metadata.get(key) == Some(value))
            && self.started_after.is_none_or(|bound| record.started > bound)
            && self.started_before.is_none_or(|bound| record.started < bound)
            && self.ended_after.is_none_or(|bound| record.ended.is_some_and(|end| end > bound))
            && self.ended_before.is_none_or(|bound| record.ended.is_some_and(|end| end < bound))
            && self.min_duration.is_none_or(|bound| record.duration(now) >= bound)
            && self.max_duration.is_none_or(|bound| record.duration(now) <= bound)
    }
}

/// One value, or a JSON array of them.
fn one_or_many(value: &str) -> Vec<String> {
    serde_json::from_str(value).unwrap_or_else(|_| vec![value.to_owned()])
}

fn words<T: Copy>(
    parameter: &str,
    value: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, Problem> {
    let read = |word: &String| {
        let known = all.iter().copied().find(|&known| name(known) == word);
        known.ok_or_else(|| {
            Problem::bad_request(format!("Invalid value '{word}' of the parameter '{parameter}'"))
        })
    };
    one_or_many(value).iter().map(read).collect()
}

fn number(parameter: &str, value: &str, least: usize) -> Result<usize, Problem> {
    let number = value.parse::<usize>().ok().filter(|&number| number >= least);
    number.ok_or_else(|| {
        Problem::bad_request(format!("Invalid value '{value}' of the parameter '{parameter}'"))
    })
}

/// ISO-8601 with a zone; anything else ends as an unexpected failure, as it does in the original.
fn date(value: &str) -> Result<Timestamp, Problem> {
    let date = value.parse().ok().filter(|_| value.contains('T'));
    date.ok_or_else(|| {
        Problem::unexpected(format!("Text '{value}' could not be parsed as a date with a zone"))
    })
}

/// Whole milliseconds, or ISO-8601.
fn duration(value: &str) -> Result<Duration, Problem> {
    let milliseconds = value.parse().ok().map(Duration::from_millis);
    milliseconds
        .or_else(|| iso_duration(value))
        .ok_or_else(|| Problem::unexpected(format!("Text '{value}' could not be parsed as a duration")))
}

/// An ISO-8601 duration such as `PT30S`, with days of 24 hours.
pub(in super::super) fn iso_duration(value: &str) -> Option<Duration> {
    let span: Span = value.parse().ok().filter(|_| value.starts_with(['P', 'p']))?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}
