//! `query`: what the bridge serves, for people on call and for their scripts.
//!
//! Each subcommand is a thin client of the gRPC service. What it finds goes to standard output, what it says about
//! that to standard error, and what became of it is its exit code.

/// Says something on standard error. Nobody may be there to hear it, and that must not end what is under way: the
/// macro of the standard library would panic.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod ask;
mod cancel;
mod connect;
mod delete;
mod failure;
mod filter;
mod follow;
mod json;
mod list;
mod many;
mod moment;
mod out;
mod progress;
mod read;
mod render;
mod screen;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::{failure::Failure, out::Out};
use super::signal::Signals;

/// Below the help of `query` itself.
const AFTER_HELP: &str = "\
Examples:
  What runs now, the longest first, until q is pressed
    atoti-grpc-bridge query list --follow
  What has been running for ten minutes, and who started it
    atoti-grpc-bridge query list --running --older-than 10m
  Stop one, and see it stop
    atoti-grpc-bridge query cancel 5016726393312340713 --wait 10s --reason 'blocks the close'
  See what a bulk cancel would stop, then stop it
    atoti-grpc-bridge query cancel-many --user ada --older-than 10m --dry-run
    atoti-grpc-bridge query cancel-many --user ada --older-than 10m --wait 5s
  The ids of yesterday's failures, for a script
    atoti-grpc-bridge query list --status failed --started-after 1d --output json | jq -r .queryId
  Is it the right server, and are the credentials good?
    printf 'Basic %s' \"$(printf 'user:password' | base64)\" > authorization
    atoti-grpc-bridge query info --address bridge.example:50051 --authorization-file authorization

Output: a table when standard output is a terminal, else JSON as protobuf writes it, one object per line. Errors, \
notes and questions go to standard error.

Exit codes:
  0       done
  1-16    the call failed; the number is that of the gRPC status code:
           1 CANCELLED           5 NOT_FOUND            9 FAILED_PRECONDITION  13 INTERNAL
           2 UNKNOWN             6 ALREADY_EXISTS      10 ABORTED              14 UNAVAILABLE
           3 INVALID_ARGUMENT    7 PERMISSION_DENIED   11 OUT_OF_RANGE         15 DATA_LOSS
           4 DEADLINE_EXCEEDED   8 RESOURCE_EXHAUSTED  12 UNIMPLEMENTED        16 UNAUTHENTICATED
          14 too when the bridge cannot be reached. Of several ids, the first that failed decides
  20      cancel-many went through, and some of the queries could not be stopped
  21      the question was answered with no
  64      wrong usage
  74      standard output or the terminal cannot be used
  130     Ctrl-C";

/// What `query` takes.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_long_help = AFTER_HELP)]
pub(super) struct Query {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show queries, each in full
    Get(read::Get),
    /// List queries, the newest first; with --follow, what runs now, the longest first
    List(Box<list::List>),
    /// Watch a query until it has ended
    ///
    /// Prints a line whenever it has changed. A bridge that shuts down, or cannot be reached for a moment, is asked
    /// again. Exit code 0 when the query has ended, in whatever way.
    Watch(watch::Watch),
    /// Stop queries by their ids
    Cancel(cancel::Cancel),
    /// Stop every running query that fits, after a question
    CancelMany(Box<many::CancelMany>),
    /// Stop everything that runs, after a question
    CancelAll(cancel::CancelAll),
    /// Delete queries that have ended from the history, by their ids. Atoti asks for its administrator's role
    Delete(delete::Delete),
    /// Delete every query that has ended and fits from the history, after a question. Atoti asks for its
    /// administrator's role
    DeleteMany(Box<delete::DeleteMany>),
    /// Show how Atoti retrieves the result of an MDX query
    ///
    /// Atoti executes the query again for it, which may cost as much as the query did. So it is refused unless whoever
    /// runs the bridge has allowed it.
    Plan(read::Plan),
    /// Show which Atoti Server is behind the bridge, and what it thinks of the credentials
    Info(read::Info),
}

pub(super) async fn run(query: Query) -> ExitCode {
    let mut out = Out::default();
    let done = match Signals::listen() {
        Ok(signals) => obey(query.command, &signals, &mut out).await,
        Err(error) => Err(Failure::Output(error)),
    };
    let written = out.finish().map_err(Failure::Output);
    let done = done.and(written);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn obey(command: Command, signals: &Signals, out: &mut Out) -> Result<(), Failure> {
    let work = async {
        match command {
            Command::Get(flags) => read::get(flags, out).await,
            Command::List(flags) if flags.follow => follow::run(*flags, out).await,
            Command::List(flags) => list::run(*flags, out).await,
            Command::Watch(flags) => watch::run(flags, out).await,
            Command::Cancel(flags) => cancel::run(flags, out).await,
            // What it has stopped so far must be told on the way out.
            Command::CancelMany(flags) => many::run(*flags, signals, out).await,
            Command::CancelAll(flags) => cancel::all(flags, out).await,
            Command::Delete(flags) => delete::run(flags, out).await,
            Command::DeleteMany(flags) => delete::many(*flags, out).await,
            Command::Plan(flags) => read::plan(flags, out).await,
            Command::Info(flags) => read::info(flags, out).await,
        }
    };
    tokio::select! {
        biased;
        done = Box::pin(work) => done,
        () = signals.drain.cancelled() => Err(Failure::Interrupted),
    }
}
