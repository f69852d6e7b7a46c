//! W3C Trace Context: `traceparent` and `tracestate`, read from a call and written into a request.

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// A longer `tracestate` is dropped; the W3C recommendation asks for no more than this to be passed on.
const LONGEST_STATE: usize = 512;

/// Whose child it is what happens here.
#[derive(Clone, Debug)]
pub struct TraceContext(pub(super) SpanContext);

impl TraceContext {
    /// Reads the headers of a call. A `traceparent` that is malformed, or that comes twice, counts as none, and its
    /// `tracestate` with it, as the W3C recommendation has it.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let (trace_id, span_id, flags) = parse(parent)?;
        let state = headers.get_all(TRACESTATE);
        let state = state.iter().filter_map(|part| part.to_str().ok()).collect::<Vec<_>>().join(",");
        // An unreadable state does not make the parent useless.
        let state = state.parse().ok().filter(|_| state.len() <= LONGEST_STATE).unwrap_or_default();
        Some(Self(SpanContext::new(trace_id, span_id, flags, true, state)))
    }

    /// Passes on, as they came, the headers of a call whose context could be read.
    pub fn pass_on(from: &HeaderMap, to: &mut HeaderMap) {
        to.extend(from.get(TRACEPARENT).map(|parent| (TRACEPARENT, parent.clone())));
        let states = from.get_all(TRACESTATE);
        if states.iter().map(HeaderValue::len).sum::<usize>() <= LONGEST_STATE {
            for state in states {
                to.append(TRACESTATE, state.clone());
            }
        }
    }

    /// Writes it into the headers of a request, in place of what is there.
    pub fn write(&self, headers: &mut HeaderMap) {
        let mut parent = *b"00-00000000000000000000000000000000-0000000000000000-00";
        HEXLOWER.encode_mut(&self.0.trace_id().to_bytes(), &mut parent[3..35]);
        HEXLOWER.encode_mut(&self.0.span_id().to_bytes(), &mut parent[36..52]);
        HEXLOWER.encode_mut(&[u8::from(self.0.is_sampled())], &mut parent[53..]);
        let parent = HeaderValue::from_bytes(&parent).expect("hexadecimal digits and dashes");
        headers.insert(TRACEPARENT, parent);
        let state = self.0.trace_state().header();
        match HeaderValue::from_str(&state).ok().filter(|state| !state.is_empty()) {
            Some(state) => drop(headers.insert(TRACESTATE, state)),
            None => drop(headers.remove(TRACESTATE)),
        }
    }

    /// The trace, which shows itself as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.0.trace_id()
    }

    /// The span, which shows itself as 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.0.span_id()
    }

    /// Whether somebody records the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may add to it.
fn parse(parent: &HeaderValue) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = parent.to_str().ok()?.split('-');
    let mut part = |length: usize| {
        let hex = |part: &&str| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        parts.next().filter(hex)
    };
    let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let more = parts.next().is_some();
    if version == "ff" || (version == "00" && more) {
        return None;
    }
    let (trace_id, span_id) = (TraceId::from_hex(trace_id).ok()?, SpanId::from_hex(span_id).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    (trace_id != TraceId::INVALID && span_id != SpanId::INVALID).then_some((trace_id, span_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        map
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_was_read_is_written() {
        let incoming = headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let context = TraceContext::read(&incoming).expect("a context");
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        let mut outgoing = headers(&[("traceparent", "other"), ("tracestate", "other=1")]);
        context.write(&mut outgoing);
        assert_eq!(outgoing, headers(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]));
    }

    #[test]
    fn a_malformed_parent_is_none() {
        for parent in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert!(TraceContext::read(&headers(&[("traceparent", parent)])).is_none(), "{parent:?}");
        }
        assert!(TraceContext::read(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_none());
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceContext::read(&headers(&[("traceparent", later)])).is_some());
    }

    #[test]
    fn an_unreadable_or_endless_state_is_left_out() {
        let long = format!("a={}", "x".repeat(600));
        for state in [&long, "no pair", "\u{7f}"] {
            let mut incoming = headers(&[("traceparent", PARENT)]);
            incoming.append(
                "tracestate",
                HeaderValue::from_bytes(state.as_bytes()).unwrap_or(HeaderValue::from_static("")),
            );
            let mut outgoing = HeaderMap::new();
            TraceContext::read(&incoming).expect("a context").write(&mut outgoing);
            assert_eq!(outgoing, headers(&[("traceparent", PARENT)]), "{state:?}");
        }
    }
}
