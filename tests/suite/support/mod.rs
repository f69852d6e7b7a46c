//! What the tests stand on: the real program as a process, a gRPC client that shows the wire, and upstreams that
//! misbehave byte by byte. Nothing in here uses the library's own types for what goes over the wire.

pub mod bridge;
pub mod certs;
pub mod chaos;
pub mod client;
pub mod collector;
pub mod frames;
pub mod http;
pub mod messages;
pub mod query;
pub mod stream;
pub mod upstream;

use std::{future::Future, time::Duration};

/// Longer than anything here takes; only a failure waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until there is something to see.
///
/// # Panics
///
/// When nothing comes for [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, seen).await
}

/// Waits for something, but not for ever.
///
/// # Panics
///
/// When it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
