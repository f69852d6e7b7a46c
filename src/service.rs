//! The gRPC service: the generated trait, each method the same few steps.
//!
//! A method validates (pure, in the RPC's own file), is admitted, has Atoti do the work, and answers. Whatever fails
//! on the way is a [`Failure`]; it becomes a status in [`refuse`], where it is logged once.

mod admission;
mod attempt;
mod bulk;
mod caller;
mod cancel;
mod carry;
mod check;
mod convert;
mod delete;
mod failed;
mod filter;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod get;
mod info;
mod list;
mod pages;
mod read_limit;
mod stop;
mod stream;
mod timeout;
mod watch;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::futures::TaskLocalFuture,
    task_local,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};

use self::{
    admission::{Admission, Places},
    read_limit::{Read, ReadLimits},
    stream::Answers,
    watch::Watches,
};
pub use self::{
    caller::{Caller, Peer},
    failed::Failed,
};
use crate::{
    atoti::{self, Atoti, Call, Lane},
    audit::Trail,
    config::{Callers, Limits},
    proto::queryhistory::{
        CancelAllQueriesRequest, CancelAllQueriesResponse, CancelQueriesRequest, CancelQueriesResponse,
        CancelQueryRequest, CancelQueryResponse, DeleteQueriesRequest, DeleteQueriesResponse,
        DeleteQueryRequest, DeleteQueryResponse, GetQueryPlanRequest, GetQueryPlanResponse, GetQueryRequest,
        GetQueryResponse, GetServerInfoRequest, GetServerInfoResponse, ListQueriesRequest,
        ListQueriesResponse, WatchQueryRequest, WatchQueryResponse,
        query_history_service_server::QueryHistoryService,
    },
    status::{Failure, Subject},
    telemetry::{Counted, Metrics},
};

/// Watches open at once: each costs a little memory, and no place of a call.
const MAX_WATCHES: usize = 1024;

/// `atoti.queryhistory.v1.QueryHistoryService`. Clones are the same service.
#[derive(Clone, Debug)]
pub struct QueryHistory(Arc<Bridge>);

/// What the calls of one process share.
#[derive(Debug)]
struct Bridge {
    atoti: Arc<Atoti>,
    trail: Trail,
    metrics: Metrics,
    allow_query_plan: bool,
    places: Places,
    read_limits: ReadLimits,
    watches: Watches,
    watch_places: Arc<Semaphore>,
    /// Who may call, by the names in their certificates; everybody when empty.
    names: BTreeSet<String>,
    /// Cancels and deletions at work, which outlive their callers.
    tasks: TaskTracker,
    watches_end: CancellationToken,
    draining: CancellationToken,
}

