//! Stopping one query, and saying no more than is known: what `CancelQuery` does once, and `CancelQueries` many times.
//!
//! ```text
//! PATCH ─┬─ accepted ─► wait > 0? ─► GET until it has ended
//!        ├─ 404 ──────► GET: did it end, or never exist? If it runs: PATCH once more, on its node where that is
//!        │              known, else here after a moment; on 404 again, GET once more
//!        └─ any other failure
//! ```

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    atoti::{self, Accepted, Atoti, Call, Node, QueryId, QueryStatus},
    proto::queryhistory::CancelOutcome,
    status::Failure,
};

/// The first two reads of `wait` are this far apart; the distance doubles up to the longest.
const FIRST_POLL_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_POLL_PAUSE: Duration = Duration::from_secs(1);
/// A query that the history shows running after a 404 has perhaps just ended, or Atoti was away for a moment: what was
/// asked is asked again after this.
const SECOND_LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Which query, and how.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) id: QueryId,
    pub(super) wait: Duration,
    pub(super) allow_finished: bool,
    /// The node that is known to run it.
    pub(super) at: Option<Node>,
}

/// A success.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) outcome: CancelOutcome,
    /// As it was seen last. Seldom there, and large.
    pub(super) query: Option<Box<atoti::Query>>,
    pub(super) attempts: u32,
}

impl Stop {
    /// Has Atoti cancel the query; `gone` is cancelled when nobody waits for the result any more.
    pub(super) async fn carry_out(
        &self,
        atoti: &Atoti,
        call: &Call,
        gone: &CancellationToken,
    ) -> Result<Stopped, Failure> {
        match atoti.cancel_query(call, &self.id, self.at.as_ref()).await {
            Ok(Accepted { attempts }) if self.wait.is_zero() => {
                Ok(Stopped { outcome: CancelOutcome::Requested, query: None, attempts })
            }
            // What is seldom done takes no room in every call.
            Ok(accepted) => Ok(Box::pin(self.wait_for_end(atoti, call, accepted, gone)).await),
            Err(error) if error.is_not_found() => {
                Box::pin(self.explain_not_found(atoti, call, error, gone)).await
            }
            Err(error) => Err(Failure::Atoti(error)),
        }
    }

    /// After Atoti accepted: reads the query until it has ended, as long as the caller wants to wait and does.
    async fn wait_for_end(
        &self,
        atoti: &Atoti,
        call: &Call,
        Accepted { attempts }: Accepted,
        gone: &CancellationToken,
    ) -> Stopped {
        if self.wait.is_zero() {
            return Stopped { outcome: CancelOutcome::Requested, query: None, attempts };
        }
        // A sum past the end of the clock is past the deadline too.
        let until = Instant::now().checked_add(self.wait).map_or(call.read_by, |end| end.min(call.read_by));
        let mut query = None;
        let seen_ended = async {
            let mut pause = FIRST_POLL_PAUSE;
            loop {
                // A read that fails says nothing about the query. The next one may succeed.
                if let Ok(read) = atoti.get_query(call, &self.id).await {
                    let ended = outcome_of_ended(read.status);
                    query = Some(Box::new(read));
                    if let Some(outcome) = ended {
                        return outcome;
                    }
                }
                sleep(pause).await;
                pause = LONGEST_POLL_PAUSE.min(pause * 2);
            }
        };
        let outcome = tokio::select! {
            outcome = seen_ended => outcome,
            () = sleep_until(until) => CancelOutcome::Requested,
            () = gone.cancelled() => CancelOutcome::Requested,
        };
        Stopped { outcome, query, attempts }
    }

    /// After a 404, which does not say whether the query ended, runs elsewhere, or never was: the history knows.
    async fn explain_not_found(
        &self,
        atoti: &Atoti,
        call: &Call,
        mut error: atoti::Error,
        gone: &CancellationToken,
    ) -> Result<Stopped, Failure> {
        let mut query = match atoti.get_query(call, &self.id).await {
            Ok(query) => query,
            Err(read) if !read.is_not_found() => {
                return Err(Failure::HistoryUnread(atoti::Error { cause: read.cause, ..error }));
            }
            Err(_) if atoti.lacks_api(call).await => return Err(Failure::ApiMissing(error)),
            Err(_) => return Err(Failure::Atoti(error)),
        };
        if query.status == QueryStatus::Running {
            // Where to ask now: the node that runs it, at once; else the same again, after a moment. By then a query
            // that was just ending has ended, and Atoti, if it knew nothing at all just now, is back.
            let elsewhere = atoti.node(&query.node_name).filter(|node| Some(node) != self.at.as_ref());
            if elsewhere.is_none() {
                pause_before_second_look(call).await;
            }
            // Without time for an answer it is not asked: what has been seen so far is told.
            if elsewhere.is_some() || Instant::now() < call.read_by {
                let at = elsewhere.as_ref().or(self.at.as_ref());
                match atoti.cancel_query(call, &self.id, at).await {
                    Ok(accepted) => {
                        let attempts = error.attempts + accepted.attempts;
                        return Ok(self.wait_for_end(atoti, call, Accepted { attempts }, gone).await);
                    }
                    Err(again) if again.is_not_found() => error = again.after(&error),
                    Err(again) => return Err(Failure::Atoti(again.after(&error))),
                }
            }
            if elsewhere.is_some() {
                pause_before_second_look(call).await;
            }
            // The last word is a look behind the last refusal.
            query = atoti.get_query(call, &self.id).await.unwrap_or(query);
        }
        let Some(outcome) = outcome_of_ended(query.status) else {
            return Err(match query.status {
                QueryStatus::Running => {
                    let node = Some(query.node_name.into());
                    Failure::QueryOnOtherNode(atoti::Error { node, ..error })
                }
                // A status newer than this program: it exists, and that is all that can be said.
                _ => Failure::QueryNotRunning(error, query.status),
            });
        };
        // An answer was lost on the way, and that cancel was ours.
        let ours = error.answer_lost && outcome == CancelOutcome::Cancelled;
        if ours || self.allow_finished {
            return Ok(Stopped { outcome, query: Some(Box::new(query)), attempts: error.attempts });
        }
        Err(Failure::QueryNotRunning(error, query.status))
    }
}

async fn pause_before_second_look(call: &Call) {
    sleep_until(call.read_by.min(Instant::now() + SECOND_LOOK_PAUSE)).await;
}

pub(super) fn outcome_of_ended(status: QueryStatus) -> Option<CancelOutcome> {
    match status {
        QueryStatus::Cancelled => Some(CancelOutcome::Cancelled),
        QueryStatus::Successful | QueryStatus::Failed => Some(CancelOutcome::Finished),
        QueryStatus::Running | QueryStatus::Unrecognised => None,
    }
}
