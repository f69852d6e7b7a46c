//! Atoti's JSON: how a query is spelt, read leniently.
//!
//! The API is marked experimental, so a missing, unknown or oddly typed field is no error: it reads as absent. Only a
//! document that is no JSON object is refused.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

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

    fn parse(word: &str) -> Self {
        [Self::Running, Self::Successful, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == word)
            .unwrap_or_default()
    }
}

impl Query {
    pub(super) fn from_json(body: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let Value::Object(fields) = document else {
            return Err("not a JSON object".to_owned());
        };
        let text = |name: &str| fields.get(name).map(text).unwrap_or_default();
        let time = |name: &str| fields.get(name)?.as_str()?.parse().ok();
        Ok(Self {
            id: text("id"),
            status: QueryStatus::parse(&text("status")),
            kind: match text("type").as_str() {
                "MDX" => QueryType::Mdx,
                "UNKNOWN" => QueryType::Unknown,
                _ => QueryType::Unrecognised,
            },
            text: text("query"),
            node_name: text("nodeName"),
            start: time("startDate"),
            end: time("endDate"),
            trace_id: text("traceId"),
            username: text("username"),
            metadata: metadata(fields.get("queryMetadata")),
        })
    }
}

/// Whether the discovery document lists an API; nothing when it is no discovery document.
pub(super) fn lists_api(body: &[u8], key: &str) -> Option<bool> {
    let document: Value = serde_json::from_slice(body).ok()?;
    Some(document.get("apis")?.as_object()?.contains_key(key))
}

/// Whether a document is a page of queries.
pub(super) fn is_listing(body: &[u8]) -> bool {
    let document: Result<Value, _> = serde_json::from_slice(body);
    document.is_ok_and(|document| document.get("data").is_some_and(Value::is_array))
}

/// Text as it is, numbers as their digits (never by way of a float), anything else as absent.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn metadata(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(name, value)| (name.clone(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_read_exactly() {
        let query = Query::from_json(
            br#"{"id":"9007199254740993","status":"FAILED","type":"MDX","query":"SELECT","nodeName":"n",
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
    fn what_is_missing_new_or_odd_reads_as_absent() {
        let odd = br#"{"id":9007199254740993,"status":"QUEUED","type":7,"query":null,"startDate":"yesterday",
            "endDate":5,"username":[],"queryMetadata":"none"}"#;
        let query = Query::from_json(odd).expect("a query");
        let expected = Query { id: "9007199254740993".to_owned(), ..Query::default() };
        assert_eq!(query, expected);
        assert_eq!(Query::from_json(b"{}"), Ok(Query::default()));
        assert!(Query::from_json(b"[]").is_err() && Query::from_json(b"").is_err());
    }

    #[test]
    fn only_a_discovery_document_without_the_key_says_that_the_api_is_missing() {
        assert_eq!(lists_api(br#"{"apis":{"a":{}}}"#, "a"), Some(true));
        assert_eq!(lists_api(br#"{"apis":{}}"#, "a"), Some(false));
        for not_discovery in ["{}", "[]", "", r#"{"apis":[]}"#, "<html>"] {
            assert_eq!(lists_api(not_discovery.as_bytes(), "a"), None, "{not_discovery}");
        }
    }

    #[test]
    fn only_a_page_of_queries_is_a_listing() {
        assert!(is_listing(br#"{"data":[{"id":"1"}],"pagination":{}}"#));
        for other in ["{}", "[]", "", r#"{"data":{}}"#, "<html>"] {
            assert!(!is_listing(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(body in any::<Vec<u8>>(), text in "[\\[\\]{}\",:a-z0-9 ]*") {
            let _ = (Query::from_json(&body), Query::from_json(text.as_bytes()), lists_api(&body, "a"));
        }
    }
}
