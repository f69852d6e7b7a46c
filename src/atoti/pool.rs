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
    _place: Place,
}

/// The place of a connection, from before it is opened.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes it for a connection.
    pub(super) fn take(self, link: Link) -> Pooled {
        Pooled { link, _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

    /// A place for one more; where there is none, one that waits is closed for it.
    pub(super) fn make_room(&self) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        while self.open.load(Ordering::Relaxed) > self.most && self.close_one() {}
        Place(Arc::clone(&self.open))
    }

    /// Closes the oldest of a thread that has any.
    fn close_one(&self) -> bool {
        let oldest = |idle| {
            let mut idle = locked(idle);
            if idle.is_empty() { None } else { Some(idle.remove(0)) }
        };
        self.idle.iter().find_map(oldest).is_some()
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

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use tokio::net::TcpStream;
    use tokio_util::either::Either;
    use url::Url;

    use super::*;

    async fn link(listener: &TcpListener) -> Link {
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        Link::new(Either::Left(stream)).await.expect("HTTP/1.1 begins without a word")
    }

    #[tokio::test]
    async fn what_waits_elsewhere_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let pool = Pool::new(NonZeroUsize::new(4).expect("not zero"));
        let origin = Origin::of(&Url::parse("http://atoti").expect("a URL"));
        for _ in 0..4 {
            let link = link(&listener).await;
            let pooled = pool.make_room().take(link);
            // As if another thread had used it.
            thread::scope(|scope| scope.spawn(|| pool.put(&origin, pooled)).join()).expect("it waits");
        }
        let open = || pool.open.load(Ordering::Relaxed);
        assert_eq!(open(), 4);
        // Each counts from before it is opened, or several that are opened at once would not see each other.
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(pool.make_room());
            assert_eq!(open(), 4);
        }
        assert!(pool.take(&origin).is_none(), "none is left to wait");
        // A turn is worth more than the bound: who has one gets its connection.
        places.push(pool.make_room());
        assert_eq!(open(), 5);
        drop(places);
        assert_eq!(open(), 0);
    }
}
