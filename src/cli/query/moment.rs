//! Points in time and spans of it, as people write them and as the protocol has them.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Ago(SignedDuration),
}

impl Moment {
    pub(super) fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Reads a date with its offset, or a span of time that is over now.
pub(super) fn moment(value: &str) -> Result<Moment, String> {
    let at = value.parse().map(Moment::At);
    at.or_else(|_| span(value).map(Moment::Ago)).map_err(|_| {
        "neither a date nor a span of time; write for example 2026-03-01T07:30:00Z, or 10m for ten minutes ago"
            .to_owned()
    })
}

/// Reads a span of time: `500ms`, `10m`, `1h 30m`, `7d`; a day has 24 hours here.
pub(super) fn span(value: &str) -> Result<SignedDuration, String> {
    let read = || {
        let span: Span = value.parse().ok()?;
        span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
    };
    read()
        .filter(|span| !span.is_negative())
        .ok_or_else(|| "not a span of time; write for example 500ms, 10m, 1h 30m or 7d".to_owned())
}

/// As the protocol counts it: nanoseconds forwards from the second below.
pub(super) fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    let (seconds, nanos) = if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) };
    prost_types::Timestamp { seconds, nanos }
}

/// Nothing where the protocol's value is outside of what there is.
pub(super) fn from_proto(time: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

pub(super) fn span_to_proto(span: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: span.as_secs(), nanos: span.subsec_nanos() }
}

/// A span for people: exact below a second, whole seconds above.
pub(super) fn brief(span: SignedDuration) -> String {
    let unit = if span < SignedDuration::from_secs(1) { jiff::Unit::Millisecond } else { jiff::Unit::Second };
    let span = span.max(SignedDuration::ZERO);
    format!("{:#}", span.round(unit).unwrap_or(span))
}

/// A date for people, in UTC and to the second.
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%F %T").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_a_span_ago() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a date");
        for (value, seen) in [
            ("2026-03-01T07:30:00Z", "2026-03-01T07:30:00Z"),
            ("2026-03-01T07:30:00.5+02:00", "2026-03-01T05:30:00.5Z"),
            ("10m", "2026-03-01T11:50:00Z"),
            ("1h 30m", "2026-03-01T10:30:00Z"),
            ("2d", "2026-02-27T12:00:00Z"),
            ("0s", "2026-03-01T12:00:00Z"),
        ] {
            assert_eq!(moment(value).expect(value).seen_from(now).to_string(), seen, "{value}");
        }
        for wrong in ["", "10", "-5m", "yesterday", "2026-03-01", "2026-03-01T07:30:00", "1 month"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_travel_there_and_back() {
        for time in ["1969-12-31T23:59:59.25Z", "1970-01-01T00:00:00Z", "2026-03-01T12:00:00.123456789Z"] {
            let time: Timestamp = time.parse().expect("a date");
            let proto = to_proto(time);
            assert!((0..1_000_000_000).contains(&proto.nanos), "{proto:?}");
            assert_eq!(from_proto(proto), Some(time));
        }
    }

    #[test]
    fn spans_are_short_to_read() {
        for (millis, told) in
            [(0, "0s"), (-5, "0s"), (250, "250ms"), (1499, "1s"), (192_000, "3m 12s"), (7_380_000, "2h 3m")]
        {
            assert_eq!(brief(SignedDuration::from_millis(millis)), told);
        }
    }
}
