//! What arrived, as it arrived: the last so many requests.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use bytes::Bytes;
use http::request::Parts;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// Path and query, undecoded, the context path included.
    pub target: String,
    /// Names (in lower case) and values in the order of arrival, save that repeats of a name stand together.
    pub headers: Vec<(String, Bytes)>,
    /// The body, or as much of it as arrived.
    pub body: Vec<u8>,
    /// Whether all of the body arrived, and within the limit of 64 KiB.
    pub complete: bool,
    /// On which connection, counted from 1.
    pub connection: usize,
    /// When its head was there.
    pub arrived: Instant,
}

impl RecordedRequest {
    /// The first value of a header; the name's case does not matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_ref())
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }
}

/// The bounded log of requests.
#[derive(Debug)]
pub(in super::super) struct Recorder {
    log: Mutex<Log>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Log {
    requests: VecDeque<RecordedRequest>,
    /// The number of the first one still held.
    first: usize,
}

impl Recorder {
    pub(in super::super) fn new(capacity: usize) -> Self {
        Self { log: Mutex::default(), capacity }
    }

    pub(in super::super) fn all(&self) -> Vec<RecordedRequest> {
        self.log().requests.iter().cloned().collect()
    }

    pub(in super::super) fn clear(&self) {
        let mut log = self.log();
        log.first += log.requests.len();
        log.requests.clear();
    }

    /// Notes a head, and gives the number under which the body is added.
    pub(super) fn head(&self, parts: &Parts, connection: usize) -> usize {
        let request = RecordedRequest {
            method: parts.method.to_string(),
            target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers: headers(parts),
            body: Vec::new(),
            complete: false,
            connection,
            arrived: Instant::now(),
        };
        let mut log = self.log();
        log.requests.push_back(request);
        if log.requests.len() > self.capacity {
            log.requests.pop_front();
            log.first += 1;
        }
        log.first + log.requests.len() - 1
    }

    pub(super) fn body(&self, number: usize, bytes: &[u8]) {
        self.change(number, |request| request.body.extend_from_slice(bytes));
    }

    pub(super) fn complete(&self, number: usize) {
        self.change(number, |request| request.complete = true);
    }

    /// Changes a request, unless it has been forgotten meanwhile.
    fn change(&self, number: usize, change: impl FnOnce(&mut RecordedRequest)) {
        let mut log = self.log();
        if let Some(index) = number.checked_sub(log.first)
            && let Some(request) = log.requests.get_mut(index)
        {
            change(request);
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics while holding the log")
    }
}

fn headers(parts: &Parts) -> Vec<(String, Bytes)> {
    let copied = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), Bytes::copy_from_slice(value.as_bytes()))
    };
    parts.headers.iter().map(copied).collect()
}
