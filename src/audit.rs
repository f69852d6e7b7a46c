//! The audit trail: one record for every attempt to cancel or delete, refused ones included.
//!
//! A record holds who, what, why and what came of it; never credentials, never the text of a query. It is one line of
//! JSON, and goes its own way ([`Trail`]): not through the log, whose level and losses it must not share.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod line;
mod lines;
mod sink;
mod trail;

pub use self::{lines::NotWritten, trail::Trail};

/// What sets records apart where other lines are beside them.
pub const TARGET: &str = "audit";

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The RPC.
    pub operation: &'static str,
    /// The query, as far as its id can be written down; nothing for an attempt on several.
    pub query_id: Option<&'a str>,
    /// The filter of an attempt on several, in Atoti's words.
    pub filter: Option<&'a str>,
    /// The caller's words; empty when it gave none.
    pub reason: &'a str,
    /// Who called.
    pub caller: Caller<'a>,
    /// The request id, the caller's or the bridge's own.
    pub request_id: &'a str,
    /// The W3C trace id.
    pub trace_id: Option<&'a str>,
    /// The span of the call, where the bridge sends spans; else the caller's.
    pub span_id: Option<&'a str>,
    /// The `CancelOutcome` of a success.
    pub outcome: Option<&'static str>,
    /// The gRPC code.
    pub code: &'static str,
    /// `ErrorInfo.reason` of a failure.
    pub error_reason: Option<&'static str>,
    /// Atoti's last status.
    pub http_status: Option<u16>,
    /// Requests made to Atoti for it.
    pub attempts: u32,
    /// Whether bytes of the request may have left.
    pub request_sent: bool,
    /// What a bulk cancel came to.
    pub bulk: Option<Bulk>,
    /// Whether the caller still waited when the outcome was known. A caller that did not wait was told nothing, or
    /// DEADLINE_EXCEEDED.
    pub caller_waited: bool,
}

/// What a bulk cancel came to; each query has a record of its own too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bulk {
    /// Queries found to match.
    pub matches: u64,
    /// Those that were seen to, whatever became of them.
    pub attempted: u64,
    /// Those of them that could not be stopped.
    pub failed: u64,
    /// A dry run.
    pub validate_only: bool,
}

/// Who called, as far as is known.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The other end of the connection: in a mesh, the sidecar.
    pub peer: Option<&'a str>,
    /// What the caller's certificate calls it, where callers must show one.
    pub certificate: Option<&'a str>,
    /// Who the credentials name. Claimed only, until Atoti has accepted them.
    pub claimed_user: Option<&'a str>,
}
