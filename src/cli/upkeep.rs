//! What is looked after while the bridge serves: files that change, Atoti's health, a token that is about to expire.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    atoti::Atoti,
    files::{FromFiles, Refreshed},
    server::Health,
    telemetry::Metrics,
    tls,
};

/// How often files are read again.
const FILES_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether a token should be renewed.
const TOKEN_EVERY: Duration = Duration::from_secs(1);
/// How often Atoti is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Upkeep {
    pub(super) atoti: Arc<Atoti>,
    pub(super) tls: Option<Arc<FromFiles<tls::Server>>>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    /// How long the first answer of Atoti is waited for before the bridge calls itself ready, and any later one.
    pub(super) probe_timeout: Duration,
}

impl Upkeep {
    /// Goes on for ever.
    pub(super) async fn run(self) {
        // Side by side: a token endpoint that hangs does not keep an expiring certificate in use.
        tokio::join!(self.files(), self.token(), self.probes());
    }

    async fn files(&self) {
        let mut ticks = every(FILES_EVERY);
        loop {
            ticks.tick().await;
            let (atoti, tls, metrics) = (Arc::clone(&self.atoti), self.tls.clone(), self.metrics.clone());
            // A volume that hangs is not to keep this thread from its calls.
            let _ = spawn_blocking(move || refresh(&atoti, tls.as_deref(), &metrics)).await;
            self.atoti.close_idle();
        }
    }

    async fn token(&self) {
        let mut ticks = every(TOKEN_EVERY);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let renewed = self.atoti.renew_token().await;
            if let Err(error) = &renewed
                && !failing
            {
                tracing::warn!(cause = error.cause.class, "the bridge's token cannot be renewed yet");
            }
            failing = renewed.is_err();
        }
    }

    async fn probes(&self) {
        let mut ticks = every(PROBE_EVERY);
        let mut was_up = None;
        loop {
            ticks.tick().await;
            let probed = self.atoti.probe(self.probe_timeout).await;
            let up = probed.is_ok();
            match probed {
                Ok(()) if was_up != Some(true) => tracing::info!("Atoti answers"),
                Err(error) if was_up != Some(false) => {
                    tracing::warn!(
                        cause = error.cause.class,
                        "Atoti does not answer; calls will fail until it does"
                    );
                }
                _ => {}
            }
            was_up = Some(up);
            self.metrics.upstream.up(up);
            self.health.upstream(up);
            // Ready once it has been asked, whatever came of it: a bridge that serves can say what is wrong.
            self.health.ready();
        }
    }
}

fn refresh(atoti: &Atoti, tls: Option<&FromFiles<tls::Server>>, metrics: &Metrics) {
    let files = &metrics.files;
    if let Some(tls) = tls {
        files.reload_failed("tls", tls.refresh() == Refreshed::Refused);
        files.certificate_expires("tls", tls.current().expires);
    }
    let refreshed = atoti.refresh_files();
    files.reload_failed("upstream_tls", refreshed.certificates == Refreshed::Refused);
    files.reload_failed("credentials", refreshed.credentials == Refreshed::Refused);
    files.reload_failed("nodes", refreshed.nodes == Refreshed::Refused);
    if let Some(expires) = refreshed.certificate_expires {
        files.certificate_expires("upstream_tls", expires);
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
