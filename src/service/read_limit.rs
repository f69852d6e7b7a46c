//! How many reads may be at work at once on a thread that is behind.
//!
//! A page of a list takes a core as long as many cancels do. Where more pages are asked for than a core can make,
//! whatever its thread has to do waits for all of them, a cancel among it; and as many reads as an Atoti that takes its
//! time calls for are far too many then. So each read lets whatever else is ready on its thread go first, and measures
//! how long that takes; the limit follows by AIMD (additive increase, multiplicative decrease), as TCP finds its rate:
//! down while reads wait too long, and up again by itself.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thread_local::ThreadLocal;
use tokio::{task::yield_now, time::Instant};

/// A read that has to let others go first for so long is late. It waits for its thread some four times on its way.
const LATE: Duration = Duration::from_millis(2);
/// The reads of so long tell whether their thread is behind. The first decrease takes two such windows in a row, as a
/// machine stalls; until the limit is back, one is enough.
const WINDOW: Duration = Duration::from_millis(100);
/// As many are let in however late they are, or a quarter of those that may be where that is more.
const LEAST: usize = 24;
/// Steps from none to as many as may be, each of them [`STEP`].
const STEPS: usize = 96;
const STEP: Duration = Duration::from_millis(20);

/// The limits of one process: each thread has its own.
#[derive(Debug)]
pub(super) struct ReadLimits {
    most: usize,
    threads: ThreadLocal<Arc<Thread>>,
}

#[derive(Debug)]
struct Thread {
    at_work: AtomicUsize,
    limit: Mutex<Limit>,
}

/// A read at work, until this is dropped.
#[derive(Debug)]
pub(super) struct Read(Arc<Thread>);

impl ReadLimits {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, threads: ThreadLocal::new() }
    }

    /// Lets a read begin on this thread, unless the thread is behind and has as many as it can do.
    pub(super) fn begin(&self) -> Option<Read> {
        let thread = self.threads.get_or(|| Arc::new(Thread::new(self.most)));
        if thread.at_work.load(Ordering::Relaxed) >= thread.limit().at(Instant::now()) {
            return None;
        }
        thread.at_work.fetch_add(1, Ordering::Relaxed);
        Some(Read(Arc::clone(thread)))
    }
}

