//! Streams of answers: held to their deadline, and ended by a status that says how it was.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream::unfold};
use tokio::{sync::mpsc, time::sleep_until};
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

/// What is sent down a channel, until its end or that of the caller's deadline; `kept` is dropped with the stream.
pub(super) fn answers<T: Send + 'static>(
    steps: mpsc::Receiver<Step<T>>,
    caller: Arc<Caller>,
    kept: impl Send + Sync + 'static,
) -> Answers<T> {
    let next = |(mut steps, caller, kept): (mpsc::Receiver<Step<T>>, Arc<Caller>, _)| async move {
        let step = tokio::select! {
            // Answers that are there come first, so that nothing known is kept back.
            biased;
            step = steps.recv() => step.unwrap_or_else(|| Step::End(Err(Arc::new(Failure::Bug)))),
            () = over(&caller) => Step::End(Err(Arc::new(Failure::DeadlineOver))),
        };
        let answer = match step {
            Step::Answer(answer) => Ok(answer),
            Step::End(Ok(())) => return None,
            Step::End(Err(failure)) => Err(refuse(&failure, &caller)),
        };
        Some((answer, (steps, caller, kept)))
    };
    // Nothing is asked of a stream behind its error.
    let mut ended = false;
    let stream = unfold((steps, caller, kept), next).take_while(move |answer| {
        let goes_on = !ended;
        ended = answer.is_err();
        std::future::ready(goes_on)
    });
    Box::pin(stream)
}

async fn over(caller: &Caller) {
    match caller.end_by {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
