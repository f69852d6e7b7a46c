//! WatchQuery: a query as it changes, until it has ended.
//!
//! One poller for each query and credentials, however many watch. Not for each query alone: what Atoti shows to one
//! caller is not for the bridge to show to another. It ends with its last watcher.

use std::{
    collections::{HashMap, hash_map::Entry},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    Bridge, Caller, explain, get,
    pages::short_digest,
    stop::outcome_of_ended,
    stream::{Answers, Step, answers, channel},
};
use crate::{
    atoti::{Lane, Query, QueryId},
    proto::queryhistory::{WatchQueryRequest, WatchQueryResponse},
    status::Failure,
};

/// From one look to the next: soon at first, when much happens, then seldom.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long Atoti may fail before its watchers are told.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pollers at work.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Key, watch::Sender<Seen>>>);

/// A query, and a digest of the credentials it is read with.
type Key = (String, u64);

/// What a poller has seen.
#[derive(Clone, Debug)]
enum Seen {
    Nothing,
    Query(Arc<Query>),
    End(Result<Arc<Query>, Arc<Failure>>),
}

pub(super) fn serve(
    bridge: &Arc<Bridge>,
    caller: &Arc<Caller>,
    request: &WatchQueryRequest,
) -> Result<Answers<WatchQueryResponse>, Failure> {
    let id = get::id(&request.query_id, caller)?;
    let admission = bridge.admit_watch(caller)?;
    let seen = bridge.watches.join(bridge, caller, id);
    // One answer ahead: whoever is slow gets the latest state next, and not every one before.
    let (sender, last, steps) = channel(1);
    let (ending, peer) = (bridge.watches_end.clone(), Arc::clone(&caller.peer));
    let (caller, stream_caller) = (Arc::clone(caller), Arc::clone(caller));
    let pass = async move {
        let end = tokio::select! {
            biased;
            () = sender.closed() => return,
            end = tell(seen, &sender, caller.patience()) => end,
            () = ending.cancelled() => Err(Arc::new(Failure::Draining)),
            () = peer.closing.cancelled() => Err(Arc::new(Failure::Draining)),
            () = caller.over() => Err(Arc::new(Failure::DeadlineOver)),
        };
        // The stream may stay: nobody looks at it while its peer lets nothing through.
        drop(admission);
        last.send(Step::End(end));
    };
    tokio::spawn(pass);
    Ok(answers(steps, stream_caller, ()))
}

/// Passes on what is seen, as long as anybody listens and takes it.
async fn tell(
    mut seen: watch::Receiver<Seen>,
    steps: &mpsc::Sender<Step<WatchQueryResponse>>,
    patience: Duration,
) -> Result<(), Arc<Failure>> {
    seen.mark_changed();
    loop {
        if seen.changed().await.is_err() {
            return Err(Arc::new(Failure::Bug));
        }
        let now = seen.borrow_and_update().clone();
        let (query, end) = match now {
            Seen::Nothing => continue,
            Seen::Query(query) => (query, None),
            Seen::End(Ok(query)) => (query, Some(Ok(()))),
            Seen::End(Err(failure)) => return Err(failure),
        };
        let answer = WatchQueryResponse { query: Some(Query::clone(&query).into()) };
        // An error: nobody listens any more, or nobody has taken anything for long.
        if steps.send_timeout(Step::Answer(answer), patience).await.is_err() {
            return Err(Arc::new(Failure::CallerGone));
        }
        if let Some(end) = end {
            return end;
        }
    }
}

impl Watches {
    /// Follows what the poller of a query sees, one at work already if there is.
    fn join(&self, bridge: &Arc<Bridge>, caller: &Arc<Caller>, id: QueryId) -> watch::Receiver<Seen> {
        let credentials = caller.authorization().map_or(&b""[..], |value| value.as_bytes());
        let key = (id.as_str().to_owned(), short_digest(&[credentials]));
        match self.lock().entry(key.clone()) {
            Entry::Occupied(poller) => poller.get().subscribe(),
            Entry::Vacant(place) => {
                let (sender, receiver) = watch::channel(Seen::Nothing);
                place.insert(sender.clone());
                let poller =
                    Poller { bridge: Arc::clone(bridge), caller: Arc::clone(caller), id, key, seen: sender };
                tokio::spawn(poller.run());
                receiver
            }
        }
    }

    /// Takes a poller out when nobody follows it; under the lock, so that nobody joins one that has ended.
    fn leave_if(&self, key: &Key, over: impl FnOnce() -> bool) -> bool {
        let mut pollers = self.lock();
        let over = over();
        if over {
            pollers.remove(key);
        }
        over
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, watch::Sender<Seen>>> {
        // Nothing is left half done under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a query again and again, for as long as anybody follows and it runs.
struct Poller {
    bridge: Arc<Bridge>,
    /// The first to watch.
    caller: Arc<Caller>,
    id: QueryId,
    key: Key,
    seen: watch::Sender<Seen>,
}

impl Poller {
    async fn run(self) {
        let end = AssertUnwindSafe(self.follow()).catch_unwind().await;
        if let Some(end) = end.unwrap_or_else(|_| Some(Err(Arc::new(Failure::Bug)))) {
            // Out first: whoever comes now looks for himself.
            self.bridge.watches.leave_if(&self.key, || true);
            self.seen.send_replace(Seen::End(end));
        }
    }

    /// Yields how it ended; nothing when nobody follows any more.
    async fn follow(&self) -> Option<Result<Arc<Query>, Arc<Failure>>> {
        let mut pause = FIRST_PAUSE;
        let mut failing_since = None;
        let mut before = None;
        loop {
            match self.read().await {
                Ok(query) if before.as_ref() == Some(&query) => failing_since = None,
                Ok(query) => {
                    (failing_since, pause) = (None, FIRST_PAUSE);
                    before = Some(Arc::clone(&query));
                    if outcome_of_ended(query.status).is_some() {
                        return Some(Ok(query));
                    }
                    self.seen.send_replace(Seen::Query(query));
                }
                Err(failure) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    // What may pass is borne for a while, once the query has been seen.
                    let bearable =
                        failure.reason().retryable() && before.is_some() && since.elapsed() < PATIENCE;
                    if !bearable {
                        return Some(Err(Arc::new(failure)));
                    }
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.seen.closed() => {}
            }
            if self.bridge.watches.leave_if(&self.key, || self.seen.receiver_count() == 0) {
                return None;
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn read(&self) -> Result<Arc<Query>, Failure> {
        let call = self.caller.poll(Lane::Reads);
        match self.bridge.atoti.get_query(&call, &self.id).await {
            Ok(query) => Ok(Arc::new(query)),
            Err(error) => Err(explain(&self.bridge.atoti, &call, error).await),
        }
    }
}
