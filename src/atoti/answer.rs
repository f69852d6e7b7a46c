//! Reading an answer: pure judgement of heads and bodies as facts. No I/O, no clock.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};
use url::Url;

use super::error::{Fact, Refusal};

/// What a success must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing: the status is the answer, the body information only.
    Nothing,
    /// A JSON document.
    Json,
}

/// How the body of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// With its last byte.
    Complete,
    /// With the connection.
    Cut,
    /// At the cap.
    Capped,
    /// At the time limit.
    TimedOut,
}

/// What a body looks like: safe to log, where the body itself is not. Atoti and what stands before it have five ways
/// to say that something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// There was none, or none was read.
    Empty,
    /// Atoti's own: `{"errorChain":[...],"stackTrace":"..."}`, perhaps wrapped.
    ErrorChain,
    /// Spring Boot's: `{"timestamp":...,"status":...,"error":...,"path":...}`.
    Spring,
    /// Some other JSON.
    Json,
    /// A page, from Tomcat or from whatever stands before it.
    Html,
    /// A bare sentence.
    Text,
    /// A body that speaks of the licence, whatever its form: an expired one is easily taken for a missing role.
    Licence,
}

impl Shape {
    pub(super) fn of(head: &HeaderMap, body: &[u8]) -> Self {
        let holds = |needle: &[u8]| body.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle));
        let text = trim(body);
        if text.is_empty() {
            Self::Empty
        } else if holds(b"licence") || holds(b"license") {
            Self::Licence
        } else if is_html(head, body) {
            Self::Html
        } else if text.starts_with(b"{") || text.starts_with(b"[") {
            if holds(b"\"errorChain\"") {
                Self::ErrorChain
            } else if holds(b"\"timestamp\"") && holds(b"\"path\"") {
                Self::Spring
            } else {
                Self::Json
            }
        } else {
            Self::Text
        }
    }
}

/// Judges a whole answer: what keeps it from being the expected success, if anything does.
pub(super) fn verdict(
    status: StatusCode,
    head: &HeaderMap,
    body: &[u8],
    end: BodyEnd,
    expected: Expected,
    now: impl FnOnce() -> Timestamp,
) -> Result<(), Fact> {
    if !status.is_success() {
        return Err(Fact::Refused(Refusal {
            status: status.as_u16(),
            to_login: matches!(status.as_u16(), 302 | 303 | 307) && redirects_to_login(head),
            retry_after: retry_after(head, now()),
        }));
    }
    // A page behind a 200 is somebody else's answer. Never a success, not even when it arrived in part.
    if !trim(body).is_empty() && is_html(head, body) {
        return Err(Fact::Html);
    }
    match (expected, end) {
        (Expected::Nothing, _) | (Expected::Json, BodyEnd::Complete) => Ok(()),
        (Expected::Json, BodyEnd::Cut) => Err(Fact::BodyTruncated),
        (Expected::Json, BodyEnd::Capped) => Err(Fact::ResponseTooLarge),
        (Expected::Json, BodyEnd::TimedOut) => Err(Fact::TimedOut),
    }
}

/// Says how a redirect differs from where the request went: the usual cause is a wrong base URL.
pub(super) fn redirect_class(from: &Url, head: &HeaderMap) -> &'static str {
    match location(head).and_then(|location| from.join(location).ok()) {
        None => "redirect without a usable Location",
        Some(to) if to.scheme() != from.scheme() => {
            "redirect to another scheme: is the base URL's http/https right?"
        }
        Some(to) if to.host_str() != from.host_str() || to.port() != from.port() => {
            "redirect to another host or port: is the base URL right?"
        }
        Some(_) => "redirect to another path: is the base URL's context path right?",
    }
}

fn is_html(head: &HeaderMap, body: &[u8]) -> bool {
    let labelled = head.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.starts_with(b"text/html") || value.starts_with(b"application/xhtml")
    });
    // Neither JSON nor any sentence of Atoti's starts with `<`.
    labelled || trim(body).starts_with(b"<")
}

