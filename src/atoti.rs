//! Atoti: a typed client of the Query History REST API, version 1. The only room that talks to the network behind us.
//!
//! It reports facts ([`Error`]) and judges nothing: what a fact means to a gRPC caller is decided in
//! [`status`](crate::status). It knows nothing of gRPC.
//!
//! An operation is one method here; `run` carries it out, `exchange` makes one attempt, [`retry`] says what may be
//! repeated.

mod answer;
mod client;
mod credentials;
mod error;
mod exchange;
mod gate;
mod id;
mod lanes;
mod resolve;
pub mod retry;
mod run;
mod wire;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Request;
use tokio::time::Instant;
use tower::retry::budget::TpsBudget;
use url::Url;

use self::{
    answer::Expected,
    client::Http,
    credentials::Credentials,
    exchange::{Bounds, Exchange, Success},
    lanes::Lanes,
};
pub use self::{
    answer::Shape,
    error::{Error, Fact, Refusal},
    gate::Gate,
    id::{MAX_QUERY_ID_LENGTH, QueryId},
    lanes::Lane,
    wire::{Query, QueryStatus, QueryType},
};
use crate::{config::Upstream, files::Refreshed};

/// Where the API lives below the context path.
const API: &str = "activeviam/query-history/rest/v1";
/// How the discovery document calls the API.
const API_KEY: &str = "activeviam/query-history";
const CANCEL_BODY: &[u8] = br#"{"status":"CANCELLED"}"#;

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
    /// Where its requests wait for their turns.
    pub lane: Lane,
}

/// A write that Atoti accepted.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Requests made.
    pub attempts: u32,
}

/// What became of reading the files again.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    /// Those of TLS.
    pub certificates: Refreshed,
    /// That of the bridge's own credentials.
    pub credentials: Refreshed,
    /// When the certificate shown to Atoti ends, if one is.
    pub certificate_expires: Option<SystemTime>,
}

/// The client. One per process; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Atoti {
    http: Http,
    credentials: Credentials,
    lanes: Lanes,
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
    /// When the TLS set-up of this machine cannot be used, a file of the settings is gone, or no crypto provider has
    /// been installed for the process (see [`install_crypto_provider`](crate::install_crypto_provider)).
    pub fn new(upstream: &Upstream) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(upstream)?,
            credentials: Credentials::new(&upstream.credentials)?,
            lanes: Lanes::new(upstream.max_connections),
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
            lane: Some(call.lane),
        };
        let request = || {
            let mut request = self.request(Method::PATCH, self.query_url(id), call.headers.clone());
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
        let (attempts, Success { http_status, body }) = self
            .run(&exchange, || self.request(Method::GET, self.query_url(id), call.headers.clone()))
            .await?;
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
        let discovered = self.discover(&self.read(call, DISCOVERY_BODY_CAP), call.headers.clone()).await;
        matches!(discovered, Ok(Some(false)))
    }

    /// Whether something answers in Atoti's place, whatever it thinks of the question: `GET /versions/rest`, with
    /// nobody's credentials.
    ///
    /// # Errors
    ///
    /// Why nothing does.
    pub async fn probe(&self, within: Duration) -> Result<(), Error> {
        match self.discovery(within).await {
            Err(error) if !error.is_an_answer() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the discovery document names the API, asked for once and with nobody's credentials; nothing when what
    /// came is no discovery document.
    ///
    /// # Errors
    ///
    /// Why nothing came.
    pub async fn discovery(&self, within: Duration) -> Result<Option<bool>, Error> {
        let exchange = self.look(within, DISCOVERY_BODY_CAP);
        let request = self.discovery_request(HeaderMap::new());
        match exchange.attempt(&self.http.client(), &self.lanes, request).await {
            Ok(Success { body, .. }) => Ok(wire::lists_api(&body, API_KEY)),
            Err(failed) => Err(exchange.error(failed, 1, false)),
        }
    }

    /// Reads the newest query of the history, whichever it is, with the bridge's own credentials or else with these
    /// headers: `GET /queries`.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being read.
    pub async fn read_history(&self, headers: &HeaderMap, within: Duration) -> Result<(), Error> {
        let mut url = self.url(API.split('/').chain(["queries"]));
        url.set_query(Some("page_size=1"));
        let request = || self.request(Method::GET, url.clone(), headers.clone());
        let (attempts, Success { http_status, body }) =
            self.run(&self.look(within, QUERY_BODY_CAP), request).await?;
        if wire::is_listing(&body) {
            return Ok(());
        }
        Err(self.ended(Error::malformed(attempts, http_status, &"no list of queries")))
    }

    /// Whether the API is installed, as far as the discovery document tells.
    async fn discover(&self, exchange: &Exchange<'_>, headers: HeaderMap) -> Result<Option<bool>, Error> {
        let request = || self.discovery_request(headers.clone());
        let (_, answer) = self.run(exchange, request).await?;
        let installed = wire::lists_api(&answer.body, API_KEY);
        if installed == Some(true) {
            self.api_seen.store(true, Ordering::Relaxed);
        }
        Ok(installed)
    }

    /// Reads the files of certificates and credentials again; tells whether they can be used.
    pub fn refresh_files(&self) -> Files {
        Files {
            certificates: self.http.refresh(),
            credentials: self.credentials.refresh(),
            certificate_expires: self.http.expires(),
        }
    }

    /// Renews the token of the bridge's own account before it expires, if it is about to.
    ///
    /// # Errors
    ///
    /// Why Atoti issued none. The one before is used for as long as it is good.
    pub async fn renew_token(&self) -> Result<(), Error> {
        let Credentials::Jwt { tokens, .. } = &self.credentials else { return Ok(()) };
        let Some(old) = tokens.due() else { return Ok(()) };
        let renewed = self.own_authorization(Instant::now() + self.timeout, Some(&old)).await;
        renewed.map(drop).map_err(|failed| self.not_begun(failed))
    }

    fn read(&self, call: &Call, body_cap: usize) -> Exchange<'static> {
        // It has no body to hold back.
        call.gate.open();
        self.bounded(call.read_by, body_cap, Some(call.lane))
    }

    fn look(&self, within: Duration, body_cap: usize) -> Exchange<'static> {
        // One request now and then, which must not wait behind those that it tells about.
        self.bounded(Instant::now() + within, body_cap, None)
    }

    fn bounded(&self, by: Instant, body_cap: usize, lane: Option<Lane>) -> Exchange<'static> {
        Exchange {
            expected: Expected::Json,
            bounds: Bounds { begin_by: by, end_by: by, per_attempt: self.timeout },
            body_cap,
            gate: None,
            lane,
        }
    }

    fn request(&self, method: Method, url: Url, headers: HeaderMap) -> Request {
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        // `text/plain` alone breaks the rendering of errors in Spring.
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
        request
    }

    fn discovery_request(&self, headers: HeaderMap) -> Request {
        self.request(Method::GET, self.url(["versions", "rest"]), headers)
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
            let atoti = Atoti::new(&Upstream::at(Url::parse(base).expect("a URL"))).expect("a client");
            assert_eq!(atoti.query_url(&QueryId::parse("42").expect("an id")).path(), path, "{base}");
        }
    }
}
