//! The commands: what a person types, and what the process exits with.

mod authorization;
mod check;
mod demo;
mod endpoint;
mod healthcheck;
mod query;
mod serve;
mod signal;
mod simulate;
mod upkeep;

use std::{
    fmt::Display,
    future::Future,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::{check::Check, demo::Demo, healthcheck::Healthcheck, query::Query, simulate::Simulate};
use crate::{
    config::{Config, Settings},
    telemetry::TraceSettings,
};

/// Wrong usage: `EX_USAGE` of BSD's sysexits.
const EXIT_USAGE: u8 = 64;
const EXIT_FAILURE: u8 = 1;

/// Stops runaway Atoti queries over gRPC: a front for the Query History REST API of an Atoti Server.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a simulated Atoti Server, the bridge in front of it, and a first cancel. Needs nothing else
    Demo(Box<Demo>),
    /// Serve gRPC in front of an Atoti Server
    Serve(Box<Settings>),
    /// Ask Atoti, with the settings of serve, whether the bridge could work, and say what to mend
    ///
    /// Three questions: is Atoti reachable, is its Query History API installed, are the credentials accepted. Nothing
    /// is cancelled, and no port is opened. Exit codes: 0 nothing to mend, 1 something is, 64 wrong usage or settings.
    Check(Box<Check>),
    /// Ask a running bridge for its health, as a container's probe does where there is no shell
    ///
    /// Prints what grpc.health.v1 says: SERVING, NOT_SERVING or SERVICE_UNKNOWN. Exit codes: 0 SERVING, 1 anything
    /// else, 64 wrong usage.
    Healthcheck(Box<Healthcheck>),
    /// Inspect, watch, stop and delete queries through a running bridge
    Query(Box<Query>),
    /// Run the simulated Atoti Server alone, to test other clients against
    Simulate(Box<Simulate>),
    /// Print what makes a shell complete these commands
    ///
    /// For bash: atoti-grpc-bridge completions bash > ~/.local/share/bash-completion/completions/atoti-grpc-bridge
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How a command tells what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs: one object, on one line
    Json,
}

/// Parses the command line and runs the command.
///
/// Exit codes: 0 done, 1 failed, 64 wrong usage or settings. `query` has more of them, see its help.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be done when even that cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Demo(demo) => {
            with_config(&demo.settings(), |config, traces| demo::run(*demo, config, traces))
        }
        Command::Serve(settings) => with_config(&settings, serve::run),
        Command::Check(check) => match check.validate() {
            Ok(valid) => block_on(check::run(*check, valid)),
            Err(faults) => refuse(&faults),
        },
        Command::Healthcheck(flags) => match flags.endpoint() {
            Ok(endpoint) => block_on(healthcheck::run(*flags, endpoint)),
            Err(fault) => refuse(&[fault]),
        },
        Command::Query(query) => in_runtime(query::run(*query)).unwrap_or_else(|message| fail(&message)),
        Command::Completions { shell } => completions(shell),
        Command::Simulate(flags) => match flags.options() {
            Ok(options) => block_on(simulate::run(*flags, options)),
            Err(fault) => refuse(&[fault]),
        },
    }
}

/// Runs a command with valid settings, or says everything that is wrong with them.
fn with_config<F: Future<Output = Result<(), String>>>(
    settings: &Settings,
    command: impl FnOnce(Config, Option<TraceSettings>) -> F,
) -> ExitCode {
    match (settings.validate(), TraceSettings::from_environment()) {
        (Ok(config), Ok(traces)) => block_on(command(config, traces)),
        (config, traces) => {
            let mut faults: Vec<_> =
                config.err().unwrap_or_default().iter().map(ToString::to_string).collect();
            faults.extend(traces.err().unwrap_or_default());
            refuse(&faults)
        }
    }
}

fn refuse(faults: &[impl Display]) -> ExitCode {
    eprintln!("error: {} of the settings cannot be used:", faults.len());
    for fault in faults {
        eprintln!("  {fault}");
    }
    ExitCode::from(EXIT_USAGE)
}

fn block_on(command: impl Future<Output = Result<(), String>>) -> ExitCode {
    let done = in_runtime(command).and_then(|done| done);
    done.map_or_else(|message| fail(&message), |()| ExitCode::SUCCESS)
}

fn in_runtime<T>(command: impl Future<Output = T>) -> Result<T, String> {
    // One thread; whoever serves has more, see `server::Workers`.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let done = runtime.block_on(command);
    // What the drain has given up on is not waited for again.
    runtime.shutdown_background();
    Ok(done)
}

fn completions(shell: Shell) -> ExitCode {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(&format!("cannot print: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(EXIT_FAILURE)
}

/// Where an address that is listened on can be reached from this machine.
fn from_here(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
