//! The gate: the certain answer to "did any byte of this request leave?".
//!
//! A caller whose call failed must know whether Atoti may act all the same. An HTTP client cannot say: its future may
//! be dropped while another task is just about to write. So the request's body passes through a gate. hyper's
//! HTTP/1.1 client asks for the body after it has put the head into its buffer and before it writes that buffer to the
//! socket; a body never asked for means that nothing was written. Closing the gate and opening it exclude each other,
//! so whoever closes it knows, and it stays true.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

const UNDECIDED: u8 = 0;
const SENT: u8 = 1;
const CLOSED: u8 = 2;

/// Decides once whether a write leaves. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicU8>);

impl Gate {
    /// Forbids sending from now on. True: nothing has left and nothing will. False: it was too late.
    pub fn close(&self) -> bool {
        self.move_to(CLOSED)
    }

    /// Lets everything pass from now on: for requests without a body, which cannot be held back at the last moment.
    pub(super) fn open(&self) {
        self.move_to(SENT);
    }

    /// Whether bytes of the request may have left.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }

    /// A request body that is handed out only through this gate.
    pub(super) fn guard(&self, body: &'static [u8]) -> Content {
        Content(Some((self.clone(), Bytes::from_static(body))))
    }

    /// The first to come decides; true when the gate now stands as asked.
    fn move_to(&self, state: u8) -> bool {
        match self.0.compare_exchange(UNDECIDED, state, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(decided) => decided == state,
        }
    }
}

/// The gate was closed before the request could be sent.
#[derive(Debug, thiserror::Error)]
#[error("the caller's deadline was over before the request was sent")]
pub(super) struct GateClosed;

/// The body of a request: none, or one behind a gate.
#[derive(Debug, Default)]
pub(super) struct Content(Option<(Gate, Bytes)>);

impl Body for Content {
    type Data = Bytes;
    type Error = GateClosed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GateClosed>>> {
        // An error here makes hyper give the connection up with the head still in its buffer.
        Poll::Ready(
            self.0.take().map(
                |(gate, body)| {
                    if gate.move_to(SENT) { Ok(Frame::data(body)) } else { Err(GateClosed) }
                },
            ),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |(_, body)| body.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What it rests on is how the HTTP client writes, and a new version of that may do otherwise.
    #[tokio::test]
    async fn a_closed_gate_holds_back_the_head_too() {
        for closed in [true, false] {
            let (near, mut far) = tokio::io::duplex(4096);
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(near)).await;
            let (mut client, connection) = handshake.expect("HTTP/1.1 begins without a word");
            tokio::spawn(connection);
            let gate = Gate::default();
            let request = http::Request::patch("/").header("host", "atoti").body(gate.guard(b"{}"));
            let request = request.expect("a request");
            assert!(!closed || gate.close());
            tokio::spawn(async move { client.send_request(request).await });
            let left = far.read(&mut [0; 4096]).await.expect("bytes, or the end");
            assert_eq!(left == 0, closed, "{left} bytes left");
        }
    }

    #[test]
    fn a_gate_closes_or_lets_pass_but_never_both() {
        let closed_first = Gate::default();
        assert!(closed_first.close());
        assert!(closed_first.close(), "closing again changes nothing");
        assert!(!closed_first.move_to(SENT));
        assert!(!closed_first.was_sent());

        let sent_first = Gate::default();
        assert!(sent_first.move_to(SENT));
        assert!(sent_first.move_to(SENT), "a repeat passes too");
        assert!(!sent_first.close());
        assert!(sent_first.was_sent());
    }
}
