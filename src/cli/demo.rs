//! `demo`: the whole of it on one machine, with nothing else installed: a simulated Atoti Server, the bridge in front of
//! it, and a first cancel made over the bridge's own socket.

use std::{net::SocketAddr, time::Instant};

use super::{
    serve,
    signal::Signals,
    simulate::{self, Scene},
};
use crate::{
    config::{CallerSettings, Config, DEFAULT_LISTEN, Listen, Settings, Tuning, UpstreamSettings},
    proto::queryhistory::{
        CancelOutcome, CancelQueryRequest, query_history_service_client::QueryHistoryServiceClient,
    },
    server::Listener,
    simulator::{Options, Security, Simulator},
    telemetry::{self, TraceSettings},
};
use clap::Args;

const METHOD: &str = "atoti.queryhistory.v1.QueryHistoryService/CancelQuery";
/// How long the first cancel may wait for its query; the simulator takes a fraction of a second.
const WAIT_SECONDS: i64 = 5;

/// What the demonstration takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Demo {
    /// Address to serve gRPC on; port 0 picks a free one
    #[arg(long, env = "ATOTI_BRIDGE_LISTEN", value_name = "IP:PORT", default_value = DEFAULT_LISTEN)]
    listen: String,

    #[command(flatten)]
    scene: Scene,

    #[command(flatten)]
    tuning: Tuning,
}

impl Demo {
    /// The settings of the bridge, with an upstream that is not known before the simulator listens.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            listen: self.listen.clone(),
            upstream: UpstreamSettings::plain("http://127.0.0.1:0"),
            callers: CallerSettings::default(),
            // Nobody balances over a demonstration.
            drain_delay: "0s".to_owned(),
            // Standard output is the story.
            audit_log: "stderr".to_owned(),
            audit_required: "false".to_owned(),
            tuning: self.tuning.clone(),
        }
    }
}

pub(super) async fn run(demo: Demo, mut config: Config, traces: Option<TraceSettings>) -> Result<(), String> {
    let logs = telemetry::init(config.log_format);
    let signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let sockets = serve::bind(&config).await?;
    let simulator = simulator(&demo.scene).await?;
    config.upstream.url = simulator.base_url().parse().expect("the simulator's address makes a URL");
    let address = local_address(&sockets.grpc)?;
    let shown = tokio::spawn(show(address, simulator));
    tokio::select! {
        served = serve::until_stopped(sockets, &config, traces, signals, &logs) => served,
        // It ends only when something went wrong: otherwise it keeps the simulator alive.
        failed = shown => failed.unwrap_or_else(|panic| Err(format!("the demonstration broke off: {panic}"))),
    }
}

async fn simulator(scene: &Scene) -> Result<Simulator, String> {
    // No login, so that the first lines one pastes are short; `simulate` has it on.
    let options = Options { security: Security::Off, ..scene.options() };
    Simulator::start(options)
        .await
        .map_err(|error| format!("cannot start the simulated Atoti Server: {error}"))
}

/// Where the socket can be reached from this machine.
fn local_address(listener: &Listener) -> Result<SocketAddr, String> {
    let Listen::Tcp(address) = listener.local().map_err(|error| format!("the socket is gone: {error}"))?
    else {
        return Err("the demonstration is told over TCP: give --listen an IP address with a port".to_owned());
    };
    Ok(super::from_here(address))
}

/// Tells the story, then keeps the simulator alive for good.
async fn show(address: SocketAddr, simulator: Simulator) -> Result<(), String> {
    let running = simulate::running(simulator.history());
    println!(
        "\nA simulated Atoti Server on {}, the bridge in front of it on {address}.\n\nRunning queries\n{}",
        simulator.base_url(),
        simulate::table(&running)
    );
    let mut left = running.iter();
    if let Some((id, _)) = left.next() {
        cancel(address, &simulator, id).await?;
    }
    introduce(address, left.next().map(|(id, _)| &**id));
    std::future::pending().await
}

/// The first cancel, as any gRPC client makes it; whether the query stopped is read from the simulator itself.
async fn cancel(address: SocketAddr, simulator: &Simulator, id: &str) -> Result<(), String> {
    println!("A first cancel, over gRPC: CancelQuery {{query_id: \"{id}\", wait: \"{WAIT_SECONDS}s\"}}");
    let before = status(simulator, id);
    let started = Instant::now();
    let mut client = QueryHistoryServiceClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| format!("the bridge cannot be reached on {address}: {error}"))?;
    let request = CancelQueryRequest {
        query_id: id.to_owned(),
        wait: Some(prost_types::Duration { seconds: WAIT_SECONDS, nanos: 0 }),
        reason: "the first cancel of the demonstration".to_owned(),
        allow_finished: false,
    };
    let response = client
        .cancel_query(request)
        .await
        .map_err(|status| format!("the first cancel failed: {:?}: {}", status.code(), status.message()))?;
    let outcome = response.into_inner().outcome();
    let (after, took) = (status(simulator, id), started.elapsed().as_millis());
    println!("  {} after {took} ms; Atoti: {before} -> {after}\n", outcome.as_str_name());
    if outcome == CancelOutcome::Cancelled && after == "CANCELLED" {
        Ok(())
    } else {
        Err(format!("the query {id} should have been seen to stop within {WAIT_SECONDS} s"))
    }
}

fn status(simulator: &Simulator, id: &str) -> &'static str {
    simulator.history().get(id).map_or("unknown", |query| query.status.name())
}

fn introduce(address: SocketAddr, id: Option<&str>) {
    let service = METHOD.split('/').next().unwrap_or_default();
    // As it was started, so that the lines can be pasted.
    let program = std::env::args().next().unwrap_or_else(|| "atoti-grpc-bridge".to_owned());
    println!(
        "Your turn, in another terminal. With this program alone:\n\n  # What runs, the longest first, until q is pressed\n  \
         {program} query list --follow --address {address}\n\n  # What has run for longer than a second: shows it, asks, \
         and sees each one stop\n  {program} query cancel-many --older-than 1s --wait 5s --address {address}\n\n\
         With https://github.com/fullstorydev/grpcurl, or any other client of gRPC:"
    );
    if let Some(id) = id {
        println!(
            "\n  # Stop one and see it stop\n  {}",
            call(address, id, r#", "wait": "5s", "reason": "runaway""#)
        );
        println!(
            "\n  # Once more: NOT_FOUND, because it no longer runs; or OK, for those who repeat\n  {}\n  {}",
            call(address, id, ""),
            call(address, id, r#", "allow_finished": true"#)
        );
    }
    println!(
        "\n  # An id that nobody has, and one that cannot be\n  {}\n  {}\n\n  \
         # What there is\n  grpcurl -plaintext {address} list\n  grpcurl -plaintext {address} describe {service}\n\n\
         Every attempt writes an audit record below. Ctrl-C stops it all.\n",
        call(address, "42", ""),
        call(address, "../admin", ""),
    );
}

fn call(address: SocketAddr, id: &str, more: &str) -> String {
    format!(r#"grpcurl -plaintext -d '{{"query_id": "{id}"{more}}}' {address} {METHOD}"#)
}
