//! Names to addresses, asked anew for every connection, each time in another order.
//!
//! The connector takes the first address that answers. In the resolver's own order that is always the same one of
//! several, and the others are never used.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower::Service;

#[derive(Clone, Debug)]
pub(super) struct Shuffled;

/// There is no such name, or nobody could say.
#[derive(Debug, thiserror::Error)]
#[error("host name not resolved: {0}")]
pub(super) struct Unresolved(#[source] io::Error);

impl Service<Name> for Shuffled {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            // The connector puts the port in its place.
            let found = lookup_host((name.as_str(), 0)).await.map_err(Unresolved)?;
            let mut addresses: Vec<SocketAddr> = found.collect();
            fastrand::shuffle(&mut addresses);
            Ok(addresses.into_iter())
        })
    }
}
