//! The signals to stop: SIGTERM and Ctrl-C. The first drains, the second ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first signal, and one that is cancelled by the second.
pub(super) struct Signals {
    pub(super) drain: CancellationToken,
    pub(super) now: CancellationToken,
}

impl Signals {
    /// Starts to listen for signals.
    pub(super) fn listen() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = Self { drain: CancellationToken::new(), now: CancellationToken::new() };
        let (drain, now) = (signals.drain.clone(), signals.now.clone());
        tokio::spawn(async move {
            for token in [drain, now] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}