fn trim(body: &[u8]) -> &[u8] {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii()
}

fn location(head: &HeaderMap) -> Option<&str> {
    head.get(header::LOCATION).and_then(|value| value.to_str().ok())
}

/// Whether host or path of the target speak of signing in.
fn redirects_to_login(head: &HeaderMap) -> bool {
    const WORDS: &[&str] = &[
        "login",
        "logon",
        "signin",
        "sso",
        "saml",
        "saml2",
        "oauth",
        "oauth2",
        "openid",
        "authorize",
        "cas",
    ];

    location(head).is_some_and(|location| {
        let target = location.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        target.split(|mark: char| !mark.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
    })
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. Past dates are zero, and a day is the most.
pub(super) fn retry_after(head: &HeaderMap, now: Timestamp) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    let value = head.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "very long".
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let date = rfc2822::parse(value).ok()?.timestamp();
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(delay.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn head(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header value"))])
    }

    fn now() -> Timestamp {
        "1994-11-06T08:49:07Z".parse().expect("a time")
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("999999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("1.5", None),
        ] {
            let read = retry_after(&head(header::RETRY_AFTER, value), now());
            assert_eq!(read, seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn a_login_is_known_by_the_words_of_its_target_before_the_query() {
        for target in [
            "/login",
            "https://sso.example/auth/login?x=1",
            "/oauth2/authorization/x",
            "/app/login;v=1",
            "https://login.example/ui",
        ] {
            assert!(redirects_to_login(&head(header::LOCATION, target)), "{target}");
        }
        for target in ["/", "/ui/index.html?next=login", "/blogin", "/activeviam/"] {
            assert!(!redirects_to_login(&head(header::LOCATION, target)), "{target}");
        }
    }

    #[test]
    fn a_page_is_known_by_its_label_or_its_first_byte() {
        let json = head(header::CONTENT_TYPE, "application/json");
        let html = head(header::CONTENT_TYPE, "Text/HTML; charset=utf-8");
        for (head, body, expected) in [
            (&json, &b"<html>"[..], true),
            (&json, b"\xef\xbb\xbf \n<!doctype html>", true),
            (&html, b"Please sign in", true),
            (&json, b"\"CANCELLED\"", false),
            (&json, b"a < b", false),
        ] {
            assert_eq!(is_html(head, body), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn an_empty_answer_is_not_a_page_whatever_its_label() {
        let html = head(header::CONTENT_TYPE, "text/html");
        let judged = verdict(StatusCode::OK, &html, b" ", BodyEnd::Complete, Expected::Nothing, now);
        assert_eq!(judged, Ok(()));
    }

    #[test]
    fn shapes_are_told_apart() {
        let none = HeaderMap::new();
        for (body, shape) in [
            ("", Shape::Empty),
            (r#"{"errorChain":[{"message":"m","type":"t"}],"stackTrace":"s"}"#, Shape::ErrorChain),
            (r#"{"status":"error","error":{"errorChain":[]}}"#, Shape::ErrorChain),
            (r#"{"timestamp":1,"status":404,"error":"Not Found","path":"/x"}"#, Shape::Spring),
            ("{}", Shape::Json),
            ("Query 1 not found", Shape::Text),
            ("<html>", Shape::Html),
            ("Your License has expired", Shape::Licence),
        ] {
            assert_eq!(Shape::of(&none, body.as_bytes()), shape, "{body}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_a_2xx_is_ever_a_success(code in 100u16..1000, body in any::<Vec<u8>>()) {
            let status = StatusCode::from_u16(code).expect("in range");
            let judged = verdict(status, &HeaderMap::new(), &body, BodyEnd::Complete, Expected::Nothing, now);
            prop_assert!(judged.is_err() || (200..300).contains(&code));
            let _ = Shape::of(&HeaderMap::new(), &body);
        }
    }
}
