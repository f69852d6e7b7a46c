//! The matches that a person has seen before saying yes, and what makes the yes mean these and no others.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::{
    failure::Failure,
    moment::{brief, from_proto, to_proto},
    render::{self, Columns, plain, took},
    screen,
};
use crate::proto::queryhistory::{CancelQueriesRequest, Query};

/// More users than these are told as a number.
const USERS: usize = 5;

pub(super) struct Shown {
    /// The longest first.
    pub(super) queries: Vec<Query>,
    pub(super) at: Timestamp,
}

impl Shown {
    pub(super) fn new(mut queries: Vec<Query>) -> Self {
        let at = Timestamp::now();
        queries.sort_by_key(|query| std::cmp::Reverse(took(query, at)));
        Self { queries, at }
    }

    /// More than the fuse allows are not asked about.
    pub(super) fn within(&self, max: i32) -> Result<(), Failure> {
        let count = self.queries.len();
        if usize::try_from(max).is_ok_and(|max| count <= max) {
            return Ok(());
        }
        Err(Failure::TooMany { count, max })
    }

    /// The longest, as many as can be seen at once above the question.
    pub(super) fn table(&self) -> String {
        /// The titles, the summary, the question, and what stands between.
        const AROUND: usize = 6;
        const FEWEST: usize = 10;

        let (width, rows) = screen::of_errors();
        let room = rows.map_or(usize::MAX, |rows| usize::from(rows).saturating_sub(AROUND).max(FEWEST));
        let shown = &self.queries[..self.queries.len().min(room)];
        let mut table = render::table(shown, Columns::Running, self.at, width);
        let more = self.queries.len() - shown.len();
        if more > 0 {
            table += &format!("\n... and {more} more; --dry-run shows all");
        }
        table
    }

    /// How many, whose, and how long.
    pub(super) fn summary(&self) -> String {
        let count = self.queries.len();
        if count == 0 {
            return "No running query matches.".to_owned();
        }
        let mut users = BTreeMap::<&str, usize>::new();
        for query in &self.queries {
            *users.entry(&query.username).or_default() += 1;
        }
        let mut users: Vec<_> = users.into_iter().collect();
        users.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let more = users.len().saturating_sub(USERS);
        let told = users.iter().take(USERS).map(|(user, count)| format!("{} {count}", plain(user)));
        let mut told: Vec<_> = told.collect();
        if more > 0 {
            told.push(format!("{more} more users"));
        }
        let longest = self.queries.iter().filter_map(|query| took(query, self.at)).max();
        let longest = brief(longest.unwrap_or(SignedDuration::ZERO));
        let what =
            if count == 1 { "1 running query matches" } else { &*format!("{count} running queries match") };
        format!("{what}: {}. The longest has been running for {longest}.", told.join(", "))
    }

    /// Those that were shown and of which nothing was heard, told; nothing when there are none.
    pub(super) fn missing(&self, heard: u64) -> Option<String> {
        let missing = u64::try_from(self.queries.len()).unwrap_or(u64::MAX).saturating_sub(heard);
        (missing > 0).then(|| format!("{missing} of those shown no longer ran when it began"))
    }

    pub(super) fn question(&self) -> String {
        match self.queries.len() {
            1 => "Stop this 1 query?".to_owned(),
            count => format!("Stop these {count} queries?"),
        }
    }

    /// Whatever began later than what was shown is left alone; and if there are more all the same, all are.
    pub(super) fn pin(&self, request: &mut CancelQueriesRequest) {
        /// Atoti may write dates less finely than it compares them; none that was shown may be lost over that.
        const GRAIN: SignedDuration = SignedDuration::from_secs(1);

        request.max_cancellations = i32::try_from(self.queries.len()).unwrap_or(i32::MAX);
        let starts = self.queries.iter().map(|query| query.start_time.and_then(from_proto));
        // Where one start is not known, the count alone must do.
        let Some(newest) = starts.collect::<Option<Vec<_>>>().and_then(|starts| starts.into_iter().max())
        else {
            return;
        };
        let Ok(bound) = newest.checked_add(GRAIN) else { return };
        let filter = request.filter.get_or_insert_default();
        let given = filter.started_before.and_then(from_proto);
        filter.started_before = Some(to_proto(given.map_or(bound, |given| given.min(bound))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::queryhistory::QueryFilter;

    fn started(username: &str, ago: i64) -> Query {
        let start = Timestamp::now().checked_sub(SignedDuration::from_secs(ago)).expect("a date");
        Query {
            status: 1,
            username: username.to_owned(),
            start_time: Some(to_proto(start)),
            ..Query::default()
        }
    }

    #[test]
    fn a_summary_says_how_many_whose_and_how_long() {
        let shown = Shown::new(vec![started("bob", 5), started("ada", 600), started("ada", 7)]);
        let expected = "3 running queries match: ada 2, bob 1. The longest has been running for 10m.";
        assert_eq!(shown.summary(), expected);
        assert_eq!(shown.question(), "Stop these 3 queries?");
        assert!(shown.within(3).is_ok() && shown.within(2).is_err());
        assert_eq!(shown.missing(3), None);
        assert!(shown.missing(1).is_some_and(|told| told.starts_with("2 of those shown")));
    }

    #[test]
    fn a_yes_is_about_what_was_shown() {
        let shown = Shown::new(vec![started("ada", 600), started("ada", 60)]);
        let newest = shown.queries[1].start_time.and_then(from_proto).expect("a date");
        let bound = |request: &CancelQueriesRequest| {
            request.filter.as_ref().and_then(|filter| filter.started_before).and_then(from_proto)
        };
        let mut request = CancelQueriesRequest { max_cancellations: 100, ..Default::default() };
        shown.pin(&mut request);
        assert_eq!(request.max_cancellations, 2);
        assert!(bound(&request).is_some_and(|bound| bound > newest));
        // An earlier one was meant so.
        let earlier = newest.checked_sub(SignedDuration::from_secs(1)).expect("a date");
        let filter = QueryFilter { started_before: Some(to_proto(earlier)), ..QueryFilter::default() };
        let mut request = CancelQueriesRequest { filter: Some(filter), ..Default::default() };
        shown.pin(&mut request);
        assert_eq!(bound(&request), Some(earlier));
    }
}
