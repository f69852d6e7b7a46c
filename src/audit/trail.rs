//! Where audit records go: a file, standard output or standard error, by a thread of its own.
//!
//! Nothing is lost without a word. What cannot be written is kept and tried again, once a second; when more waits than
//! may be kept, the newest go, and are counted. A file that has been moved away, as log rotation does it, is opened
//! anew before the next record; a record cut off by a full disk is taken up where it broke off.

use std::{
    fmt,
    io::{self, Write as _},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{
    Record, line,
    lines::{Lines, NotWritten, Told, tell},
    sink::Sink,
};
use crate::{config::AuditLog, telemetry::Metrics};

/// How long the first record waits for others, where no call waits for it: to wake a thread and to write a file for
/// every one would cost a busy bridge more than all the rest of the call.
const GATHER: Duration = Duration::from_millis(5);
/// How long an attempt waits for its record, where it is required.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often what could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The audit trail of this process. Clones are the same; with the last of them the thread ends.
#[derive(Clone, Debug)]
pub struct Trail(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    required: bool,
    metrics: Metrics,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.pending().ended = true;
        self.shared.come.notify_one();
    }
}

/// What calls and the thread share.
#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// Wakes the thread.
    come: Condvar,
    state: State,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // A record is in it as a whole or not at all, see `Lines::push`.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread has not taken yet.
#[derive(Debug, Default)]
struct Pending {
    lines: Lines,
    /// All that waits is to be written, if it can be, and the thread ends.
    closed: Option<oneshot::Sender<()>>,
    ended: bool,
    /// The thread has gone.
    gone: bool,
}

impl Pending {
    const fn is_over(&self) -> bool {
        self.closed.is_some() || self.ended
    }
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

impl Trail {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// Why the file cannot be opened for appending.
    pub fn open(log: &AuditLog, required: bool, metrics: Metrics) -> io::Result<Self> {
        let sink = Sink::open(log)?;
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            sink,
            lines: Lines::default(),
            gather: if required { Duration::ZERO } else { GATHER },
            shared: Arc::clone(&shared),
            metrics: metrics.clone(),
        };
        thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        Ok(Self(Arc::new(Handle { shared, required, metrics })))
    }

    /// Whether attempts may go on: not when records are required, and the last could not be written.
    ///
    /// # Errors
    ///
    /// [`NotWritten`], when they may not.
    pub fn ready(&self) -> Result<(), NotWritten> {
        if self.0.required && self.0.shared.state.is_failing() { Err(NotWritten) } else { Ok(()) }
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
                self.0.shared.state.fails(&"no end of writing in sight");
                Err(NotWritten)
            }
        }
    }

    /// Writes what waits, for as long as that may take.
    pub async fn close(&self, within: Duration) {
        let (told, closed) = oneshot::channel();
        self.0.shared.pending().closed = Some(told);
        self.0.shared.come.notify_one();
        let _ = tokio::time::timeout(within, closed).await;
        let left = self.0.metrics.audit.pending();
        if left > 0 {
            tracing::error!(records = left, "audit records could not be written before the end");
        }
    }

    fn send(&self, record: &Record<'_>, told: Option<Told>) {
        let Handle { shared, metrics, .. } = &*self.0;
        metrics.audit.attempted(record.operation, record.code);
        metrics.audit.waits();
        let mut pending = shared.pending();
        let first = pending.lines.is_empty();
        let pushed = if pending.gone {
            Err(told)
        } else {
            pending.lines.push(|bytes| line::write(record, Timestamp::now(), bytes), told)
        };
        drop(pending);
        match pushed {
            // For those that follow it is awake, or on its way.
            Ok(()) if first => shared.come.notify_one(),
            Ok(()) => {}
            Err(told) => {
                metrics.audit.lost(1);
                tell(told, Err(NotWritten));
            }
        }
    }
}

/// What the thread works with.
struct Writer {
    sink: Sink,
    /// What it has taken, and not written yet.
    lines: Lines,
    gather: Duration,
    shared: Arc<Shared>,
    metrics: Metrics,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let over = self.wait();
            let closed = self.take(over);
            self.flush();
            if let Some(closed) = closed {
                // Whoever waits may have lost patience.
                let _ = closed.send(());
            }
            if over {
                return;
            }
        }
    }

    /// Waits until there is something to write, or to try again; tells whether it is the last time.
    fn wait(&self) -> bool {
        let nothing = |pending: &mut Pending| pending.lines.is_empty() && !pending.is_over();
        let pending = self.shared.come.wait_timeout_while(self.shared.pending(), TRY_AGAIN, nothing);
        let (pending, _) = pending.unwrap_or_else(PoisonError::into_inner);
        let (over, none) = (pending.is_over(), pending.lines.is_empty());
        drop(pending);
        if !over && !none {
            thread::sleep(self.gather);
        }
        over
    }

    /// Takes what has come; and who waits for the end, if it is near. The last time nothing can come any more.
    fn take(&mut self, last: bool) -> Option<oneshot::Sender<()>> {
        let mut pending = self.shared.pending();
        pending.gone = last;
        if self.lines.is_empty() {
            // In exchange for the room that the last ones took.
            mem::swap(&mut self.lines, &mut pending.lines);
            return pending.closed.take();
        }
        let later = mem::take(&mut pending.lines);
        let closed = pending.closed.take();
        drop(pending);
        self.metrics.audit.lost(self.lines.append(later));
        closed
    }

    fn flush(&mut self) {
        while !self.lines.is_empty() {
            match self.write() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.failed(&error),
            }
        }
        self.shared.state.works();
    }

    /// Writes some of what waits, as the operating system takes it.
    fn write(&mut self) -> io::Result<()> {
        if self.sink.follow()? {
            // What is in the file before is a torn line there; here it is whole.
            self.lines.begin_line_anew();
        }
        match self.sink.file.write(self.lines.next())? {
            // Or it would be tried without a pause, for ever.
            0 => Err(io::ErrorKind::WriteZero.into()),
            bytes => {
                self.metrics.audit.written(self.lines.written(bytes));
                Ok(())
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.audit.failed();
        self.shared.state.fails(error);
        self.lines.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Caller;

    /// A cancel may outlive the drain, and the trail with it.
    #[tokio::test]
    async fn a_record_that_comes_too_late_is_counted_as_lost_and_waited_for_by_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, metrics) = (folder.path().join("audit.log"), Metrics::new());
        let record = Record {
            operation: "CancelQuery",
            query_id: Some("42"),
            filter: None,
            reason: "",
            caller: Caller { peer: None, certificate: None, claimed_user: None },
            request_id: "r",
            trace_id: None,
            span_id: None,
            outcome: None,
            code: "OK",
            error_reason: None,
            http_status: None,
            attempts: 1,
            request_sent: true,
            bulk: None,
            caller_waited: true,
        };
        let trail = Trail::open(&AuditLog::File(path.clone()), true, metrics.clone()).expect("a trail");
        assert_eq!(trail.write(&record).await, Ok(()));
        trail.close(PATIENCE).await;
        let late = tokio::time::timeout(PATIENCE / 2, trail.write(&record)).await;
        assert_eq!(late, Ok(Err(NotWritten)));
        assert!(metrics.open_metrics().contains("atoti_bridge_audit_records_lost_total 1"));
        let written = std::fs::read_to_string(path).expect("text");
        assert_eq!(written.lines().count(), 1);
    }
}
