//! The program under test, as a process of its own, with its log.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::{client::Client, eventually};

/// A running `atoti-grpc-bridge serve`. Ends with the test; a panic in it fails the test.
pub struct Bridge {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
}

impl Bridge {
    /// Starts it in front of an upstream, on a free port, and waits until it serves.
    pub async fn start(upstream_url: &str) -> Self {
        Self::start_with(upstream_url, &[]).await
    }

    pub async fn start_with(upstream_url: &str, flags: &[&str]) -> Self {
        Self::start_in(upstream_url, flags, &[]).await
    }

    pub async fn start_in(upstream_url: &str, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut process = command()
            .args(["serve", "--listen=127.0.0.1:0", "--log-format=json", "--upstream-url", upstream_url])
            .args(flags)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(process.stderr.take().expect("stderr is piped")).lines();
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || lines.map_while(Result::ok).for_each(|line| log.lock().expect("not poisoned").push(line))
        });
        let mut bridge = Self { process, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let listening = bridge.logged("listening", |line| line["message"] == "listening").await;
        bridge.address = listening["grpc.address"]
            .as_str()
            .and_then(|a| a.parse().ok())
            .expect("an address in the log line");
        bridge
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// All it has logged so far, line by line.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// The first log line that fits, now or later.
    pub async fn logged(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let find = || {
            let lines = self.log_lines();
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|line| fits(line))
        };
        eventually(&format!("a log line: {what}"), find).await
    }

    /// The audit record of a call.
    pub async fn audit(&self, request_id: &str) -> Value {
        self.logged("audit", |line| line["target"] == "audit" && line["request_id"] == request_id).await
    }

    pub fn signal(&self, signal: &str) {
        let sent =
            Command::new("kill").args([signal, &self.process.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub async fn exit(&mut self) -> ExitStatus {
        eventually("the process to end", || self.process.try_wait().expect("it can be waited for")).await
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !std::thread::panicking() {
            let bugs: Vec<_> = self.log_lines().into_iter().filter(|line| line.contains("a bug: ")).collect();
            assert!(bugs.is_empty(), "the bridge panicked: {bugs:?}");
        }
    }
}

/// The program, without the settings of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atoti-grpc-bridge"));
    command.env_remove("RUST_LOG");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ATOTI_BRIDGE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
