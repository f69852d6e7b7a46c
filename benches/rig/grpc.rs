//! gRPC calls, over the h2 crate itself: what comes back is seen as it is, and little stands between.

use std::{
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use h2::client::{self, SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::net::TcpStream;

use crate::{
    Failure,
    args::Pace,
    message::{Call, Messages},
    pace::{self, Caller},
    record::Outcome,
};

/// A page of a listing arrives without asking for more.
const WINDOW: u32 = 4 * 1024 * 1024;

/// Makes gRPC calls and prints, as JSON, what became of them
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Address to call
    #[arg(long)]
    target: SocketAddr,
    /// What to call there
    #[arg(long, value_enum, default_value_t = Call::Cancel)]
    call: Call,
    #[command(flatten)]
    pace: Pace,
}

/// Callers of one method.
struct Callers {
    call: Call,
    uri: Uri,
    headers: HeaderMap,
    connections: Vec<Connection>,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let count = options.pace.connections.get();
    rlimit::increase_nofile_limit(u64::from(count) + 100)?;
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(options.target).await?);
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (header::TE, HeaderValue::from_static("trailers")),
    ];
    let callers = Callers {
        call: options.call,
        uri: format!("http://{}{}", options.target, options.call.path()).try_into()?,
        headers: headers.into_iter().collect(),
        connections,
    };
    pace::drive(callers, options.pace).await
}

impl Caller for Callers {
    async fn call(&self, connection: usize, number: u64, deadline: Option<Instant>) -> Outcome {
        match self.status(connection, number, deadline).await {
            Ok(0) => Outcome::Good(0),
            Ok(code) => Outcome::Other(code),
            Err(why) => {
                let reason = why.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
                reason.map_or(Outcome::Broken, |reason| Outcome::Reset(reason.into()))
            }
        }
    }
}

impl Callers {
    /// Makes a call, and reads its answer to the end: the `grpc-status`.
    async fn status(
        &self,
        connection: usize,
        number: u64,
        deadline: Option<Instant>,
    ) -> Result<u16, Failure> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            request.headers_mut().insert("grpc-timeout", timeout(left)?);
        }
        let mut sender = self.connections[connection].ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(self.call.request(number), true)?;

        let response = response.await?;
        if response.status() != StatusCode::OK {
            return Err("an answer, but not of gRPC".into());
        }
        // An error may come in the headers alone.
        if let Some(status) = grpc_status(response.headers()) {
            return Ok(status);
        }
        let mut body = response.into_body();
        let mut messages = Messages::default();
        while let Some(data) = body.data().await {
            let data = data?;
            messages.read(&data);
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?;
        let status = trailers.as_ref().and_then(grpc_status).ok_or("no grpc-status")?;
        if status == 0 && messages.begun != self.call.answers() {
            return Err("not as many messages as there should be".into());
        }
        Ok(status)
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn timeout(left: Duration) -> Result<HeaderValue, Failure> {
    Ok(HeaderValue::try_from(format!("{}m", left.as_millis().max(1)))?)
}

/// A connection, or the next one: servers send callers away when a connection has grown old.
struct Connection {
    target: SocketAddr,
    current: Mutex<(u64, SendRequest<Bytes>)>,
    renewing: tokio::sync::Mutex<()>,
}

impl Connection {
    async fn open(target: SocketAddr) -> Result<Self, Failure> {
        let current = Mutex::new((0, connect(target).await?));
        Ok(Self { target, current, renewing: tokio::sync::Mutex::default() })
    }

    /// What a request can be sent with. Nothing has been sent on a connection that does not take it.
    async fn ready(&self) -> Result<SendRequest<Bytes>, Failure> {
        let (age, sender) = self.current();
        match sender.ready().await {
            Ok(sender) => Ok(sender),
            Err(_) => {
                let _turn = self.renewing.lock().await;
                // Somebody else may have done it.
                if self.current().0 == age {
                    let renewed = connect(self.target).await?;
                    *self.current.lock().expect("nobody panics with it") = (age + 1, renewed);
                }
                Ok(self.current().1.ready().await?)
            }
        }
    }

    fn current(&self) -> (u64, SendRequest<Bytes>) {
        self.current.lock().expect("nobody panics with it").clone()
    }
}

async fn connect(target: SocketAddr) -> Result<SendRequest<Bytes>, Failure> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .enable_push(false)
        // Until the server has said how many it takes; h2 alone would send any number, and be refused.
        .initial_max_send_streams(100)
        .handshake(stream)
        .await?;
    // How it ends is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}
