//! The status table as a page for people: `docs/STATUS.md` is printed by this file from the code that decides.

use std::fmt::Write as _;

use super::Reason;
use crate::atoti::{Fact, Refusal, retry::may_repeat};

const HEAD: &str = "\
# Every outcome and its gRPC status

This page is printed from the code that decides (`src/status/reason.rs`), and a test fails when it is stale.
`UPDATE_DOCS=1 cargo test` prints it anew.

Every status that is not OK carries one `google.rpc.ErrorInfo` with domain `atoti-grpc-bridge` and the reason below, and
a `google.rpc.RequestInfo`, in the trailers. `requestSent` in the `ErrorInfo` tells whether bytes of the request may have
left for Atoti; `false` is certain.

- **Again**: the bridge itself repeats the request once, inside the deadline and a budget of a tenth of the calls. Not a
  plan whose answer was lost: Atoti would execute the query twice.
- **Retryable**: the same call may succeed when the caller repeats it later (`retryable` in the `ErrorInfo`).

## Atoti accepted

| Atoti's answer | Code | Note |
|---|---|---|
| any 2xx with an empty, JSON or plain-text body | OK | Atoti answers 204. The body of an answer to a cancel is information only: malformed, cut off or too long, it changes nothing |
";

const NOTES: &str = "
## Notes

- 404 leaves open whether the query never was or has ended. The bridge reads the history once to tell
  `QUERY_NOT_FOUND` from `QUERY_NOT_RUNNING`. With `allow_finished` the latter is OK.
- Where that read fails, by anything but a 404, `QUERY_NOT_FOUND` stands, with `historyRead` `false` in the `ErrorInfo`
  and a text that says so: Atoti, where the bridge asked it, does not run the query, but another node may. It is the one
  NOT_FOUND of a cancel that does not say that the query does not run; call again to know.
- Where the history says that the query runs, the cancel is sent once more before anything is said: to the node that
  runs it, where the bridge has been told of that one; else to the same place after 100 ms, because Atoti may have
  answered 404 to everything for a moment. Where the deadline leaves no time for that, it is not.
- 400 to a deletion, of a query that the history shows ended: it may have ended in between, so that the deletion is
  sent once more. What Atoti answers then counts.
- NOT_FOUND of a call about no query in particular, a listing for one, has a text that says so.
- A redirect is never followed. It is `BACKEND_LOGIN_REDIRECT` when its target speaks of signing in.
- `BACKEND_BODY_TRUNCATED`, `BACKEND_MALFORMED_BODY` and `BACKEND_RESPONSE_TOO_LARGE` are for reads only.
- `RetryInfo` and the trailer `grpc-retry-pushback-ms` carry Atoti's `Retry-After` (429 and 503), and 100 ms with
  `OVERLOADED`.
- `OVERLOADED` is RESOURCE_EXHAUSTED and not UNAVAILABLE, because meshes retry the latter.
- A method that does not exist is UNIMPLEMENTED, a message that cannot be decoded INTERNAL, as gRPC has it; these two
  come from the gRPC library and carry no details.
";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Atoti answered otherwise", refusals());
    section(&mut page, "Atoti answered 2xx, but", bodies());
    section(&mut page, "No answer", no_answer());
    section(&mut page, "The bridge decided", own());
    page.push_str(NOTES);
    page
}

struct Row {
    outcome: String,
    reason: Reason,
    again: bool,
}

fn section(page: &mut String, title: &str, rows: Vec<Row>) {
    let _ = write!(
        page,
        "\n## {title}\n\n| Outcome | Code | Reason | Again | Retryable | Text |\n|---|---|---|---|---|---|\n"
    );
    for Row { outcome, reason, again } in rows {
        let code = reason.code_name();
        let _ = writeln!(
            page,
            "| {outcome} | {code} | `{}` | {} | {} | {} |",
            reason.as_str(),
            yes(again),
            yes(reason.retryable()),
            reason.message(),
        );
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "" }
}

/// All statuses that HTTP has, gathered by what becomes of them, in the order of the first of each.
fn refusals() -> Vec<Row> {
    let mut groups: Vec<(Reason, bool, Vec<u16>)> = Vec::new();
    for status in (100..200).chain(300..600) {
        let fact = Fact::Refused(Refusal::of(status));
        let (reason, again) = (Reason::of(&fact), may_repeat(&fact));
        match groups.iter_mut().find(|group| (group.0, group.1) == (reason, again)) {
            Some(group) => group.2.push(status),
            None => groups.push((reason, again, vec![status])),
        }
    }
    let login = Fact::Refused(Refusal { to_login: true, ..Refusal::of(302) });
    let login = Row {
        outcome: "302, 303, 307 towards a login page".to_owned(),
        reason: Reason::of(&login),
        again: may_repeat(&login),
    };
    let missing = Row {
        outcome: "404, and the discovery document lacks the API".to_owned(),
        reason: Reason::BackendApiMissing,
        again: false,
    };
    let ended = Row {
        outcome: "404, and the history says that the query has ended".to_owned(),
        reason: Reason::QueryNotRunning,
        again: false,
    };
    let elsewhere = Row {
        outcome: "404 to two cancels (the second goes to the node that runs it, where the bridge knows that), and the history says, after each, that the query runs".to_owned(),
        reason: Reason::QueryOnOtherNode,
        again: false,
    };
    let running = Row {
        outcome: "400 to a deletion, and the history says that the query runs".to_owned(),
        reason: Reason::QueryStillRunning,
        again: false,
    };
    // The catch-all rows last, as a reader expects them.
    groups.sort_by_key(|(_, _, statuses)| statuses.len() > LISTED);
    let rows =
        groups.into_iter().map(|(reason, again, statuses)| Row { outcome: named(&statuses), reason, again });
    rows.chain([login, missing, ended, elsewhere, running]).collect()
}

