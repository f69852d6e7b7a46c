//! The bench rig: what `benches/compare` has beside the contestants. It plays Atoti for speed, is itself the least that
//! a bridge can cost, makes calls, and counts.
//!
//! It uses nothing of the bridge's crate, so that no mistake is shared. For Linux alone: it reads `/proc`, and waits by
//! timerfd.

mod args;
mod cpu;
mod floor;
mod grpc;
mod message;
mod pace;
mod page;
mod parse;
mod pool;
mod record;
mod rest;
mod upstream;

use std::{error::Error, net::SocketAddr};

use clap::{Parser, Subcommand};
use tokio::{net::TcpListener, runtime};

/// As the measurements of the floor were made: with glibc's it would cost a third more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What ends the program.
type Failure = Box<dyn Error + Send + Sync>;

/// Loads bridges, and is what they are loaded beside; `benches/compare` runs it
#[derive(Debug, Parser)]
struct Rig {
    #[command(subcommand)]
    part: Option<Part>,
    /// What cargo adds when it runs all benchmarks, of which this is none.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    Upstream(upstream::Options),
    Floor(floor::Options),
    Load(grpc::Options),
    Rest(rest::Options),
    Parse(parse::Options),
}

fn main() -> Result<(), Failure> {
    let Some(part) = Rig::parse().part else {
        println!("The rig is run by benches/compare; `rig help` tells its parts.");
        return Ok(());
    };
    // One thread: each part has a core to itself, or shares it.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match part {
            Part::Upstream(options) => upstream::run(options).await,
            Part::Floor(options) => floor::run(options).await,
            Part::Load(options) => grpc::run(options).await,
            Part::Rest(options) => rest::run(options).await,
            Part::Parse(options) => parse::run(&options),
        }
    })
}

/// Listens, and says where on standard output.
async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await?;
    println!("listening {}", listener.local_addr()?);
    Ok(listener)
}
