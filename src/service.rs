//! The gRPC service: the generated trait, each method the same few steps.
//!
//! A method validates (pure, in the RPC's own file), is admitted, has Atoti do the work, and answers. Whatever fails
//! on the way is a [`Failure`]; it becomes a status in [`refuse`], where it is logged once.

mod admission;
mod caller;
mod cancel;
mod convert;
mod get;
mod timeout;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request, Response, Status};

use self::admission::{Admission, Places};
pub use self::caller::{Caller, Peer};
use crate::{
    atoti::{Atoti, Lane},
    config::{Callers, Limits},
    proto::queryhistory::{
        CancelQueryRequest, CancelQueryResponse, GetQueryRequest, GetQueryResponse,
        query_history_service_server::QueryHistoryService,
    },
    status::{Failure, Subject},
};

/// `atoti.queryhistory.v1.QueryHistoryService`. Clones are the same service.
#[derive(Clone, Debug)]
pub struct QueryHistory(Arc<Bridge>);

/// What the calls of one process share.
#[derive(Debug)]
struct Bridge {
    atoti: Arc<Atoti>,
    places: Places,
    /// Who may call, by the names in their certificates; everybody when empty.
    names: BTreeSet<String>,
    /// Cancels at work, which outlive their callers.
    tasks: TaskTracker,
    draining: CancellationToken,
}

impl QueryHistory {
    /// A service in front of an Atoti Server.
    #[must_use]
    pub fn new(atoti: Arc<Atoti>, limits: &Limits, callers: &Callers) -> Self {
        Self(Arc::new(Bridge {
            atoti,
            places: Places::new(limits.max_in_flight),
            names: callers.names.clone(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        }))
    }

    /// Refuses new calls from now on, and waits until the cancels at work are done, their callers gone or not.
    /// Yields how many were left when the time was up.
    pub async fn drain(&self, within: Duration) -> usize {
        self.0.draining.cancel();
        self.0.tasks.close();
        match tokio::time::timeout(within, self.0.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.0.tasks.len(),
        }
    }

    /// Refuses new calls from now on.
    pub fn refuse_new_calls(&self) {
        self.0.draining.cancel();
    }
}

#[tonic::async_trait]
impl QueryHistoryService for QueryHistory {
    async fn cancel_query(
        &self,
        request: Request<CancelQueryRequest>,
    ) -> Result<Response<CancelQueryResponse>, Status> {
        let caller = caller_of(&request)?;
        let done = cancel::serve(&self.0, &caller, request.into_inner()).await;
        answer(&caller, done)
    }

    async fn get_query(
        &self,
        request: Request<GetQueryRequest>,
    ) -> Result<Response<GetQueryResponse>, Status> {
        let caller = caller_of(&request)?;
        let done = get::serve(&self.0, &caller, request.into_inner()).await;
        answer(&caller, done)
    }
}

/// The caller, as the server's stack read it from the headers.
fn caller_of<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    request.extensions().get().cloned().ok_or_else(|| {
        tracing::error!("a call came without its caller: the service runs outside of its stack");
        Failure::Bug.to_status(Subject::default())
    })
}

fn answer<T>(caller: &Caller, done: Result<T, Failure>) -> Result<Response<T>, Status> {
    match done {
        Ok(message) => Ok(caller.response(message)),
        Err(failure) => Err(refuse(&failure, caller)),
    }
}

/// Turns a failure into the caller's status, notes its reason, and logs it: once.
pub fn refuse(failure: &Failure, caller: &Caller) -> Status {
    caller.failed(failure.reason());
    log(failure, &caller.request_id);
    failure.to_status(caller.subject())
}

impl Bridge {
    /// Lets a call in, or says why not. It is at work until what is given back is dropped.
    fn admit(&self, caller: &Caller, lane: Lane) -> Result<Admission, Failure> {
        let allowed = |name: &String| self.names.contains(name);
        if !self.names.is_empty() && !caller.peer.name.as_ref().is_some_and(allowed) {
            return Err(Failure::CallerNotAllowed);
        }
        if self.draining.is_cancelled() {
            return Err(Failure::Draining);
        }
        self.places.take(lane).ok_or(Failure::Overloaded)
    }
}

/// Logs a failure: for the operator, with its class; nothing that Atoti or the network put there above `debug`.
fn log(failure: &Failure, request_id: &str) {
    let reason = failure.reason();
    let error = failure.atoti_error();
    macro_rules! at {
        ($level:ident) => {
            tracing::$level!(
                request_id,
                reason = reason.as_str(),
                cause = error.map(|error| error.cause.class),
                http_status = error.and_then(|error| error.http_status),
                body_shape = error.map(|error| tracing::field::debug(error.shape)),
                attempts = error.map(|error| error.attempts),
                request_sent = error.map(|error| error.request_sent),
                "call failed",
            )
        };
    }
    match reason.code() {
        // Atoti, the way to it, or a limit: the operator's business.
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unknown
        | Code::Unimplemented
        | Code::DataLoss => at!(warn),
        // An answer that a caller must live with.
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => at!(debug),
    }
    if let Some(error) = error {
        tracing::debug!(request_id, cause = %error.cause, "cause in full");
    }
}
