//! Work that is carried to its end whether its caller stays or not.
//!
//! While the caller waits, the work is done where the call is: no other task has to be woken. When the caller goes, or
//! its deadline is over, what is left of it becomes a task of its own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TrackedFuture},
};

/// See the module.
pub(super) struct Carried<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Until it has ended.
    work: Option<Pin<Box<TrackedFuture<F>>>>,
    gone: CancellationToken,
}

impl<F> Carried<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Begins when it is polled. It counts among `tasks`; `gone` is cancelled when the caller goes first.
    pub(super) fn new(work: F, tasks: &TaskTracker, gone: CancellationToken) -> Self {
        Self { work: Some(Box::pin(tasks.track_future(work))), gone }
    }
}

impl<F> Future for Carried<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out meanwhile: work that panics is not to be done again.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F> Drop for Carried<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.gone.cancel();
        // Outside of a runtime the process has ended.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    #[tokio::test]
    async fn work_whose_caller_goes_is_done_all_the_same_and_told_so() {
        let (tasks, gone) = (TaskTracker::new(), CancellationToken::new());
        let ((go_on, may_go_on), (done, is_done)) = (oneshot::channel(), oneshot::channel());
        let told = gone.clone();
        let work = async move {
            may_go_on.await.expect("it is told to go on");
            done.send(told.is_cancelled()).expect("somebody waits");
        };
        let carried = Carried::new(work, &tasks, gone);
        timeout(Duration::from_millis(10), carried).await.expect_err("it waits");
        assert_eq!(tasks.len(), 1);
        go_on.send(()).expect("it goes on");
        assert_eq!(is_done.await, Ok(true));
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn work_whose_caller_stays_is_done_for_it() {
        let (tasks, gone) = (TaskTracker::new(), CancellationToken::new());
        assert_eq!(Carried::new(async { 42 }, &tasks, gone.clone()).await, 42);
        assert!(!gone.is_cancelled() && tasks.is_empty());
    }
}
