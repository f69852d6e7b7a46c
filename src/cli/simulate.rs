//! `simulate`: the embedded Atoti alone, for other people's tests.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Output, signal::Signals};
use crate::{
    config,
    simulator::{History, Options, Security, Simulator},
};

/// What the simulated server is like.
#[derive(Clone, Debug, Args)]
pub(super) struct Simulate {
    /// Address to serve HTTP on; port 0 picks a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,

    /// Path in front of everything but the control API, such as /atoti
    #[arg(long, value_name = "PATH", default_value = "")]
    context_path: String,

    /// Name of this node; it can cancel only the queries that run on it
    #[arg(long, value_name = "NAME", default_value = "node-1")]
    node_name: String,

    #[command(flatten)]
    scene: Scene,

    /// Queries that begin per second and end by themselves after 0.1 to 30 s
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    arrivals: f64,

    /// How long after its cancel a query goes on
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = config::duration)]
    cancel_latency: Duration,

    /// Ask callers to log in (admin, user and guest, each with its name as password): on or off
    #[arg(long, value_name = "ON|OFF", default_value = "on")]
    security: Login,

    /// How the start is told on standard output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// What there is to see at the start; `demo` takes it too.
#[derive(Clone, Debug, Args)]
pub(super) struct Scene {
    /// Where everything random comes from: the same seed gives the same ids
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,

    /// Queries that run until they are cancelled
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    queries: usize,

    /// Queries that have ended already
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    history: usize,
}

impl Scene {
    pub(super) fn options(&self) -> Options {
        Options {
            seed: self.seed,
            running_queries: self.queries,
            finished_queries: self.history,
            ..Options::default()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Login {
    On,
    Off,
}

impl Simulate {
    /// The options of the server, or what is wrong with them.
    pub(super) fn options(&self) -> Result<Options, String> {
        let options = Options {
            listen: self.listen,
            context_path: self.context_path.clone(),
            node_name: self.node_name.clone(),
            arrivals_per_second: self.arrivals,
            cancel_latency: self.cancel_latency,
            security: if self.security == Login::On { Security::on() } else { Security::Off },
            ..self.scene.options()
        };
        options.check().map(|()| options)
    }
}

pub(super) async fn run(flags: Simulate, options: Options) -> Result<(), String> {
    let signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let simulator = Simulator::start(options).await.map_err(|error| {
        format!("cannot listen on {}: {error}; choose another address with --listen, or port 0", flags.listen)
    })?;
    match flags.output {
        Output::Table => introduce(&simulator, flags.security),
        Output::Json => {
            let ids: Vec<_> = simulator.history().running().into_iter().map(|query| query.id).collect();
            println!("{}", json!({"baseUrl": simulator.base_url(), "running": ids}));
        }
    }
    signals.drain.cancelled().await;
    tokio::select! {
        () = simulator.stop() => {}
        () = signals.now.cancelled() => {}
    }
    Ok(())
}

fn introduce(simulator: &Simulator, login: Login) {
    let (url, address) = (simulator.base_url(), simulator.address());
    println!("Simulated Atoti Server on {url}");
    let user = match login {
        Login::On => {
            println!("Users, each with its name as password: admin, user, guest");
            "-u user:user "
        }
        Login::Off => "",
    };
    let running = running(simulator.history());
    let id = running.first().map_or("ID", |(id, _)| id);
    println!("\nRunning queries\n{}", table(&running));
    println!(
        "Read and cancel one\n  \
         curl {user}{url}/activeviam/query-history/rest/v1/query/{id}\n  \
         curl {user}-X PATCH -H 'Content-Type: application/json' -d '{{\"status\":\"CANCELLED\"}}' \
         {url}/activeviam/query-history/rest/v1/query/{id}\n\n\
         Control it (docs/SIMULATOR.md)\n  \
         curl http://{address}/simulator/requests\n  \
         curl -d '{{\"behaviour\":{{\"status\":{{\"code\":503}}}},\"times\":1}}' http://{address}/simulator/faults\n\n\
         Ctrl-C stops it."
    );
}

/// The running queries: id, and what a person would know one by.
pub(super) fn running(history: &History) -> Vec<(String, String)> {
    let row = |query: crate::simulator::QueryRecord| {
        let text: String = query.text.chars().take(60).collect();
        (query.id, format!("{:<8}  {text}...", query.username))
    };
    history.running().into_iter().map(row).collect()
}

/// Those queries below each other, for people.
pub(super) fn table(running: &[(String, String)]) -> String {
    running.iter().map(|(id, rest)| format!("  {id:<19}  {rest}\n")).collect()
}
