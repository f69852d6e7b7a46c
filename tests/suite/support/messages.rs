//! The messages of the rest of the service, spelt a second time: field numbers are public surface.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{Duration, Timestamp};
use tonic_types::pb;

use super::client::Query;

pub const RUNNING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub struct QueryFilter {
    #[prost(string, repeated, tag = "1")]
    pub usernames: Vec<String>,
    #[prost(int32, repeated, tag = "2")]
    pub statuses: Vec<i32>,
    #[prost(int32, repeated, tag = "3")]
    pub types: Vec<i32>,
    #[prost(message, optional, tag = "4")]
    pub started_after: Option<Timestamp>,
    #[prost(message, optional, tag = "5")]
    pub started_before: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub ended_after: Option<Timestamp>,
    #[prost(message, optional, tag = "7")]
    pub ended_before: Option<Timestamp>,
    #[prost(message, optional, tag = "8")]
    pub min_duration: Option<Duration>,
    #[prost(message, optional, tag = "9")]
    pub max_duration: Option<Duration>,
    #[prost(btree_map = "string, string", tag = "10")]
    pub metadata: BTreeMap<String, String>,
}

/// A filter for the queries of one user.
pub fn of_user(name: &str) -> QueryFilter {
    QueryFilter { usernames: vec![name.to_owned()], ..QueryFilter::default() }
}

#[derive(Clone, PartialEq, Message)]
pub struct ListQueriesRequest {
    #[prost(message, optional, tag = "1")]
    pub filter: Option<QueryFilter>,
    #[prost(int32, tag = "2")]
    pub page_size: i32,
    #[prost(string, tag = "3")]
    pub page_token: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ListQueriesResponse {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    #[prost(string, tag = "2")]
    pub next_page_token: String,
    #[prost(int64, tag = "3")]
    pub total_size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct CancelQueriesRequest {
    #[prost(message, optional, tag = "1")]
    pub filter: Option<QueryFilter>,
    #[prost(message, optional, tag = "2")]
    pub min_running_time: Option<Duration>,
    #[prost(int32, tag = "3")]
    pub max_cancellations: i32,
    #[prost(bool, tag = "4")]
    pub validate_only: bool,
    #[prost(string, tag = "5")]
    pub reason: String,
    #[prost(message, optional, tag = "6")]
    pub wait: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CancelQueriesResponse {
    #[prost(message, optional, tag = "1")]
    pub query: Option<Query>,
    #[prost(int32, tag = "2")]
    pub outcome: i32,
    #[prost(message, optional, tag = "3")]
    pub error: Option<pb::Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CancelAllQueriesRequest {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(message, optional, tag = "2")]
    pub wait: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CancelAllQueriesResponse {
    #[prost(int32, tag = "1")]
    pub outcome: i32,
    #[prost(int64, optional, tag = "2")]
    pub still_running: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchQueryResponse {
    #[prost(message, optional, tag = "1")]
    pub query: Option<Query>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetQueryPlanRequest {
    #[prost(string, tag = "1")]
    pub query_id: String,
    #[prost(message, optional, tag = "2")]
    pub timeout: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetQueryPlanResponse {
    #[prost(string, tag = "1")]
    pub plan_json: String,
}

/// `WatchQueryRequest` has the first field only.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteQueryRequest {
    #[prost(string, tag = "1")]
    pub query_id: String,
    #[prost(string, tag = "2")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeleteQueriesRequest {
    #[prost(message, optional, tag = "1")]
    pub filter: Option<QueryFilter>,
    #[prost(string, tag = "2")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct GetServerInfoResponse {
    #[prost(string, tag = "1")]
    pub server_version: String,
    #[prost(bool, optional, tag = "2")]
    pub api_installed: Option<bool>,
    #[prost(string, repeated, tag = "3")]
    pub api_versions: Vec<String>,
    #[prost(int32, tag = "4")]
    pub credentials: i32,
    #[prost(string, tag = "5")]
    pub bridge_version: String,
    #[prost(string, repeated, tag = "6")]
    pub node_names: Vec<String>,
}
