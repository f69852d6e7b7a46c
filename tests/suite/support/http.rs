//! A plain HTTP/1.1 client that sends targets and headers as they are given: no cookies, no redirects, no clean paths.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::within;

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("it listens");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(async move { drop(connection.await) });
        Self { sender }
    }

    /// Sends one request and reads the whole answer, or says that the connection broke.
    pub async fn try_send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> hyper::Result<Answer> {
        within("an answer", async {
            self.sender.ready().await?;
            let mut request = Request::builder().method(method).uri(target).header("host", "atoti");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::from(body.to_owned())).expect("a request");
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
        })
        .await
    }

    pub async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_send(method, target, headers, body).await.expect("an answer")
    }
}

impl Answer {
    /// A header, or nothing when it is missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
