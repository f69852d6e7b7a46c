//! What to do about a failed call: by its reason where that says more than its code.

use tonic::Code;

use super::Refusal;

pub(super) const UNREACHABLE: &str =
    "see whether it runs there, or say where with --address; where it serves TLS, give --tls-ca-file";

/// Of an error's metadata, what a person can use, and how it is called.
pub(super) fn worth_telling(code: Code) -> impl Iterator<Item = (&'static str, &'static str)> {
    const OF_THE_QUERY: &[(&str, &str)] = &[("queryStatus", "status of the query"), ("nodeName", "node")];
    // Where it is not clear by itself how far the request got.
    const OF_THE_WAY: &[(&str, &str)] =
        &[("httpStatus", "Atoti's HTTP status"), ("requestSent", "request sent to Atoti")];

    let unclear = matches!(
        code,
        Code::DeadlineExceeded | Code::Unavailable | Code::Internal | Code::Unknown | Code::Unimplemented
    );
    OF_THE_QUERY.iter().chain(if unclear { OF_THE_WAY } else { &[] }).copied()
}

/// What to do, or nothing where the message has said it.
pub(super) fn on(refusal: &Refusal) -> String {
    let by_reason = match refusal.reason() {
        "QUERY_NOT_RUNNING" => "nothing: it has ended; cancel --allow-finished takes that for success",
        "QUERY_NOT_FOUND" if refusal.metadata("historyRead") == Some("false") => {
            "again in a moment: nobody could look whether it runs on another node"
        }
        "QUERY_NOT_FOUND" | "QUERY_EXPIRED" => {
            "look for it with query list; ids are those of this Atoti Server"
        }
        "QUERY_ON_OTHER_NODE" => "ask the bridge of that node, or have this one told of the node",
        "QUERY_STILL_RUNNING" => "stop it first: query cancel ID --wait 10s",
        "QUERY_PLAN_DISABLED" => {
            "whoever runs the bridge must allow it, because Atoti executes the query again for it"
        }
        "EMPTY_FILTER" => "say which queries; to stop everything there is query cancel-all",
        "TOO_MANY_MATCHES" => {
            return format!(
                "nothing was stopped; look with --dry-run, then narrow the filter, or allow {} with --max",
                refusal.metadata("matches").unwrap_or("more")
            );
        }
        "INVALID_PAGE_TOKEN" => "list again from the start",
        "DRAINING" => "again in a moment: this bridge shuts down, and another takes over",
        "BACKEND_API_MISSING" => "see query info; Atoti needs the query history starter (6.1.19 or later)",
        "UNKNOWN_METHOD" => "use the program of the same version as the bridge; query info tells its version",
        _ => "",
    };
    if !by_reason.is_empty() {
        return by_reason.to_owned();
    }
    let by_code = match refusal.code {
        Code::Unauthenticated => {
            "give credentials that Atoti accepts with --authorization-file; query info tells what it thinks of them"
        }
        Code::PermissionDenied => "give the credentials of somebody who may, with --authorization-file",
        Code::DeadlineExceeded if refusal.metadata("requestSent") == Some("false") => {
            "allow more with --timeout"
        }
        // What is not said is taken for the worse.
        Code::DeadlineExceeded => {
            "allow more with --timeout; what was to be stopped may stop all the same: look with query get or list"
        }
        // It did not get to the bridge, or not back.
        Code::Unavailable if refusal.reason().is_empty() => {
            return format!("{UNREACHABLE}; what was to be stopped may stop all the same");
        }
        // What answers is no bridge.
        Code::Unimplemented | Code::Unknown | Code::Internal if refusal.reason().is_empty() => {
            "is it the bridge that answers there? --address says where it is"
        }
        _ if refusal.metadata("retryable") == Some("true") => "try again in a moment",
        _ => "",
    };
    by_code.to_owned()
}
