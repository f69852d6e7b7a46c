//! The program under test, as a process of its own, with its log.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::{
    client::Client,
    eventually,
    http::{Answer, Connection},
};

/// What flags override: free ports, and no waiting for balancers that there are not.
const DEFAULTS: [(&str, &str); 3] = [
    ("ATOTI_BRIDGE_LISTEN", "127.0.0.1:0"),
    ("ATOTI_BRIDGE_ADMIN_LISTEN", "127.0.0.1:0"),
    ("ATOTI_BRIDGE_DRAIN_DELAY", "0s"),
];

/// A running `atoti-grpc-bridge serve`, with its log and its audit trail. Ends with the test; a panic in it fails the test.
pub struct Bridge {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    admin: SocketAddr,
}

const BUILT: &str = env!("CARGO_BIN_EXE_atoti-grpc-bridge");

impl Bridge {
    /// Starts it in front of an upstream, on a free port, and waits until it serves.
    pub async fn start(upstream_url: &str) -> Self {
        Self::start_with(upstream_url, &[]).await
    }

    pub async fn start_with(upstream_url: &str, flags: &[&str]) -> Self {
        Self::start_in(upstream_url, flags, &[]).await
    }

    pub async fn start_in(upstream_url: &str, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut process = command();
        process.args(serve(upstream_url, flags)).envs(environment.iter().copied());
        Self::run(process).await
    }

    /// Starts the one that cargo has built along with the tests, whatever `BRIDGE` names, with a single thread: so that it
    /// is no faster than the test that is to keep it busy.
    pub async fn start_as_slow_as_tests(upstream_url: &str) -> Self {
        let mut process = command_of(BUILT.into());
        process.args(serve(upstream_url, &[])).env("TOKIO_WORKER_THREADS", "1");
        Self::run(process).await
    }

    /// Starts it with few file descriptors.
    pub async fn start_limited(upstream_url: &str, descriptors: u32) -> Self {
        let program = command();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
        shell.arg(program.get_program()).args(serve(upstream_url, &[]));
        shell.stdin(Stdio::null());
        Self::run(shell).await
    }

    async fn run(mut process: Command) -> Self {
        for (name, value) in DEFAULTS {
            if !process.get_envs().any(|(set, _)| set == name) {
                process.env(name, value);
            }
        }
        let process = process.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = process.spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        // The log, and the audit trail.
        collect(process.stderr.take().expect("it is piped"), &log);
        collect(process.stdout.take().expect("it is piped"), &log);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut bridge = Self { process, log, address: nowhere, admin: nowhere };
        let listening = bridge.logged("listening", |line| line["message"] == "listening").await;
        let address = |field: &str| listening[field].as_str().and_then(|address| address.parse().ok());
        bridge.admin = address("admin.address").expect("an address in the log line");
        // A Unix socket has none.
        bridge.address = address("grpc.address").unwrap_or(bridge.address);
        bridge
    }

    /// The metrics, as Prometheus gets them.
    pub async fn metrics(&self) -> String {
        let accept =
            [("accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")];
        Connection::open(self.admin).await.send("GET", "/metrics", &accept, "").await.text().to_owned()
    }

    /// One metric's value, by its name with labels as they are written.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// A GET of the administrative address.
    pub async fn admin(&self, path: &str) -> Answer {
        Connection::open(self.admin).await.send("GET", path, &[], "").await
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has in memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever had.
    pub fn peak_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
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

    /// What it has logged since so many lines.
    pub fn log_lines_from(&self, first: usize) -> Vec<String> {
        self.log.lock().expect("not poisoned").get(first..).unwrap_or_default().to_vec()
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

fn collect(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    let read = BufReader::new(stream).lines().map_while(Result::ok);
    std::thread::spawn(move || read.for_each(|line| lines.lock().expect("not poisoned").push(line)));
}

fn serve<'a>(upstream_url: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&["serve", "--log-format=json", "--upstream-url", upstream_url], flags].concat()
}

/// The program, without the settings of whoever runs the tests: the one that cargo has built, or that `BRIDGE` names.
pub fn command() -> Command {
    command_of(std::env::var_os("BRIDGE").unwrap_or_else(|| BUILT.into()))
}

fn command_of(program: OsString) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG");
    for (name, _) in std::env::vars_os() {
        if ["ATOTI_BRIDGE_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
