//! `healthcheck`: asks a running bridge for its health, for containers that have neither a shell nor a probe for gRPC.

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
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Code, Status,
    transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

use crate::{
    config::{self, DEFAULT_LISTEN},
    files, tls,
};

/// What the probe takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Healthcheck {
    /// Address of the bridge, or unix:PATH for a Unix socket; one to listen on everywhere, such as 0.0.0.0:50051, is
    /// asked on this machine
    #[arg(
        long,
        env = "ATOTI_BRIDGE_LISTEN",
        value_name = "HOST:PORT",
        default_value = DEFAULT_LISTEN,
        value_parser = address
    )]
    address: Address,

    /// Name to ask about: that of a service, upstream for Atoti's own health, or nothing for the bridge as a whole
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    /// How long the answer may take, connecting included
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = patience)]
    timeout: Duration,

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

/// Where a bridge can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
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

fn address(value: &str) -> Result<Address, String> {
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

fn patience(value: &str) -> Result<Duration, String> {
    let duration = config::duration(value)?;
    if duration.is_zero() {
        Err("nobody answers in no time; write for example 1s".to_owned())
    } else {
        Ok(duration)
    }
}

impl Healthcheck {
    /// How to reach the bridge, or what is wrong with the flags.
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        let scheme = if self.tls_ca_file.is_some() { "https" } else { "http" };
        let authority = match &self.address {
            Address::Tcp(authority) => authority.as_str(),
            Address::Unix(_) => "localhost",
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
            .map_err(|_| format!("--address = {:?}: not a host with a port", self.address.to_string()))?;
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

    async fn ask(&self, endpoint: Endpoint) -> Result<ServingStatus, String> {
        let channel = self.connect(endpoint).await.map_err(|error| {
            format!("the bridge cannot be reached on {}: {}", self.address, innermost(&error))
        })?;
        let request = HealthCheckRequest { service: self.service.clone() };
        match HealthClient::new(channel).check(request).await {
            Ok(response) => Ok(response.into_inner().status()),
            // How the protocol has it for a single question.
            Err(status) if status.code() == Code::NotFound => Ok(ServingStatus::ServiceUnknown),
            Err(status) => Err(self.no_answer(&status)),
        }
    }

    async fn connect(&self, endpoint: Endpoint) -> Result<Channel, transport::Error> {
        match &self.address {
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

    fn no_answer(&self, status: &Status) -> String {
        let (address, code) = (&self.address, status.code());
        if code == Code::Unimplemented {
            return format!("what answers on {address} has no grpc.health.v1: is it the bridge?");
        }
        let cause = match status.source() {
            Some(source) => innermost(source),
            None => status.message().escape_debug().to_string(),
        };
        let hint = if self.tls_ca_file.is_none() { "; where it serves TLS, give --tls-ca-file" } else { "" };
        format!("no answer from {address}: {code:?}: {cause}{hint}")
    }
}

/// A file's content, when it fits.
fn file(flag: &str, path: &Path, fits: impl FnOnce(&[u8]) -> Result<(), String>) -> Result<Vec<u8>, String> {
    files::read(path)
        .and_then(|content| fits(&content).map(|()| content))
        .map_err(|mend| format!("{flag} = {:?}: {mend}", path.display().to_string()))
}

/// The cause that says most: outer ones only say that something failed.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.last().map(|cause| cause.to_string().escape_debug().to_string()).unwrap_or_default()
}

pub(super) async fn run(flags: Healthcheck, endpoint: Endpoint) -> Result<(), String> {
    let asked = timeout(flags.timeout, flags.ask(endpoint)).await;
    let status = asked.map_err(|_| {
        format!("no answer from {} within {:?}; --timeout allows more", flags.address, flags.timeout)
    })??;
    println!("{}", status.as_str_name());
    let what = if flags.service.is_empty() { "the bridge" } else { &flags.service };
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::NotServing => Err(format!("{what} does not serve now")),
        ServingStatus::ServiceUnknown => {
            Err(format!("the bridge has no health for the name {:?}; leave --service out", flags.service))
        }
        ServingStatus::Unknown => Err(format!("the health of {what} is not known")),
    }
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
