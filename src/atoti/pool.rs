//! Connections that wait for their next request.
//!
//! As many are kept as were at work at once, which the turns bound: fewer, and busy moments would end with connections
//! thrown away. The one used last is used next, so that those which are not needed grow old and are closed.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{connect::Origin, link::Link};

/// An idle connection is closed by us before Tomcat does it (20 s in a stock `server.xml`), so that a request seldom
/// meets a connection that is just being closed.
const LONGEST_IDLE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

/// The connections to one place that wait, the one used last at the end.
#[derive(Debug)]
struct Idle {
    origin: Origin,
    links: Vec<(Instant, Link)>,
}

impl Pool {
    /// One that waits, if there is any.
    pub(super) fn take(&self, origin: &Origin) -> Option<Link> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pool.iter_mut().find(|idle| idle.origin == *origin)?;
        let (since, link) = idle.links.pop()?;
        if since.elapsed() < LONGEST_IDLE {
            return Some(link);
        }
        // All others have waited longer.
        idle.links.clear();
        None
    }

    /// Lets one wait for its next request.
    pub(super) fn put(&self, origin: &Origin, link: Link) {
        let waiting = (Instant::now(), link);
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pool.iter_mut().find(|idle| idle.origin == *origin) {
            Some(idle) => idle.links.push(waiting),
            None => pool.push(Idle { origin: origin.clone(), links: vec![waiting] }),
        }
    }

    /// Closes those that have waited for too long.
    pub(super) fn close_idle(&self) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for idle in &mut *pool {
            idle.links.retain(|(since, _)| since.elapsed() < LONGEST_IDLE);
            // What a busy hour needed is not kept for ever.
            idle.links.shrink_to(2 * idle.links.len());
        }
        pool.retain(|idle| !idle.links.is_empty());
    }
}
