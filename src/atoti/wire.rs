//! Atoti's JSON: how a query is spelt, read leniently.
//!
//! The API is marked experimental, so a missing, unknown or oddly typed field is no error: it reads as absent. Refused is
//! only what is no query at all, an object without an id for one: a read must not succeed on somebody else's answer.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use super::{
    body::Body,
    lenient::{Lenient, Text, Texts},
};

/// A query, as the history tells it. What is absent or cannot be read is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Atoti's id.
    pub id: String,
    /// Where it stands.
    pub status: QueryStatus,
    /// Its language.
    pub kind: QueryType,
    /// The query itself, perhaps cut short.
    pub text: String,
    /// The node that ran it.
    pub node_name: String,
    /// When it started.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// The OpenTelemetry trace of its execution.
    pub trace_id: String,
    /// Who started it.
    pub username: String,
    /// What Atoti notes besides.
    pub metadata: BTreeMap<String, String>,
}

/// Where a query stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryStatus {
    /// Absent, or a value newer than this program.
    #[default]
    Unrecognised,
    /// It runs.
    Running,
    /// It ended with a result.
    Successful,
    /// It ended with an error.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// The language of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryType {
    /// Absent, or a value newer than this program.
    #[default]
    Unrecognised,
    /// Atoti does not know either.
    Unknown,
    /// MDX.
    Mdx,
}

impl QueryStatus {
    /// Atoti's own word; empty for a status that is not recognised.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unrecognised => "",
            Self::Running => "RUNNING",
            Self::Successful => "SUCCESSFUL",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    pub(super) fn parse(word: &str) -> Self {
        [Self::Running, Self::Successful, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == word)
            .unwrap_or_default()
    }
}

impl QueryType {
    /// Atoti's own word; empty for a language that is not recognised.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unrecognised => "",
            Self::Unknown => "UNKNOWN",
            Self::Mdx => "MDX",
        }
    }

    fn parse(word: &str) -> Self {
        [Self::Unknown, Self::Mdx].into_iter().find(|kind| kind.as_str() == word).unwrap_or_default()
    }
}

/// A part of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The queries of the page.
    pub queries: Vec<Query>,
    /// How many there are on all pages, if Atoti says so.
    pub total: Option<u64>,
}

/// What the discovery document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Atoti's version; empty when it is not told.
    pub server_version: String,
    /// The versions of the Query History API; nothing when the API is positively not installed.
    pub api_versions: Option<Vec<String>>,
}

/// Reads the discovery document; nothing when it is something else.
pub(super) fn discovery(body: Body, key: &str) -> Option<Discovery> {
    let document: Value = body.json().ok()?;
    let apis = document.get("apis")?.as_object()?;
    let versions = |api: &Value| {
        let versions = api.get("versions").and_then(Value::as_array).into_iter().flatten();
        versions.filter_map(|version| Some(version.get("id")?.as_str()?.to_owned())).collect()
    };
    let server_version = document.get("serverVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Discovery { server_version, api_versions: apis.get(key).map(versions) })
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    Id,
    Status,
    Type,
    Query,
    NodeName,
    StartDate,
    EndDate,
    TraceId,
    Username,
    QueryMetadata,
    #[serde(other)]
    Other,
}

/// An object with an `id`; everything else may be missing, and no field is ever too odd.
impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Query;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a query")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Query, A::Error> {
                let mut query = Query::default();
                while let Some(field) = fields.next_key()? {
                    match field {
                        Field::Id => query.id = text(&mut fields, str::to_owned)?,
                        Field::Status => query.status = text(&mut fields, QueryStatus::parse)?,
                        Field::Type => query.kind = text(&mut fields, QueryType::parse)?,
                        Field::Query => query.text = text(&mut fields, str::to_owned)?,
                        Field::NodeName => query.node_name = text(&mut fields, str::to_owned)?,
                        Field::StartDate => query.start = text(&mut fields, moment)?,
                        Field::EndDate => query.end = text(&mut fields, moment)?,
                        Field::TraceId => query.trace_id = text(&mut fields, str::to_owned)?,
                        Field::Username => query.username = text(&mut fields, str::to_owned)?,
                        Field::QueryMetadata => query.metadata = fields.next_value_seed(Texts)?,
                        Field::Other => drop(fields.next_value::<IgnoredAny>()?),
                    }
                }
                if query.id.is_empty() {
                    return Err(A::Error::missing_field("id"));
                }
                Ok(query)
            }
        }

        json.deserialize_map(Fields)
    }
}

