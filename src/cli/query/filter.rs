//! The flags that say which queries are meant.

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use jiff::{SignedDuration, Timestamp};

use super::moment::{Moment, moment, span, span_to_proto, to_proto};
use crate::proto::queryhistory::{QueryFilter, QueryStatus, QueryType};

/// Which queries; every flag that is given must hold.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which queries")]
pub(super) struct Which {
    /// Started by this user; may be repeated: by any of these
    #[arg(long = "user", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    users: Vec<String>,

    /// In this language; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<Language>,

    /// Started after this: a date such as 2026-03-01T07:30:00Z, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    started_after: Option<Moment>,

    /// Started before this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    started_before: Option<Moment>,

    /// Ended after this; what runs has not ended
    #[arg(long, value_name = "TIME", value_parser = moment)]
    ended_after: Option<Moment>,

    /// Ended before this; what runs has not ended
    #[arg(long, value_name = "TIME", value_parser = moment)]
    ended_before: Option<Moment>,

    /// Took at least so long, such as 90s or 10m; to choose among what still runs there is --older-than
    #[arg(long, value_name = "DURATION", value_parser = span)]
    min_duration: Option<SignedDuration>,

    /// Took at most so long
    #[arg(long, value_name = "DURATION", value_parser = span)]
    max_duration: Option<SignedDuration>,

    /// Noted so by Atoti; may be repeated: all of these
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    metadata: Vec<(String, String)>,
}

/// In which state they are; not for what stops queries, because only what runs can be stopped.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which queries")]
pub(super) struct Statuses {
    /// In this state; may be repeated, or written as running,failed
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    statuses: Vec<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Mdx,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    Running,
    Successful,
    Failed,
    Cancelled,
}

impl Statuses {
    pub(super) fn list(&self) -> Vec<QueryStatus> {
        let status = |state: &State| match state {
            State::Running => QueryStatus::Running,
            State::Successful => QueryStatus::Successful,
            State::Failed => QueryStatus::Failed,
            State::Cancelled => QueryStatus::Cancelled,
        };
        self.statuses.iter().map(status).collect()
    }
}

impl Which {
    /// The filter, as it is meant now.
    pub(super) fn filter(&self, now: Timestamp, statuses: &[QueryStatus]) -> QueryFilter {
        let kind = |language: &Language| match language {
            Language::Mdx => QueryType::Mdx.into(),
            Language::Unknown => QueryType::Unknown.into(),
        };
        let time = |moment: Option<Moment>| moment.map(|moment| to_proto(moment.seen_from(now)));
        QueryFilter {
            usernames: self.users.clone(),
            statuses: statuses.iter().map(|&status| status.into()).collect(),
            types: self.types.iter().map(kind).collect(),
            started_after: time(self.started_after),
            started_before: time(self.started_before),
            ended_after: time(self.ended_after),
            ended_before: time(self.ended_before),
            min_duration: self.min_duration.map(span_to_proto),
            max_duration: self.max_duration.map(span_to_proto),
            metadata: self.metadata.iter().cloned().collect(),
        }
    }
}

fn entry(value: &str) -> Result<(String, String), String> {
    match value.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not a key and a value; write for example team=sales".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        statuses: Statuses,
    }

    fn filter(flags: &[&str]) -> Option<QueryFilter> {
        let command = Command::try_parse_from(["list"].iter().chain(flags)).ok()?;
        let now = "2026-03-01T12:00:00Z".parse().expect("a date");
        Some(command.which.filter(now, &command.statuses.list()))
    }

    #[test]
    fn flags_become_the_filter() {
        assert_eq!(filter(&[]), Some(QueryFilter::default()));
        let noon = 1_772_366_400;
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let expected = QueryFilter {
            usernames: vec!["ada".to_owned(), "bob".to_owned()],
            statuses: vec![1, 4],
            types: vec![2],
            started_after: at(noon - 600),
            ended_before: at(noon),
            min_duration: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            metadata: [("team".to_owned(), "a=b".to_owned())].into(),
            ..QueryFilter::default()
        };
        let flags = [
            "--user=ada",
            "--user=bob",
            "--status=running,cancelled",
            "--type=mdx",
            "--started-after=10m",
            "--ended-before=2026-03-01T12:00:00Z",
            "--min-duration=1500ms",
            "--metadata=team=a=b",
        ];
        assert_eq!(filter(&flags), Some(expected));
        for wrong in ["--user=", "--status=gone", "--metadata=team", "--metadata==x", "--max-duration=-1s"] {
            assert_eq!(filter(&[wrong]), None, "{wrong}");
        }
    }
}
