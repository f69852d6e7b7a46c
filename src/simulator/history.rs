//! The query history: what ran, what runs, and what ends when.
//!
//! Nothing ticks in here. Every look at the history first carries out the endings that have become due, so a query
//! appears to end on time although no task waits for it.

mod filter;
pub(super) mod generate;
pub(super) mod record;
mod store;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;

pub(super) use self::{
    filter::{Filter, Paging, iso_duration},
    store::Deletion,
};
use self::{
    record::{NewQuery, Outcome, QueryRecord},
    store::Store,
};

/// The queries of one or several nodes. Clones are the same history.
#[derive(Clone, Debug)]
pub struct History {
    store: Arc<Mutex<Store>>,
    /// Where queries run that name no node.
    default_node: Arc<str>,
}

impl History {
    pub(super) fn new(seed: u64, capacity: usize, default_node: &str) -> Self {
        let store = Arc::new(Mutex::new(Store::new(seed, capacity)));
        Self { store, default_node: default_node.into() }
    }

    /// Starts a query and gives its id.
    pub fn start_query(&self, query: NewQuery) -> String {
        self.settled().start(query, &self.default_node)
    }

    /// A query as it is now.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<QueryRecord> {
        self.find(id).map(Arc::unwrap_or_clone)
    }

    /// The queries that are running on any node, newest first.
    #[must_use]
    pub fn running(&self) -> Vec<QueryRecord> {
        self.settled().running().map(|record| QueryRecord::clone(record)).collect()
    }

    /// How many queries the history holds, running ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.settled().count()
    }

    /// Lets a running query succeed now; `false` when it is not running.
    pub fn finish(&self, id: &str) -> bool {
        self.end(id, Outcome::Successful)
    }

    /// Lets a running query fail now; `false` when it is not running.
    pub fn fail(&self, id: &str) -> bool {
        self.end(id, Outcome::Failed)
    }

    /// Lets a running query end now, in any way; `false` when it is not running.
    pub fn end(&self, id: &str, outcome: Outcome) -> bool {
        self.settled().end(id, Timestamp::now(), outcome)
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<QueryRecord>> {
        self.settled().find(id).cloned()
    }

    /// Signals a query that runs on the node; `false` when there is none.
    pub(super) fn cancel(&self, id: &str, node: &str, latency: Duration) -> bool {
        self.settled().cancel(id, node, latency)
    }

    /// Signals every query that runs on the node.
    pub(super) fn cancel_all(&self, node: &str, latency: Duration) {
        self.settled().cancel_all(node, latency);
    }

    /// One page of the matching queries, and how many match in all.
    pub(super) fn page(&self, filter: &Filter, paging: Paging) -> (Vec<Arc<QueryRecord>>, usize) {
        self.settled().page(filter, paging)
    }

    pub(super) fn delete(&self, id: &str) -> Deletion {
        self.settled().delete(id)
    }

    /// Deletes what matches and has ended.
    pub(super) fn delete_matching(&self, filter: &Filter) {
        self.settled().delete_matching(filter);
    }

    /// The store, with everything that is due carried out.
    fn settled(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().expect("nobody panics while holding the history");
        store.settle(Timestamp::now());
        store
    }
}
