//! `healthcheck`: asks a running bridge for its health, for containers that have neither a shell nor a probe for gRPC.

use std::{error::Error as _, time::Duration};

use clap::Args;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::endpoint::{self, Address, TlsFlags, address, innermost, patience};
use crate::config::DEFAULT_LISTEN;

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

    #[command(flatten)]
    tls: TlsFlags,
}

impl Healthcheck {
    /// How to reach the bridge, or what is wrong with the flags.
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        self.tls.endpoint(&self.address)
    }

    async fn ask(&self, endpoint: Endpoint) -> Result<ServingStatus, String> {
        let channel = endpoint::connect(&self.address, endpoint).await.map_err(|error| {
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

    fn no_answer(&self, status: &Status) -> String {
        let (address, code) = (&self.address, status.code());
        if code == Code::Unimplemented {
            return format!("what answers on {address} has no grpc.health.v1: is it the bridge?");
        }
        let cause = match status.source() {
            Some(source) => innermost(source),
            None => status.message().escape_debug().to_string(),
        };
        let hint = if !self.tls.are_on() { "; where it serves TLS, give --tls-ca-file" } else { "" };
        format!("no answer from {address}: {code:?}: {cause}{hint}")
    }
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
