//! How many calls are at work at once: the next one is refused at once, so that those admitted keep their pace.
//!
//! A quarter of the places is for cancels alone: reads never keep a kill switch out. Nor may they hold it up: while a
//! thread is behind, there are fewer places for them.

use std::{num::NonZeroUsize, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::Instant,
};

use super::read_limit::{Lowered, ReadLimit};
use crate::atoti::Lane;

/// The places of one process.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// As many as reads may take of them.
    reads: Arc<Semaphore>,
    most_reads: usize,
    /// As many as they may take now.
    limit: ReadLimit,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    _place: OwnedSemaphorePermit,
    _read: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new(places: NonZeroUsize) -> Self {
        let all = places.get();
        let reads = all - all / 4;
        Self {
            all: Arc::new(Semaphore::new(all)),
            reads: Arc::new(Semaphore::new(reads)),
            most_reads: reads,
            limit: ReadLimit::new(reads),
        }
    }

    /// A place, if one is free.
    pub(super) fn take(&self, lane: Lane) -> Option<Admission> {
        let read = match lane {
            Lane::Reads if self.reads_at_work() >= self.limit.at(Instant::now()) => return None,
            Lane::Reads => Some(Arc::clone(&self.reads).try_acquire_owned().ok()?),
            Lane::Cancels => None,
        };
        let place = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Admission { _place: place, _read: read })
    }

    /// Lets whatever else is ready on this thread go before a read, and has the limit of reads follow how long that took.
    pub(super) async fn give_way(&self) -> Option<Lowered> {
        let before = Instant::now();
        yield_now().await;
        let now = Instant::now();
        self.limit.waited(now - before, self.reads_at_work(), now)
    }

    fn reads_at_work(&self) -> usize {
        self.most_reads - self.reads.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_for_cancels() {
        let places = Places::new(NonZeroUsize::new(8).expect("not zero"));
        let take = |lane| std::iter::from_fn(|| places.take(lane)).collect::<Vec<_>>();
        let reads = take(Lane::Reads);
        assert_eq!((reads.len(), take(Lane::Cancels).len()), (6, 2));
        drop(reads);
        assert_eq!(take(Lane::Cancels).len(), 8, "and cancels may have them all");
        assert_eq!(take(Lane::Reads).len(), 6);
    }
}
