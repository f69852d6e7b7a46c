//! How many reads may be at work at once while a thread that serves is behind.
//!
//! A page of a list takes a core as long as many cancels do. Where more pages are asked for than a core can make,
//! whatever its thread has to do waits for all of them, a cancel among it; and as many reads as an Atoti that takes its
//! time calls for are far too many then. So reads measure how long they wait for their thread, and the limit follows by
//! AIMD (additive increase, multiplicative decrease), as TCP finds its rate: down while they wait too long, and up again
//! by itself.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A thread that comes to what is ready no sooner is behind. A read becomes ready some four times on its way.
const LATE: Duration = Duration::from_millis(4);
/// A thread that was behind once, and not again within this, was held up by something else than too many reads: a stall
/// of the machine, or calls that all came at the same time.
const MEMORY: Duration = Duration::from_secs(1);
/// As many are let in however late a thread is. Where no more are at work, it is something else that makes it late: a
/// limit on processor time, for one.
const LEAST: usize = 24;
/// How long it takes until there may be one more.
const INCREASE_EVERY: Duration = Duration::from_millis(10);
/// Words of it come no more often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The limit of one process.
#[derive(Debug)]
pub(super) struct ReadLimit {
    most: usize,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    reads: usize,
    increased: Instant,
    /// When a thread was last found behind.
    late: Option<Instant>,
    told: Option<Instant>,
}

/// A limit that has just become lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lowered {
    /// As many reads may be at work.
    pub(super) to: usize,
    /// Nobody has been told for a while.
    pub(super) tell: bool,
}

impl ReadLimit {
    pub(super) fn new(most: usize) -> Self {
        let now = Now { reads: most, increased: Instant::now(), late: None, told: None };
        Self { most, now: Mutex::new(now) }
    }

    /// As many reads may be at work now.
    pub(super) fn at(&self, time: Instant) -> usize {
        self.locked().increase(self.most, time)
    }

    /// A read has waited so long for its thread, until now, beside so many others.
    pub(super) fn waited(&self, wait: Duration, at_work: usize, time: Instant) -> Option<Lowered> {
        if wait < LATE || at_work <= LEAST {
            return None;
        }
        let mut now = self.locked();
        let since = now.late.map(|late| time.saturating_duration_since(late));
        // Those that waited for the same things say the same; and what was let in before counts until it has gone.
        let soon = wait * 2;
        if since.is_some_and(|since| since < soon) {
            return None;
        }
        now.late = Some(time);
        if since.is_none_or(|since| since > soon + MEMORY) {
            return None;
        }
        let before = now.increase(self.most, time);
        let to = (before.min(at_work) * 3 / 4).max(LEAST);
        now.reads = to;
        (to < before).then(|| Lowered { to, tell: now.tell(time) })
    }

    fn locked(&self) -> MutexGuard<'_, Now> {
        // Nothing is done there that could be left half done.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn increase(&mut self, most: usize, time: Instant) -> usize {
        let steps = time.saturating_duration_since(self.increased).as_nanos() / INCREASE_EVERY.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps > 0 {
            self.reads = most.min(self.reads.saturating_add(steps as usize));
            // What is left of a step counts for the next one.
            self.increased += INCREASE_EVERY * steps;
        }
        self.reads
    }

    fn tell(&mut self, time: Instant) -> bool {
        let tell = self.told.is_none_or(|told| time.saturating_duration_since(told) >= TELL_EVERY);
        if tell {
            self.told = Some(time);
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 96;
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A limit whose time passes as the test says.
    struct Passing(ReadLimit, Instant);

    impl Passing {
        fn new(most: usize) -> Self {
            Self(ReadLimit::new(most), Instant::now())
        }

        fn after(&mut self, milliseconds: u32) -> usize {
            self.1 += MILLISECOND * milliseconds;
            self.0.at(self.1)
        }

        fn waited(&self, milliseconds: u32, at_work: usize) -> Option<usize> {
            self.0.waited(MILLISECOND * milliseconds, at_work, self.1).map(|lowered| lowered.to)
        }
    }

    #[test]
    fn a_thread_that_is_behind_again_and_again_gets_fewer_reads_and_at_last_a_few() {
        let mut limit = Passing::new(MOST);
        assert_eq!(limit.waited(6, 80), None, "once is a stall");
        limit.after(15);
        assert_eq!(limit.waited(6, 80), Some(60), "of those there were");
        assert_eq!(limit.waited(6, 60), None, "who waited beside it says nothing new");
        let mut at = Vec::new();
        for _ in 0..20 {
            let before = limit.after(15);
            limit.waited(6, before);
            at.push(limit.after(0));
        }
        assert!(at.is_sorted_by(|a, b| a >= b), "{at:?}");
        assert_eq!(at.last(), Some(&LEAST));
    }

    #[test]
    fn a_thread_that_is_far_behind_gets_fewer_reads_too() {
        let mut limit = Passing::new(MOST);
        assert_eq!(limit.waited(2000, MOST), None);
        limit.after(2000);
        assert_eq!(limit.waited(2000, MOST), None, "it waited for the same");
        limit.after(2000);
        assert_eq!(limit.waited(2000, MOST), Some(72));
    }

    #[test]
    fn what_is_on_time_or_was_late_long_ago_lowers_nothing() {
        let mut limit = Passing::new(MOST);
        for _ in 0..100 {
            limit.after(15);
            assert_eq!(limit.waited(3, MOST), None);
        }
        for _ in 0..10 {
            limit.after(1101);
            assert_eq!(limit.waited(50, MOST), None, "a stall every other second");
        }
        assert_eq!(limit.after(0), MOST);
    }

    #[test]
    fn the_limit_comes_back_by_itself_and_loses_no_part_of_a_step() {
        let mut limit = Passing::new(MOST);
        limit.waited(6, MOST);
        limit.after(15);
        assert_eq!(limit.waited(6, MOST), Some(72));
        let steps: Vec<_> = (0..10).map(|_| limit.after(7)).collect();
        assert_eq!(steps.last(), Some(&79));
        assert_eq!(limit.after(1000), MOST);
        assert_eq!(limit.after(u32::MAX), MOST);
    }

    #[test]
    fn few_reads_at_work_are_not_why_a_thread_is_behind() {
        let mut limit = Passing::new(MOST);
        for _ in 0..10 {
            limit.after(15);
            assert_eq!(limit.waited(6, LEAST), None);
        }
        assert_eq!(limit.after(0), MOST);
    }

    #[test]
    fn few_places_are_never_made_fewer() {
        for most in [0, 1, 6, LEAST] {
            let mut limit = Passing::new(most);
            for _ in 0..10 {
                assert_eq!(limit.waited(6, most), None);
                assert_eq!(limit.after(15), most);
            }
        }
    }

    #[test]
    fn it_is_told_once_in_a_while() {
        let mut limit = Passing::new(MOST);
        let mut told = 0;
        for _ in 0..10_000 {
            limit.after(15);
            told +=
                u32::from(limit.0.waited(6 * MILLISECOND, MOST, limit.1).is_some_and(|lowered| lowered.tell));
        }
        assert_eq!(told, 3, "150 seconds");
    }
}
