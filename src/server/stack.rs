//! What stands around every call: one straight walk, outermost first, each step with its reason.
//!
//! Admission is not here but in the service, after the request has been read: every cancel that is refused must be in
//! the audit record with its id, and a caller that sends slowly must not hold a place meanwhile.

use std::{convert::Infallible, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::Either};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::timeout_at;
use tonic::{body::Body, service::Routes};
use tower::{Service, ServiceExt as _};

use super::{
    half_sent::{HalfSent, Held},
    headers_only::HeadersOnly,
    observe::{Kind, Observed, Observer, Rpc},
};
use crate::{
    proto,
    service::{self, Caller, Peer},
    status::{self, Failure},
    telemetry::TraceContext,
};

/// The routes with everything around them. Clones are the same.
#[derive(Clone)]
pub(super) struct Stack(Arc<Shared>);

/// A call that is being answered.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

struct Shared {
    /// The service itself, which is not looked for among the routes.
    ours: Option<super::Service>,
    /// What else there is, and the answer to what there is not.
    routes: Routes,
    /// The methods there are: labels and names of nothing else. Few enough to be compared with one by one.
    methods: Vec<Arc<Rpc>>,
    unknown: Arc<Rpc>,
    max_deadline: Duration,
    observer: Arc<Observer>,
}

impl Stack {
    pub(super) fn new(
        ours: Option<super::Service>,
        routes: Routes,
        max_deadline: Duration,
        observer: Observer,
    ) -> Self {
        let mut methods: Vec<_> = proto::methods().map(|method| Arc::new(Rpc::new(method))).collect();
        // The service's own first.
        methods.sort_by_key(|rpc| rpc.kind() != Kind::Ours);
        let unknown = Arc::new(Rpc::unknown());
        Self(Arc::new(Shared {
            ours,
            routes: routes.prepare(),
            methods,
            unknown,
            max_deadline,
            observer: Arc::new(observer),
        }))
    }

    /// Answers a call: the one allocation that the steps around it need.
    pub(super) fn call(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Answering {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Ok(shared.walk(peer, request).await) })
    }
}

impl Shared {
    async fn walk(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
        let rpc = self.rpc(request.uri().path());
        // First of all: the deadline counts from arrival, and what the headers say is read before trailers can
        // overwrite it.
        let theirs = TraceContext::read(request.headers());
        let span = self.observer.span(rpc, theirs.as_ref(), &peer);
        let trace = span.context().or(theirs);
        let caller = Arc::new(Caller::read(request.headers(), peer, self.max_deadline, trace));
        // Around all else, so that it sees every outcome: timeouts, refusals, bugs, and callers that go away.
        let observed = Observed::new(&self.observer, rpc, &caller, span);
        let response = match refusal(&request) {
            // What no gRPC client sends, a browser for example, gets an answer of HTTP.
            Some(response) => response,
            None => self.serve(&caller, request, rpc.kind()).await,
        };
        observed.response(response)
    }

    fn rpc(&self, path: &str) -> &Arc<Rpc> {
        let name = path.strip_prefix('/').unwrap_or_default();
        self.methods.iter().find(|rpc| rpc.name() == name).unwrap_or(&self.unknown)
    }

    async fn serve(&self, caller: &Arc<Caller>, request: Request<Incoming>, kind: Kind) -> Response<Body> {
        let held = match Held::new(caller, request.headers()) {
            Ok(held) => held,
            Err(failure) => return service::refuse(&failure, caller).into_http(),
        };
        let request = request.map(|body| HalfSent { body: HeadersOnly(body), held, received: 0 });
        let answer = match &self.ours {
            Some(ours) if kind == Kind::Ours => Either::Left(ours.clone().call(request)),
            _ => Either::Right(Box::pin(self.routes.clone().oneshot(request.map(Body::new)))),
        };
        // Without it a panic resets the stream, and the caller takes that for a cancelled call.
        let work = AssertUnwindSafe(service::serving(Arc::clone(caller), answer)).catch_unwind();
        // Around the reading of the request too: a caller that never ends its request has a deadline all the same.
        let failure = match timeout_at(caller.answer_by, work).await {
            Ok(Ok(Ok(mut response))) => {
                explain(&mut response, caller, kind != Kind::Unknown);
                return response;
            }
            // The panic hook has logged it.
            Ok(Err(_) | Ok(Err(_))) => Failure::Bug,
            // Closing the gate decides: what has not left by now never will.
            Err(_) if caller.gate.close() => Failure::DeadlineBeforeSend,
            Err(_) => Failure::DeadlineAfterSend,
        };
        service::refuse(&failure, caller).into_http()
    }
}

/// The answer to what is not gRPC: tonic would take any method and any content type.
fn refusal(request: &Request<Incoming>) -> Option<Response<Body>> {
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !is_grpc(request.headers().get(header::CONTENT_TYPE)) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    Some(response)
}

/// `application/grpc` or `application/grpc+proto`, parameters aside.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let essence = content_type.and_then(|value| value.as_bytes().split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| {
        let essence = essence.trim_ascii_end();
        essence.eq_ignore_ascii_case(b"application/grpc")
            || essence.eq_ignore_ascii_case(b"application/grpc+proto")
    })
}

/// Gives the errors that tonic itself makes, of methods and messages it cannot read, what every error carries.
fn explain(response: &mut Response<Body>, caller: &Caller, known: bool) {
    let Some(failure) = status::of_library(response.headers(), known) else { return };
    let status = service::refuse(&failure, caller);
    // Only what is no header value cannot be added, and a status holds none such.
    let _ = status.add_header(response.headers_mut());
}
