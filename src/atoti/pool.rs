//! Connections that wait for their next request, each on the thread that has opened it.
//!
//! All together, at work or not, there are no more than turns at Atoti: a thread that needs another one when there are
//! as many has one closed that waits elsewhere. The one used last is used next, so that those which are not needed grow
//! old and are closed.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thread_local::ThreadLocal;
use tokio::time::Instant;

use super::{connect::Origin, link::Link};

/// An idle connection is closed by us before Tomcat does it (20 s in a stock `server.xml`), so that a request seldom
/// meets a connection that is just being closed.
const LONGEST_IDLE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Pool {
    most: usize,
    open: Arc<AtomicUsize>,
    /// Of each thread: only it takes from there, the others only close.
    idle: ThreadLocal<Mutex<Vec<Idle>>>,
}

/// A connection that waits. The one used last is the last of its thread.
#[derive(Debug)]
struct Idle {
    origin: Origin,
    since: Instant,
    pooled: Pooled,
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) link: Link,
    open: Arc<AtomicUsize>,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { most: most.get(), open: Arc::default(), idle: ThreadLocal::new() }
    }

    /// One that waits, if there is any.
    pub(super) fn take(&self, origin: &Origin) -> Option<Pooled> {
        let mut idle = locked(self.idle.get()?);
        let newest = idle.iter().rposition(|idle| idle.origin == *origin)?;
        let Idle { since, pooled, .. } = idle.remove(newest);
        (since.elapsed() < LONGEST_IDLE).then_some(pooled)
    }

    /// Lets one wait for its next request.
    pub(super) fn put(&self, origin: &Origin, pooled: Pooled) {
        let idle = Idle { origin: origin.clone(), since: Instant::now(), pooled };
        locked(self.idle.get_or_default()).push(idle);
    }

    /// Makes room for one more, where there is none.
    pub(super) fn make_room(&self) {
        if self.open.load(Ordering::Relaxed) < self.most {
            return;
        }
        for idle in &self.idle {
            let mut idle = locked(idle);
            if !idle.is_empty() {
                drop(idle.remove(0));
                return;
            }
        }
    }

    /// Counts one that has been opened.
    pub(super) fn opened(&self, link: Link) -> Pooled {
        self.open.fetch_add(1, Ordering::Relaxed);
        Pooled { link, open: Arc::clone(&self.open) }
    }

    /// Closes those that have waited for too long.
    pub(super) fn close_idle(&self) {
        for idle in &self.idle {
            let mut idle = locked(idle);
            idle.retain(|idle| idle.since.elapsed() < LONGEST_IDLE);
            // What a busy hour needed is not kept for ever.
            let kept = idle.len();
            idle.shrink_to(2 * kept);
        }
    }
}

fn locked(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    // Nothing is done there that could be left half done.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
