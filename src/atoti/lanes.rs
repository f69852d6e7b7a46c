//! Turns at Atoti: as many requests at once as keep it fast, the others wait inside their deadlines.
//!
//! A quarter of the turns is for cancels alone: however many reads wait, a kill switch gets through.

use std::num::NonZeroUsize;

use tokio::sync::{Semaphore, SemaphorePermit};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// To stop a query, the looks at it that belong to that included.
    Cancels,
    /// To see something, or to clear it away.
    Reads,
}

#[derive(Debug)]
pub(super) struct Lanes {
    all: Semaphore,
    /// As many as reads may take of them. What waits for one of these waits in nobody's way.
    reads: Semaphore,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    _read: Option<SemaphorePermit<'a>>,
}

impl Lanes {
    pub(super) fn new(turns: NonZeroUsize) -> Self {
        let all = turns.get();
        Self { all: Semaphore::new(all), reads: Semaphore::new(all - all / 4) }
    }

    /// A turn, if one is free.
    pub(super) fn try_enter(&self, lane: Lane) -> Option<Turn<'_>> {
        let read = match lane {
            Lane::Reads => Some(self.reads.try_acquire().ok()?),
            Lane::Cancels => None,
        };
        Some(Turn { _turn: self.all.try_acquire().ok()?, _read: read })
    }

    /// Waits for a turn.
    pub(super) async fn enter(&self, lane: Lane) -> Turn<'_> {
        const NEVER: &str = "no lane is ever closed";
        let read = match lane {
            Lane::Reads => Some(self.reads.acquire().await.expect(NEVER)),
            Lane::Cancels => None,
        };
        Turn { _turn: self.all.acquire().await.expect(NEVER), _read: read }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn lanes(turns: usize) -> Lanes {
        Lanes::new(NonZeroUsize::new(turns).expect("not zero"))
    }

    #[test]
    fn cancels_have_turns_when_reads_hold_all_of_theirs() {
        let lanes = lanes(8);
        let enter = |lane| lanes.enter(lane).now_or_never();
        let reads: Vec<_> = std::iter::from_fn(|| enter(Lane::Reads)).collect();
        let cancels: Vec<_> = std::iter::from_fn(|| enter(Lane::Cancels)).collect();
        assert_eq!((reads.len(), cancels.len()), (6, 2));
        let mut more: Vec<_> = (0..100).map(|_| Box::pin(lanes.enter(Lane::Reads))).collect();
        assert!(more.iter_mut().all(|read| read.now_or_never().is_none()));
        drop(cancels);
        assert!(
            more.iter_mut().all(|read| read.now_or_never().is_none()),
            "what is kept for cancels is not lent"
        );
        assert!(enter(Lane::Cancels).is_some(), "and no read that waits keeps a cancel out");
        drop(reads);
        let reads: Vec<_> = more.iter_mut().filter_map(|read| read.now_or_never()).collect();
        assert_eq!(reads.len(), 6);
    }

    #[test]
    fn cancels_take_every_turn_when_nobody_reads() {
        for turns in [1, 3, 64] {
            let lanes = lanes(turns);
            let cancels: Vec<_> = std::iter::from_fn(|| lanes.enter(Lane::Cancels).now_or_never()).collect();
            assert_eq!(cancels.len(), turns);
        }
    }
}