/// More statuses than these are a catch-all.
const LISTED: usize = 12;

/// `400, 414, 422`; a catch-all by its class.
fn named(statuses: &[u16]) -> String {
    if statuses.len() > LISTED {
        return format!("any other {}xx", statuses[0] / 100);
    }
    statuses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn bodies() -> Vec<Row> {
    rows([
        ("the body is a web page", Fact::Html),
        ("the body is not the JSON it should be (reads)", Fact::MalformedBody),
        ("the body is cut off (reads)", Fact::BodyTruncated),
        ("the body is above the cap (reads)", Fact::ResponseTooLarge),
    ])
}

fn no_answer() -> Vec<Row> {
    rows([
        ("connection refused, host unreachable, connect timeout", Fact::ConnectFailed),
        ("host name not resolved", Fact::DnsFailed),
        ("TLS handshake failed", Fact::TlsFailed),
        ("certificate or host name rejected", Fact::TlsUntrusted),
        ("connection lost before the answer", Fact::ConnectionLost),
        ("the answer is not HTTP", Fact::Protocol),
        ("no answer in time", Fact::TimedOut),
        ("deadline over before sending", Fact::DeadlineBeforeSend),
        ("the bridge has its own account, and Atoti issues no token for it", Fact::NoToken),
    ])
}

fn rows<const N: usize>(facts: [(&str, Fact); N]) -> Vec<Row> {
    facts
        .into_iter()
        .map(|(outcome, fact)| Row {
            outcome: outcome.to_owned(),
            reason: Reason::of(&fact),
            again: may_repeat(&fact),
        })
        .collect()
}

fn own() -> Vec<Row> {
    [
        ("`query_id` breaks its rule", Reason::InvalidQueryId),
        ("`wait` breaks its rule", Reason::InvalidWait),
        ("`reason` breaks its rule", Reason::InvalidReason),
        ("a field of `filter` breaks its rule", Reason::InvalidFilter),
        ("`filter` is empty where that would select everything", Reason::EmptyFilter),
        ("`min_running_time` breaks its rule", Reason::InvalidMinRunningTime),
        ("`max_cancellations` breaks its rule", Reason::InvalidMaxCancellations),
        ("`page_size` breaks its rule", Reason::InvalidPageSize),
        ("`page_token` is garbage, or that of another filter", Reason::InvalidPageToken),
        ("`timeout` of a plan breaks its rule", Reason::InvalidPlanTimeout),
        ("more queries match than `max_cancellations`", Reason::TooManyMatches),
        ("`GetQueryPlan` is not allowed by the operator", Reason::QueryPlanDisabled),
        ("the deadline of a stream was over on the way", Reason::DeadlineOver),
        ("the caller of a stream went away (told to nobody, but recorded), or took no answer for as long as a call may last", Reason::CallerGone),
        ("more than one `authorization`", Reason::InvalidAuthorization),
        ("malformed `grpc-timeout`", Reason::InvalidTimeout),
        ("no such service or method", Reason::UnknownMethod),
        ("a compressed message", Reason::UnsupportedEncoding),
        ("a message that is not what the definition says", Reason::UnreadableMessage),
        ("a message above 64 KiB", Reason::MessageTooLarge),
        ("`grpc.health.v1` is asked for an unknown name", Reason::UnknownHealthName),
        ("the caller's certificate names nobody who may call", Reason::CallerNotAllowed),
        ("as many calls at work as are taken on, more reads than the processor can do, or too much of requests without an end on one connection", Reason::Overloaded),
        ("shutting down", Reason::Draining),
        ("audit records are required, and cannot be written", Reason::AuditUnavailable),
        (
            "audit records are required, and that of a request which Atoti accepted is not written",
            Reason::AuditFailed,
        ),
        ("a bug", Reason::BridgeBug),
    ]
    .into_iter()
    .map(|(outcome, reason)| Row { outcome: outcome.to_owned(), reason, again: false })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_reason() {
        let page = page();
        for reason in Reason::ALL {
            assert!(page.contains(&format!("`{}`", reason.as_str())), "{} is missing", reason.as_str());
        }
    }

    #[test]
    fn the_page_in_docs_is_the_page_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/STATUS.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).expect("docs/STATUS.md is writable");
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == page(), "docs/STATUS.md is stale: run UPDATE_DOCS=1 cargo test");
    }
}
