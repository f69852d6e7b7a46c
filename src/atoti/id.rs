//! Query ids: the one piece of a caller's text that becomes part of a URL.

use std::sync::Arc;

/// The longest id taken, in characters. Atoti's own have up to 19.
pub const MAX_QUERY_ID_LENGTH: usize = 128;

/// A query id that cannot leave its path segment.
///
/// Holding one is the proof: 1 to [`MAX_QUERY_ID_LENGTH`] of the characters that RFC 3986 calls unreserved, so nothing
/// is ever escaped or unescaped on the way, and neither `.` nor `..`, which URLs resolve away. Ids are text and stay
/// text: most are too large for a floating-point number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryId(Arc<str>);

impl QueryId {
    /// Takes an id, or nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-');
        let valid = (1..=MAX_QUERY_ID_LENGTH).contains(&text.len())
            && text.bytes().all(unreserved)
            && !matches!(text, "." | "..");
        valid.then(|| Self(text.into()))
    }

    /// The id as the caller gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn the_rule_holds_at_its_edges() {
        for id in ["1", "9223372036854775807", "...", ".a", "a..", "~", "_", "-", &"x".repeat(128)] {
            assert!(QueryId::parse(id).is_some(), "{id:?}");
        }
        for id in [
            "",
            ".",
            "..",
            "..\t",
            "../x",
            "a/b",
            "%2e%2e",
            "a;b",
            "a\\b",
            "a\0",
            "é",
            " 1",
            &"x".repeat(129),
        ] {
            assert!(QueryId::parse(id).is_none(), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_one_path_segment_byte_for_byte(id in any::<String>(), tame in "[A-Za-z0-9_.~-]{1,130}") {
            for id in [id, tame] {
                if let Some(id) = QueryId::parse(&id) {
                    let mut url = Url::parse("http://atoti/context/query").expect("a URL");
                    url.path_segments_mut().expect("a path").push(id.as_str());
                    prop_assert_eq!(url.as_str(), format!("http://atoti/context/query/{}", id.as_str()));
                }
            }
        }
    }
}
