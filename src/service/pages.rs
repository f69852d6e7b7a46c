//! Walking through a listing while it shifts: every query once, whatever begins and ends meanwhile.
//!
//! Pages are not counted but continued: the next one begins where the last one's oldest query started, so that what
//! begins later cannot push a query onto the next page, and what leaves the list cannot pull one off it. That needs
//! the newest start first, which Atoti documents from 6.2.3 on; where a page is not in that order, pages are counted
//! after all, which is the best there is, and to the end: a page that is in order by chance proves nothing.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use ring::digest;

use crate::{
    atoti::{self, Atoti, Call, Fact, Filter, Part, Query},
    status::Failure,
};

/// The next page overlaps this one by so much, and what it repeats is passed over: Atoti's clock, or its database, may
/// know less of a fraction of a second than it shows.
const OVERLAP: Duration = Duration::from_millis(1);
/// So many are looked at, however few are wanted: one query alone is always in order.
const LEAST_LOOKED_AT: u32 = 20;
/// As many marks as a token has room for, inside a message of 64 KiB.
const MOST_MARKS: usize = 4096;
/// No page is larger: what is wanted, and as many repeats as any token has room for.
const LARGEST_PAGE: u32 = 8192;

/// Where in a listing to go on. It fits into a page token.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Position {
    /// Nanoseconds since 1970, as decimal digits: only what started before. Empty at the beginning.
    #[prost(string, tag = "1")]
    before: String,
    /// Queries that have been seen and may be seen again.
    #[prost(fixed64, repeated, tag = "2")]
    seen: Vec<u64>,
    /// Counted pages: which one.
    #[prost(uint32, tag = "3")]
    page: u32,
    /// Counted pages: how long they are. 0 where pages are continued.
    #[prost(uint32, tag = "4")]
    size: u32,
    /// How many matched at the beginning.
    #[prost(int64, tag = "5")]
    pub(super) total: i64,
    /// A page was not in order: pages are counted from there on.
    #[prost(bool, tag = "6")]
    unsorted: bool,
}

/// A part of a listing.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) queries: Vec<Query>,
    /// Nothing at the end.
    pub(super) next: Option<Position>,
    /// How many matched at the beginning, as far as known.
    pub(super) total: i64,
}

/// Reads on from a position; up to `wanted` queries, fewer when more would not fit into `most_bytes`.
pub(super) async fn read(
    atoti: &Atoti,
    call: &Call,
    filter: &Filter,
    position: &Position,
    wanted: u32,
    most_bytes: usize,
) -> Result<Page, Failure> {
    let bound = position.before()?;
    let filter =
        Filter { started_before: bound.into_iter().chain(filter.started_before).min(), ..filter.clone() };
    let mut part = position.part(wanted);
    let listing = loop {
        match atoti.list_queries(call, &filter, part).await {
            Ok(listing) => break listing,
            // Half as many may fit. The same queries: an even half of an odd page would be others.
            Err(atoti::Error { fact: Fact::ResponseTooLarge, .. }) if part.size > 1 && part.page == 0 => {
                part.size /= 2;
            }
            Err(error) => return Err(super::explain(atoti, call, error).await),
        }
    };
    let total = match position.total {
        0 if bound.is_none() && part.page == 0 => listing
            .total
            .map_or(listing.queries.len() as i64, |total| i64::try_from(total).unwrap_or(i64::MAX)),
        told => told,
    };
    Ok(position.after(listing, part, wanted, total, most_bytes))
}

impl Position {
    /// Whether it may be one of ours. Anybody can make one up and give it a good checksum.
    pub(super) fn is_sound(&self) -> bool {
        self.before().is_ok() && self.size <= LARGEST_PAGE
    }

