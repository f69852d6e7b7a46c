//! Where audit records go: a file, standard output or standard error, by a thread of its own.
//!
//! Nothing is lost without a word. What cannot be written is kept and tried again, once a second; when more waits than
//! may be kept, the newest go, and are counted. A file that has been moved away, as log rotation does it, is opened
//! anew before the next record; a record cut off by a full disk is taken up where it broke off.

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    io::{self, IoSlice, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Record, line};
use crate::{config::AuditLog, files, telemetry::Metrics};

/// Records that may wait: some MiB, and minutes of a busy night.
const MOST_WAITING: usize = 10_000;
/// Records written at once.
const AT_ONCE: usize = 256;
/// How long the first of them waits for others, where no call waits for it: to wake a thread and to write a file for
/// every record would cost a busy bridge more than all the rest of the call.
const GATHER: Duration = Duration::from_millis(5);
/// How long an attempt waits for its record, where it is required.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often what could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The audit trail of this process. Clones are the same.
#[derive(Clone, Debug)]
pub struct Trail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: SyncSender<Message>,
    required: bool,
    state: Arc<State>,
    metrics: Metrics,
}

/// Whether records can be written, as far as is known, and the telling of it when that changes.
#[derive(Debug, Default)]
struct State(AtomicBool);

impl State {
    fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn fails(&self, why: &dyn fmt::Display) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!(error = %why, "audit records cannot be written; they are kept and tried again");
        }
    }

    fn works(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::info!("audit records are written again");
        }
    }
}

/// A record is not in the trail, and its call must not go on as if it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

enum Message {
    Line(Line),
    /// All that waits is to be written, if it can be; the thread ends.
    Close(oneshot::Sender<()>),
}

struct Line {
    bytes: Vec<u8>,
    /// Whoever waits for it to be written.
    told: Option<oneshot::Sender<Result<(), NotWritten>>>,
}

impl Trail {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// Why the file cannot be opened for appending.
    pub fn open(log: &AuditLog, required: bool, metrics: Metrics) -> io::Result<Self> {
        let sink = Sink::open(log)?;
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let state = Arc::new(State::default());
        let mut writer = Writer {
            sink,
            lines: VecDeque::new(),
            written: 0,
            gather: if required { Duration::ZERO } else { GATHER },
            state: Arc::clone(&state),
            metrics: metrics.clone(),
        };
        thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&receiver))?;
        Ok(Self(Arc::new(Shared { sender, required, state, metrics })))
    }

    /// Whether attempts may go on: not when records are required, and the last could not be written.
    ///
    /// # Errors
    ///
    /// [`NotWritten`], when they may not.
    pub fn ready(&self) -> Result<(), NotWritten> {
        if self.0.required && self.0.state.is_failing() { Err(NotWritten) } else { Ok(()) }
    }

    /// Hands a record over, and waits for nothing.
    pub fn note(&self, record: &Record<'_>) {
        self.send(record, None);
    }

    /// Hands a record over; where records are required, waits until it has been written.
    ///
    /// # Errors
    ///
    /// [`NotWritten`], where records are required and this one could not be written now. It is kept and tried again.
    pub async fn write(&self, record: &Record<'_>) -> Result<(), NotWritten> {
        if !self.0.required {
            self.note(record);
            return Ok(());
        }
        let (told, written) = oneshot::channel();
        self.send(record, Some(told));
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(written) => written.unwrap_or(Err(NotWritten)),
            // A disk that neither takes nor refuses: as bad as a full one.
            Err(_) => {
                self.0.state.fails(&"no end of writing in sight");
                Err(NotWritten)
            }
        }
    }

    /// Writes what waits, for as long as that may take.
    pub async fn close(&self, within: Duration) {
        let (told, closed) = oneshot::channel();
        let in_time = async {
            let mut message = Message::Close(told);
            // The queue may be full; the thread makes room as fast as it can.
            while let Err(TrySendError::Full(back)) = self.0.sender.try_send(message) {
                message = back;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let _ = closed.await;
        };
        let _ = tokio::time::timeout(within, in_time).await;
        let left = self.0.metrics.audit.pending();
        if left > 0 {
            tracing::error!(records = left, "audit records could not be written before the end");
        }
    }

    fn send(&self, record: &Record<'_>, told: Option<oneshot::Sender<Result<(), NotWritten>>>) {
        let Shared { sender, metrics, .. } = &*self.0;
        metrics.audit.attempted(record.operation, record.code);
        let line = Line { bytes: line::line(record, Timestamp::now()), told };
        metrics.audit.waits();
        if sender.try_send(Message::Line(line)).is_err() {
            metrics.audit.lost();
        }
    }
}

