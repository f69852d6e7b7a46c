//! Names to addresses, asked anew for every connection, each time in another order.
//!
//! The HTTP client connects to the first address that answers. In the resolver's own order that is always the same
//! one of several, and the others are never used.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

#[derive(Debug)]
pub(super) struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts the port in its place.
            let mut addresses: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            fastrand::shuffle(&mut addresses);
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
