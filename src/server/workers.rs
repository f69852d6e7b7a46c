//! The threads that serve connections, each by itself.
//!
//! A connection stays on one thread, with its calls and their requests to Atoti: nothing that happens for a call has to
//! wake another thread, which would cost more than the call itself. New connections go to the thread that has the
//! fewest.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::listen::Stream;

/// The threads. They end when this is dropped, and what still runs on them with them.
#[derive(Debug)]
pub struct Workers {
    /// The thread of the runtime in which they were started serves too.
    here: Arc<AtomicUsize>,
    others: Vec<Worker>,
    _end: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Open on it.
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// As many threads, the one that calls this among them. To be called inside of a runtime.
    ///
    /// # Errors
    ///
    /// When there can be no such thread.
    pub fn start(threads: NonZeroUsize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let others =
            (1..threads.get()).map(|number| Worker::start(number, end.clone())).collect::<Result<_, _>>()?;
        Ok(Self { here: Arc::default(), others, _end: end.drop_guard() })
    }

    /// No thread but the one there is.
    #[must_use]
    pub fn here() -> Self {
        Self { here: Arc::default(), others: Vec::new(), _end: CancellationToken::new().drop_guard() }
    }

    /// Serves a connection on one of the threads, as one of `tasks`.
    ///
    /// # Errors
    ///
    /// When the connection cannot be handed over: it is gone.
    pub(super) fn spawn<F>(
        &self,
        tasks: &TaskTracker,
        stream: Stream,
        serve: impl FnOnce(Stream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let load = |connections: &AtomicUsize| connections.load(Ordering::Relaxed);
        let idlest = self.others.iter().min_by_key(|worker| load(&worker.connections));
        let Some(worker) = idlest.filter(|worker| load(&worker.connections) < load(&self.here)) else {
            let open = Open::on(&self.here);
            tasks.spawn(async move {
                serve(stream).await;
                drop(open);
            });
            return Ok(());
        };
        let (open, stream) = (Open::on(&worker.connections), stream.detach()?);
        let task = async move {
            // Here the thread waits for its bytes.
            match stream.attach() {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::debug!(%error, "a connection has gone at once"),
            }
            drop(open);
        };
        tasks.spawn_on(task, &worker.runtime);
        Ok(())
    }
}

impl Worker {
    fn start(number: usize, end: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(end.cancelled());
            // What the drain has given up on is not waited for again.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, connections: Arc::default() })
    }
}

/// A connection that counts on a thread.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn on(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