/// What the thread works with.
struct Writer {
    sink: Sink,
    /// Those that wait, the oldest first.
    lines: VecDeque<Line>,
    /// Bytes of the first line that are in the sink already.
    written: usize,
    gather: Duration,
    state: Arc<State>,
    metrics: Metrics,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Message>) {
        let mut more = false;
        loop {
            let mut message = match receiver.recv_timeout(TRY_AGAIN) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            };
            if !more {
                thread::sleep(self.gather);
            }
            let mut closed = None;
            let mut taken = 0;
            while let Some(next) = message.take() {
                match next {
                    Message::Line(line) => self.keep(line),
                    Message::Close(told) => closed = Some(told),
                }
                taken += 1;
                if taken < AT_ONCE && closed.is_none() {
                    message = receiver.try_recv().ok();
                }
            }
            more = taken == AT_ONCE;
            self.flush();
            if let Some(closed) = closed {
                let _ = closed.send(());
                return;
            }
        }
    }

    fn keep(&mut self, line: Line) {
        if self.lines.len() < MOST_WAITING {
            self.lines.push_back(line);
        } else {
            self.metrics.audit.lost();
            tell(line.told, Err(NotWritten));
        }
    }

    fn flush(&mut self) {
        while !self.lines.is_empty() {
            match self.write() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.failed(&error),
            }
        }
        self.state.works();
    }

    /// Writes some of what waits, as the operating system takes it.
    fn write(&mut self) -> io::Result<()> {
        if self.sink.follow()? {
            // What is in the file before is a torn line there; here it is whole.
            self.written = 0;
        }
        let mut slices = Vec::with_capacity(AT_ONCE);
        for (index, line) in self.lines.iter().take(AT_ONCE).enumerate() {
            slices.push(IoSlice::new(&line.bytes[if index == 0 { self.written } else { 0 }..]));
        }
        match self.sink.file.write_vectored(&slices)? {
            // Or it would be tried without a pause, for ever.
            0 => return Err(io::ErrorKind::WriteZero.into()),
            taken => self.written += taken,
        }
        let mut whole = 0;
        while let Some(line) = self.lines.pop_front_if(|line| line.bytes.len() <= self.written) {
            self.written -= line.bytes.len();
            whole += 1;
            tell(line.told, Ok(()));
        }
        self.metrics.audit.written(whole);
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.audit.failed();
        self.state.fails(error);
        for line in &mut self.lines {
            tell(line.told.take(), Err(NotWritten));
        }
    }
}

fn tell(told: Option<oneshot::Sender<Result<(), NotWritten>>>, what: Result<(), NotWritten>) {
    if let Some(told) = told {
        // Its caller may have gone.
        let _ = told.send(what);
    }
}

/// An open file, and where it is to be found.
struct Sink {
    file: File,
    /// Of a file that may be moved away; standard output and error stay where they are.
    path: Option<PathBuf>,
}

impl Sink {
    fn open(log: &AuditLog) -> io::Result<Self> {
        let standard = |stream: io::Result<OwnedFd>| Ok(Self { file: stream?.into(), path: None });
        match log {
            AuditLog::Stdout => standard(io::stdout().as_fd().try_clone_to_owned()),
            AuditLog::Stderr => standard(io::stderr().as_fd().try_clone_to_owned()),
            AuditLog::File(path) => Ok(Self { file: files::append_to(path)?, path: Some(path.clone()) }),
        }
    }

    /// Opens the file anew where it is not the one at its path any more; tells whether it did.
    fn follow(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let open = identity(self.file.metadata()?);
        if path.metadata().map(identity).is_ok_and(|there| there == open) {
            return Ok(false);
        }
        self.file = files::append_to(path)?;
        Ok(true)
    }
}