    pub(super) fn before(&self) -> Result<Option<Timestamp>, Failure> {
        if self.before.is_empty() {
            return Ok(None);
        }
        let nanoseconds = self.before.parse().ok();
        let read = nanoseconds.and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok());
        // Tokens are checked to be sound: only a bug gets here.
        read.map(Some).ok_or(Failure::Bug)
    }

    pub(super) fn part(&self, wanted: u32) -> Part {
        let repeats = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        match self.size {
            0 => Part { size: wanted.max(LEAST_LOOKED_AT).saturating_add(repeats), page: self.page },
            size => Part { size, page: self.page },
        }
    }

    /// What a listing yields, and where it leaves off. Pure.
    pub(super) fn after(
        &self,
        listing: atoti::Listing,
        part: Part,
        wanted: u32,
        total: i64,
        most_bytes: usize,
    ) -> Page {
        let listed = listing.queries.len();
        // A server may give shorter pages than asked for; how many there are in all tells them from the last one.
        let reached = u64::from(part.page) * u64::from(part.size) + listed as u64;
        let at_end = listed == 0
            || match listing.total {
                Some(total) => reached >= total,
                None => listed < part.size as usize,
            };
        let sorted = listing.queries.is_sorted_by(|one, next| one.start.is_some() && one.start >= next.start)
            && listing.queries.last().is_none_or(|last| last.start.is_some());
        let oldest = listing.queries.last().and_then(|last| last.start);
        let mut queries = listing.queries;
        // Marks are worked out for no more than they are needed for.
        if !self.seen.is_empty() {
            queries.retain(|query| !self.seen.contains(&mark(&query.id)));
        }
        // What is held back comes next. Queries that were to be repeated may have left, and made room for more.
        let fits = fitting(&queries, most_bytes).min(wanted as usize);
        let cut = fits < queries.len();
        let unsorted = self.unsorted || !sorted;
        let only_repeats = queries.is_empty() && !at_end;
        queries.truncate(fits);
        let next = if unsorted || only_repeats {
            // The first page tells how long pages are.
            let size = if part.page == 0 && !at_end { part.size.min(listed as u32) } else { part.size };
            let seen = self.seen.iter().copied().chain(marks(&queries)).collect();
            let page = if cut { part.page } else { part.page.saturating_add(1) };
            (cut || !at_end).then(|| Self { page, size, seen, total, unsorted, ..self.clone() })
        } else {
            let last = if cut { queries.last().and_then(|last| last.start) } else { oldest };
            last.filter(|_| cut || !at_end).map(|last| self.from(last, &queries, total))
        };
        Page { queries, next, total }
    }

    /// Goes on from the start of a query, the last one given out.
    fn from(&self, last: Timestamp, queries: &[Query], total: i64) -> Self {
        let bound = last.saturating_add(OVERLAP).unwrap_or(Timestamp::MAX);
        let again = queries.iter().filter(|query| query.start.is_some_and(|start| start < bound));
        let mut seen: Vec<_> = again.map(|query| mark(&query.id)).collect();
        // Those of the page before may come once more when this one has not gone beyond the overlap.
        let before = self.before().ok().flatten();
        if before.is_some_and(|before| bound.saturating_add(OVERLAP).is_ok_and(|reach| reach > before)) {
            seen.extend(&self.seen);
        }
        Self { before: bound.as_nanosecond().to_string(), seen, page: 0, size: 0, total, unsorted: false }
    }

    /// The same, short enough for a token. Where pages are counted, what was seen long ago is forgotten: only what has
    /// just been seen is pushed onto the next page by what begins.
    pub(super) fn within_a_token(mut self) -> Self {
        if self.unsorted {
            self.seen.drain(..self.seen.len().saturating_sub(MOST_MARKS));
        }
        self
    }
}

