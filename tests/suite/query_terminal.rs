//! `query` at a terminal: what it shows, asks, and leaves behind. The terminal is a pseudo-terminal of `script`, from
//! util-linux.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use atoti_grpc_bridge::simulator::{NewQuery, Options, Security, Simulator, Status};

use crate::support::{
    bridge::{Bridge, command},
    eventually,
};

const CTRL_C: &str = "\u{3}";

/// A command at a terminal, and all that it has shown so far.
struct Terminal {
    process: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(bridge: &Bridge, arguments: &str) -> Self {
        let (program, address) = (command(), bridge.address());
        let name = program.get_program().display();
        let line = format!("stty cols 120 rows 30; exec '{name}' query {arguments} --address={address}");
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        // `script` starts a shell, and that must know what `exec` is.
        script.env("SHELL", "/bin/sh").env("TERM", "xterm");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = script.spawn().expect("script of util-linux is there");
        let (keys, mut out) = (process.stdin.take().expect("keys"), process.stdout.take().expect("a screen"));
        let shown = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let shown = Arc::clone(&shown);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = out.read(&mut bytes) {
                    shown.lock().expect("not poisoned").extend(&bytes[..count]);
                }
            }
        });
        Self { process, keys, shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("not poisoned")).into_owned()
    }

    async fn shows(&self, text: &str) {
        eventually(text, || self.shown().contains(text).then_some(())).await;
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it listens");
    }

    /// Its exit code, and all that it has shown.
    async fn end(mut self) -> (Option<i32>, String) {
        let ended = || self.process.try_wait().expect("it can be waited for");
        let status = eventually("the end", ended).await;
        (status.code(), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn scene(cancel_latency: Duration) -> (Simulator, Bridge) {
    let options = Options { security: Security::Off, cancel_latency, ..Options::default() };
    let atoti = Simulator::start(options).await.expect("it starts");
    let bridge = Bridge::start(&atoti.base_url()).await;
    (atoti, bridge)
}

fn start(atoti: &Simulator, username: &str, minutes: u64) -> String {
    let started_ago = Duration::from_secs(60 * minutes);
    let query = NewQuery { username: username.into(), started_ago, ..NewQuery::default() };
    atoti.history().start_query(query)
}

fn running(atoti: &Simulator) -> usize {
    atoti.history().running().len()
}

#[tokio::test]
async fn a_bulk_cancel_shows_what_it_would_stop_and_stops_that_alone() {
    let (atoti, bridge) = scene(Duration::from_millis(200)).await;
    let (old, older) = (start(&atoti, "ada", 10), start(&atoti, "bob", 20));
    for (answer, code) in [("n\n", 21), ("\n", 21), (CTRL_C, 130)] {
        let mut terminal = Terminal::start(&bridge, "cancel-many --type=mdx");
        terminal.shows("Stop these 2 queries? [y/N]").await;
        terminal.press(answer);
        let (ended, shown) = terminal.end().await;
        assert_eq!(ended, Some(code), "{answer:?}: {shown}");
        let (first, second) = (shown.find(&older), shown.find(&old));
        assert!(first.is_some() && first < second, "the longest first: {shown}");
        assert!(shown.contains("2 running queries match: ada 1, bob 1."), "{shown}");
        assert_eq!(running(&atoti), 2);
    }

    let mut terminal = Terminal::start(&bridge, "cancel-many --type=mdx --wait=10s");
    terminal.shows("Stop these 2 queries? [y/N]").await;
    // It fits too, and nobody has seen it.
    let unseen = start(&atoti, "ada", 0);
    terminal.press("y\n");
    let (ended, shown) = terminal.end().await;
    assert_eq!(ended, Some(0), "{shown}");
    assert!(shown.contains("stopped 2, requested 0, ended by themselves 0, failed 0"), "{shown}");
    let status = |id: &str| atoti.history().get(id).map(|query| query.status);
    assert_eq!((status(&old), status(&older)), (Some(Status::Cancelled), Some(Status::Cancelled)));
    assert_eq!(status(&unseen), Some(Status::Running));
}

#[tokio::test]
async fn a_bulk_cancel_that_is_interrupted_says_how_far_it_got() {
    let (atoti, bridge) = scene(Duration::from_secs(60)).await;
    (0..3).for_each(|_| drop(start(&atoti, "ada", 10)));
    let mut terminal = Terminal::start(&bridge, "cancel-many --user=ada --wait=50s");
    terminal.shows("Stop these 3 queries?").await;
    terminal.press("y\n");
    terminal.shows("0/3").await;
    terminal.press(CTRL_C);
    let (ended, shown) = terminal.end().await;
    assert_eq!(ended, Some(130), "{shown}");
    assert!(shown.contains("No further query is stopped"), "{shown}");
}

#[tokio::test]
async fn everything_is_stopped_and_deleted_after_a_question_alone() {
    let (atoti, bridge) = scene(Duration::from_millis(200)).await;
    start(&atoti, "ada", 10);
    start(&atoti, "bob", 10);
    for (answer, code) in [("no\n", 21), ("yes\n", 0)] {
        let mut terminal = Terminal::start(&bridge, "cancel-all --wait=10s");
        terminal.shows("2 queries run. Stop all 2").await;
        assert_eq!(running(&atoti), 2);
        terminal.press(answer);
        let (ended, shown) = terminal.end().await;
        assert_eq!(ended, Some(code), "{shown}");
    }
    assert_eq!(running(&atoti), 0);
    let (ended, shown) = Terminal::start(&bridge, "cancel-all").end().await;
    assert_eq!(ended, Some(0), "{shown}");
    assert!(shown.contains("Nothing runs"), "{shown}");

    for (answer, code, left) in [("n\n", 21, 2), ("y\n", 0, 1)] {
        let mut terminal = Terminal::start(&bridge, "delete-many --user=ada");
        terminal.shows("Delete this 1 query from the history?").await;
        terminal.press(answer);
        let (ended, shown) = terminal.end().await;
        assert_eq!(ended, Some(code), "{shown}");
        assert_eq!(atoti.history().count(), left);
    }
}

#[tokio::test]
async fn what_runs_is_shown_until_a_key_is_pressed_and_the_terminal_is_put_back() {
    let (atoti, bridge) = scene(Duration::from_millis(200)).await;
    let (old, older) = (start(&atoti, "ada", 10), start(&atoti, "bob", 20));
    for key in ["q", CTRL_C] {
        let mut terminal = Terminal::start(&bridge, "list --follow --interval=100ms");
        terminal.shows("2 queries on ").await;
        terminal.shows(&old).await;
        let third = start(&atoti, "eve", 1);
        terminal.shows("3 queries on ").await;
        assert!(atoti.history().finish(&third));
        terminal.press(key);
        let (ended, shown) = terminal.end().await;
        assert_eq!(ended, Some(0), "{shown}");
        assert!(shown.find(&older) < shown.find(&old), "the longest first: {shown}");
        let (entered, left) = (shown.find("\u{1b}[?1049h"), shown.rfind("\u{1b}[?1049l"));
        assert!(entered.is_some() && entered < left, "{shown:?}");
        let cursor = (shown.rfind("\u{1b}[?25l"), shown.rfind("\u{1b}[?25h"));
        assert!(cursor.0 < cursor.1, "the cursor is back: {shown:?}");
        assert_eq!(shown.rfind('\u{1b}'), left, "nothing comes behind it: {shown:?}");
    }
}

#[tokio::test]
async fn people_get_tables_and_see_that_they_wait() {
    let (atoti, bridge) = scene(Duration::from_secs(2)).await;
    let id = start(&atoti, "ada", 10);
    let (ended, shown) = Terminal::start(&bridge, "list").end().await;
    assert_eq!(ended, Some(0), "{shown}");
    assert!(shown.contains("TOOK") && shown.contains(&id), "{shown}");

    let terminal = Terminal::start(&bridge, &format!("cancel {id} --wait=10s"));
    terminal.shows("stopping").await;
    let (ended, shown) = terminal.end().await;
    assert_eq!(ended, Some(0), "{shown}");
    assert!(shown.contains(&format!("{id}  CANCELLED")), "{shown}");

    let id = start(&atoti, "ada", 10);
    let mut terminal = Terminal::start(&bridge, &format!("watch {id}"));
    terminal.shows("RUNNING     running for 10m").await;
    terminal.shows("watching").await;
    terminal.press(CTRL_C);
    let (ended, shown) = terminal.end().await;
    assert_eq!(ended, Some(130), "{shown}");
}
