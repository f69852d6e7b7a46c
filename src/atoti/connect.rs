//! From an address to a connection that speaks HTTP/1.1: names, TCP, TLS, each failure told as the fact that it is.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tower::ServiceExt as _;
use url::Url;

use super::{
    error::{Fact, connect_failure},
    exchange::Failed,
    link::Link,
    resolve::Shuffled,
};

/// Finds dead peers behind a silent network in about a minute.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Who is connected to: a scheme, a host and a port. Clones are the same.
#[derive(Clone)]
pub(super) struct Origin(Arc<Place>);

struct Place {
    uri: Uri,
    /// By what name it must show itself, where it must.
    name: Option<ServerName<'static>>,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        // Nearly always it is the very same.
        Arc::ptr_eq(&self.0, &other.0) || self.0.uri == other.0.uri
    }
}

impl Origin {
    pub(super) fn of(url: &Url) -> Self {
        let uri = Uri::try_from(&url[..url::Position::BeforePath]).expect("the origin of a URL is a URI");
        let host = url.host_str().unwrap_or_default();
        // URLs have IPv6 addresses in brackets, certificates have not.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = (url.scheme() == "https").then(|| ServerName::try_from(host));
        let name = name.map(|name| name.expect("the host of a URL is a name or an address"));
        Self(Arc::new(Place { uri, name }))
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.name.is_some()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.uri, out)
    }
}

/// A stream of bytes to Atoti.
pub(super) type Stream = Either<TcpStream, Box<tokio_rustls::client::TlsStream<TcpStream>>>;

/// Opens connections.
pub(super) struct Connector {
    tcp: HttpConnector<Shuffled>,
    /// None where nothing is encrypted.
    tls: Option<TlsConnector>,
    /// For everything, from the question for the name to the end of the TLS handshake.
    within: Duration,
}

impl Connector {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>, within: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Shuffled);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        // Shared by the addresses of a name, so that one which does not answer leaves time for the others.
        tcp.set_connect_timeout(Some(within));
        Self { tcp, tls: tls.map(TlsConnector::from), within }
    }

    pub(super) async fn connect(&self, origin: &Origin) -> Result<Link, Failed> {
        match timeout(self.within, self.open(origin)).await {
            Ok(opened) => Link::new(opened?).await.map_err(|error| failed(&error, origin.is_encrypted())),
            Err(_) => Err(Failed::new(Fact::ConnectFailed, "connect timeout")),
        }
    }

    async fn open(&self, origin: &Origin) -> Result<Stream, Failed> {
        let encrypted = origin.is_encrypted();
        let tcp = self.tcp.clone().oneshot(origin.0.uri.clone()).await;
        let tcp = tcp.map_err(|error| failed(&error, encrypted))?.into_inner();
        let Some(name) = &origin.0.name else { return Ok(Either::Left(tcp)) };
        let Some(tls) = &self.tls else {
            return Err(failed(&io::Error::other("no TLS has been set up"), encrypted));
        };
        match tls.connect(name.clone(), tcp).await {
            Ok(stream) => Ok(Either::Right(Box::new(stream))),
            Err(error) => Err(failed(&error, encrypted)),
        }
    }
}

fn failed(error: &(dyn StdError + 'static), encrypted: bool) -> Failed {
    Failed::explained(connect_failure(error, encrypted), error)
}

impl fmt::Debug for Connector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connector").field("within", &self.within).finish_non_exhaustive()
    }
}
