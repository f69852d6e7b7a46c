//! What `benches/micro.rs` measures of the trail, by way of [`crate::fuzzing`].

use jiff::Timestamp;

use super::{Record, line};

/// A record as its line.
pub(crate) fn write_line(record: &Record<'_>, at: Timestamp) -> Vec<u8> {
    let mut line = Vec::new();
    line::write(record, at, &mut line);
    line
}
