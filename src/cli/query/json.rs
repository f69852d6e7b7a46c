//! Messages as JSON, by protobuf's own mapping: the same that grpcurl and other clients print.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use crate::proto::FILE_DESCRIPTOR_SET;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("it was compiled in"));

/// A message of `atoti.queryhistory.v1`, by its name there; fields that are unset are left out.
///
/// # Panics
///
/// When there is no such message.
pub(super) fn object(name: &str, message: &impl Message) -> Map<String, Value> {
    let descriptor = POOL
        .get_message_by_name(&format!("atoti.queryhistory.v1.{name}"))
        .expect("a message of the definition");
    let message = DynamicMessage::decode(descriptor, &*message.encode_to_vec()).expect("it is this message");
    let options = SerializeOptions::new();
    match message.serialize_with_options(serde_json::value::Serializer, &options) {
        Ok(Value::Object(object)) => object,
        // A date outside of what JSON can say: better told in part than not at all.
        _ => Map::new(),
    }
}

/// The same, on one line.
pub(super) fn line(name: &str, message: &impl Message) -> String {
    Value::from(object(name, message)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::queryhistory::{CancelAllQueriesResponse, Query};

    #[test]
    fn json_is_that_of_protobuf() {
        let query = Query {
            query_id: "42".to_owned(),
            status: 1,
            text: "\u{1b}[31m".to_owned(),
            start_time: Some(prost_types::Timestamp { seconds: 1_772_350_200, nanos: 500_000_000 }),
            ..Query::default()
        };
        let expected = r#"{"queryId":"42","status":"QUERY_STATUS_RUNNING","text":"\u001b[31m","startTime":"2026-03-01T07:30:00.500Z"}"#;
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(Value::from(object("Query", &query)), expected);
        let all = CancelAllQueriesResponse { outcome: 1, still_running: Some(0) };
        let expected = r#"{"outcome":"CANCEL_OUTCOME_REQUESTED","stillRunning":"0"}"#;
        assert_eq!(line("CancelAllQueriesResponse", &all), expected);
    }
}
