//! What stands around every call, outermost first.

use std::{any::Any, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Response};
use tonic::service::Routes;
use tower::{ServiceBuilder, util::MapRequestLayer};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    service::Caller,
    status::{Failure, Subject},
};

/// The routes with everything around them.
pub(super) fn stack(routes: Routes, max_deadline: Duration) -> Router {
    routes.into_axum_router().layer(
        ServiceBuilder::new()
            // Outside of all else, so that nothing of ours can take a connection down: without it a panic resets the
            // stream, and the caller takes that for a cancelled call.
            .layer(CatchPanicLayer::custom(bug))
            // Before anything reads the body: the deadline counts from arrival, and what the headers say is read
            // before trailers can overwrite it.
            .layer(MapRequestLayer::new(move |request| with_caller(request, max_deadline))),
    )
}

fn with_caller(mut request: Request<Body>, max_deadline: Duration) -> Request<Body> {
    let peer = request.extensions().get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
    let caller = Caller::read(request.headers(), peer, max_deadline);
    request.extensions_mut().insert(Arc::new(caller));
    request
}

/// The panic hook has logged it.
fn bug(_: Box<dyn Any + Send>) -> Response<Body> {
    Failure::Bug.to_status(Subject { request_id: "", query_id: None }).into_http()
}