/// How many fit, at least one.
fn fitting(queries: &[Query], most_bytes: usize) -> usize {
    let mut left = most_bytes;
    let fit = |query: &&Query| {
        let size = size(query);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    queries.iter().take_while(fit).count().max(1).min(queries.len())
}

/// About as many bytes as a query takes in a message.
fn size(query: &Query) -> usize {
    const FIXED: usize = 64;
    let metadata = query.metadata.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>();
    let texts = [&query.id, &query.text, &query.node_name, &query.trace_id, &query.username];
    FIXED + metadata + texts.iter().map(|text| text.len()).sum::<usize>()
}

fn marks(queries: &[Query]) -> impl Iterator<Item = u64> {
    queries.iter().map(|query| mark(&query.id))
}

/// A short stand-in for an id, the same in every replica.
fn mark(id: &str) -> u64 {
    short_digest(&[id.as_bytes()])
}

/// The first bytes of a SHA-256.
pub(super) fn short_digest(parts: &[&[u8]]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let digest = context.finish();
    u64::from_be_bytes(digest.as_ref()[..8].try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A history that shifts between pages: what it lists under a position, newest first.
    fn list(
        history: &BTreeSet<(i64, u32)>,
        position: &Position,
        wanted: u32,
        sorted: bool,
    ) -> (atoti::Listing, Part) {
        let part = position.part(wanted);
        let before = position.before().expect("a good position").unwrap_or(Timestamp::MAX);
        let mut matching: Vec<_> = history
            .iter()
            .map(|(millis, id)| Query {
                id: id.to_string(),
                start: Timestamp::from_millisecond(*millis).ok(),
                ..Query::default()
            })
            .filter(|query| query.start.is_some_and(|start| start < before))
            .collect();
        if sorted {
            matching.reverse();
        }
        let total = Some(matching.len() as u64);
        let from = (part.page * part.size) as usize;
        let queries = matching.into_iter().skip(from).take(part.size as usize).collect();
        (atoti::Listing { queries, total }, part)
    }

    proptest! {
        #[test]
        fn every_query_that_stays_is_seen_once_whatever_begins_and_ends_meanwhile(
            starts in prop::collection::vec(0i64..40, 1..60),
            wanted in 1u32..20,
            arrivals in prop::collection::vec(0usize..3, 0..40),
            endings in prop::collection::vec(0usize..60, 0..40),
        ) {
            // Many start in the same millisecond.
            let mut history: BTreeSet<_> = starts.iter().copied().zip(0u32..).collect();
            let mut ended = BTreeSet::new();
            let mut position = Position::default();
            let mut seen = Vec::new();
            for turn in 0..500usize {
                prop_assert!(turn < 499, "it ends");
                let (listing, part) = list(&history, &position, wanted, true);
                let page = position.after(listing, part, wanted, 0, usize::MAX);
                prop_assert!(page.queries.len() <= wanted as usize);
                seen.extend(page.queries.into_iter().map(|query| query.id));
                // The list shifts.
                for arrival in 0..arrivals.get(turn).copied().unwrap_or_default() {
                    history.insert((1000 + turn as i64, (1000 * (turn + 1) + arrival) as u32));
                }
                if let Some(&id) = endings.get(turn) {
                    history.retain(|(_, other)| *other as usize != id);
                    ended.insert(id.to_string());
                }
                match page.next {
                    Some(next) => position = next,
                    None => break,
                }
            }
            let unique: BTreeSet<_> = seen.iter().cloned().collect();
            prop_assert_eq!(unique.len(), seen.len(), "none twice");
            for id in (0..starts.len()).map(|id| id.to_string()) {
                prop_assert!(unique.contains(&id) || ended.contains(&id), "{} is missing", id);
            }
        }

        #[test]
        fn pages_out_of_order_are_counted(count in 1u32..90, wanted in 1u32..40) {
            let history: BTreeSet<_> = (0..count).map(|id| (i64::from(id), id)).collect();
            let (mut position, mut seen) = (Position::default(), Vec::new());
            loop {
                let (listing, part) = list(&history, &position, wanted, false);
                let page = position.after(listing, part, wanted, 0, usize::MAX);
                prop_assert!(page.queries.len() <= wanted as usize);
                seen.extend(page.queries.into_iter().map(|query| query.id));
                let Some(next) = page.next else { break };
                position = next;
            }
            let unique: BTreeSet<_> = seen.iter().collect();
            prop_assert_eq!((unique.len(), seen.len()), (count as usize, count as usize));
        }
    }

    #[test]
    fn a_page_holds_what_fits_and_at_least_one() {
        let query = |id: &str| Query {
            id: id.to_owned(),
            text: "x".repeat(1000),
            start: Some(Timestamp::UNIX_EPOCH),
            ..Query::default()
        };
        let listing = || atoti::Listing { queries: vec![query("1"), query("2"), query("3")], total: Some(3) };
        let part = Part { size: 3, page: 0 };
        let page = |bytes| Position::default().after(listing(), part, 3, 3, bytes);
        assert_eq!((page(10_000).queries.len(), page(10_000).next.is_none()), (3, true));
        assert_eq!((page(2_200).queries.len(), page(2_200).next.is_some()), (2, true));
        assert_eq!((page(1).queries.len(), page(1).next.is_some()), (1, true));
    }
}
