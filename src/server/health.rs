//! `grpc.health.v1`, over names that are known from the start.
//!
//! tonic-health's own service answers a watch of an unknown name with NOT_FOUND, where the protocol wants
//! SERVICE_UNKNOWN and an open stream, and its streams hold a drain up; its generated trait is what is used of it.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures_util::{
    Stream, StreamExt as _,
    stream::{once, pending, unfold},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use super::SERVICE;
use crate::{service, status::Failure};

/// Atoti's own health, as this process sees it: for dashboards, not for readiness.
const UPSTREAM: &str = "upstream";

/// The health of each name. Clones are the same.
#[derive(Clone, Debug)]
pub struct Health {
    names: Arc<BTreeMap<&'static str, watch::Sender<ServingStatus>>>,
    leaving: CancellationToken,
    ended: CancellationToken,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// NOT_SERVING under every name: that of the process (empty), of the service, and `upstream`.
    #[must_use]
    pub fn new() -> Self {
        let state = |name| (name, watch::Sender::new(ServingStatus::NotServing));
        Self {
            names: Arc::new(["", SERVICE, UPSTREAM].map(state).into()),
            leaving: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// The process is ready: SERVING, unless it is about to leave. Later trouble with Atoti does not change that, or
    /// all replicas would leave at once and callers learn less than the bridge could tell them.
    pub fn ready(&self) {
        self.set("", true);
        self.set(SERVICE, true);
    }

    /// Whether Atoti answered when last asked.
    pub fn upstream(&self, up: bool) {
        self.set(UPSTREAM, up);
    }

    /// NOT_SERVING for good.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
        for name in self.names.keys() {
            self.set(name, false);
        }
    }

    /// Ends the watches, so that their connections can close.
    pub(super) fn end_watches(&self) {
        self.ended.cancel();
    }

    fn set(&self, name: &str, serving: bool) {
        let Some(state) = self.names.get(name) else { return };
        state.send_if_modified(|current| {
            // Looked at under the state's lock, so that nobody is ready again after leaving.
            let serving = serving && !self.leaving.is_cancelled();
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            std::mem::replace(current, status) != status
        });
    }

    /// Whether the process as a whole serves: the empty name.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.names.get("").is_some_and(|state| *state.borrow() == ServingStatus::Serving)
    }
}

type Watch = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let caller = service::caller()?;
        match self.names.get(&*request.into_inner().service) {
            Some(state) => Ok(Response::new(response(*state.borrow()))),
            None => Err(service::refuse(&Failure::UnknownHealthName, &caller)),
        }
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let caller = service::caller()?;
        let states: Pin<Box<dyn Stream<Item = ServingStatus> + Send>> =
            match self.names.get(&*request.into_inner().service) {
                Some(state) => Box::pin(changes(state.subscribe())),
                None => Box::pin(once(async { ServingStatus::ServiceUnknown }).chain(pending())),
            };
        let told = states.map(|status| Ok(response(status)));
        let end = once(async move { Err(service::refuse(&Failure::Draining, &caller)) });
        let watch = told.take_until(self.ended.clone().cancelled_owned()).chain(end);
        Ok(Response::new(Box::pin(watch)))
    }
}

/// The state now, and each new one.
fn changes(mut state: watch::Receiver<ServingStatus>) -> impl Stream<Item = ServingStatus> {
    state.mark_changed();
    unfold(state, |mut state| async {
        state.changed().await.ok()?;
        let status = *state.borrow_and_update();
        Some((status, state))
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
