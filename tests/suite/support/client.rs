//! A gRPC client that shows everything that crosses the wire, and its own spelling of the messages: field numbers are
//! public surface, so the tests write them down a second time.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic_types::pb;

use super::{stream::Stream, within};

const GET_QUERY: &str = "/atoti.queryhistory.v1.QueryHistoryService/GetQuery";
const CANCEL_QUERY: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";

#[derive(Clone, PartialEq, Message)]
pub struct CancelQueryRequest {
    #[prost(string, tag = "1")]
    pub query_id: String,
    #[prost(message, optional, tag = "2")]
    pub wait: Option<prost_types::Duration>,
    #[prost(string, tag = "3")]
    pub reason: String,
    #[prost(bool, tag = "4")]
    pub allow_finished: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetQueryRequest {
    #[prost(string, tag = "1")]
    pub query_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetQueryResponse {
    #[prost(message, optional, tag = "1")]
    pub query: Option<Query>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CancelQueryResponse {
    #[prost(int32, tag = "1")]
    pub outcome: i32,
    #[prost(message, optional, tag = "2")]
    pub query: Option<Query>,
}

pub const REQUESTED: i32 = 1;
pub const CANCELLED: i32 = 2;
pub const FINISHED: i32 = 3;

#[derive(Clone, PartialEq, Message)]
pub struct Query {
    #[prost(string, tag = "1")]
    pub query_id: String,
    #[prost(int32, tag = "2")]
    pub status: i32,
    #[prost(int32, tag = "3")]
    pub kind: i32,
    #[prost(string, tag = "4")]
    pub text: String,
    #[prost(string, tag = "5")]
    pub node_name: String,
    #[prost(message, optional, tag = "6")]
    pub start_time: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "7")]
    pub end_time: Option<prost_types::Timestamp>,
    #[prost(string, tag = "8")]
    pub trace_id: String,
    #[prost(string, tag = "9")]
    pub username: String,
    #[prost(btree_map = "string, string", tag = "10")]
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// A request to cancel a query, nothing else set.
pub fn cancel(query_id: &str) -> CancelQueryRequest {
    CancelQueryRequest { query_id: query_id.to_owned(), ..Default::default() }
}

/// The same, waiting for the query to end.
pub fn cancel_and_wait(query_id: &str, seconds: i64) -> CancelQueryRequest {
    CancelQueryRequest { wait: Some(prost_types::Duration { seconds, nanos: 0 }), ..cancel(query_id) }
}

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Client {
    connection: SendRequest<Bytes>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("it listens")
    }

    /// Connects, or says why not.
    pub async fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = within("a connection", TcpStream::connect(address)).await?;
        let handshake = within("HTTP/2", h2::client::handshake(stream)).await;
        let (client, connection) = handshake.map_err(std::io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { connection: client })
    }

