//! Standard output, for those who may stop reading at any time.

use std::io::{self, Write as _};

/// Standard output. What cannot be written is not lost in silence, save when nobody reads any more.
#[derive(Debug, Default)]
pub(super) struct Out {
    failed: Option<io::Error>,
}

impl Out {
    /// Prints a line at once: whoever waits for it may be waiting for just that one.
    pub(super) fn line(&mut self, line: &str) {
        if self.failed.is_none() {
            let mut out = io::stdout().lock();
            self.failed = writeln!(out, "{line}").and_then(|()| out.flush()).err();
        }
    }

    /// Prints several lines.
    pub(super) fn text(&mut self, text: &str) {
        self.line(text.trim_end_matches('\n'));
    }

    /// Whether nobody reads any more. Those that only read may end then; what stops queries goes on.
    pub(super) const fn is_gone(&self) -> bool {
        self.failed.is_some()
    }

    /// Why something could not be written. A pipe whose other side has gone is no failure: `| head` is a way to ask.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}
