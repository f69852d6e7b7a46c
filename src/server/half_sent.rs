//! What the requests of one connection hold before they have come to their end, and a bound to it.
//!
//! HTTP/2's windows alone are none: a message's pieces are taken out of them as they come, and gathered until the message
//! is whole; headers are not subject to them at all. So both are counted, for each connection, and the request that goes
//! beyond the bound is refused. What has come to its end is no longer counted: from there on, calls at work are bounded.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::MAX_MESSAGE_BYTES;
use crate::{
    service::{self, Caller},
    status::Failure,
};

/// As much of them as a connection may have: eight KiB for each stream that it may open, many times what a call needs.
pub(super) const MOST_BYTES: usize = 2 * 1024 * 1024;
/// What HTTP/2 reckons for a header beside its name and its value.
const HEADER_OVERHEAD: usize = 32;
/// The most that a body holds: a message, its prefix, and the frame that came with its end. A stream of messages goes on
/// for long, and holds one at a time.
const MOST_OF_A_BODY: usize = MAX_MESSAGE_BYTES + 5 + 16 * 1024;

/// What one request holds; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    caller: Arc<Caller>,
    bytes: usize,
}

impl Held {
    /// Counts the headers of a request whose body is yet to come.
    ///
    /// # Errors
    ///
    /// [`Failure::Overloaded`], when its connection has too much of it.
    pub(super) fn new(caller: &Arc<Caller>, headers: &HeaderMap) -> Result<Self, Failure> {
        let mut held = Self { caller: Arc::clone(caller), bytes: 0 };
        let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD);
        held.grow(size.sum())?;
        Ok(held)
    }

    fn grow(&mut self, more: usize) -> Result<(), Failure> {
        self.bytes += more;
        let before = self.caller.peer.half_sent.fetch_add(more, Ordering::Relaxed);
        if before + more > MOST_BYTES { Err(Failure::Overloaded) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.caller.peer.half_sent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request's body; it ends with an error when its connection has too much of what has not come to its end.
pub(super) struct HalfSent<B> {
    pub(super) body: B,
    pub(super) held: Held,
    /// So much of it has come, up to the most that counts.
    pub(super) received: usize,
}

impl<B> Body for HalfSent<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        let more = data.map_or(0, Bytes::len).min(MOST_OF_A_BODY - self.received);
        self.received += more;
        if let Err(failure) = self.held.grow(more) {
            // The gRPC library hands it on to the caller.
            return Poll::Ready(Some(Err(service::refuse(&failure, &self.held.caller).into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
