//! What Tomcat and Spring's firewall refuse before anybody looks at the request: strange paths, heads too large.

use http::{StatusCode, request::Parts};

use super::super::problem::{Problem, Shape};

/// Request line and headers together.
const MOST_HEAD_BYTES: usize = 8 * 1024;

/// Parts of a path that could mean something else to somebody further in. Compared in lower case.
const FORBIDDEN: [&str; 8] = ["//", "\\", ";", "%2f", "%5c", "%3b", "%25", "%00"];

/// Says why a request is not let in.
pub(super) fn refusal(parts: &Parts) -> Option<Problem> {
    let refused = head_bytes(parts) > MOST_HEAD_BYTES || is_suspicious(parts.uri.path());
    refused.then(|| Problem::new(StatusCode::BAD_REQUEST, Shape::TomcatHtml))
}

/// What the head took on the wire, assuming one space after each colon.
fn head_bytes(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = parts.method.as_str().len() + target + " HTTP/1.1\r\n".len() + 1;
    let header =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 4;
    line + parts.headers.iter().map(header).sum::<usize>() + 2
}

fn is_suspicious(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    FORBIDDEN.iter().any(|&part| path.contains(part))
        || path.replace("%2e", ".").split('/').any(|segment| matches!(segment, "." | ".."))
        || path.split('%').skip(1).any(|rest| !begins_with_two_digits(rest))
}

fn begins_with_two_digits(rest: &str) -> bool {
    rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}