fn text<'de, T: Default, A: MapAccess<'de>>(
    fields: &mut A,
    read: impl FnOnce(&str) -> T,
) -> Result<T, A::Error> {
    fields.next_value_seed(Text(read))
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// An object with `data`: an array of queries.
impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Page {
            data: Vec<Query>,
            #[serde(default)]
            pagination: Lenient<Pagination>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Pagination {
            #[serde(default)]
            total_items: Lenient<u64>,
        }

        /// An array would be taken for a struct with its fields in order.
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Page;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a page of queries")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Page, A::Error> {
                Page::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        let page = json.deserialize_map(Object)?;
        Ok(Self {
            queries: page.data,
            total: page.pagination.0.and_then(|pagination| pagination.total_items.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(json: &str) -> Result<Query, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_query_is_read_exactly() {
        let query = query(
            r#"{"id":"9007199254740993","status":"FAILED","type":"MDX","query":"SELECT","nodeName":"n",
                "startDate":"2026-11-23T10:00:00.123456789+01:00","endDate":"2026-11-23T09:00:01Z","traceId":"t",
                "username":"u","queryMetadata":{"cube":"Sales","n":3},"later":{}}"#,
        )
        .expect("a query");
        assert_eq!(query.id, "9007199254740993");
        assert_eq!(query.status, QueryStatus::Failed);
        assert_eq!(query.kind, QueryType::Mdx);
        assert_eq!(query.start.expect("a start").to_string(), "2026-11-23T09:00:00.123456789Z");
        assert_eq!(query.end.expect("an end").to_string(), "2026-11-23T09:00:01Z");
        assert_eq!(query.metadata["n"], "3");
    }

    #[test]
    fn times_are_read_in_every_spelling_of_javas() {
        for (spelt, utc) in [
            ("2026-11-23T10:00:00.1+01:00", "2026-11-23T09:00:00.1Z"),
            ("2026-11-23T10:00:00.000000001-05:30", "2026-11-23T15:30:00.000000001Z"),
            ("2026-11-23T10:00Z", "2026-11-23T10:00:00Z"),
            ("2026-11-23T10:00:00+01:00[Europe/Paris]", "2026-11-23T09:00:00Z"),
            ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
        ] {
            let query = query(&format!(r#"{{"id":"1","startDate":"{spelt}"}}"#)).expect("a query");
            assert_eq!(query.start.map(|start| start.to_string()).as_deref(), Some(utc), "{spelt}");
        }
        for odd in ["2026-11-23T10:00:00", "yesterday", "", "2026-11-23T10:00:00+99:00"] {
            let query = query(&format!(r#"{{"id":"1","startDate":"{odd}"}}"#)).expect("a query");
            assert_eq!(query.start, None, "{odd}: without a zone it is no moment");
        }
    }

    #[test]
    fn what_is_missing_new_or_odd_reads_as_absent() {
        let odd = r#"{"id":9007199254740993,"status":"QUEUED","type":7,"query":null,"startDate":"yesterday",
            "endDate":5,"username":[{}],"queryMetadata":"none","traceId":{"a":[1]}}"#;
        let expected = Query { id: "9007199254740993".to_owned(), ..Query::default() };
        assert_eq!(query(odd), Ok(Query { kind: QueryType::Unrecognised, ..expected }));
    }

    /// Another number would be the id of another query.
    #[test]
    fn a_number_is_read_as_its_digits_or_not_at_all() {
        let note = |number: &str| {
            let query = query(&format!(r#"{{"id":"1","queryMetadata":{{"n":{number}}}}}"#)).expect("a query");
            query.metadata["n"].clone()
        };
        for number in ["0", "18446744073709551615", "-9223372036854775808", "1.5", "-0.001"] {
            assert_eq!(note(number), number);
        }
        for (number, read) in [("1e3", "1000"), ("1e-300", "1e-300"), ("1e300", "")] {
            assert_eq!(note(number), read, "{number}");
        }
        for id in ["18446744073709551616", "-9223372036854775809", "99999999999999999999", "1e300"] {
            assert_eq!(note(id), "", "{id}");
            assert!(query(&format!(r#"{{"id":{id}}}"#)).is_err(), "{id}");
        }
    }

    #[test]
    fn what_is_no_query_is_none() {
        for other in ["", "{}", "[]", r#"["1"]"#, r#"{"id":""}"#, r#"{"status":"error"}"#, "null", r#""1""#] {
            assert!(query(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_listing_is_an_object_with_data_and_perhaps_a_total() {
        let read = |json: &str| serde_json::from_str::<Listing>(json).map_err(|error| error.to_string());
        let page = read(
            r#"{"data":[{"id":"1"},{"id":"2"}],"pagination":{"pageNumber":0,"totalItems":7,"x":[]},"more":{}}"#,
        );
        let page = page.expect("a page");
        assert_eq!((page.queries.len(), page.total), (2, Some(7)));
        for untold in [
            r#"{"data":[]}"#,
            r#"{"data":[],"pagination":[]}"#,
            r#"{"data":[],"pagination":{"totalItems":"x"}}"#,
        ] {
            assert_eq!(read(untold), Ok(Listing::default()), "{untold}");
        }
        for other in
            ["{}", "[]", "", r#"{"data":{}}"#, r#"{"data":[1]}"#, r#"{"data":[{}]}"#, "<html>", "[[],{}]"]
        {
            assert!(read(other).is_err(), "{other}");
        }
    }

    #[test]
    fn only_a_discovery_document_without_the_key_says_that_the_api_is_missing() {
        let read = |json: &str| discovery(json.as_bytes().into(), "a").map(|found| found.api_versions);
        assert_eq!(read(r#"{"apis":{"a":{}}}"#), Some(Some(Vec::new())));
        assert_eq!(read(r#"{"apis":{"a":{"versions":[{"id":"1"}]}}}"#), Some(Some(vec!["1".to_owned()])));
        assert_eq!(read(r#"{"apis":{}}"#), Some(None));
        for not_discovery in ["{}", "[]", "", r#"{"apis":[]}"#, "<html>"] {
            assert_eq!(read(not_discovery), None, "{not_discovery}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic_and_nothing_passes_for_a_query_without_an_id(
            body in any::<Vec<u8>>(),
            text in "[\\[\\]{}\",:a-z0-9 ]*",
        ) {
            for body in [&body[..], text.as_bytes()] {
                let _ = discovery(body.into(), "a");
                let query = serde_json::from_slice::<Query>(body);
                prop_assert!(query.is_err() || body.windows(4).any(|part| part == b"\"id\""));
                let listing = serde_json::from_slice::<Listing>(body);
                prop_assert!(listing.is_err() || body.windows(6).any(|part| part == b"\"data\""));
            }
        }
    }
}
