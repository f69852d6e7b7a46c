//! Calls without a bridge: the same `PATCH`, to the upstream itself or through a plain proxy.

use std::{net::SocketAddr, time::Instant};

use clap::Args;
use http::StatusCode;

use crate::{
    Failure,
    args::Pace,
    message,
    pace::{self, Caller},
    pool::Pool,
    record::Outcome,
};

/// Makes HTTP/1.1 calls and prints, as JSON, what became of them
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Address to call
    #[arg(long)]
    target: SocketAddr,
    #[command(flatten)]
    pace: Pace,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let pool = Pool::new(options.target)?;
    // One carries one call at a time.
    pool.fill(options.pace.connections.saturating_mul(options.pace.streams).get()).await?;
    pace::drive(pool, options.pace).await
}

impl Caller for Pool {
    async fn call(&self, _connection: usize, number: u64, _deadline: Option<Instant>) -> Outcome {
        match self.cancel(&message::id(number)).await {
            Ok(StatusCode::NO_CONTENT) => Outcome::Good(StatusCode::NO_CONTENT.as_u16()),
            Ok(status) => Outcome::Other(status.as_u16()),
            Err(_) => Outcome::Broken,
        }
    }
}
