//! An attempt to cancel or delete: carried to its end, and recorded there, whoever still listens.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::{Bridge, Caller, carry::Carried, check::MAX_REASON_CHARS};
use crate::{
    atoti::MAX_QUERY_ID_LENGTH,
    audit::{self, Bulk, NotWritten, Record, Trail},
    status::Failure,
};

/// What an attempt is about.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) operation: &'static str,
    /// As the caller sent it.
    pub(super) query_id: Option<String>,
    /// In Atoti's words.
    pub(super) filter: Option<String>,
    pub(super) reason: String,
}

/// What came of one that succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Success {
    /// The `CancelOutcome`, of a cancel.
    pub(super) outcome: Option<&'static str>,
    pub(super) attempts: u32,
}

impl Attempt {
    /// Does the work and records what came of it, to the end, also when the caller goes away: then `gone` is
    /// cancelled, and the work may spare itself what only the caller wants.
    pub(super) async fn carry<T, F>(
        self,
        bridge: &Bridge,
        caller: &Arc<Caller>,
        guard: impl Send + 'static,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<(T, Success), Failure>> + Send,
        T: Send + 'static,
    {
        let (gone, trail) = (CancellationToken::new(), bridge.trail.clone());
        let (caller, told) = (Arc::clone(caller), gone.clone());
        let carried = async move {
            let done = AssertUnwindSafe(work(told.clone())).catch_unwind().await;
            let result = done.unwrap_or(Err(Failure::Bug));
            let success = result.as_ref().map(|(_, success)| *success);
            let recorded = self.record(&trail, &caller, success, None, !told.is_cancelled()).await;
            drop(guard);
            let (done, _) = result?;
            recorded.map(|()| done)
        };
        Carried::new(carried, &bridge.tasks, gone).await
    }

    /// Writes the record.
    ///
    /// # Errors
    ///
    /// [`Failure::AuditFailed`], where records are required and this one could not be written.
    pub(super) async fn record(
        &self,
        trail: &Trail,
        caller: &Caller,
        result: Result<Success, &Failure>,
        bulk: Option<Bulk>,
        caller_waited: bool,
    ) -> Result<(), Failure> {
        let known = Known::of(caller);
        let record = self.describe(&known, caller, result, bulk, caller_waited);
        trail.write(&record).await.map_err(|NotWritten| Failure::AuditFailed)
    }

    /// Records a refusal, and hands it on.
    pub(super) fn refused(&self, bridge: &Bridge, caller: &Caller, failure: Failure) -> Failure {
        let known = Known::of(caller);
        bridge.trail.note(&self.describe(&known, caller, Err(&failure), None, true));
        failure
    }

    fn describe<'a>(
        &'a self,
        known: &'a Known,
        caller: &'a Caller,
        result: Result<Success, &Failure>,
        bulk: Option<Bulk>,
        caller_waited: bool,
    ) -> Record<'a> {
        let (success, failure) = (result.as_ref().ok(), result.as_ref().err());
        let error = failure.and_then(|failure| failure.atoti_error());
        Record {
            operation: self.operation,
            query_id: self.query_id.as_deref().map(|id| head(id, MAX_QUERY_ID_LENGTH)),
            filter: self.filter.as_deref(),
            reason: head(&self.reason, MAX_REASON_CHARS),
            caller: audit::Caller {
                peer: caller.peer.text.as_deref(),
                certificate: caller.peer.name.as_deref(),
                claimed_user: known.claimed_user.as_deref(),
            },
            request_id: &caller.request_id,
            trace_id: known.trace_id.as_deref(),
            span_id: known.span_id.as_deref(),
            outcome: success.and_then(|success| success.outcome),
            code: failure.map_or("OK", |failure| failure.reason().code_name()),
            error_reason: failure.map(|failure| failure.reason().as_str()),
            http_status: error.and_then(|error| error.http_status),
            attempts: success
                .map_or_else(|| error.map_or(0, |error| error.attempts), |success| success.attempts),
            request_sent: success.is_some() || failure.is_some_and(|failure| failure.request_sent()),
            bulk,
            caller_waited,
        }
    }
}

/// What is worked out of a caller for the record alone.
struct Known {
    claimed_user: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
}

impl Known {
    fn of(caller: &Caller) -> Self {
        let trace = caller.trace.as_ref();
        Self {
            claimed_user: caller.claimed_user(),
            trace_id: trace.map(|trace| trace.trace_id().to_string()),
            span_id: trace.map(|trace| trace.span_id().to_string()),
        }
    }
}

/// The first characters of a text that may be of any length.
fn head(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}