    /// Speaks over any stream of bytes.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        Self { connection: client }
    }

    /// A cancel that may fail below gRPC.
    pub async fn try_cancel(&self, request: &CancelQueryRequest) -> Result<Reply, h2::Error> {
        within("an answer", async {
            let mut connection = self.connection.clone().ready().await?;
            let (response, mut stream) = connection.send_request(head(CANCEL_QUERY, &[]), false)?;
            stream.send_data(frame(&request.encode_to_vec()), true)?;
            Reply::try_read(response).await
        })
        .await
    }

    pub async fn cancel(&self, request: &CancelQueryRequest) -> Reply {
        self.cancel_with(request, &[]).await
    }

    pub async fn cancel_with(&self, request: &CancelQueryRequest, headers: &[(&'static str, &str)]) -> Reply {
        self.call(CANCEL_QUERY, &request.encode_to_vec(), headers).await
    }

    pub async fn get(&self, query_id: &str) -> Reply {
        self.get_with(query_id, &[]).await
    }

    pub async fn get_with(&self, query_id: &str, headers: &[(&'static str, &str)]) -> Reply {
        let request = GetQueryRequest { query_id: query_id.to_owned() };
        self.call(GET_QUERY, &request.encode_to_vec(), headers).await
    }

    /// Starts a cancel and yields its stream, to do with it as one likes.
    pub async fn start_cancel(
        &self,
        request: &CancelQueryRequest,
        headers: &[(&'static str, &str)],
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        self.start(CANCEL_QUERY, &request.encode_to_vec(), headers).await
    }

    /// A cancel that ends with trailers.
    pub async fn cancel_with_trailers(
        &self,
        request: &CancelQueryRequest,
        headers: &[(&'static str, &str)],
        trailers: &[(&'static str, &str)],
    ) -> Reply {
        let mut connection = self.connection.clone().ready().await.expect("a living connection");
        let (response, mut stream) =
            connection.send_request(head(CANCEL_QUERY, headers), false).expect("sent");
        stream.send_data(frame(&request.encode_to_vec()), false).expect("sent");
        stream.send_trailers(header_map(trailers)).expect("sent");
        within("an answer", Reply::read(response)).await
    }

    /// One call of a method of the service, by the method's name.
    pub async fn method(
        &self,
        name: &str,
        request: &impl Message,
        headers: &[(&'static str, &str)],
    ) -> Reply {
        self.call(&path(name), &request.encode_to_vec(), headers).await
    }

    /// Starts a call of a streaming method, by the method's name.
    pub async fn stream<M: Message + Default>(
        &self,
        name: &str,
        request: &impl Message,
        headers: &[(&'static str, &str)],
    ) -> Stream<M> {
        let (response, _) = self.start(&path(name), &request.encode_to_vec(), headers).await;
        Stream::new(response)
    }

    /// One unary call.
    pub async fn call(&self, path: &str, message: &[u8], headers: &[(&'static str, &str)]) -> Reply {
        within("an answer", async {
            let (response, _stream) = self.start(path, message, headers).await;
            Reply::read(response).await
        })
        .await
    }

    pub async fn start(
        &self,
        path: &str,
        message: &[u8],
        headers: &[(&'static str, &str)],
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut connection = self.connection.clone().ready().await.expect("a living connection");
        let (response, mut stream) = connection.send_request(head(path, headers), false).expect("sent");
        // A server may have answered already, and wants no more of the request then (RFC 9113, section 8.1). Whatever else
        // keeps it from being sent, the answer tells.
        let _ = stream.send_data(frame(message), true);
        (response, stream)
    }
}

fn path(method: &str) -> String {
    format!("/atoti.queryhistory.v1.QueryHistoryService/{method}")
}

fn head(path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let request = Request::post(format!("http://bridge{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut request = request.body(()).expect("a request");
    request.headers_mut().extend(header_map(headers));
    request
}

fn header_map(headers: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).expect("a header value"));
    }
    map
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a small message"));
    frame.put_slice(message);
    frame.freeze()
}

/// All that came back.
#[derive(Debug)]
pub struct Reply {
    pub http_status: u16,
    pub headers: HeaderMap,
    /// The body, gRPC framing included.
    pub body: Vec<u8>,
    /// The trailers; those of a trailers-only answer are its headers.
    pub trailers: HeaderMap,
}

impl Reply {
    pub async fn read(response: h2::client::ResponseFuture) -> Self {
        Self::try_read(response).await.expect("a whole answer")
    }

    async fn try_read(response: h2::client::ResponseFuture) -> Result<Self, h2::Error> {
        let (head, mut stream) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            stream.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        let trailers = stream.trailers().await?.unwrap_or_else(|| head.headers.clone());
        Ok(Self { http_status: head.status.as_u16(), headers: head.headers, body, trailers })
    }

    pub fn code(&self) -> i32 {
        assert_eq!(self.http_status, 200, "gRPC failures are HTTP successes: {self:?}");
        self.text("grpc-status")
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status: {self:?}"))
    }

    /// A trailer.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.trailers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// The message of a success.
    pub fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.code(), 0, "{:?} {:?}", self.text("grpc-message"), self.error().info);
        let (prefix, message) = self.body.split_at(5);
        assert_eq!(prefix, [&[0][..], &u32::try_from(message.len()).expect("small").to_be_bytes()].concat());
        M::decode(message).expect("the message promised")
    }

    pub fn cancelled(&self) -> CancelQueryResponse {
        self.message()
    }

    /// The details of a failure.
    pub fn error(&self) -> Failure {
        let Some(details) = self.trailers.get("grpc-status-details-bin") else {
            return Failure::default();
        };
        let details = base64_decode(details.as_bytes());
        let status = pb::Status::decode(&*details).expect("a google.rpc.Status");
        assert_eq!(status.code, self.code(), "the status and its details agree");
        let mut failure = Failure { message: status.message, ..Failure::default() };
        for detail in status.details {
            let name = detail.type_url.rsplit('/').next().expect("a type");
            let bytes = &*detail.value;
            match name {
                "google.rpc.ErrorInfo" => {
                    assert!(failure.info.is_none(), "exactly one ErrorInfo");
                    failure.info = Some(pb::ErrorInfo::decode(bytes).expect("decodes"));
                }
                "google.rpc.RequestInfo" => failure.request = pb::RequestInfo::decode(bytes).ok(),
                "google.rpc.RetryInfo" => failure.retry = pb::RetryInfo::decode(bytes).ok(),
                "google.rpc.BadRequest" => failure.bad_request = pb::BadRequest::decode(bytes).ok(),
                "google.rpc.ResourceInfo" => failure.resource = pb::ResourceInfo::decode(bytes).ok(),
                "google.rpc.PreconditionFailure" => {
                    failure.precondition = pb::PreconditionFailure::decode(bytes).ok();
                }
                other => panic!("an unexpected detail: {other}"),
            }
        }
        failure
    }

    /// Everything in it, as one text, to look for what must not be there. Details are decoded.
    pub fn everything(&self) -> String {
        let details = self.trailers.get("grpc-status-details-bin").map(|d| base64_decode(d.as_bytes()));
        let details = details.unwrap_or_default();
        format!("{self:?} {} {}", String::from_utf8_lossy(&self.body), String::from_utf8_lossy(&details))
    }
}

/// The decoded details of a status.
#[derive(Debug, Default)]
pub struct Failure {
    pub message: String,
    pub info: Option<pb::ErrorInfo>,
    pub request: Option<pb::RequestInfo>,
    pub retry: Option<pb::RetryInfo>,
    pub bad_request: Option<pb::BadRequest>,
    pub resource: Option<pb::ResourceInfo>,
    pub precondition: Option<pb::PreconditionFailure>,
}

impl Failure {
    pub fn reason(&self) -> &str {
        self.info.as_ref().map_or("", |info| &info.reason)
    }

    /// An entry of the `ErrorInfo`'s metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.info.as_ref()?.metadata.get(key).map(String::as_str)
    }
}

fn base64_decode(text: &[u8]) -> Vec<u8> {
    use base64::{Engine as _, alphabet, engine};

    let lenient =
        engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent);
    engine::GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(text).expect("base64")
}
