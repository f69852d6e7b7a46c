//! The answers of a streaming call, one by one, as they come.

use std::marker::PhantomData;

use bytes::{Buf as _, BytesMut};
use h2::{RecvStream, client::ResponseFuture};
use http::HeaderMap;
use prost::Message;

use super::{client::Reply, within};

/// A streaming call. Dropped, it is cancelled.
pub struct Stream<M> {
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    headers: HeaderMap,
    buffer: BytesMut,
    message: PhantomData<M>,
}

impl<M: Message + Default> Stream<M> {
    pub fn new(response: ResponseFuture) -> Self {
        Self {
            head: Some(response),
            body: None,
            headers: HeaderMap::new(),
            buffer: BytesMut::new(),
            message: PhantomData,
        }
    }

    /// The next answer; nothing at the end.
    pub async fn next(&mut self) -> Option<M> {
        within("an answer of the stream", async {
            loop {
                if let Some(message) = self.buffered() {
                    return Some(message);
                }
                let chunk = self.body().await.data().await?.expect("a whole stream");
                self.buffer.extend_from_slice(&chunk);
                let body = self.body.as_mut().expect("it is there");
                body.flow_control().release_capacity(chunk.len()).expect("it was received");
            }
        })
        .await
    }

    fn buffered(&mut self) -> Option<M> {
        let length = u32::from_be_bytes(self.buffer.get(1..5)?.try_into().expect("four bytes")) as usize;
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.advance(5);
        Some(M::decode(self.buffer.split_to(length)).expect("the message promised"))
    }

    async fn body(&mut self) -> &mut RecvStream {
        if let Some(head) = self.head.take() {
            let (head, body) = head.await.expect("a head").into_parts();
            assert_eq!(head.status, 200);
            self.headers = head.headers;
            self.body = Some(body);
        }
        self.body.as_mut().expect("it has come")
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<M> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }

    /// How it ended, once it has.
    pub async fn end(mut self) -> Reply {
        assert!(self.rest().await.is_empty(), "nothing unread");
        let trailers = self.body().await.trailers().await.expect("trailers");
        let trailers = trailers.unwrap_or_else(|| self.headers.clone());
        Reply { http_status: 200, headers: self.headers, body: Vec::new(), trailers }
    }
}
