//! One query, and how the REST API spells it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{Timestamp, tz::Offset};
use serde_json::{Value, json};

/// Where a query stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not ended.
    Running,
    /// It ended with a result.
    Successful,
    /// It ended with an error.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl Status {
    pub(in super::super) const ALL: [Self; 4] =
        [Self::Running, Self::Successful, Self::Failed, Self::Cancelled];

    /// The REST API's word, such as `RUNNING`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Successful => "SUCCESSFUL",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// How a query ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// With a result.
    Successful,
    /// With an error.
    Failed,
    /// Stopped.
    Cancelled,
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Successful => Self::Successful,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// What language a query is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryType {
    /// MDX.
    Mdx,
    /// Anything else; such a query has no plan.
    Unknown,
}

impl QueryType {
    pub(in super::super) const ALL: [Self; 2] = [Self::Mdx, Self::Unknown];

    /// The REST API's word, such as `MDX`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mdx => "MDX",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A query as the history holds it.
#[derive(Clone, Debug)]
pub struct QueryRecord {
    /// Decimal digits.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// What language it is in.
    pub query_type: QueryType,
    /// The MDX.
    pub text: Arc<str>,
    /// The node it runs or ran on.
    pub node_name: Arc<str>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, unless it is running.
    pub ended: Option<Timestamp>,
    /// The OpenTelemetry trace of its execution: 32 hexadecimal digits.
    pub trace_id: String,
    /// Who asked it.
    pub username: Arc<str>,
    /// What the asker noted down about it.
    pub metadata: Arc<BTreeMap<String, String>>,
}

impl QueryRecord {
    /// The record as the REST API shows it.
    pub(in super::super) fn json(&self, offset: Offset) -> Value {
        let date = |at: Timestamp| at.display_with_offset(offset).to_string();
        let mut json = json!({
            "id": self.id,
            "status": self.status.name(),
            "type": self.query_type.name(),
            "query": &*self.text,
            "nodeName": &*self.node_name,
            "startDate": date(self.started),
            "endDate": self.ended.map(date),
            "traceId": self.trace_id,
            "username": &*self.username,
            "queryMetadata": &*self.metadata,
        });
        // A running query has no end date, and clients must bear both spellings of that: null, or no such key.
        if self.ended.is_none() && self.id.ends_with(['1', '3', '5', '7', '9']) {
            json.as_object_mut().expect("it was built as an object").remove("endDate");
        }
        json
    }

    /// How long it ran, or has been running.
    pub(super) fn duration(&self, now: Timestamp) -> Duration {
        self.ended.unwrap_or(now).duration_since(self.started).try_into().unwrap_or_default()
    }
}

/// A query to start. Every field has a default:
/// `NewQuery { username: "ada".into(), ..NewQuery::default() }`.
#[derive(Clone, Debug)]
pub struct NewQuery {
    /// The id, positive and at most `i64::MAX`; a random one by default, and also when the id is already taken.
    pub id: Option<u64>,
    /// Default `user`.
    pub username: Arc<str>,
    /// The MDX; a short one by default.
    pub text: Arc<str>,
    /// Default MDX.
    pub query_type: QueryType,
    /// Default empty.
    pub metadata: Arc<BTreeMap<String, String>>,
    /// Which node runs it; by default the one that made the history.
    pub node_name: Option<Arc<str>>,
    /// 32 hexadecimal digits; random by default.
    pub trace_id: Option<String>,
    /// How long it has been running already. Default zero.
    pub started_ago: Duration,
    /// When it ends by itself, counted from its start, and how; by default never.
    pub ends: Option<(Duration, Outcome)>,
    /// How long it goes on after it has been cancelled; by default the node's
    /// [`cancel_latency`](super::super::Options::cancel_latency).
    pub cancel_latency: Option<Duration>,
    /// Digits of the start's fraction that are not cut off, 0 to 9. Default 6.
    pub fraction_digits: u32,
}

impl Default for NewQuery {
    fn default() -> Self {
        Self {
            id: None,
            username: "user".into(),
            text: "SELECT [Measures].[contributors.COUNT] ON COLUMNS FROM [Sales]".into(),
            query_type: QueryType::Mdx,
            metadata: Arc::default(),
            node_name: None,
            trace_id: None,
            started_ago: Duration::ZERO,
            ends: None,
            cancel_latency: None,
            fraction_digits: 6,
        }
    }
}
