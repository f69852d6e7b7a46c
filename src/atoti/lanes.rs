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
    everybody: Semaphore,
    cancels: Semaphore,
}

impl Lanes {
    pub(super) fn new(turns: NonZeroUsize) -> Self {
        let kept = turns.get() / 4;
        Self { everybody: Semaphore::new(turns.get() - kept), cancels: Semaphore::new(kept) }
    }

    /// A turn, if one is free; it ends when what is given back is dropped.
    pub(super) fn try_enter(&self, lane: Lane) -> Option<SemaphorePermit<'_>> {
        let turn = self.everybody.try_acquire().ok();
        turn.or_else(|| if lane == Lane::Cancels { self.cancels.try_acquire().ok() } else { None })
    }

    /// Waits for a turn; it ends when what is given back is dropped.
    pub(super) async fn enter(&self, lane: Lane) -> SemaphorePermit<'_> {
        const NEVER: &str = "no lane is ever closed";
        if lane == Lane::Reads {
            return self.everybody.acquire().await.expect(NEVER);
        }
        tokio::select! {
            // The turns that reads want too come first, so that those kept are there when it matters.
            biased;
            turn = self.everybody.acquire() => turn.expect(NEVER),
            turn = self.cancels.acquire() => turn.expect(NEVER),
        }
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
        drop(cancels);
        assert!(enter(Lane::Reads).is_none(), "what is kept for cancels is not lent");
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
