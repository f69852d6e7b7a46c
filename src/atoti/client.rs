//! The HTTP client: one per process, which does nothing of its own accord: no redirects, no proxies, no repeats. Built
//! again when a certificate changes.

use std::{mem, sync::Arc, time::SystemTime};

use http::Request;
use hyper::{Response, body::Incoming};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::{
    connect::{Connector, Origin},
    error::exchange_failure,
    exchange::Failed,
    gate::Content,
    link::Unanswered,
    pool::{Pool, Pooled},
};
use crate::{
    config::Upstream,
    files::{FromFiles, Refreshed},
    tls,
};

/// The client that counts now.
#[derive(Debug)]
pub(super) struct Http(FromFiles<Client>);

/// Connections, open and to be opened. One before goes on until its calls have ended.
#[derive(Debug)]
pub(super) struct Client {
    connector: Connector,
    pool: Pool,
    /// When the certificate shown to Atoti ends.
    expires: Option<SystemTime>,
}

impl Http {
    /// A client that can speak TLS where `encrypted`: whoever needs no authorities need not have them.
    pub(super) fn new(upstream: &Upstream, encrypted: bool) -> Result<Self, String> {
        let files = upstream.files.clone();
        let identity = files.identity.as_ref().map(|(cert, key)| [cert, key]);
        let paths: Vec<_> = files.ca.iter().chain(identity.into_iter().flatten()).cloned().collect();
        let has_ca = files.ca.is_some();
        let encrypted = encrypted || !paths.is_empty();
        let (within, most) = (upstream.connect_timeout, upstream.max_connections);
        let build = move |contents: &[Vec<u8>]| {
            let (ca, identity) = contents.split_at(usize::from(has_ca));
            let mut expires = None;
            if let [cert, _] = identity {
                expires = Some(tls::expiry(&tls::certificates(cert)?)?);
            }
            let tls =
                encrypted.then(|| configuration(ca.first().map(Vec::as_slice), identity)).transpose()?;
            Ok(Client {
                connector: Connector::new(tls.map(Arc::new), within),
                pool: Pool::new(most),
                expires,
            })
        };
        FromFiles::load("certificates for Atoti", paths, build).map(Self)
    }

    pub(super) fn client(&self) -> Arc<Client> {
        self.0.current()
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.0.current().expires
    }

    pub(super) fn refresh(&self) -> Refreshed {
        self.0.refresh()
    }
}

impl Client {
    /// Sends a request and waits for the head of its answer, whose body comes by the connection that is given back. The
    /// request is taken from where it is: it is large, and would be moved from future to future.
    pub(super) async fn send(
        &self,
        origin: &Origin,
        request: &mut Request<Content>,
    ) -> Result<(Pooled, Response<Incoming>), Failed> {
        // Those that Atoti has closed meanwhile give the request back as it is.
        while let Some(mut pooled) = self.pool.take(origin) {
            match pooled.link.send(mem::take(request)).await {
                Ok(answer) => return Ok((pooled, answer)),
                Err(Unanswered { untouched: Some(back), .. }) => *request = back,
                Err(Unanswered { error, .. }) => return Err(unanswered(&error)),
            }
        }
        let place = self.pool.make_room();
        // Seldom needed and large: it is not to take room in every call.
        let link = Box::pin(self.connector.connect(origin)).await?;
        let mut pooled = place.take(link);
        match pooled.link.send(mem::take(request)).await {
            Ok(answer) => Ok((pooled, answer)),
            Err(Unanswered { error, untouched }) => {
                Err(Failed { untouched: untouched.is_some(), ..unanswered(&error) })
            }
        }
    }

    /// Takes a connection back whose answer has been read.
    pub(super) fn give_back(&self, origin: &Origin, mut pooled: Pooled) {
        if pooled.link.is_free() {
            self.pool.put(origin, pooled);
        }
    }

    /// Closes connections that nobody has used for a while.
    pub(super) fn close_idle(&self) {
        self.pool.close_idle();
    }
}

fn unanswered(error: &hyper::Error) -> Failed {
    Failed::explained(exchange_failure(error), error)
}

fn configuration(ca: Option<&[u8]>, identity: &[Vec<u8>]) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder();
    let builder = match ca {
        Some(pem) => builder.with_root_certificates(tls::roots(pem)?),
        None => builder
            .with_platform_verifier()
            .map_err(|error| format!("{error}; is there a bundle of authorities on this machine?"))?,
    };
    let mut config = match identity {
        [cert, key] => {
            tls::matching(cert, key)?;
            let (chain, key) = (tls::certificates(cert)?, tls::private_key(key)?);
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
