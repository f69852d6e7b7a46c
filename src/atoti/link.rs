//! One connection to Atoti, driven by whoever uses it.
//!
//! hyper's connection is a future that somebody must poll. Mostly that is a task of its own, which the caller wakes with
//! a request and is woken by with the answer. Here the caller polls it itself: one task is woken for a call instead of
//! two in turn, and a call that is given up takes its connection with it.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{connect::Stream, gate::Content};

type Http1 = Connection<TokioIo<Stream>, Content>;

/// An open connection, one request at a time.
pub(super) struct Link {
    requests: SendRequest<Content>,
    /// None once it has ended. It is dropped then, as whoever still waits for an answer is told by that.
    connection: Option<Pin<Box<Http1>>>,
}

/// Why there is no answer.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request, when it has not been touched: another connection can have it.
    pub(super) untouched: Option<Request<Content>>,
}

impl Link {
    pub(super) async fn new(stream: Stream) -> Result<Self, hyper::Error> {
        // It says nothing by itself: HTTP/1.1 begins with the first request. Head and body leave as one piece: a body is
        // some twenty bytes, and to hand two pieces to the kernel takes longer than to put them together.
        let (requests, connection) = Builder::new().writev(false).handshake(TokioIo::new(stream)).await?;
        Ok(Self { requests, connection: Some(Box::pin(connection)) })
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Content>) -> Result<Response<Incoming>, Unanswered> {
        let answer = self.requests.try_send_request(request);
        self.drive(answer).await.map_err(|mut unanswered| {
            let untouched = unanswered.take_message();
            Unanswered { error: unanswered.into_error(), untouched }
        })
    }

    /// The next piece of an answer's body.
    pub(super) async fn piece(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.drive(body.frame()).await? {
                Ok(frame) => {
                    if let Ok(piece) = frame.into_data() {
                        return Some(Ok(piece));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether it can take another request: its answer has been read to the end, and Atoti keeps it open.
    pub(super) fn is_free(&mut self) -> bool {
        if !self.requests.is_ready() {
            // It may not have been polled since the end of the body.
            self.poll(&mut Context::from_waker(Waker::noop()));
        }
        self.requests.is_ready()
    }

    async fn drive<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        poll_fn(|context| {
            self.poll(context);
            what.as_mut().poll(context)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            // How it ended is told to whoever waits for an answer.
            && let Poll::Ready(_) = connection.as_mut().poll(context)
        {
            self.connection = None;
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Link")
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::either::Either;

    use super::*;

    /// Nothing of it has left, and that is certain: it may be sent over another connection, or told as not sent.
    #[tokio::test]
    async fn a_request_comes_back_whole_from_a_connection_that_has_been_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        drop(listener.accept().await.expect("accepted"));
        // The end has come.
        stream.readable().await.expect("readable");
        let mut link = Link::new(Either::Left(stream)).await.expect("HTTP/1.1 begins without a word");
        let request = Request::delete("/query/42").body(Content::default()).expect("a request");
        let unanswered = link.send(request).await.expect_err("nobody answers");
        assert_eq!(unanswered.untouched.expect("the request").uri(), "/query/42");
    }
}
