//! A request body that ends before its trailers.
//!
//! tonic merges a request's trailers into its metadata, where they overwrite the headers that a proxy or a layer has
//! checked. gRPC knows no request trailers, so nothing is lost.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};

/// The data of a body.
pub(super) struct HeadersOnly<B>(pub(super) B);

impl<B: Body + Unpin> Body for HeadersOnly<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
