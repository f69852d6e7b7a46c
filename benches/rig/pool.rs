//! HTTP/1.1 connections kept alive, one for each call in flight.

use std::{net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{Failure, message};

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Pool {
    server: SocketAddr,
    host: HeaderValue,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Pool {
    pub(crate) fn new(server: SocketAddr) -> Result<Self, Failure> {
        let host = HeaderValue::from_str(&server.to_string())?;
        Ok(Self { server, host, idle: Mutex::default() })
    }

    /// Opens so many connections, to be there when they are needed.
    pub(crate) async fn fill(&self, connections: u32) -> Result<(), Failure> {
        for _ in 0..connections {
            let connection = self.connect().await?;
            self.idle.lock().expect("nobody panics with it").push(connection);
        }
        Ok(())
    }

    /// Stops a query: what the server answered.
    pub(crate) async fn cancel(&self, id: &str) -> Result<StatusCode, Failure> {
        let mut request = Request::new(Full::new(Bytes::from_static(message::CANCELLED)));
        *request.method_mut() = Method::PATCH;
        *request.uri_mut() = [message::QUERY_PATH, id].concat().try_into()?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));

        let mut connection = self.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        // Unread, it would keep the connection from being used again.
        response.into_body().collect().await?;
        self.idle.lock().expect("nobody panics with it").push(connection);
        Ok(status)
    }

    async fn ready(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        loop {
            let idle = self.idle.lock().expect("nobody panics with it").pop();
            let Some(mut connection) = idle else { return self.connect().await };
            // The server may have closed it.
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }
}
