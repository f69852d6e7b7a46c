//! Streams of answers: held to their deadline, and ended by a status that says how it was.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream::unfold};
use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};
use tonic::Status;

use super::{Caller, refuse};
use crate::status::Failure;

/// What a streaming RPC answers with.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One step of a stream. A stream that breaks off without an end is a bug, and never a success.
#[derive(Debug)]
pub(super) enum Step<T> {
    Answer(T),
    End(Result<(), Arc<Failure>>),
}

/// Where answers go in, where the end goes in, and where both come out.
type Channel<T> = (Sender<Step<T>>, OwnedPermit<Step<T>>, Receiver<Step<T>>);

/// A channel with room for so many answers, and for the end, which has a place of its own: who tells it does not wait.
pub(super) fn channel<T>(answers: usize) -> Channel<T> {
    let (sender, steps) = mpsc::channel(answers + 1);
    let end = sender.clone().try_reserve_owned().expect("nothing is in it yet");
    (sender, end, steps)
}

/// What is sent down a channel, until its end or that of the caller's deadline; `kept` is dropped with the stream.
pub(super) fn answers<T: Send + 'static>(
    steps: Receiver<Step<T>>,
    caller: Arc<Caller>,
    kept: impl Send + Sync + 'static,
) -> Answers<T> {
    let next = |state| async move {
        let (mut steps, caller, kept): (Receiver<Step<T>>, Arc<Caller>, _) = state?;
        let step = tokio::select! {
            // Answers that are there come first, so that nothing known is kept back.
            biased;
            step = steps.recv() => step.unwrap_or_else(|| Step::End(Err(Arc::new(Failure::Bug)))),
            () = caller.over() => Step::End(Err(Arc::new(Failure::DeadlineOver))),
        };
        match step {
            Step::Answer(answer) => Some((Ok(answer), Some((steps, caller, kept)))),
            Step::End(Ok(())) => None,
            // Nothing comes behind an error.
            Step::End(Err(failure)) => Some((Err(refuse(&failure, &caller)), None)),
        }
    };
    Box::pin(unfold(Some((steps, caller, kept)), next))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;
    use http::HeaderMap;
    use tonic::Code;

    use super::*;

    fn caller() -> Arc<Caller> {
        Arc::new(Caller::read(&HeaderMap::new(), Arc::default(), Duration::from_secs(30), None))
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_no_success() {
        let (sender, steps) = mpsc::channel(2);
        let stream = answers::<u8>(steps, caller(), ());
        sender.try_send(Step::Answer(1)).expect("room");
        drop(sender);
        let codes: Vec<_> = stream.map(|answer| answer.map_err(|status| status.code())).collect().await;
        assert_eq!(codes, [Ok(1), Err(Code::Internal)]);
    }

    #[tokio::test]
    async fn a_stream_ends_as_its_task_says() {
        for (end, codes) in
            [(Ok(()), vec![Ok(1)]), (Err(Arc::new(Failure::Draining)), vec![Ok(1), Err(Code::Unavailable)])]
        {
            let (sender, steps) = mpsc::channel(3);
            sender.try_send(Step::Answer(1)).expect("room");
            sender.try_send(Step::End(end)).expect("room");
            let stream = answers::<u8>(steps, caller(), ());
            let told: Vec<_> = stream.map(|answer| answer.map_err(|status| status.code())).collect().await;
            assert_eq!(told, codes);
        }
    }
}
