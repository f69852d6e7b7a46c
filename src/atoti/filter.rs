//! Which queries are wanted, and how Atoti's parameters spell that. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use url::form_urlencoded::Serializer;

use super::wire::{Query, QueryStatus, QueryType};

/// Which queries are wanted: those for which all of it holds. The default wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Started by one of these; by anybody, when there are none.
    pub users: Vec<String>,
    /// In one of these states.
    pub statuses: Vec<QueryStatus>,
    /// In one of these languages.
    pub kinds: Vec<QueryType>,
    /// Started after.
    pub started_after: Option<Timestamp>,
    /// Started before.
    pub started_before: Option<Timestamp>,
    /// Ended after.
    pub ended_after: Option<Timestamp>,
    /// Ended before.
    pub ended_before: Option<Timestamp>,
    /// Took at least.
    pub min_duration: Option<Duration>,
    /// Took at most.
    pub max_duration: Option<Duration>,
    /// Noted so.
    pub metadata: BTreeMap<String, String>,
}

/// Which part of a listing is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Pages of this many queries, 1 or more.
    pub size: u32,
    /// This one of them; the first is 0.
    pub page: u32,
}

impl Filter {
    /// Whether it wants everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it wants everything that runs.
    #[must_use]
    pub fn is_of_running_alone(&self) -> bool {
        *self == Self { statuses: vec![QueryStatus::Running], ..Self::default() }
    }

    /// As the query of a URL, in Atoti's words; also the one spelling of a filter wherever one is written down.
    #[must_use]
    pub fn parameters(&self) -> String {
        self.append_to(String::new())
    }

    pub(super) fn with(&self, part: Part) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("page", &part.page.to_string()).append_pair("page_size", &part.size.to_string());
        self.append_to(query.finish())
    }

    fn append_to(&self, query: String) -> String {
        let mut query = Serializer::new(query);
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        };
        put("user", one_or_many(self.users.iter().map(String::as_str)));
        put("status", one_or_many(self.statuses.iter().map(|status| status.as_str())));
        put("type", one_or_many(self.kinds.iter().map(|kind| kind.as_str())));
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        put("started_after", time(self.started_after));
        put("started_before", time(self.started_before));
        put("ended_after", time(self.ended_after));
        put("ended_before", time(self.ended_before));
        // Whole milliseconds; what is left over goes to the side on which the bound still holds.
        put("min_duration", self.min_duration.map(|least| least.as_nanos().div_ceil(1_000_000).to_string()));
        put("max_duration", self.max_duration.map(|most| most.as_millis().to_string()));
        for (key, value) in &self.metadata {
            put(&format!("metadata.{key}"), Some(value.clone()));
        }
        query.finish()
    }

    /// Whether a query is one of those wanted, as far as that can be told without Atoti's clock: durations are passed
    /// over.
    ///
    /// Nothing is stopped on the word of a list alone: a server that does not know a parameter passes it over, and
    /// lists everything.
    #[must_use]
    pub fn admits(&self, query: &Query) -> bool {
        let after = |bound: Option<Timestamp>, time: Option<Timestamp>| {
            bound.is_none_or(|bound| time.is_some_and(|time| time >= bound))
        };
        let before = |bound: Option<Timestamp>, time: Option<Timestamp>| {
            bound.is_none_or(|bound| time.is_some_and(|time| time <= bound))
        };
        (self.users.is_empty() || self.users.contains(&query.username))
            && (self.statuses.is_empty() || self.statuses.contains(&query.status))
            && (self.kinds.is_empty() || self.kinds.contains(&query.kind))
            && after(self.started_after, query.start)
            && before(self.started_before, query.start)
            && after(self.ended_after, query.end)
            && before(self.ended_before, query.end)
            && self.metadata.iter().all(|(key, value)| query.metadata.get(key) == Some(value))
    }
}

/// One value as it is, several as a JSON array; one that could be taken for an array, as an array too.
fn one_or_many<'a>(mut values: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let all = values.clone();
    let first = values.next()?;
    if values.next().is_none() && !first.trim_start().starts_with('[') {
        return Some(first.to_owned());
    }
    Some(serde_json::Value::from_iter(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Timestamp> {
        Some(text.parse().expect("a time"))
    }

    fn everything() -> Filter {
        Filter {
            users: vec!["ada".to_owned(), "d\"k & co".to_owned()],
            statuses: vec![QueryStatus::Running],
            kinds: vec![QueryType::Mdx, QueryType::Unknown],
            started_after: time("2026-11-23T10:00:00.000000001+01:00"),
            started_before: time("2026-11-24T00:00:00Z"),
            ended_after: time("2026-11-23T00:00:00Z"),
            ended_before: time("2026-11-24T00:00:00Z"),
            min_duration: Some(Duration::from_micros(1_000_001)),
            max_duration: Some(Duration::from_micros(2_999_999)),
            metadata: BTreeMap::from([("cube".to_owned(), "a=b".to_owned())]),
        }
    }

    #[test]
    fn every_field_is_spelt_as_atoti_spells_it() {
        let spelt: Vec<(String, String)> =
            url::form_urlencoded::parse(everything().parameters().as_bytes()).into_owned().collect();
        let expected = [
            ("user", r#"["ada","d\"k & co"]"#),
            ("status", "RUNNING"),
            ("type", r#"["MDX","UNKNOWN"]"#),
            ("started_after", "2026-11-23T09:00:00.000000001Z"),
            ("started_before", "2026-11-24T00:00:00Z"),
            ("ended_after", "2026-11-23T00:00:00Z"),
            ("ended_before", "2026-11-24T00:00:00Z"),
            ("min_duration", "1001"),
            ("max_duration", "2999"),
            ("metadata.cube", "a=b"),
        ];
        assert_eq!(spelt, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(Filter::default().parameters(), "");
        let bracket = Filter { users: vec!["[x]".to_owned()], ..Filter::default() };
        assert_eq!(bracket.parameters(), "user=%5B%22%5Bx%5D%22%5D");
    }

    #[test]
    fn what_a_list_says_is_checked() {
        let filter = Filter {
            users: vec!["ada".to_owned()],
            started_before: time("2026-11-24T00:00:00Z"),
            ..Filter::default()
        };
        let query =
            Query { username: "ada".to_owned(), start: time("2026-11-23T00:00:00Z"), ..Query::default() };
        assert!(filter.admits(&query));
        assert!(!filter.admits(&Query { username: "bob".to_owned(), ..query.clone() }));
        assert!(!filter.admits(&Query { start: time("2026-11-25T00:00:00Z"), ..query.clone() }));
        assert!(!filter.admits(&Query { start: None, ..query.clone() }), "nobody knows how long it has run");
        assert!(!everything().admits(&query));
        assert!(Filter::default().admits(&query));
    }
}
