//! The flags that every subcommand has, and the connection they make.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use http::HeaderValue;
use tokio::time::timeout;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{super::Output, failure::Failure, progress};
use crate::{
    cli::{
        authorization,
        endpoint::{self, Address, TlsFlags, address, innermost, patience},
    },
    config::DEFAULT_LISTEN,
    files,
    proto::queryhistory::query_history_service_client::QueryHistoryServiceClient,
};

/// How long an answer may take when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone without a word is found out, however long a stream is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Larger than any page, and than most plans.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// Where the bridge is, who asks, and how the answer is told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub(super) struct Common {
    /// Address of the bridge, or unix:PATH for a Unix socket
    #[arg(
        long,
        env = "ATOTI_BRIDGE_ADDRESS",
        value_name = "HOST:PORT",
        default_value = DEFAULT_LISTEN,
        value_parser = address
    )]
    address: Address,

    #[command(flatten)]
    tls: TlsFlags,

    /// Credentials for Atoti: a file of one line, the whole value of an `authorization` header, such as
    /// `Basic dXNlcjp1c2Vy`
    #[arg(long, env = "ATOTI_BRIDGE_AUTHORIZATION_FILE", value_name = "FILE")]
    authorization_file: Option<PathBuf>,

    /// How long the answer may take, such as 10s [default: 30s, and what --wait asks for; no end for what streams]
    #[arg(long, value_name = "DURATION", value_parser = patience)]
    timeout: Option<Duration>,

    /// How it is told on standard output [default: table on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    output: Option<Output>,
}

impl Common {
    pub(super) fn output(&self) -> Output {
        let chosen = if io::stdout().is_terminal() { Output::Table } else { Output::Json };
        self.output.unwrap_or(chosen)
    }

    /// Connects to the bridge.
    pub(super) async fn connect(&self) -> Result<Session, Failure> {
        let endpoint = self.tls.endpoint(&self.address).map_err(Failure::Usage)?;
        let authorization = self.authorization_file.as_deref().map(read_authorization).transpose()?;
        let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
        let within = self.timeout.unwrap_or(CONNECT_TIMEOUT).min(CONNECT_TIMEOUT);
        let connected = timeout(within, endpoint::connect(&self.address, endpoint));
        let connected = progress::during("connecting", connected).await;
        let unreachable = |why| Failure::Unreachable(format!("{}: {why}", self.address));
        let channel = connected
            .map_err(|_| unreachable(format!("no connection within {within:?}")))?
            .map_err(|error| unreachable(innermost(&error)))?;
        let client = QueryHistoryServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        Ok(Session { client, authorization, timeout: self.timeout, address: self.address.clone() })
    }
}

fn read_authorization(path: &Path) -> Result<MetadataValue<Ascii>, Failure> {
    let told =
        |mend| Failure::Usage(format!("--authorization-file = {:?}: {mend}", path.display().to_string()));
    let value: HeaderValue =
        files::read(path).and_then(|content| authorization::read(&content)).map_err(told)?;
    let mut value = MetadataValue::try_from(value.as_bytes())
        .map_err(|_| told("write visible ASCII alone into it".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection, and who asks on it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    client: QueryHistoryServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
    address: Address,
}

impl Session {
    /// Clients share the connection.
    pub(super) fn client(&self) -> QueryHistoryServiceClient<Channel> {
        self.client.clone()
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// A call with one answer.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        self.request_waiting(message, None)
    }

    /// The same, when the bridge is asked to wait for something before it answers.
    pub(super) fn request_waiting<T>(&self, message: T, wait: Option<Duration>) -> Request<T> {
        let mut request = self.streaming(message);
        request.set_timeout(self.timeout.unwrap_or_else(|| TIMEOUT.saturating_add(wait.unwrap_or_default())));
        request
    }

    /// A call that goes on for as long as there is something to tell, unless it was said for how long.
    pub(super) fn streaming<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}
