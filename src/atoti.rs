//! Atoti: a typed client of the Query History REST API, version 1. The only room that talks to the network behind us.
//!
//! It reports facts ([`Error`]) and judges nothing: what a fact means to a gRPC caller is decided in
//! [`status`](crate::status). It knows nothing of gRPC.
//!
//! An operation is one method here; `exchange` makes one attempt, [`retry`] says what may be repeated.

mod answer;
mod error;
mod exchange;
mod gate;
mod id;
pub mod retry;
mod wire;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::{Client, Request, redirect};
use tokio::time::Instant;
use tower::retry::budget::{Budget as _, TpsBudget};
use url::Url;

use self::{
    answer::Expected,
    exchange::{Bounds, Exchange, Success},
};
pub use self::{
    answer::Shape,
    error::{Error, Fact, Refusal},
    gate::Gate,
    id::{MAX_QUERY_ID_LENGTH, QueryId},
    wire::{Query, QueryStatus, QueryType},
};
use crate::config::Upstream;

/// Where the API lives below the context path.
const API: &str = "activeviam/query-history/rest/v1";
/// How the discovery document calls the API.
const API_KEY: &str = "activeviam/query-history";
const CANCEL_BODY: &[u8] = br#"{"status":"CANCELLED"}"#;

/// An idle connection is closed by us before Tomcat does it (20 s in a stock `server.xml`), so that a request seldom
/// meets a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// Finds dead peers behind a silent network in about a minute.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The body of an answer to a write is information only; more of it than this is not read.
const WRITE_BODY_CAP: usize = 64 * 1024;
/// The longest answer to a read of one query: the text of a large query fits many times over.
const QUERY_BODY_CAP: usize = 256 * 1024;
/// The longest discovery document.
const DISCOVERY_BODY_CAP: usize = 256 * 1024;

/// What one gRPC call brings along to all its requests to Atoti.
#[derive(Clone, Debug)]
pub struct Call {
    /// The allow-listed headers: credentials, trace context, request id. Nothing else of the caller's goes out.
    pub headers: HeaderMap,
    /// Nothing is begun after this instant.
    pub begin_by: Instant,
    /// Reads end by this instant.
    pub read_by: Instant,
    /// A write that has been sent is waited for until this instant, whether its caller still waits or not.
    pub carry_until: Instant,
    /// Whether any byte of the call's write has left.
    pub gate: Gate,
}

/// A write that Atoti accepted.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Requests made.
    pub attempts: u32,
}

/// The client. One per process; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Atoti {
    http: Client,
    base: Url,
    timeout: Duration,
    budget: TpsBudget,
    /// Atoti has been seen to have the API. It is not asked again: an API does not vanish from a running server.
    api_seen: AtomicBool,
}

