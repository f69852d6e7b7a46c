//! The commands that people start by hand: `demo` and `simulate`.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::support::{
    bridge::command,
    client::{CANCELLED, Client, cancel, cancel_and_wait},
    within,
};

/// A command that runs until it is told to stop.
struct Running {
    process: Child,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { process: command.spawn().expect("the program starts") }
    }

    /// What it prints, up to the line that holds this text.
    async fn printed_up_to(&mut self, text: &'static str) -> String {
        let mut lines = BufReader::new(self.process.stdout.take().expect("it is read once")).lines();
        let read = spawn_blocking(move || {
            let mut printed = String::new();
            while let Some(Ok(line)) = lines.next() {
                printed += &line;
                printed.push('\n');
                if line.contains(text) {
                    // The rest of the pipe stays open, or the program could not go on printing.
                    std::thread::spawn(move || lines.for_each(drop));
                    return printed;
                }
            }
            panic!("it ended without {text:?}: {printed}")
        });
        within(text, read).await.expect("it was printed")
    }

    /// Ends it as Ctrl-C does, and tells its exit code.
    async fn interrupt(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
        let ended = spawn_blocking(move || {
            let status = self.process.wait();
            status.expect("it can be waited for").code()
        });
        within("the end", ended).await.expect("it was waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first word of the first line below a heading.
fn first_id(printed: &str) -> &str {
    let below = printed.split("Running queries\n").nth(1).expect("a table");
    below.split_whitespace().next().expect("an id")
}

#[tokio::test]
async fn the_demonstration_cancels_a_query_itself_and_then_serves() {
    let mut demo = Running::start(&["demo", "--listen=127.0.0.1:0", "--seed=7"]);
    let printed = demo.printed_up_to("Ctrl-C").await;
    let id = first_id(&printed);
    assert!(printed.contains(&format!("query_id: \"{id}\", wait: \"5s\"")), "{printed}");
    assert!(
        printed.contains("CANCEL_OUTCOME_CANCELLED") && printed.contains("RUNNING -> CANCELLED"),
        "{printed}"
    );

    // What is pasted from it works.
    let line =
        printed.lines().find(|line| line.contains("\"reason\": \"runaway\"")).expect("a line to paste");
    let json = line.split('\'').nth(1).expect("a request in quotes");
    let request: Value = serde_json::from_str(json).expect("JSON");
    let next = request["query_id"].as_str().expect("an id");
    assert_ne!(next, id, "one that still runs");
    assert!(line.ends_with(" atoti.queryhistory.v1.QueryHistoryService/CancelQuery"), "{line}");
    let address: SocketAddr =
        line.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok()).expect("an address");
    let client = Client::connect(address).await;
    assert_eq!(client.cancel(&cancel_and_wait(next, 10)).await.cancelled().outcome, CANCELLED);
    assert_eq!(client.cancel(&cancel(next)).await.error().reason(), "QUERY_NOT_RUNNING");
    assert_eq!(client.cancel(&cancel("42")).await.error().reason(), "QUERY_NOT_FOUND");
    drop(client);
    assert_eq!(demo.interrupt().await, Some(0));
}

#[tokio::test]
async fn the_same_seed_shows_the_same_queries() {
    let mut printed = Vec::new();
    for seed in ["1", "1", "2"] {
        let mut simulate =
            Running::start(&["simulate", "--listen=127.0.0.1:0", "--seed", seed, "--output=json"]);
        let line = simulate.printed_up_to("baseUrl").await;
        let start: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(start["running"].as_array().map(Vec::len), Some(5));
        printed.push(start["running"].clone());
        assert_eq!(simulate.interrupt().await, Some(0));
    }
    assert_eq!(printed[0], printed[1]);
    assert_ne!(printed[0], printed[2]);
}

#[tokio::test]
async fn the_simulator_tells_people_how_to_use_it() {
    let mut simulate = Running::start(&["simulate", "--listen=127.0.0.1:0", "--context-path=/atoti"]);
    let printed = simulate.printed_up_to("Ctrl-C").await;
    let id = first_id(&printed);
    let url = printed.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
    assert!(url.ends_with("/atoti"), "{printed}");
    assert!(
        printed.contains(&format!("curl -u user:user {url}/activeviam/query-history/rest/v1/query/{id}"))
    );
    assert_eq!(simulate.interrupt().await, Some(0));
}

#[test]
fn what_cannot_be_started_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (arguments, code, mends) in [
        (&["demo", "--listen", &address][..], 1, [&*address, "--listen"]),
        (&["simulate", "--listen", &address], 1, [&*address, "--listen"]),
        (&["demo", "--listen=here"], 64, ["ATOTI_BRIDGE_LISTEN", "0.0.0.0:50051"]),
        (&["simulate", "--listen=here"], 64, ["--listen", "here"]),
        (&["simulate", "--context-path=atoti/"], 64, ["context_path", "/atoti"]),
        (&["simulate", "--arrivals=-1"], 64, ["arrivals", "0"]),
        (&["simulate", "--cancel-latency=soon"], 64, ["cancel-latency", "500ms"]),
        (&["simulate", "--security=maybe"], 64, ["security", "off"]),
    ] {
        let output = command().args(arguments).stderr(Stdio::piped()).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(mends.iter().all(|mend| errors.contains(mend)), "{arguments:?}: {errors}");
    }
}