impl Thread {
    fn new(most: usize) -> Self {
        Self { at_work: AtomicUsize::new(0), limit: Mutex::new(Limit::new(most, Instant::now())) }
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        // Nothing is done there that could be left half done.
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    /// Lets whatever else is ready on this thread go first, and has the limit follow how long that took.
    pub(super) async fn give_way(&self) {
        let Self(thread) = self;
        let began = Instant::now();
        // tokio comes back when the others that were ready, and what has come in since, have had a turn.
        yield_now().await;
        thread.limit().waited(began, Instant::now(), thread.at_work.load(Ordering::Relaxed));
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limit of one thread.
#[derive(Debug)]
struct Limit {
    least: usize,
    most: usize,
    reads: usize,
    /// Until when increases have been counted; in the future while there are to be none.
    increased: Instant,
    window: Window,
    /// Whether the thread was behind in the window before.
    behind: bool,
}

/// What the reads of a while tell.
#[derive(Debug)]
struct Window {
    began: Instant,
    reads: u32,
    late: u32,
    /// Time in which at least one of them waited.
    waiting: Duration,
    /// The last stretch of it.
    stretch: Range<Instant>,
}

impl Window {
    const fn new(began: Instant) -> Self {
        Self { began, reads: 0, late: 0, waiting: Duration::ZERO, stretch: began..began }
    }

    /// Adds a read that has waited until now. Of those that come back at once, the first may have waited the longest or
    /// the shortest.
    fn add(&mut self, began: Instant, now: Instant) {
        self.reads += 1;
        self.late += u32::from(now.saturating_duration_since(began) >= LATE);
        let began = began.max(self.began);
        if began > self.stretch.end {
            self.stretch = began..began;
        }
        let more = self.stretch.start.saturating_duration_since(began)
            + now.saturating_duration_since(self.stretch.end);
        self.waiting += more;
        self.stretch = self.stretch.start.min(began)..now;
    }

    /// Whether the thread is behind: reads waited most of the time, and most of them for long. A short burst of reads is
    /// not enough for that; a long stall is.
    fn is_behind(&self, length: Duration) -> bool {
        2 * self.late > self.reads && 2 * self.waiting > length
    }
}

impl Limit {
    fn new(most: usize, now: Instant) -> Self {
        Self {
            least: LEAST.max(most / 4),
            most,
            reads: most,
            increased: now,
            window: Window::new(now),
            behind: false,
        }
    }

    /// As many reads may be at work now.
    fn at(&mut self, now: Instant) -> usize {
        let steps = now.saturating_duration_since(self.increased).as_nanos() / STEP.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps > 0 {
            let more = self.most.div_ceil(STEPS).saturating_mul(steps as usize);
            self.reads = self.most.min(self.reads.saturating_add(more));
            // What is left of a step counts for the next one.
            self.increased += STEP * steps;
        }
        self.reads
    }

    /// A read has let others go first since it `began`; so many are at work, it among them.
    fn waited(&mut self, began: Instant, now: Instant, at_work: usize) {
        self.window.add(began, now);
        let length = now.saturating_duration_since(self.window.began);
        if length < WINDOW {
            return;
        }
        let behind = self.window.is_behind(length);
        let limit = self.at(now);
        // Where no more are at work, it is something else that keeps the thread busy.
        if behind && at_work > self.least && (self.behind || limit < self.most) {
            self.reads = (limit / 2).max(self.least);
        }
        // No more of them before there is word again.
        self.increased = if behind { now + length } else { self.increased.min(now) };
        self.behind = behind;
        self.window = Window::new(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 96;
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A limit whose time passes as the test says.
    struct Passing(Limit, Instant);

    impl Passing {
        fn new(most: usize) -> Self {
            let now = Instant::now();
            Self(Limit::new(most, now), now)
        }

        /// As many as may be at work when nothing has happened for so many milliseconds.
        fn after(&mut self, milliseconds: u32) -> usize {
            self.1 += MILLISECOND * milliseconds;
            self.0.at(self.1)
        }

        /// So many reads, one after the other, each of which waits so many milliseconds while as many are at work as may be.
        fn waits(&mut self, times: u32, milliseconds: u32) -> usize {
            for _ in 0..times {
                let at_work = self.after(0);
                self.waits_beside(at_work, milliseconds);
            }
            self.after(0)
        }

        fn waits_beside(&mut self, at_work: usize, milliseconds: u32) {
            let began = self.1;
            self.1 += MILLISECOND * milliseconds;
            self.0.waited(began, self.1, at_work);
        }
    }

    #[test]
    fn a_thread_that_stays_behind_gets_fewer_reads_and_at_last_a_few() {
        for (times, milliseconds) in [(50, 2), (20, 5), (1, 100), (1, 3000)] {
            let mut limit = Passing::new(MOST);
            assert_eq!(limit.waits(times, milliseconds), MOST, "once is a stall");
            let at: Vec<_> = (0..6).map(|_| limit.waits(times, milliseconds)).collect();
            assert_eq!(at[..2], [48, 24], "{times} of {milliseconds} ms");
            assert_eq!(at.last(), Some(&LEAST));
        }
    }

    #[test]
    fn until_it_is_back_the_limit_is_lowered_at_once() {
        let mut limit = Passing::new(MOST);
        assert_eq!(limit.waits(2, 100), 48);
        limit.waits(500, 1);
        let before = limit.after(0);
        assert!((49..MOST).contains(&before), "{before}");
        // Five more until then.
        assert_eq!(limit.waits(1, 100), (before + 5) / 2);
    }

    #[test]
    fn who_waits_beside_others_adds_nothing_to_the_time() {
        let mut limit = Passing::new(MOST);
        for _ in 0..100 {
            let began = limit.1;
            limit.after(6);
            for _ in 0..30 {
                limit.0.waited(began, limit.1, 30);
            }
            // Bursts, with more time between them in which nobody waits.
            assert_eq!(limit.after(10), MOST);
        }
    }

    #[test]
    fn who_comes_back_with_others_adds_the_time_it_waited_before_them() {
        for later in [[0, 5, 10], [10, 5, 0], [5, 0, 10]] {
            let began = Instant::now();
            let at = |milliseconds| began + MILLISECOND * milliseconds;
            let mut window = Window::new(began);
            later.into_iter().for_each(|later| window.add(at(20 + later), at(35)));
            assert_eq!(window.waiting, MILLISECOND * 15, "{later:?}");
            window.add(at(40), at(47));
            window.add(at(38), at(50));
            assert_eq!(window.waiting, MILLISECOND * 27, "{later:?}");
        }
    }

    #[test]
    fn reads_that_hardly_wait_or_waited_once_lower_nothing() {
        let mut limit = Passing::new(MOST);
        assert_eq!(limit.waits(1000, 1), MOST, "busy, and on time");
        for _ in 0..10 {
            limit.waits(1, 500);
            assert_eq!(limit.waits(100, 1), MOST, "a stall now and then");
        }
        for _ in 0..10 {
            limit.waits(1, 500);
            limit.after(1000);
            assert_eq!(limit.waits(1, 0), MOST, "or nothing after it");
        }
    }

    #[test]
    fn few_reads_at_work_are_not_why_a_thread_is_behind() {
        let mut limit = Passing::new(MOST);
        for _ in 0..100 {
            limit.waits_beside(LEAST, 10);
        }
        assert_eq!(limit.after(0), MOST);
    }

    #[test]
    fn the_limit_comes_back_by_itself_and_loses_no_part_of_a_step() {
        let mut limit = Passing::new(MOST);
        assert_eq!(limit.waits(2, 100), 48);
        assert_eq!(limit.after(100), 48, "not at once");
        let steps: Vec<_> = (0..10).map(|_| limit.after(14)).collect();
        assert_eq!(steps.last(), Some(&55));
        assert_eq!(limit.after(1000), MOST);
        assert_eq!(limit.after(u32::MAX), MOST);

        limit.waits(3, 100);
        limit.waits(1, 600_000);
        limit.waits(100, 1);
        assert_eq!(limit.after(2000), MOST, "however long the thread has stood still");
    }

    #[test]
    fn the_fewest_and_the_way_back_depend_on_how_many_there_may_be() {
        for most in [0, 1, 6, LEAST] {
            assert_eq!(Passing::new(most).waits(100, 100), most);
        }
        let mut limit = Passing::new(6144);
        assert_eq!(limit.waits(100, 100), 1536);
        assert_eq!(limit.after(2000), 6144);
    }

    #[test]
    fn a_read_counts_where_it_began_until_it_is_dropped() {
        let limits = ReadLimits::new(2);
        let reads: Vec<_> = std::iter::from_fn(|| limits.begin()).collect();
        assert_eq!(reads.len(), 2);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(limits.begin().is_some(), "another thread has a limit of its own"));
            scope.spawn(move || drop(reads));
        });
        assert!(limits.begin().is_some());
    }
}
