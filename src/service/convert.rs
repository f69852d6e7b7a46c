//! Between Atoti's words and the proto's.

use prost_types::Timestamp;

use crate::{
    atoti,
    proto::queryhistory::{Query, QueryStatus, QueryType},
};

impl From<atoti::Query> for Query {
    fn from(query: atoti::Query) -> Self {
        Self {
            query_id: query.id,
            status: QueryStatus::from(query.status).into(),
            r#type: QueryType::from(query.kind).into(),
            text: query.text,
            node_name: query.node_name,
            start_time: query.start.map(timestamp),
            end_time: query.end.map(timestamp),
            trace_id: query.trace_id,
            username: query.username,
            metadata: query.metadata,
        }
    }
}

impl From<atoti::QueryStatus> for QueryStatus {
    fn from(status: atoti::QueryStatus) -> Self {
        match status {
            atoti::QueryStatus::Unrecognised => Self::Unspecified,
            atoti::QueryStatus::Running => Self::Running,
            atoti::QueryStatus::Successful => Self::Successful,
            atoti::QueryStatus::Failed => Self::Failed,
            atoti::QueryStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl From<atoti::QueryType> for QueryType {
    fn from(kind: atoti::QueryType) -> Self {
        match kind {
            atoti::QueryType::Unrecognised => Self::Unspecified,
            atoti::QueryType::Unknown => Self::Unknown,
            atoti::QueryType::Mdx => Self::Mdx,
        }
    }
}

/// protobuf counts nanoseconds forwards from the second below, also before 1970.
fn timestamp(time: jiff::Timestamp) -> Timestamp {
    const BILLION: i128 = 1_000_000_000;
    let nanos = time.as_nanosecond();
    Timestamp {
        seconds: i64::try_from(nanos.div_euclid(BILLION))
            .expect("jiff's range is that of years -9999 to 9999"),
        nanos: i32::try_from(nanos.rem_euclid(BILLION)).expect("less than a billion"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_exact_to_the_nanosecond_on_both_sides_of_1970() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1969-12-31T23:59:59.999999999Z", -1, 999_999_999),
            ("2026-11-23T10:00:00.123456789+01:00", 1_795_424_400, 123_456_789),
        ] {
            let time = text.parse().expect("a time");
            assert_eq!(timestamp(time), Timestamp { seconds, nanos }, "{text}");
        }
    }
}
