//! Atoti: a typed client of the Query History REST API, version 1. The only room that talks to the network behind us.
//!
//! It reports facts ([`Error`]) and judges nothing: what a fact means to a gRPC caller is decided in
//! [`status`](crate::status). It knows nothing of gRPC.
//!
//! An operation is one method, in `reads`, `writes` or `discovery`; `run` carries it out, `exchange` makes one attempt,
//! [`retry`] says what may be repeated.

mod answer;
mod body;
mod client;
mod credentials;
mod discovery;
mod error;
mod exchange;
mod filter;
mod gate;
mod id;
mod lanes;
mod lenient;
mod nodes;
mod reads;
mod resolve;
pub mod retry;
mod run;
mod wire;
mod writes;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Request;
use tokio::time::Instant;
use tower::retry::budget::TpsBudget;
use url::Url;

use self::{
    answer::Expected,
    client::Http,
    credentials::Credentials,
    discovery::Installed,
    exchange::{Bounds, Exchange},
    lanes::Lanes,
    nodes::Nodes,
};
pub use self::{
    answer::Shape,
    error::{Error, Fact, Refusal},
    filter::{Filter, Part},
    gate::Gate,
    id::{MAX_QUERY_ID_LENGTH, QueryId},
    lanes::Lane,
    nodes::Node,
    wire::{Discovery, Listing, Query, QueryStatus, QueryType},
    writes::Accepted,
};
use crate::{
    config::Upstream,
    files::{FromFiles, Refreshed},
};

/// Where the API lives below the context path.
const API: &str = "activeviam/query-history/rest/v1";

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

/// What became of reading the files again.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    /// Those of TLS.
    pub certificates: Refreshed,
    /// That of the bridge's own credentials.
    pub credentials: Refreshed,
    /// That of the nodes.
    pub nodes: Refreshed,
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
    nodes: Option<FromFiles<Nodes>>,
    timeout: Duration,
    /// The longest body of an answer to a read.
    max_body: usize,
    budget: TpsBudget,
    installed: Installed,
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
            nodes: upstream.nodes.as_deref().map(nodes::follow).transpose()?,
            timeout: upstream.timeout,
            max_body: upstream.max_body.get(),
            budget: retry::budget(),
            installed: Installed::default(),
        })
    }

    /// Reads the files of certificates and credentials again; tells whether they can be used.
    pub fn refresh_files(&self) -> Files {
        Files {
            certificates: self.http.refresh(),
            credentials: self.credentials.refresh(),
            nodes: self.nodes.as_ref().map_or(Refreshed::Unchanged, FromFiles::refresh),
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

    /// How a request is carried out that ends by a given instant, sent or not.
    fn bounded(&self, by: Instant, body_cap: usize, lane: Option<Lane>) -> Exchange<'static> {
        Exchange {
            expected: Expected::Json,
            bounds: Bounds { begin_by: by, end_by: by, per_attempt: self.timeout },
            body_cap,
            gate: None,
            once: false,
            lane,
        }
    }

    fn request(method: Method, url: Url, headers: HeaderMap) -> Request {
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        // `text/plain` alone breaks the rendering of errors in Spring.
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
        request
    }

    fn queries_url(base: &Url, query: &str) -> Url {
        let mut url = below(base, API.split('/').chain(["queries"]));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        url
    }

    fn query_url(base: &Url, id: &QueryId) -> Url {
        below(base, API.split('/').chain(["query", id.as_str()]))
    }
}

/// A path below a base URL.
fn below<'a>(base: &Url, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    url.path_segments_mut()
        .expect("http and https URLs have a path, and config accepts no others")
        .pop_if_empty()
        .extend(segments);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_the_base_url_and_the_path_with_one_slash_between() {
        for (base, path) in [
            ("http://atoti:9090", "/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/", "/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/a/b", "/a/b/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/a/b/", "/a/b/activeviam/query-history/rest/v1/query/42"),
        ] {
            let base = Url::parse(base).expect("a URL");
            let id = QueryId::parse("42").expect("an id");
            assert_eq!(Atoti::query_url(&base, &id).path(), path, "{base}");
        }
    }
}
