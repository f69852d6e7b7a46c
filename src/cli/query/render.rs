//! Queries for people. Everything that came over the wire is printed as text and nothing else: no escape sequence of
//! a query's gets to the terminal.

use std::borrow::Cow;

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, presets};
use jiff::{SignedDuration, Timestamp};

use super::moment::{brief, date, from_proto};
use crate::proto::queryhistory::{CancelOutcome, Query, QueryStatus, QueryType};

/// As much of a text as goes into a table that no terminal bounds.
const TEXT_WIDTH: u16 = 100;

/// Text that does nothing to a terminal: on one line, and what does not print is spelt.
pub(super) fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    shown(&words.join(" ")).into_owned()
}

/// The same with its lines left as they are.
pub(super) fn plain_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| shown(&line.replace('\t', "    ")).into_owned()).collect();
    lines.join("\n")
}

fn shown(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1;
    if text.chars().all(harmless) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) { shown.push(c) } else { shown.extend(c.escape_debug()) }
    }
    shown.into()
}

/// `RUNNING` of `QUERY_STATUS_RUNNING`.
pub(super) fn status(query: &Query) -> &'static str {
    query.status().as_str_name().trim_start_matches("QUERY_STATUS_")
}

/// `CANCELLED` of `CANCEL_OUTCOME_CANCELLED`.
pub(super) fn outcome(outcome: CancelOutcome) -> &'static str {
    outcome.as_str_name().trim_start_matches("CANCEL_OUTCOME_")
}

/// How long it took, or has been running.
pub(super) fn took(query: &Query, now: Timestamp) -> Option<SignedDuration> {
    let start = query.start_time.and_then(from_proto)?;
    let end = match query.end_time.and_then(from_proto) {
        None if query.status() != QueryStatus::Running => return None,
        end => end.unwrap_or(now),
    };
    Some(end.duration_since(start).max(SignedDuration::ZERO))
}

fn took_text(query: &Query, now: Timestamp) -> String {
    took(query, now).map(brief).unwrap_or_default()
}

fn start(query: &Query) -> String {
    query.start_time.and_then(from_proto).map(date).unwrap_or_default()
}

/// What a table shows of each query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// What runs and what has ended.
    All,
    /// What runs: for how long says when it started.
    Running,
}

/// A line for each query, as wide as the terminal if it is one; the text gets what is left.
pub(super) fn table(queries: &[Query], columns: Columns, now: Timestamp, width: Option<u16>) -> String {
    let titles: &[&str] = match columns {
        Columns::All => &["ID", "USER", "STATUS", "STARTED (UTC)", "TOOK", "NODE", "TEXT"],
        Columns::Running => &["ID", "USER", "STATUS", "RUNNING FOR", "NODE", "TEXT"],
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // A text is cut where the room ends, not at a word: this character is in none of them.
    table.set_delimiter('\0');
    table.set_header(titles.to_vec());
    for query in queries {
        let mut cells = vec![plain(&query.query_id), plain(&query.username), status(query).to_owned()];
        if columns == Columns::All {
            cells.push(start(query));
        }
        cells.extend([took_text(query, now), plain(&query.node_name), plain(&query.text)]);
        let mut row = Row::from(cells);
        row.max_height(1);
        table.add_row(row);
    }
    let last = titles.len() - 1;
    let whole: u16 = table.column_max_content_widths()[..last].iter().map(|width| width + 2).sum();
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        // An id that is cut is of no use. Where there is no room for the rest of the line, the terminal breaks it.
        column.set_constraint(if index == last {
            let left = width.map_or(TEXT_WIDTH, |width| width.saturating_sub(whole)).max(12);
            ColumnConstraint::UpperBoundary(comfy_table::Width::Fixed(left))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    table.set_width(
        whole.saturating_add(width.map_or(TEXT_WIDTH, |width| width.saturating_sub(whole)).max(12)),
    );
    table.trim_fmt()
}

/// Everything about one query.
pub(super) fn card(query: &Query, now: Timestamp) -> String {
    let running = query.status() == QueryStatus::Running;
    let kind = query.r#type().as_str_name().trim_start_matches("QUERY_TYPE_");
    let kind = if query.r#type() == QueryType::Unspecified { "" } else { kind };
    let end = query.end_time.and_then(from_proto).map(date).unwrap_or_default();
    let metadata: Vec<_> = query.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut card = String::new();
    for (what, value) in [
        ("id", query.query_id.clone()),
        ("status", status(query).to_owned()),
        ("user", query.username.clone()),
        ("type", kind.to_owned()),
        ("node", query.node_name.clone()),
        ("started", with_zone(start(query))),
        ("ended", with_zone(end)),
        (if running { "running for" } else { "took" }, took_text(query, now)),
        ("trace", query.trace_id.clone()),
        ("metadata", metadata.join(", ")),
    ] {
        if !value.is_empty() {
            card += &format!("{what:<12} {}\n", plain(&value));
        }
    }
    card + &plain_lines(&query.text)
}

fn with_zone(date: String) -> String {
    if date.is_empty() { date } else { date + " UTC" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query {
            query_id: "5016726393312340713".to_owned(),
            status: 1,
            username: "ada".to_owned(),
            node_name: "node-1".to_owned(),
            text: text.to_owned(),
            start_time: Some(prost_types::Timestamp { seconds: 1_772_366_400, nanos: 0 }),
            ..Query::default()
        }
    }

    fn now() -> Timestamp {
        "2026-03-01T12:03:12Z".parse().expect("a date")
    }

    #[test]
    fn nothing_of_a_text_gets_to_the_terminal_but_itself() {
        for (text, told) in [
            ("SELECT\n  {[A].[\"B\"]}\ton COLUMNS", "SELECT {[A].[\"B\"]} on COLUMNS"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{fc}ber \u{4e2d}", "\u{fc}ber \u{4e2d}"),
        ] {
            assert_eq!(plain(text), told);
        }
        assert_eq!(plain_lines("a\n\tb\r\n\u{1b}c"), "a\n    b\n\\u{1b}c");
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_and_never_cuts_an_id() {
        let long = "SELECT [Measures].[contributors.COUNT] ON COLUMNS ".repeat(9);
        let queries = [query(&long), query("short")];
        for width in [90, 120, 200] {
            let told = table(&queries, Columns::All, now(), Some(width));
            assert_eq!(told.lines().count(), 3, "{told}");
            assert!(told.lines().all(|line| line.chars().count() <= usize::from(width)), "{told}");
            assert!(
                told.contains("5016726393312340713  ada   RUNNING  2026-03-01 12:00:00  3m 12s"),
                "{told}"
            );
        }
        let narrow = table(&queries, Columns::Running, now(), Some(20));
        assert!(narrow.contains("5016726393312340713") && narrow.contains('\u{2026}'), "{narrow}");
    }

    #[test]
    fn a_query_is_told_in_full() {
        let told = card(&query("SELECT\nx"), now());
        assert!(told.contains("running for  3m 12s\n") && told.ends_with("SELECT\nx"), "{told}");
        assert!(told.contains("started      2026-03-01 12:00:00 UTC\n") && !told.contains("ended"), "{told}");
    }
}
