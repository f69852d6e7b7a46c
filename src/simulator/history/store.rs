//! The data behind the history: records in listing order, an index of the running ones, and the endings to come.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    filter::{Filter, Paging},
    generate::{random_id, random_trace_id},
    record::{NewQuery, Outcome, QueryRecord, Status},
};

/// Newest start first, then id.
type Key = (Reverse<Timestamp>, u64);

/// What is known about a running query only.
#[derive(Debug)]
struct Running {
    cancel_latency: Option<Duration>,
    cancelling: bool,
}

#[derive(Debug)]
pub(super) struct Store {
    records: BTreeMap<Key, Arc<QueryRecord>>,
    keys: HashMap<u64, Key>,
    /// So that the few running queries are found among the many ended ones.
    running: BTreeMap<Key, Running>,
    /// At most two per query: its own end and its cancellation. Those of queries already gone are passed over.
    endings: BinaryHeap<Reverse<(Timestamp, u64, Outcome)>>,
    capacity: usize,
    rng: fastrand::Rng,
}

/// What became of a wish to delete.
pub(in super::super) enum Deletion {
    Deleted,
    StillRunning,
    Unknown,
}

impl Store {
    pub(super) fn new(seed: u64, capacity: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            keys: HashMap::new(),
            running: BTreeMap::new(),
            endings: BinaryHeap::new(),
            capacity,
            // Not the seed itself, which the generated queries use: ids would be drawn twice.
            rng: fastrand::Rng::with_seed(!seed),
        }
    }

    /// Carries out every ending that is due.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(&Reverse((at, number, outcome))) = self.endings.peek()
            && at <= now
        {
            self.endings.pop();
            self.end_number(number, at, outcome);
        }
    }

    pub(super) fn start(&mut self, query: NewQuery, default_node: &Arc<str>) -> String {
        let now = Timestamp::now();
        let free = |number: &u64| (1..=i64::MAX as u64).contains(number) && !self.keys.contains_key(number);
        let number = query.id.filter(free).unwrap_or_else(|| {
            loop {
                let number = random_id(&mut self.rng);
                if !self.keys.contains_key(&number) {
                    break number;
                }
            }
        });
        let started = cut_fraction(before(now, query.started_ago), query.fraction_digits);
        let record = QueryRecord {
            id: number.to_string(),
            status: Status::Running,
            query_type: query.query_type,
            text: query.text,
            node_name: query.node_name.unwrap_or_else(|| Arc::clone(default_node)),
            started,
            ended: None,
            trace_id: query.trace_id.unwrap_or_else(|| random_trace_id(&mut self.rng)),
            username: query.username,
            metadata: query.metadata,
        };
        let id = record.id.clone();
        let key = (Reverse(started), number);
        self.records.insert(key, Arc::new(record));
        self.keys.insert(number, key);
        self.running.insert(key, Running { cancel_latency: query.cancel_latency, cancelling: false });
        if let Some((after, outcome)) = query.ends {
            self.endings.push(Reverse((later(started, after), number, outcome)));
            self.settle(now);
        }
        self.keep_within_capacity();
        id
    }

    pub(super) fn find(&self, id: &str) -> Option<&Arc<QueryRecord>> {
        self.records.get(&self.key(id)?)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Arc<QueryRecord>> {
        self.running.keys().filter_map(|key| self.records.get(key))
    }

    pub(super) fn count(&self) -> usize {
        self.records.len()
    }

    pub(super) fn end(&mut self, id: &str, at: Timestamp, outcome: Outcome) -> bool {
        self.key(id).is_some_and(|(_, number)| self.end_number(number, at, outcome))
    }

    pub(super) fn cancel(&mut self, id: &str, node: &str, latency: Duration) -> bool {
        let Some(key) = self.key(id) else { return false };
        self.signal(key, node, latency, Timestamp::now())
    }

    pub(super) fn cancel_all(&mut self, node: &str, latency: Duration) {
        let now = Timestamp::now();
        let keys: Vec<Key> = self.running.keys().copied().collect();
        for key in keys {
            self.signal(key, node, latency, now);
        }
    }

    pub(super) fn page(&self, filter: &Filter, paging: Paging) -> (Vec<Arc<QueryRecord>>, usize) {
        let skipped = paging.page.saturating_mul(paging.size);
        if filter.is_empty() {
            let page = self.records.values().skip(skipped).take(paging.size).cloned().collect();
            return (page, self.records.len());
        }
        let mut total = 0;
        let mut page = Vec::new();
        for record in self.matching(filter) {
            if total >= skipped && page.len() < paging.size {
                page.push(Arc::clone(record));
            }
            total += 1;
        }
        (page, total)
    }

    pub(super) fn delete(&mut self, id: &str) -> Deletion {
        let Some(key) = self.key(id) else { return Deletion::Unknown };
        if self.running.contains_key(&key) {
            return Deletion::StillRunning;
        }
        self.forget(key);
        Deletion::Deleted
    }

    pub(super) fn delete_matching(&mut self, filter: &Filter) {
        let ended = self.matching(filter).filter(|record| record.ended.is_some());
        let keys: Vec<Key> = ended.filter_map(|record| self.key(&record.id)).collect();
        for key in keys {
            self.forget(key);
        }
    }

    fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Arc<QueryRecord>> {
        let now = Timestamp::now();
        let (few, all) = if filter.wants_only_running() {
            (Some(self.running()), None)
        } else {
            (None, Some(self.records.values()))
        };
        let candidates = few.into_iter().flatten().chain(all.into_iter().flatten());
        candidates.filter(move |record| filter.matches(record, now))
    }

    /// Where a record is. Only the id as it was given out finds it: `007` is not `7`.
    fn key(&self, id: &str) -> Option<Key> {
        let number = id.parse::<u64>().ok().filter(|number| number.to_string() == id)?;
        self.keys.get(&number).copied()
    }

    fn signal(&mut self, key: Key, node: &str, latency: Duration, now: Timestamp) -> bool {
        let on_node = self.records.get(&key).is_some_and(|record| *record.node_name == *node);
        let Some(running) = self.running.get_mut(&key).filter(|_| on_node) else { return false };
        if !running.cancelling {
            running.cancelling = true;
            let at = later(now, running.cancel_latency.unwrap_or(latency));
            self.endings.push(Reverse((at, key.1, Outcome::Cancelled)));
        }
        true
    }

    fn end_number(&mut self, number: u64, at: Timestamp, outcome: Outcome) -> bool {
        let Some(key) = self.keys.get(&number) else { return false };
        if self.running.remove(key).is_none() {
            return false;
        }
        if let Some(record) = self.records.get_mut(key) {
            let record = Arc::make_mut(record);
            record.status = outcome.into();
            record.ended = Some(at);
        }
        true
    }

    /// Forgets the oldest ended query, or the oldest of all when none has ended.
    fn keep_within_capacity(&mut self) {
        while self.records.len() > self.capacity {
            let oldest_ended = self.records.keys().rev().find(|key| !self.running.contains_key(key));
            let Some(&key) = oldest_ended.or_else(|| self.records.keys().next_back()) else { return };
            self.forget(key);
        }
    }

    fn forget(&mut self, key: Key) {
        self.records.remove(&key);
        self.keys.remove(&key.1);
        self.running.remove(&key);
    }
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// What is shown is what counts: the record's own start has no more digits than its text.
fn cut_fraction(at: Timestamp, digits: u32) -> Timestamp {
    let unit = 10_i128.pow(9 - digits.min(9));
    let nanoseconds = at.as_nanosecond();
    Timestamp::from_nanosecond(nanoseconds - nanoseconds.rem_euclid(unit)).unwrap_or(at)
}
