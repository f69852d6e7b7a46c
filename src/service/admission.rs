//! How many calls are at work at once: the next one is refused at once, so that those admitted keep their pace.
//!
//! A quarter of the places is for cancels alone: reads never keep a kill switch out.

use std::{num::NonZeroUsize, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::atoti::Lane;

/// The places of one process.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// As many as reads may take of them.
    reads: Arc<Semaphore>,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    _place: OwnedSemaphorePermit,
    _read: Option<OwnedSemaphorePermit>,
}

/// As many of the places as reads may take.
pub(super) const fn for_reads(places: NonZeroUsize) -> usize {
    places.get() - places.get() / 4
}

impl Places {
    pub(super) fn new(places: NonZeroUsize) -> Self {
        let all = places.get();
        Self { all: Arc::new(Semaphore::new(all)), reads: Arc::new(Semaphore::new(for_reads(places))) }
    }

    /// A place, if one is free.
    pub(super) fn take(&self, lane: Lane) -> Option<Admission> {
        let read = match lane {
            Lane::Reads => Some(Arc::clone(&self.reads).try_acquire_owned().ok()?),
            Lane::Cancels => None,
        };
        let place = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Admission { _place: place, _read: read })
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
