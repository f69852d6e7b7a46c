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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[tokio::test]
    async fn data_passes_and_trailers_do_not() {
        let trailers =
            HeaderMap::from_iter([(http::header::AUTHORIZATION, "Bearer evil".parse().expect("a value"))]);
        let frames = [Frame::data(Bytes::from_static(b"data")), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let collected = HeadersOnly(body).collect().await.expect("a body");
        assert!(collected.trailers().is_none());
        assert_eq!(collected.to_bytes(), "data");
    }
}
