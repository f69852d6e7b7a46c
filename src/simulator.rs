//! An embedded stand-in for an Atoti Server: a real HTTP server with the Query History REST API.
//!
//! It exists for tests, for demonstrations and for anybody who writes a client of that API and has no Atoti at hand.
//! It imports nothing of this crate's other modules: types shared with the client would hide the client's mistakes.
//! `docs/SIMULATOR.md` tells what is imitated, what is merely assumed, and how to use it from another language.
//!
//! ```text
//! socket ─► wire (connections, recording, faults, Tomcat's refusals) ─► api (login, routes) ─► history
//!                └─► control (/simulator/...: neither recorded nor subject to faults)
//! ```
//!
//! Everything random comes from [`Options::seed`]: the same seed gives the same ids, users, texts, run times and
//! outcomes in the same order. Dates are counted back from now, so they alone differ from run to run.

mod api;
mod control;
mod fault;
mod history;
mod options;
mod problem;
mod server;
mod wire;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use self::server::Server;
pub use self::{
    fault::Fault,
    history::{
        History,
        record::{NewQuery, Outcome, QueryRecord, QueryType, Status},
    },
    options::{Options, Security, User},
    problem::Shape,
    wire::recorder::RecordedRequest,
};

/// One node of a simulated Atoti Server.
///
/// ```
/// use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Simulator};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let atoti = Simulator::start(Options::default()).await?;
/// let id = atoti.history().start_query(NewQuery::default());
/// // Its cancel will take effect, and nobody will learn of it.
/// atoti.inject(Fault::cut_before_head().on("PATCH", "/query/").after_effect().times(1));
/// // ... a client at work against atoti.base_url() ...
/// assert!(atoti.requests().is_empty());
/// # assert!(atoti.history().get(&id).is_some());
/// # Ok(())
/// # }
/// ```
///
/// It stops when dropped: its own tasks end, its connections close and its port becomes free a moment later. Use
/// [`Simulator::stop`] to wait for that moment.
#[derive(Debug)]
pub struct Simulator {
    server: Arc<Server>,
    address: SocketAddr,
    _stop_on_drop: DropGuard,
}

impl Simulator {
    /// Starts a node with a history of its own; it is bound and serving when this returns.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or the options contradict themselves (`InvalidInput`).
    pub async fn start(options: Options) -> io::Result<Self> {
        let history = History::new(options.seed, options.history_capacity, &options.node_name);
        Self::start_sharing(options, &history).await
    }

    /// Starts another node over the history of a first one, as several servers share a history database.
    ///
    /// It reads every query but cancels only those whose node name is its own, so give it another
    /// [`Options::node_name`]. The history keeps the capacity it was made with.
    ///
    /// # Errors
    ///
    /// As for [`Simulator::start`].
    pub async fn start_sharing(options: Options, history: &History) -> io::Result<Self> {
        options.check().map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let server = Server::new(options, history.clone());
        let stop_on_drop = server.stop.clone().drop_guard();
        server.populate();
        wire::connection::accept(&server, listener);
        Ok(Self { server, address, _stop_on_drop: stop_on_drop })
    }

    /// The address that is listened on, with the port that was picked when 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client is configured with: scheme, address and context path, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{}", self.address, self.server.options.context_path)
    }

    /// The queries; cheap to clone, and alive for as long as anybody holds it.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.server.history
    }

    /// Adds a fault behind those already waiting: for each request the first match wins.
    pub fn inject(&self, fault: Fault) {
        self.server.faults.add(fault);
    }

    /// Removes all faults; answers already under way keep theirs.
    pub fn clear_faults(&self) {
        self.server.faults.clear();
    }

    /// The latest requests, oldest first, at most [`Options::recorded_requests`]; those to the control API are not
    /// among them.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.recorder.all()
    }

    /// Forgets the recorded requests.
    pub fn clear_requests(&self) {
        self.server.recorder.clear();
    }

    /// Connections accepted so far, those dropped by a fault and those to the control API included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Stops and waits until the port is free and every connection is closed.
    pub async fn stop(self) {
        self.server.stop.cancel();
        self.server.tasks.close();
        self.server.tasks.wait().await;
    }
}
