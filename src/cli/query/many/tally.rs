//! How many became what.

use std::fmt;

use crate::proto::queryhistory::{CancelOutcome, CancelQueriesResponse};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    stopped: u64,
    requested: u64,
    finished: u64,
    pub(super) failed: u64,
}

impl Tally {
    pub(super) fn count(&mut self, response: &CancelQueriesResponse) {
        let count = match response.outcome() {
            _ if response.error.is_some() => &mut self.failed,
            CancelOutcome::Cancelled => &mut self.stopped,
            CancelOutcome::Finished => &mut self.finished,
            // An outcome that this program does not know was accepted at least.
            CancelOutcome::Requested | CancelOutcome::Unspecified => &mut self.requested,
        };
        *count += 1;
    }

    pub(super) const fn all(self) -> u64 {
        self.stopped + self.requested + self.finished + self.failed
    }

    pub(super) fn is_empty(self) -> bool {
        self.all() == 0
    }

    /// On its own line, once it is over.
    pub(super) fn summary(self) -> String {
        if self.is_empty() { "No running query matches.".to_owned() } else { self.to_string() }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stopped, requested, finished, failed } = self;
        write!(
            out,
            "stopped {stopped}, requested {requested}, ended by themselves {finished}, failed {failed}"
        )
    }
}
