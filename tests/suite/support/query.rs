//! `query` as a process, with a bridge and a simulated Atoti for it.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use atoti_grpc_bridge::simulator::{NewQuery, Options, Security, Simulator, Status};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::{
    bridge::{Bridge, command},
    within,
};

/// A bridge, and the Atoti behind it.
pub struct Scene {
    pub atoti: Simulator,
    pub bridge: Bridge,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Its standard output: one JSON object per line.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[track_caller]
    pub fn assert(&self, code: i32, told: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in told {
            assert!(self.err.contains(text), "{text:?} is not in {self:?}");
        }
    }
}

impl Scene {
    pub async fn open() -> Self {
        Self::with(Options { security: Security::Off, ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        let atoti = Simulator::start(options).await.expect("it starts");
        let bridge = Bridge::start(&atoti.base_url()).await;
        Self { atoti, bridge }
    }

    pub async fn query(&self, arguments: &[&str]) -> Said {
        let address = format!("--address={}", self.bridge.address());
        run(&[&["query"], arguments, &[&address]].concat()).await
    }

    /// A running query.
    pub fn start(&self, username: &str, minutes: u64) -> String {
        let started_ago = Duration::from_secs(60 * minutes);
        self.atoti.history().start_query(NewQuery {
            username: username.into(),
            started_ago,
            ..NewQuery::default()
        })
    }

    pub fn status(&self, id: &str) -> Option<Status> {
        self.atoti.history().get(id).map(|query| query.status)
    }
}

/// Runs a command to its end.
pub async fn run(arguments: &[&str]) -> Said {
    let mut command = command();
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = spawn_blocking(move || command.output().expect("the program runs"));
    let output = within("the end", ended).await.expect("it was waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A command that goes on, and what it prints, line by line.
pub struct Going {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Going {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        Self { process, lines }
    }

    pub async fn line(mut self) -> (Self, Option<Value>) {
        let read = spawn_blocking(move || {
            let line = self.lines.next().map(|line| line.expect("text"));
            (self, line.map(|line| serde_json::from_str(&line).expect("JSON")))
        });
        within("a line", read).await.expect("it was read")
    }

    pub async fn end(self) -> Said {
        let Self { process, lines } = self;
        drop(lines);
        let ended = spawn_blocking(move || process.wait_with_output().expect("it ends"));
        let output = within("the end", ended).await.expect("it was waited for");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        Said { code: output.status.code(), out: String::new(), err }
    }

    /// Closes both of its outputs at once, and tells its exit code.
    pub async fn deaf(self) -> Option<i32> {
        let Self { mut process, lines } = self;
        drop((lines, process.stderr.take()));
        let ended = spawn_blocking(move || process.wait().expect("it ends"));
        within("the end", ended).await.expect("it was waited for").code()
    }
}