impl Atoti {
    /// A client for one Atoti Server. Opens no connection.
    ///
    /// # Errors
    ///
    /// When the TLS set-up of this machine cannot be used, or no crypto provider has been installed for the process
    /// (see [`install_crypto_provider`](crate::install_crypto_provider)).
    pub fn new(upstream: &Upstream) -> Result<Self, reqwest::Error> {
        #[expect(clippy::disallowed_methods, reason = "this is the one client of clippy.toml's ban")]
        let http = Client::builder()
            // A redirect followed turns a login page into a success and hands credentials to another host.
            .redirect(redirect::Policy::none())
            .referer(false)
            // A proxy from the environment would see every caller's credentials.
            .no_proxy()
            // What may be repeated is decided in `retry`, nowhere else.
            .retry(reqwest::retry::never())
            .connect_timeout(upstream.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_keepalive(TCP_KEEPALIVE)
            .tcp_nodelay(true)
            .http1_only()
            .user_agent(concat!("atoti-grpc-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            base: upstream.url.clone(),
            timeout: upstream.timeout,
            budget: retry::budget(),
            api_seen: AtomicBool::new(false),
        })
    }

    /// Asks Atoti to cancel a query: `PATCH /query/{id}`.
    ///
    /// Once sent it is waited for until `call.carry_until`, past the caller's own deadline.
    ///
    /// # Errors
    ///
    /// Whatever kept Atoti from accepting; a 404 too, which leaves open whether the query ended or never was.
    pub async fn cancel_query(&self, call: &Call, id: &QueryId) -> Result<Accepted, Error> {
        let exchange = Exchange {
            expected: Expected::Nothing,
            bounds: Bounds { begin_by: call.begin_by, end_by: call.carry_until, per_attempt: self.timeout },
            body_cap: WRITE_BODY_CAP,
            gate: Some(&call.gate),
        };
        let request = || {
            let mut request = self.request(Method::PATCH, self.query_url(id), call);
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(call.gate.guard(CANCEL_BODY));
            request
        };
        let (attempts, _) = self.run(&exchange, request).await?;
        self.api_seen.store(true, Ordering::Relaxed);
        Ok(Accepted { attempts })
    }

    /// Reads one query: `GET /query/{id}`.
    ///
    /// # Errors
    ///
    /// Whatever kept the query from being read; a 404 when the history does not hold it.
    pub async fn get_query(&self, call: &Call, id: &QueryId) -> Result<Query, Error> {
        let exchange = self.read(call, QUERY_BODY_CAP);
        let (attempts, Success { http_status, body }) =
            self.run(&exchange, || self.request(Method::GET, self.query_url(id), call)).await?;
        let query = Query::from_json(&body).map_err(|why| Error::malformed(attempts, http_status, &why))?;
        self.api_seen.store(true, Ordering::Relaxed);
        Ok(query)
    }

    /// Whether Atoti *positively* lacks the Query History API: it serves its discovery document
    /// (`GET /versions/rest`), and the API is not in it. Anything less certain is `false`.
    pub async fn lacks_api(&self, call: &Call) -> bool {
        if self.api_seen.load(Ordering::Relaxed) {
            return false;
        }
        let exchange = self.read(call, DISCOVERY_BODY_CAP);
        let discovery =
            self.run(&exchange, || self.request(Method::GET, self.url(["versions", "rest"]), call)).await;
        match discovery.map(|(_, answer)| wire::lists_api(&answer.body, API_KEY)) {
            Ok(Some(installed)) => {
                self.api_seen.store(installed, Ordering::Relaxed);
                !installed
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Makes an attempt, and one more where that is allowed; yields the number of attempts and the answer.
    async fn run(
        &self,
        exchange: &Exchange<'_>,
        request: impl Fn() -> Request,
    ) -> Result<(u32, Success), Error> {
        self.budget.deposit();
        let first = match exchange.attempt(&self.http, request()).await {
            Ok(success) => return Ok((1, success)),
            Err(failed) => failed,
        };
        let pause = retry::pause();
        let may_repeat = retry::may_repeat(&first.fact)
            && retry::worth_waiting(&first.fact, pause)
            && exchange.bounds.leave_room_for(pause)
            && self.budget.withdraw();
        if !may_repeat {
            return Err(exchange.error(first, 1, false));
        }
        let answer_lost = exchange.was_sent(&first);
        tracing::debug!(fact = ?first.fact, cause = %first.cause, "attempt failed; repeating once");
        tokio::time::sleep(pause).await;
        match exchange.attempt(&self.http, request()).await {
            Ok(success) => Ok((2, success)),
            Err(second) => Err(exchange.error(second, 2, answer_lost)),
        }
    }

    fn read(&self, call: &Call, body_cap: usize) -> Exchange<'static> {
        Exchange {
            expected: Expected::Json,
            bounds: Bounds { begin_by: call.read_by, end_by: call.read_by, per_attempt: self.timeout },
            body_cap,
            gate: None,
        }
    }

    fn request(&self, method: Method, url: Url, call: &Call) -> Request {
        let mut request = Request::new(method, url);
        *request.headers_mut() = call.headers.clone();
        // `text/plain` alone breaks the rendering of errors in Spring.
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
        request
    }

    fn query_url(&self, id: &QueryId) -> Url {
        self.url(API.split('/').chain(["query", id.as_str()]))
    }

    fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("http and https URLs have a path, and config accepts no others")
            .pop_if_empty()
            .extend(segments);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_the_base_url_and_the_path_with_one_slash_between() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for (base, path) in [
            ("http://atoti:9090", "/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/", "/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/a/b", "/a/b/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/a/b/", "/a/b/activeviam/query-history/rest/v1/query/42"),
        ] {
            let upstream = Upstream {
                url: Url::parse(base).expect("a URL"),
                connect_timeout: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            };
            let atoti = Atoti::new(&upstream).expect("a client");
            assert_eq!(atoti.query_url(&QueryId::parse("42").expect("an id")).path(), path, "{base}");
        }
    }
}
