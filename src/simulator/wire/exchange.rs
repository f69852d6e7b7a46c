//! One request on its way in and its answer on the way out.
//!
//! In: record, read the body, pick the fault, refuse what Tomcat refuses, hand over to the API. Out: write the error
//! body, set the session cookie, close the connection where Tomcat would.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, StatusCode,
    header::{ACCEPT, CONNECTION, COOKIE, SET_COOKIE},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::sleep;
use tower::ServiceExt;

use super::{
    super::{
        control,
        fault::{Behaviour, Made, Taken},
        problem::{self, Problem},
        server::{Routes, Server},
    },
    firewall,
};

/// Requests to this API are a few bytes long.
const MOST_BODY_BYTES: usize = 64 * 1024;

/// The connection is to be closed without (further) ado.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for Cut {}

/// A connection, as its requests see it.
pub(super) struct Visit {
    server: Arc<Server>,
    routes: Routes,
    connection: usize,
    /// Requests on this connection so far.
    requests: AtomicUsize,
}

impl Visit {
    pub(super) const fn new(server: Arc<Server>, routes: Routes, connection: usize) -> Self {
        Self { server, routes, connection, requests: AtomicUsize::new(0) }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response, Cut> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if control::is_control(request.uri().path()) {
            return Ok(routed(&self.routes.control, request.map(Body::new)).await);
        }
        let (parts, body) = request.into_parts();
        let manners = Manners::of(&parts, number >= self.server.options.requests_per_connection);
        let entry = self.server.recorder.head(&parts, self.connection);
        let mut response = match self.receive(body, entry).await? {
            Some(body) => self.respond(parts, body).await?,
            None => Problem::spring(StatusCode::PAYLOAD_TOO_LARGE).into_response(),
        };
        manners.finish(&self.server, &mut response);
        Ok(response)
    }

    /// Reads a body; nothing when it is too large.
    async fn receive(&self, mut body: Incoming, entry: usize) -> Result<Option<Bytes>, Cut> {
        let mut received = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Cut)?.into_data() else { continue };
            if received.len() + data.len() > MOST_BODY_BYTES {
                return Ok(None);
            }
            self.server.recorder.body(entry, &data);
            received.extend_from_slice(&data);
        }
        self.server.recorder.complete(entry);
        Ok(Some(received.freeze()))
    }

    async fn respond(&self, mut parts: Parts, body: Bytes) -> Result<Response, Cut> {
        let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let Some(Taken { behaviour, after_effect }) = self.server.faults.take(&parts.method, &target) else {
            return self.effect(parts, body, Duration::ZERO).await;
        };
        if matches!(behaviour, Behaviour::MissingApi) {
            parts.extensions.insert(HistoryMissing);
        }
        let (before, after) = if after_effect {
            (Duration::ZERO, behaviour.delay())
        } else {
            (behaviour.delay(), Duration::ZERO)
        };
        let made = if behaviour.needs_the_real_answer() {
            let real = self.effect(parts, body, before).await?;
            sleep(after).await;
            behaviour.reshape(real).await
        } else {
            if after_effect {
                self.effect(parts, body, Duration::ZERO).await?;
            }
            behaviour.answer().await
        };
        match made {
            Made::Answer(response) => Ok(response),
            Made::Cut => Err(Cut),
        }
    }

    /// Lets the API answer. The work goes on when the caller hangs up meanwhile, as a servlet's does.
    async fn effect(&self, parts: Parts, body: Bytes, delay: Duration) -> Result<Response, Cut> {
        if let Some(problem) = firewall::refusal(&parts) {
            sleep(delay).await;
            return Ok(problem.into_response());
        }
        let api = self.routes.api.clone();
        let work = async move {
            sleep(delay).await;
            routed(&api, Request::from_parts(parts, Body::from(body))).await
        };
        let stop = self.server.stop.clone();
        let task = self.server.tasks.spawn(stop.run_until_cancelled_owned(work));
        task.await.ok().flatten().ok_or(Cut)
    }
}

/// Marks a request to a server on which the Query History API is not installed.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct HistoryMissing;

async fn routed(router: &Router, request: Request<Body>) -> Response {
    let Ok(response) = router.clone().oneshot(request).await;
    response
}

/// What the answer depends on besides the API: how the caller asked, and where the connection stands.
struct Manners {
    path: String,
    /// Whether a JSON error can be written for this caller. Spring cannot, for one that wants plain text only.
    takes_json: bool,
    needs_session: bool,
    last: bool,
}

impl Manners {
    fn of(parts: &Parts, last: bool) -> Self {
        let accept = parts.headers.get(ACCEPT).map(HeaderValue::as_bytes);
        let takes_json = accept.is_none_or(|accept| {
            let accept = String::from_utf8_lossy(accept);
            ["application/json", "application/*", "*/*"].iter().any(|kind| accept.contains(kind))
        });
        let needs_session = !parts.headers.contains_key(COOKIE);
        Self { path: parts.uri.path().to_owned(), takes_json, needs_session, last }
    }

    /// Writes the error body, hands out a session, and closes the connection where Tomcat would.
    fn finish(&self, server: &Server, response: &mut Response) {
        problem::write_out(response, &self.path, self.takes_json);
        let status = response.status();
        let headers = response.headers_mut();
        if self.needs_session {
            headers.insert(SET_COOKIE, server.new_session());
        }
        if self.last || matches!(status, StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}
