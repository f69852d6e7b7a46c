//! A record as one line of JSON.
//!
//! Written field by field: every cancel writes one, and a general serializer spends more on the names, which never
//! change, than on what they name. Values go through `serde_json`, but for the words that are this program's own.

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::Serialize;

use super::{Bulk, Caller, Record, TARGET};

static TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// A name as it stands in a line, behind the field before it: in one piece, as it is written. It needs no escaping.
macro_rules! named {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn put(&mut self, name: &'static str, value: impl Serialize) {
        let Self(line) = self;
        line.extend_from_slice(name.as_bytes());
        serde_json::to_writer(&mut **line, &value).expect("texts and numbers are JSON");
    }

    /// One of the words of this program, which need no escaping either.
    fn put_word(&mut self, name: &'static str, word: &'static str) {
        let Self(line) = self;
        line.extend_from_slice(name.as_bytes());
        line.push(b'"');
        line.extend_from_slice(word.as_bytes());
        line.push(b'"');
    }

    fn put_some(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

/// Writes the line, with the fields that every event of the log has too.
pub(super) fn write(record: &Record<'_>, at: Timestamp, to: &mut Vec<u8>) {
    to.extend_from_slice(b"{\"timestamp\":\"");
    TIME.print_timestamp(&at, &mut *to).expect("a vector takes everything");
    to.extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"cancel or delete attempted\"");
    let mut line = Line(to);
    line.put_word(named!("operation"), record.operation);
    line.put_some(named!("query_id"), record.query_id);
    line.put_some(named!("filter"), record.filter);
    line.put(named!("reason"), record.reason);
    let Caller { peer, certificate, claimed_user } = record.caller;
    line.put_some(named!("caller.peer"), peer);
    line.put_some(named!("caller.certificate"), certificate);
    line.put_some(named!("caller.claimed_user"), claimed_user);
    line.put(named!("request_id"), record.request_id);
    line.put_some(named!("trace_id"), record.trace_id);
    line.put_some(named!("span_id"), record.span_id);
    if let Some(outcome) = record.outcome {
        line.put_word(named!("outcome"), outcome);
    }
    line.put_word(named!("code"), record.code);
    if let Some(reason) = record.error_reason {
        line.put_word(named!("error_reason"), reason);
    }
    line.put_some(named!("http_status"), record.http_status);
    line.put(named!("attempts"), record.attempts);
    line.put(named!("request_sent"), record.request_sent);
    if let Some(Bulk { matches, attempted, failed, validate_only }) = record.bulk {
        line.put(named!("matches"), matches);
        line.put(named!("attempted"), attempted);
        line.put(named!("failed"), failed);
        line.put(named!("validate_only"), validate_only);
    }
    line.put(named!("caller_waited"), record.caller_waited);
    line.put_word(named!("target"), TARGET);
    let Line(to) = line;
    to.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_is_in_it() {
        let nasty = "\"\\\n\u{0}\u{7f}é\u{2028}</script>";
        let record = Record {
            operation: "CancelQueries",
            query_id: Some(nasty),
            filter: Some(nasty),
            reason: nasty,
            caller: Caller { peer: Some("[::1]:1"), certificate: Some(nasty), claimed_user: Some(nasty) },
            request_id: nasty,
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            span_id: None,
            outcome: Some("CANCEL_OUTCOME_CANCELLED"),
            code: "OK",
            error_reason: None,
            http_status: Some(204),
            attempts: 2,
            request_sent: true,
            bulk: Some(Bulk { matches: 3, attempted: 2, failed: 1, validate_only: false }),
            caller_waited: false,
        };
        let at = "2026-11-25T17:40:00.123456789Z".parse().expect("a time");
        let mut line = Vec::new();
        write(&record, at, &mut line);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        let read: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        let expected = serde_json::json!({
            "timestamp": "2026-11-25T17:40:00.123456Z", "level": "INFO", "message": "cancel or delete attempted",
            "operation": "CancelQueries", "query_id": nasty, "filter": nasty, "reason": nasty,
            "caller.peer": "[::1]:1", "caller.certificate": nasty, "caller.claimed_user": nasty,
            "request_id": nasty, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "outcome": "CANCEL_OUTCOME_CANCELLED", "code": "OK", "http_status": 204, "attempts": 2,
            "request_sent": true, "matches": 3, "attempted": 2, "failed": 1, "validate_only": false,
            "caller_waited": false, "target": "audit",
        });
        assert_eq!(read, expected);
    }
}
