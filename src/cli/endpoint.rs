//! Where a bridge is and how it is reached: the flags and the connection that `healthcheck` and `query` share.

use std::{
    error::Error as StdError,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tower::service_fn;

use crate::{config, files, tls};

/// Where a bridge can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(Authority),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => authority.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Reads an address; one to listen on everywhere is asked on this machine.
pub(super) fn address(value: &str) -> Result<Address, String> {
    if let Some(path) = config::unix_path(value) {
        return path.map(Address::Unix);
    }
    let value =
        value.parse().map_or_else(|_| value.to_owned(), |ip: SocketAddr| super::from_here(ip).to_string());
    let authority: Option<Authority> = value.parse().ok();
    authority
        .filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
        .filter(|authority| authority.port_u16().is_some_and(|port| port != 0))
        .map(Address::Tcp)
        .ok_or_else(|| {
            "not a host with a port; write for example 127.0.0.1:50051 or unix:/run/bridge/grpc.sock"
                .to_owned()
        })
}

/// Reads how long an answer may take.
pub(super) fn patience(value: &str) -> Result<Duration, String> {
    let duration = config::duration(value)?;
    if duration.is_zero() {
        Err("nobody answers in no time; write for example 1s".to_owned())
    } else {
        Ok(duration)
    }
}

/// How the bridge proves who it is, and who asks proves it.
#[derive(Clone, Debug, Args)]
pub(super) struct TlsFlags {
    /// Authorities that the bridge's certificate must come from; PEM. With it, the bridge is asked over TLS
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,

    /// Name that the bridge's certificate must have [default: the host of the address]
    #[arg(long, value_name = "NAME", requires = "tls_ca_file")]
    tls_server_name: Option<String>,

    /// Certificate to show to the bridge, with its chain; PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca_file", "tls_key_file"])]
    tls_cert_file: Option<PathBuf>,

    /// Key of that certificate; PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
}

impl TlsFlags {
    /// Whether the bridge is asked over TLS.
    pub(super) const fn are_on(&self) -> bool {
        self.tls_ca_file.is_some()
    }

    /// How to reach the bridge, or what is wrong with the flags.
    pub(super) fn endpoint(&self, address: &Address) -> Result<Endpoint, String> {
        let scheme = if self.are_on() { "https" } else { "http" };
        let authority = match address {
            Address::Tcp(authority) => authority.as_str(),
            Address::Unix(_) => "localhost",
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
            .map_err(|_| format!("--address = {:?}: not a host with a port", address.to_string()))?;
        let Some(ca) = &self.tls_ca_file else { return Ok(endpoint) };
        let ca = file("--tls-ca-file", ca, |pem| tls::certificates(pem).map(drop))?;
        let mut client = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let (Some(cert), Some(key)) = (&self.tls_cert_file, &self.tls_key_file) {
            let cert = file("--tls-cert-file", cert, |pem| tls::certificates(pem).map(drop))?;
            let key = file("--tls-key-file", key, |pem| tls::matching(&cert, pem))?;
            client = client.identity(Identity::from_pem(cert, key));
        }
        if let Some(name) = &self.tls_server_name {
            client = client.domain_name(name);
        }
        endpoint.tls_config(client).map_err(|error| match &self.tls_server_name {
            Some(name) => format!("--tls-server-name = {name:?}: {}", innermost(&error)),
            None => format!("--tls-ca-file: {}", innermost(&error)),
        })
    }
}

/// Connects; the channel connects anew by itself when it must.
pub(super) async fn connect(address: &Address, endpoint: Endpoint) -> Result<Channel, transport::Error> {
    match address {
        Address::Tcp(_) => endpoint.connect().await,
        Address::Unix(path) => {
            let path = path.clone();
            let socket = service_fn(move |_| {
                let connected = UnixStream::connect(path.clone());
                async { connected.await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(socket).await
        }
    }
}

/// A file's content, when it fits.
fn file(flag: &str, path: &Path, fits: impl FnOnce(&[u8]) -> Result<(), String>) -> Result<Vec<u8>, String> {
    files::read(path)
        .and_then(|content| fits(&content).map(|()| content))
        .map_err(|mend| format!("{flag} = {:?}: {mend}", path.display().to_string()))
}

/// The cause that says most: outer ones only say that something failed.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.last().map(|cause| cause.to_string().escape_debug().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_is_asked_on_this_machine() {
        for (value, asked) in [
            ("0.0.0.0:50051", "127.0.0.1:50051"),
            ("[::]:50051", "[::1]:50051"),
            ("192.0.2.1:50051", "192.0.2.1:50051"),
            ("bridge.example:50051", "bridge.example:50051"),
            ("unix:/run/bridge.sock", "unix:/run/bridge.sock"),
            ("unix:///run/bridge.sock", "unix:/run/bridge.sock"),
        ] {
            assert_eq!(address(value).map(|address| address.to_string()), Ok(asked.to_owned()));
        }
        for wrong in
            ["", "127.0.0.1", ":50051", "127.0.0.1:0", "a@b:1", "http://a:1", "a:1/b", "a:70000", "unix:"]
        {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
