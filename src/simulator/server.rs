//! What the connections of one node share.

use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use axum::Router;
use http::HeaderValue;
use jiff::tz::Offset;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Options, api,
    api::jwt::Jwt,
    control,
    fault::Faults,
    history::{History, generate::Generator},
    wire::recorder::Recorder,
};

/// One node.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) options: Options,
    pub(super) history: History,
    pub(super) faults: Faults,
    pub(super) recorder: Recorder,
    pub(super) jwt: Jwt,
    pub(super) offset: Offset,
    pub(super) connections: AtomicUsize,
    /// Names the sessions that callers without a cookie get.
    pub(super) sessions: Mutex<fastrand::Rng>,
    /// Ends every task of this node.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// The routes of a node, built once.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    pub(super) api: Router,
    pub(super) control: Router,
}

impl Routes {
    pub(super) fn of(server: &Arc<Server>) -> Self {
        Self { api: api::routes(server), control: control::routes(server) }
    }
}

impl Server {
    pub(super) fn new(options: Options, history: History) -> Arc<Self> {
        Arc::new(Self {
            faults: Faults::default(),
            recorder: Recorder::new(options.recorded_requests),
            jwt: Jwt::new(options.seed, options.token_lifetime),
            offset: Offset::from_hours(options.utc_offset_hours).expect("the options were checked"),
            connections: AtomicUsize::new(0),
            sessions: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            options,
            history,
        })
    }

    /// Starts a task that ends with the node.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// A session that nobody has yet, as the cookie that names it.
    pub(super) fn new_session(&self) -> HeaderValue {
        let number = self.sessions.lock().expect("nobody panics while naming a session").u128(..);
        let path = if self.options.context_path.is_empty() { "/" } else { &self.options.context_path };
        let cookie = format!("JSESSIONID={number:032X}; Path={path}; HttpOnly");
        HeaderValue::try_from(cookie).expect("a checked path and digits are a header value")
    }

    /// Fills the history and sets the arrivals going.
    pub(super) fn populate(&self) {
        let Options { seed, running_queries, finished_queries, arrivals_per_second, .. } = self.options;
        let mut generator = Generator::new(seed, &self.options.node_name);
        for _ in 0..finished_queries {
            self.history.start_query(generator.finished());
        }
        for _ in 0..running_queries {
            self.history.start_query(generator.running());
        }
        if arrivals_per_second > 0.0 {
            let history = self.history.clone();
            // Longer than a day apart is never, which `Duration` would otherwise refuse to hold.
            let apart = Duration::from_secs_f64((1.0 / arrivals_per_second).min(86_400.0));
            self.spawn(async move {
                let mut ticks = interval(apart);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                loop {
                    ticks.tick().await;
                    history.start_query(generator.arrival());
                }
            });
        }
    }
}
