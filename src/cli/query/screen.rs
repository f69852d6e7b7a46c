//! The terminal: its width, and the whole of it for a while.

use std::io::{self, IsTerminal as _, Write as _};

use crossterm::{
    cursor::{Hide, MoveTo, MoveToNextLine, Show},
    event::{Event, KeyCode, KeyEventKind, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
        EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
    },
};

/// How wide a table on standard output may be; nothing where it is no terminal.
pub(super) fn width() -> Option<u16> {
    if io::stdout().is_terminal() { known_size().map(|(columns, _)| columns) } else { None }
}

/// A terminal that says 0 does not know.
fn known_size() -> Option<(u16, u16)> {
    size().ok().filter(|&(columns, rows)| columns > 0 && rows > 0)
}

/// Columns and rows of the terminal that standard error is; nothing where it is none.
pub(super) fn of_errors() -> (Option<u16>, Option<u16>) {
    let size = if io::stderr().is_terminal() { known_size() } else { None };
    size.unzip()
}

/// The whole terminal, until this is dropped: then all is as it was, however the program goes on.
#[derive(Debug)]
pub(super) struct Screen {
    _private: (),
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on, whatever fails, it is put back.
        let screen = Self { _private: () };
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size() -> (u16, u16) {
        known_size().unwrap_or((80, 24))
    }

    /// Shows these lines, as many as there is room for.
    pub(super) fn show<'a>(&self, lines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let (_, rows) = Self::size();
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate, MoveTo(0, 0))?;
        for (index, line) in lines.take(usize::from(rows)).enumerate() {
            if index > 0 {
                queue!(out, MoveToNextLine(1))?;
            }
            queue!(out, Print(line), Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// What a person did that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    /// q, Esc or Ctrl-C.
    Quit,
    /// The terminal has another size.
    Resized,
    Other,
}

impl From<Event> for Pressed {
    fn from(event: Event) -> Self {
        match event {
            Event::Resize(..) => Self::Resized,
            Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q' | 'Q') | KeyCode::Esc => Self::Quit,
                // No signal comes of it in raw mode.
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Self::Quit,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}
