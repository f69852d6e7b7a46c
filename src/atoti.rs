//! Atoti: a typed client of the Query History REST API, version 1. The only room that talks to the network behind us.
//!
//! It reports facts ([`Error`]) and judges nothing: what a fact means to a gRPC caller is decided in
//! [`status`](crate::status). It knows nothing of gRPC.
//!
//! An operation is one method, in `reads`, `writes` or `discovery`; `run` carries it out, `exchange` makes one attempt,
//! [`retry`] says what may be repeated.

mod answer;
mod base;
mod body;
mod client;
mod connect;
mod credentials;
mod discovery;
mod error;
mod exchange;
mod filter;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gate;
mod id;
mod lanes;
mod lenient;
mod link;
mod nodes;
mod pool;
mod reads;
mod resolve;
pub mod retry;
mod run;
mod wire;
mod writes;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use tokio::time::Instant;
use tower::retry::budget::TpsBudget;

use self::{
    answer::Expected,
    base::{Asked, Base},
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
    telemetry::{Telemetry, TraceContext},
};

/// What one gRPC call brings along to all its requests to Atoti.
#[derive(Clone, Debug)]
pub struct Call {
    /// The allow-listed headers: credentials, trace context, request id. Nothing else of the caller's goes out.
    pub headers: Arc<HeaderMap>,
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
    /// What its requests are a part of, where somebody traces.
    pub trace: Option<TraceContext>,
}

impl Call {
    /// The request id that goes along, for log lines.
    fn request_id(&self) -> Option<&str> {
        self.headers.get("x-request-id").and_then(|id| id.to_str().ok())
    }
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
    base: Base,
    nodes: Option<FromFiles<Nodes>>,
    timeout: Duration,
    /// The longest body of an answer to a read.
    max_body: usize,
    budget: TpsBudget,
    installed: Installed,
    telemetry: Telemetry,
}

impl Atoti {
    /// A client for one Atoti Server. Opens no connection.
    ///
    /// # Errors
    ///
    /// When the TLS set-up of this machine cannot be used, a file of the settings is gone, or no crypto provider has
    /// been installed for the process (see [`install_crypto_provider`](crate::install_crypto_provider)).
    pub fn new(upstream: &Upstream, telemetry: Telemetry) -> Result<Self, String> {
        telemetry.metrics.upstream.limit(upstream.max_connections.get());
        let base = Base::new(upstream.url.clone());
        // A file of nodes may come to name encrypted ones at any time.
        let encrypted = base.is_encrypted() || upstream.nodes.is_some();
        Ok(Self {
            http: Http::new(upstream, encrypted)?,
            credentials: Credentials::new(&upstream.credentials)?,
            lanes: Lanes::new(upstream.max_connections),
            base,
            nodes: upstream.nodes.as_deref().map(nodes::follow).transpose()?,
            timeout: upstream.timeout,
            max_body: upstream.max_body.get(),
            budget: retry::budget(),
            installed: Installed::default(),
            telemetry,
        })
    }

    /// Closes the connections that nobody has used for a while.
    pub fn close_idle(&self) {
        self.http.client().close_idle();
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
    fn bounded<'a>(
        &self,
        asked: &'a Asked,
        by: Instant,
        body_cap: usize,
        headers: &'a HeaderMap,
        call: Option<&'a Call>,
    ) -> Exchange<'a> {
        Exchange {
            asked,
            call,
            headers,
            content: None,
            expected: Expected::Json,
            bounds: Bounds { begin_by: by, end_by: by, per_attempt: self.timeout },
            body_cap,
            gate: None,
            once: false,
            lane: call.map(|call| call.lane),
        }
    }
}
