//! The HTTP client: one per process, set up so that it does nothing of its own accord; built again when a certificate
//! changes.

use std::time::{Duration, SystemTime};

use reqwest::{Certificate, Client, Identity, redirect};

use super::{error::full_text, resolve::Shuffled};
use crate::{
    config::Upstream,
    files::{FromFiles, Refreshed},
    tls,
};

/// An idle connection is closed by us before Tomcat does it (20 s in a stock `server.xml`), so that a request seldom
/// meets a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// Finds dead peers behind a silent network in about a minute.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The client that counts now.
#[derive(Debug)]
pub(super) struct Http(FromFiles<Current>);

#[derive(Debug)]
struct Current {
    client: Client,
    /// When the certificate shown to Atoti ends.
    expires: Option<SystemTime>,
}

impl Http {
    pub(super) fn new(upstream: &Upstream) -> Result<Self, String> {
        let files = upstream.files.clone();
        let identity = files.identity.as_ref().map(|(cert, key)| [cert, key]);
        let paths = files.ca.iter().chain(identity.into_iter().flatten()).cloned().collect();
        let has_ca = files.ca.is_some();
        let upstream = upstream.clone();
        let build = move |contents: &[Vec<u8>]| {
            let (ca, identity) = contents.split_at(usize::from(has_ca));
            Current::new(&upstream, ca.first().map(Vec::as_slice), identity)
        };
        FromFiles::load("certificates for Atoti", paths, build).map(Self)
    }

    /// Connections of a client before go on until their calls have ended.
    pub(super) fn client(&self) -> Client {
        self.0.current().client.clone()
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.0.current().expires
    }

    pub(super) fn refresh(&self) -> Refreshed {
        self.0.refresh()
    }
}

impl Current {
    fn new(upstream: &Upstream, ca: Option<&[u8]>, identity: &[Vec<u8>]) -> Result<Self, String> {
        #[expect(clippy::disallowed_methods, reason = "this is the one client of clippy.toml's ban")]
        let mut builder = Client::builder()
            // A redirect followed turns a login page into a success and hands credentials to another host.
            .redirect(redirect::Policy::none())
            .referer(false)
            // A proxy from the environment would see every caller's credentials.
            .no_proxy()
            // What may be repeated is decided in `retry`, nowhere else.
            .retry(reqwest::retry::never())
            .dns_resolver(Shuffled)
            .connect_timeout(upstream.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            // Fewer, and busy moments would end with connections thrown away.
            .pool_max_idle_per_host(upstream.max_connections.get())
            .tcp_keepalive(TCP_KEEPALIVE)
            .tcp_nodelay(true)
            .http1_only()
            .user_agent(concat!("atoti-grpc-bridge/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = ca {
            tls::certificates(pem)?;
            builder =
                builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?);
        }
        let mut expires = None;
        if let [cert, key] = identity {
            expires = Some(tls::expiry(&tls::certificates(cert)?)?);
            tls::matching(cert, key)?;
            let pem = [&cert[..], b"\n", key].concat();
            builder = builder.identity(Identity::from_pem(&pem).map_err(|error| error.to_string())?);
        }
        let client = builder.build().map_err(|error| match ca {
            // Mostly an image without any: this is read at the start, for http URLs too.
            None => format!("{}; is there a bundle of authorities on this machine?", full_text(&error)),
            Some(_) => full_text(&error),
        })?;
        Ok(Self { client, expires })
    }
}