impl QueryHistory {
    /// A service in front of an Atoti Server, whose attempts go into an audit trail.
    #[must_use]
    pub fn new(
        atoti: Arc<Atoti>,
        trail: Trail,
        metrics: Metrics,
        limits: &Limits,
        callers: &Callers,
        allow_query_plan: bool,
    ) -> Self {
        metrics.calls.limit(limits.max_in_flight.get());
        Self(Arc::new(Bridge {
            atoti,
            trail,
            metrics,
            allow_query_plan,
            places: Places::new(limits.max_in_flight),
            read_limits: ReadLimits::new(admission::for_reads(limits.max_in_flight)),
            watches: Watches::default(),
            watch_places: Arc::new(Semaphore::new(MAX_WATCHES)),
            names: callers.names.clone(),
            tasks: TaskTracker::new(),
            watches_end: CancellationToken::new(),
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

    /// Ends the watches, so that their connections can close and their callers go on elsewhere.
    pub fn end_watches(&self) {
        self.0.watches_end.cancel();
    }
}

/// The same few steps for every unary method.
macro_rules! unary {
    ($self:ident, $request:ident, $serve:expr) => {{
        let caller = caller()?;
        let done = $serve(&$self.0, &caller, $request.into_inner()).await;
        answer(&caller, done)
    }};
}

#[tonic::async_trait]
impl QueryHistoryService for QueryHistory {
    type CancelQueriesStream = Answers<CancelQueriesResponse>;
    type WatchQueryStream = Answers<WatchQueryResponse>;

    async fn cancel_query(
        &self,
        request: Request<CancelQueryRequest>,
    ) -> Result<Response<CancelQueryResponse>, Status> {
        unary!(self, request, cancel::one)
    }

    async fn cancel_queries(
        &self,
        request: Request<CancelQueriesRequest>,
    ) -> Result<Response<Self::CancelQueriesStream>, Status> {
        let caller = caller()?;
        let answers = bulk::serve(&self.0, &caller, request.into_inner());
        answer(&caller, answers)
    }

    async fn cancel_all_queries(
        &self,
        request: Request<CancelAllQueriesRequest>,
    ) -> Result<Response<CancelAllQueriesResponse>, Status> {
        unary!(self, request, cancel::all)
    }

    async fn get_query(
        &self,
        request: Request<GetQueryRequest>,
    ) -> Result<Response<GetQueryResponse>, Status> {
        unary!(self, request, get::one)
    }

    async fn list_queries(
        &self,
        request: Request<ListQueriesRequest>,
    ) -> Result<Response<ListQueriesResponse>, Status> {
        unary!(self, request, list::serve)
    }

    async fn watch_query(
        &self,
        request: Request<WatchQueryRequest>,
    ) -> Result<Response<Self::WatchQueryStream>, Status> {
        let caller = caller()?;
        let answers = watch::serve(&self.0, &caller, request.get_ref());
        answer(&caller, answers)
    }

    async fn get_query_plan(
        &self,
        request: Request<GetQueryPlanRequest>,
    ) -> Result<Response<GetQueryPlanResponse>, Status> {
        unary!(self, request, get::plan)
    }

    async fn delete_query(
        &self,
        request: Request<DeleteQueryRequest>,
    ) -> Result<Response<DeleteQueryResponse>, Status> {
        unary!(self, request, delete::one)
    }

    async fn delete_queries(
        &self,
        request: Request<DeleteQueriesRequest>,
    ) -> Result<Response<DeleteQueriesResponse>, Status> {
        unary!(self, request, delete::many)
    }

    async fn get_server_info(
        &self,
        request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        unary!(self, request, info::serve)
    }
}

task_local! {
    /// Of the call that is served by the task at hand.
    static CALLER: Arc<Caller>;
}

/// Serves a call for a caller, see [`caller()`].
pub fn serving<F: Future>(caller: Arc<Caller>, call: F) -> TaskLocalFuture<Arc<Caller>, F> {
    CALLER.scope(caller, call)
}

/// The caller, as the server's stack read it from the headers.
///
/// # Errors
///
/// INTERNAL, outside of that stack.
pub fn caller() -> Result<Arc<Caller>, Status> {
    CALLER.try_with(Arc::clone).map_err(|_| {
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

/// Turns a failure into the caller's status, and notes it for the call's line in the log.
pub fn refuse(failure: &Failure, caller: &Caller) -> Status {
    caller.failed(failure);
    tell_cause(failure, caller);
    failure.to_status(caller.subject())
}

/// What Atoti or the network put there is for debug logs only.
fn tell_cause(failure: &Failure, caller: &Caller) {
    if let Some(error) = failure.atoti_error() {
        tracing::debug!(
            request_id = &*caller.request_id,
            trace_id = caller.trace.as_ref().map(|trace| tracing::field::display(trace.trace_id())),
            span_id = caller.trace.as_ref().map(|trace| tracing::field::display(trace.span_id())),
            cause = %error.cause,
            "cause in full"
        );
    }
}

impl Bridge {
    /// The same as [`admit`](Self::admit) for an attempt that must be recorded.
    fn admit_attempt(&self, caller: &Caller, lane: Lane) -> Result<Admission, Failure> {
        let admission = self.admit(caller, lane)?;
        self.trail.ready().map_err(|_| Failure::AuditUnavailable)?;
        Ok(admission)
    }

    /// Lets a call in, or says why not. It is at work until what is given back is dropped.
    fn admit(&self, caller: &Caller, lane: Lane) -> Result<Admission, Failure> {
        self.let_in(caller)?;
        self.places.take(lane).ok_or(Failure::Overloaded)
    }

    /// The same for a read, which may keep its thread busy for long: it lets others go first.
    async fn admit_read(&self, caller: &Caller) -> Result<(Admission, Read), Failure> {
        let admission = self.admit(caller, Lane::Reads)?;
        let Some(read) = self.read_limits.begin() else {
            self.metrics.calls.read_shed();
            return Err(Failure::Overloaded);
        };
        read.give_way().await;
        // A read that its deadline ends on the way to Atoti may have left, as far as anybody can tell. This one has not.
        if Instant::now() >= caller.answer_by {
            return Err(Failure::DeadlineBeforeSend);
        }
        Ok((admission, read))
    }

    /// The same for a watch, which lasts long and does little.
    fn admit_watch(&self, caller: &Caller) -> Result<(OwnedSemaphorePermit, Counted), Failure> {
        self.let_in(caller)?;
        if self.watches_end.is_cancelled() {
            return Err(Failure::Draining);
        }
        let place = Arc::clone(&self.watch_places).try_acquire_owned().map_err(|_| Failure::Overloaded)?;
        Ok((place, self.metrics.calls.watching()))
    }

    fn let_in(&self, caller: &Caller) -> Result<(), Failure> {
        let allowed = |name: &String| self.names.contains(name);
        if !self.names.is_empty() && !caller.peer.name.as_ref().is_some_and(allowed) {
            return Err(Failure::CallerNotAllowed);
        }
        if self.draining.is_cancelled() {
            return Err(Failure::Draining);
        }
        Ok(())
    }
}

/// What a failed request to Atoti means: a 404 may be that of an API which is not there.
async fn explain(atoti: &Atoti, call: &Call, error: atoti::Error) -> Failure {
    if error.is_not_found() && atoti.lacks_api(call).await {
        return Failure::ApiMissing(error);
    }
    Failure::Atoti(error)
}
