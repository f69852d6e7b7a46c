//! When calls are made: each as soon as the last one of its stream has ended (closed), or by a timetable (open).
//!
//! In an open loop a call's time counts from when it should have begun. A slow answer does not slow the next call down,
//! and what has to wait for its turn has waited: else a bridge that stalls would be asked less, and look better.

use std::{
    future::Future,
    num::NonZeroU32,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};
use tokio_util::task::TaskTracker;

use crate::{
    Failure,
    args::Pace,
    cpu,
    record::{Outcome, Record},
};

/// How long is waited for calls without a deadline when no more are made.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes calls of one kind.
pub(crate) trait Caller: Send + Sync + 'static {
    /// Makes one call, over one of the connections.
    fn call(
        &self,
        connection: usize,
        number: u64,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Outcome> + Send;
}

/// A run: the calls that it makes, and their record.
struct Run<C> {
    caller: C,
    record: Record,
    next: AtomicU64,
    calls: u64,
    deadline: Option<Duration>,
}

/// Makes the calls, and prints what became of them.
pub(crate) async fn drive<C: Caller>(caller: C, pace: Pace) -> Result<(), Failure> {
    let from = Instant::now() + pace.warmup;
    let until = from + pace.seconds;
    let run = Arc::new(Run {
        caller,
        record: Record::new(from),
        next: AtomicU64::new(0),
        calls: pace.calls,
        deadline: pace.deadline,
    });
    let watched = pace.watch.clone();
    let before = tokio::spawn(async move {
        tokio::time::sleep_until(from.into()).await;
        cpu::seconds(&watched)
    });

    let calls = TaskTracker::new();
    match pace.rate {
        None => closed(&run, &calls, &pace, until),
        Some(rate) => open(&run, &calls, rate, pace.connections.get() as usize, until).await?,
    }
    calls.close();
    let left = until.saturating_duration_since(Instant::now()) + PATIENCE;
    // What has not ended by then is told of.
    let _ = tokio::time::timeout(left, calls.wait()).await;
    let cpu = cpu::seconds(&pace.watch)? - before.await??;
    println!("{}", run.record.report(pace.rate.map(|_| pace.seconds), cpu));
    Ok(())
}

fn closed<C: Caller>(run: &Arc<Run<C>>, calls: &TaskTracker, pace: &Pace, until: Instant) {
    for connection in 0..pace.connections.get() as usize {
        for _ in 0..pace.streams.get() {
            let run = Arc::clone(run);
            calls.spawn(async move {
                while Instant::now() < until
                    && let Some(number) = run.number()
                {
                    run.call(connection, number, Instant::now()).await;
                }
            });
        }
    }
}

async fn open<C: Caller>(
    run: &Arc<Run<C>>,
    calls: &TaskTracker,
    rate: NonZeroU32,
    connections: usize,
    until: Instant,
) -> Result<(), Failure> {
    let interval = Duration::from_secs(1) / rate.get();
    let begin = Instant::now();
    let timer = timer(interval)?;
    let mut passed = 0;
    loop {
        for _ in 0..ticks(&timer).await? {
            passed += 1;
            let intended = begin + interval.mul_f64(passed as f64);
            let number = if intended < until { run.number() } else { None };
            let Some(number) = number else { return Ok(()) };
            let run = Arc::clone(run);
            calls.spawn(async move { run.call(number as usize % connections, number, intended).await });
        }
    }
}

impl<C: Caller> Run<C> {
    /// The number of the next call, as long as there are to be more.
    fn number(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.calls).then_some(number)
    }

    async fn call(&self, connection: usize, number: u64, intended: Instant) {
        self.record.begin(intended);
        let deadline = self.deadline.map(|deadline| intended + deadline);
        let call = self.caller.call(connection, number, deadline);
        let outcome = match deadline {
            None => call.await,
            // Nobody sends what is over before it begins.
            Some(deadline) if deadline <= Instant::now() => Outcome::GaveUp,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), call).await.unwrap_or(Outcome::GaveUp),
        };
        self.record.end(intended, outcome);
    }
}

/// A timer of the kernel: tokio's own would make five calls together each millisecond instead of one every 200 us.
#[expect(
    deprecated,
    reason = "an OwnedFd stays what it is; what has come instead is unsafe, which is forbidden here"
)]
fn timer(interval: Duration) -> Result<AsyncFd<OwnedFd>, Failure> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let interval = Timespec::try_from(interval)?;
    let times = Itimerspec { it_interval: interval, it_value: interval };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(AsyncFd::with_interest(timer, Interest::READABLE)?)
}

/// How often it has gone off since it was last asked: once at least.
async fn ticks(timer: &AsyncFd<OwnedFd>) -> Result<u64, Failure> {
    let read = |timer: &OwnedFd| {
        let mut count = [0; 8];
        rustix::io::read(timer, &mut count)?;
        Ok(u64::from_ne_bytes(count))
    };
    Ok(timer.async_io(Interest::READABLE, read).await?)
}
