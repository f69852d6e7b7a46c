//! The promise under faults of the network, checked against what really happened.
//!
//! Random schedules (queries, calls at them, and what befalls each connection between bridge and simulator) are played
//! to a real bridge; then each answer and each audit record is held against the books of the network and of the
//! simulator:
//!
//! - OK means that Atoti accepted the cancel, or that the query has ended as the answer says;
//! - NOT_FOUND means that the query does not run, or says that the history could not be read;
//! - `requestSent` `false` means that no byte of any cancel of the call left, then or later;
//! - no call sends more than two cancels to a node, or two more behind a 404, ends late, or leaves anything in flight;
//! - each call has one audit record, and that tells the same truth.
//!
//! A few hundred schedules run in `cargo test`. Thousands:
//!
//! ```text
//! ATOTI_BRIDGE_TEST_SCHEDULES=5000 cargo test --test suite -- --nocapture chaos::
//! ```
//!
//! The seed is printed; `ATOTI_BRIDGE_TEST_SEED` gives it back, and with it the same schedules. One that fails is
//! shrunk and printed, and belongs into `PINNED` below. What real sockets and clocks do differs from run to run, so
//! a pinned one is played several times.
//!
//! Why not a simulated network (turmoil): that has socket types of its own, which the HTTP client here cannot be
//! given, as the connector opens tokio's sockets itself. The bridge would have to be bent for its test, and what happens
//! between hyper and a socket, where the promise is won or lost, would be replaced by something else.
//!
//! Deadlines around the moment of writing, which random schedules hardly meet, have a test of their own below; the
//! gate's last look, microseconds before the first byte, has one in `src/atoti/gate.rs`.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use atoti_grpc_bridge::simulator::{NewQuery, Options, Outcome, Security, Simulator, Status};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{runtime::Handle, time::Instant};

use crate::support::{
    bridge::Bridge,
    chaos::{Carried, Door, Flow, How, Link, Mark, Plan, Proxy, Stop},
    client::{CANCELLED, CancelQueryRequest, Client, FINISHED, REQUESTED, Reply},
};

/// Schedules that once failed, and may never again.
const PINNED: &[fn() -> Schedule] = &[accepted_and_reset_at_once];
const PINNED_TIMES: u32 = 5;

/// Was told as a failure of TLS, on plain HTTP.
fn accepted_and_reset_at_once() -> Schedule {
    let reset = Flow { stop: Some(Stop { at: Mark::Messages(0), how: How::Reset }), ..Flow::default() };
    let link = Link { answer: reset, ..Link::default() };
    let call =
        Call { query: 0, at: 0, wait: 0, allow_finished: false, deadline: Some(100), hangs_up_after: None };
    Schedule {
        near: Plan { links: vec![link; 2], ..Plan::default() },
        far: Plan::default(),
        queries: vec![Kind::Runs { cancel_latency: 0 }],
        calls: vec![call],
    }
}

/// Bridges at work side by side: they mostly wait.
const WORLDS: u32 = 12;
/// Longest deadline, for calls that bring none, and of cancels whose callers have gone.
const MAX_DEADLINE: Duration = Duration::from_millis(600);
const FLAGS: [&str; 6] = [
    "--max-deadline=600ms",
    "--upstream-timeout=250ms",
    "--upstream-connect-timeout=120ms",
    // So that calls wait for each other too.
    "--upstream-max-connections=2",
    "--max-in-flight=64",
    "--access-log-ratio=0",
];
/// A loaded machine is late; a call that nobody ends is later than this.
const MARGIN: Duration = Duration::from_secs(5);

/// One case.
#[derive(Clone, Debug)]
struct Schedule {
    /// Between the bridge and the node of its base URL.
    near: Plan,
    /// Between the bridge and the other node that it knows.
    far: Plan,
    queries: Vec<Kind>,
    calls: Vec<Call>,
}

/// A query, as it is when the case begins.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// For ever, and so many milliseconds after it has been cancelled.
    Runs { cancel_latency: u64 },
    /// Ends by itself.
    EndsAfter { milliseconds: u64, failed: bool },
    /// Has ended.
    Ended(Ending),
    /// There is none.
    Unknown,
    /// Runs on the other node.
    Far { cancel_latency: u64 },
    /// Runs on a node that the bridge does not know.
    Nowhere,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Successful,
    Failed,
    Cancelled,
}

/// A call.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Which query, by its place.
    query: usize,
    at: u64,
    wait: u64,
    allow_finished: bool,
    deadline: Option<u64>,
    hangs_up_after: Option<u64>,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let ending = prop_oneof![Just(Ending::Successful), Just(Ending::Failed), Just(Ending::Cancelled)];
    prop_oneof![
        6 => (0..80_u64).prop_map(|cancel_latency| Kind::Runs { cancel_latency }),
        2 => (0..200_u64, any::<bool>())
            .prop_map(|(milliseconds, failed)| Kind::EndsAfter { milliseconds, failed }),
        2 => ending.prop_map(Kind::Ended),
        1 => Just(Kind::Unknown),
        2 => (0..80_u64).prop_map(|cancel_latency| Kind::Far { cancel_latency }),
        1 => Just(Kind::Nowhere),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let wait = prop_oneof![1 => Just(0), 1 => 1..400_u64];
    let deadline = prop_oneof![
        2 => Just(None),
        1 => (0..60_u64).prop_map(Some),
        3 => (60..600_u64).prop_map(Some),
    ];
    let hangs_up = prop_oneof![4 => Just(None), 1 => (0..200_u64).prop_map(Some)];
    (0..2_usize, 0..60_u64, wait, any::<bool>(), deadline, hangs_up).prop_map(
        |(query, at, wait, allow_finished, deadline, hangs_up_after)| Call {
            query,
            at,
            wait,
            allow_finished,
            deadline,
            hangs_up_after,
        },
    )
}

fn flows() -> impl Strategy<Value = Flow> {
    let delay = prop_oneof![3 => Just(0), 1 => 1..40_u64, 1 => 40..400_u64];
    let bandwidth = prop_oneof![5 => Just(None), 1 => (1..60_usize).prop_map(Some)];
    // A request has some 350 bytes, an answer 150 to 700.
    let mark = prop_oneof![
        1 => Just(Mark::Bytes(0)),
        2 => (1..900_usize).prop_map(Mark::Bytes),
        2 => (0..4_usize).prop_map(Mark::Messages),
    ];
    let how = prop_oneof![Just(How::Close), Just(How::Reset), Just(How::HalfClose), Just(How::Swallow)];
    let stop = prop_oneof![2 => Just(None), 3 => (mark, how).prop_map(|(at, how)| Some(Stop { at, how }))];
    (delay, bandwidth, stop).prop_map(|(delay, bytes_per_tick, stop)| Flow { delay, bytes_per_tick, stop })
}

fn links() -> impl Strategy<Value = Link> {
    let flow = || prop_oneof![1 => Just(Flow::default()), 1 => flows()];
    let late = prop_oneof![5 => Just(0), 1 => 1..300_u64];
    (late, flow(), flow()).prop_map(|(late, request, answer)| Link { late, request, answer })
}

fn plans() -> impl Strategy<Value = Plan> {
    let door = prop_oneof![
        8 => Just(Door::Open),
        1 => (1..300_u64).prop_map(Door::Refuses),
        1 => (1..300_u64).prop_map(Door::Deaf),
    ];
    let dark = prop_oneof![6 => Just(None), 1 => (0..200_u64, 1..400_u64).prop_map(|(at, long)| Some((at, at + long)))];
    (door, dark, prop::collection::vec(links(), 0..4)).prop_map(|(door, dark, links)| Plan {
        door,
        dark,
        links,
    })
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let far = prop_oneof![1 => Just(Plan::default()), 1 => plans()];
    let (queries, calls) = (prop::collection::vec(kinds(), 2), prop::collection::vec(calls(), 1..4));
    (plans(), far, queries, calls).prop_map(|(near, far, queries, calls)| Schedule {
        near,
        far,
        queries,
        calls,
    })
}

/// A bridge with two nodes of Atoti behind it, and the network between them.
struct World {
    near: Simulator,
    far: Simulator,
    to_near: Proxy,
    to_far: Proxy,
    bridge: Bridge,
    client: Client,
    /// Numbers the calls, for their request ids.
    calls: AtomicU64,
    _nodes: NamedTempFile,
}

/// A call, and all that is known of it.
struct Made {
    call: Call,
    request_id: String,
    /// Nothing, if the caller has hung up.
    reply: Option<Reply>,
    took: Duration,
    audit: Option<Value>,
}

impl Made {
    /// Whether it was over well before its deadline.
    fn had_time(&self) -> bool {
        self.reply.is_some()
            && self.took + Duration::from_millis(50)
                < self.call.deadline.map_or(MAX_DEADLINE, Duration::from_millis)
    }

    /// Whether the call may have been over before its message was read: then nothing was attempted, and nothing is
    /// recorded.
    fn may_have_begun_nothing(&self) -> bool {
        const SHORT: u64 = 100;
        let told = self.reply.as_ref().map(Told::by_the_answer);
        let short = |time: Option<u64>| time.is_some_and(|time| time < SHORT);
        match told {
            None => short(self.call.hangs_up_after),
            Some(told) => {
                short(self.call.deadline) && told.what == "DEADLINE_BEFORE_SEND" && !told.request_sent
            }
        }
    }
}

/// What the checker has seen, for people and for the check that it has seen enough.
type Seen = Mutex<BTreeMap<String, u64>>;

impl World {
    async fn begin() -> Self {
        let node = |name: &str| Options {
            security: Security::Off,
            node_name: name.to_owned(),
            ..Options::default()
        };
        let near = Simulator::start(node("near")).await.expect("it starts");
        let far = Simulator::start_sharing(node("far"), near.history()).await.expect("it starts");
        let (to_near, to_far) = (Proxy::start(near.address()).await, Proxy::start(far.address()).await);
        let mut nodes = NamedTempFile::new().expect("a file");
        let content = serde_json::json!({ "near": to_near.url(), "far": to_far.url() });
        write!(nodes, "{content}").expect("written");
        let nodes_flag = format!("--nodes-file={}", nodes.path().display());
        let flags = [&FLAGS[..], &[&nodes_flag]].concat();
        let bridge = Bridge::start_with(&to_near.url(), &flags).await;
        let client = bridge.client().await;
        Self { near, far, to_near, to_far, bridge, client, calls: AtomicU64::new(0), _nodes: nodes }
    }

    /// Plays a schedule, and says what is wrong with what came of it.
    async fn play(&self, schedule: &Schedule, seen: &Seen) -> Result<(), String> {
        self.near.clear_requests();
        self.far.clear_requests();
        let logged = self.bridge.log_lines().len();
        self.to_far.play(schedule.far.clone()).await;
        self.to_near.play(schedule.near.clone()).await;
        let ids: Vec<_> = schedule.queries.iter().map(|kind| self.start(*kind)).collect();
        let calls = schedule.calls.iter().map(|call| self.call(*call, &ids[call.query]));
        let mut made: Vec<_> =
            futures_util::future::join_all(calls).await.into_iter().collect::<Result<_, _>>()?;
        self.collect_audit(&mut made, logged).await?;
        self.quiet().await?;
        let carried = [self.to_near.carried(), self.to_far.carried()];
        for made in &made {
            let truth = Truth {
                kind: schedule.queries[made.call.query],
                status: self.near.history().get(&ids[made.call.query]).map(|query| query.status),
                cancels: carried.each_ref().map(|carried| cancels(carried, &made.request_id)),
                alone: schedule.calls.len() == 1,
                fragments: carried.iter().flatten().any(|carried| !carried.head.ends_with("\r\n\r\n")),
                looked: schedule.near.is_harmless() && made.had_time(),
            };
            truth.check(made).map_err(|why| format!("{why}\n{}", told(made, &truth, &carried)))?;
            count(seen, made);
        }
        Ok(())
    }

    fn start(&self, kind: Kind) -> String {
        let history = self.near.history();
        let on = |node: &str, cancel_latency: u64| NewQuery {
            node_name: Some(node.into()),
            cancel_latency: Some(Duration::from_millis(cancel_latency)),
            ..NewQuery::default()
        };
        let query = match kind {
            Kind::Runs { cancel_latency } => on("near", cancel_latency),
            Kind::EndsAfter { milliseconds, failed } => {
                let outcome = if failed { Outcome::Failed } else { Outcome::Successful };
                // Later than the end of the query: it wins the race.
                NewQuery { ends: Some((Duration::from_millis(milliseconds), outcome)), ..on("near", 1000) }
            }
            Kind::Ended(ending) => {
                let outcome = match ending {
                    Ending::Successful => Outcome::Successful,
                    Ending::Failed => Outcome::Failed,
                    Ending::Cancelled => Outcome::Cancelled,
                };
                let ends = Some((Duration::from_secs(1), outcome));
                NewQuery { started_ago: Duration::from_secs(2), ends, ..on("near", 0) }
            }
            Kind::Unknown => return format!("unknown-{}", self.calls.load(Ordering::SeqCst)),
            Kind::Far { cancel_latency } => on("far", cancel_latency),
            Kind::Nowhere => on("nowhere", 0),
        };
        history.start_query(query)
    }

    async fn call(&self, call: Call, id: &str) -> Result<Made, String> {
        tokio::time::sleep(Duration::from_millis(call.at)).await;
        let request_id = format!("call-{}", self.calls.fetch_add(1, Ordering::SeqCst));
        let wait = (call.wait > 0).then(|| prost_types::Duration {
            seconds: 0,
            nanos: i32::try_from(call.wait).expect("short") * 1_000_000,
        });
        let request = CancelQueryRequest {
            query_id: id.to_owned(),
            wait,
            allow_finished: call.allow_finished,
            ..CancelQueryRequest::default()
        };
        let deadline = call.deadline.map(|ms| format!("{ms}m"));
        let mut headers = vec![("x-request-id", &*request_id)];
        headers.extend(deadline.as_deref().map(|deadline| ("grpc-timeout", deadline)));
        let begun = Instant::now();
        let (response, _stream) = self.client.start_cancel(&request, &headers).await;
        let patience = call.hangs_up_after.map_or(MAX_DEADLINE + MARGIN, Duration::from_millis);
        let reply = tokio::time::timeout(patience, Reply::read(response)).await.ok();
        let allowed = call.deadline.map_or(MAX_DEADLINE, Duration::from_millis) + MARGIN;
        if reply.is_none() && call.hangs_up_after.is_none() || begun.elapsed() > allowed {
            return Err(format!("{request_id} did not end in time: {:?}", begun.elapsed()));
        }
        Ok(Made { call, request_id, reply, took: begun.elapsed(), audit: None })
    }

    /// Finds each call's record.
    async fn collect_audit(&self, made: &mut [Made], logged: usize) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let mut records: HashMap<String, Vec<Value>> = HashMap::new();
            for line in self.bridge.log_lines_from(logged) {
                if line.contains(r#""target":"audit""#) {
                    let line: Value = serde_json::from_str(&line).map_err(|why| why.to_string())?;
                    let request_id = line["request_id"].as_str().unwrap_or_default().to_owned();
                    records.entry(request_id).or_default().push(line);
                }
            }
            for made in &mut *made {
                match records.get(&made.request_id).map_or(&[][..], Vec::as_slice) {
                    [] => {}
                    [one] => made.audit = Some(one.clone()),
                    several => return Err(format!("several records of {}: {several:?}", made.request_id)),
                }
            }
            let waits = |made: &Made| {
                let patience =
                    if made.may_have_begun_nothing() { MAX_DEADLINE * 2 } else { MAX_DEADLINE + MARGIN };
                made.audit.is_none() && begun.elapsed() < patience
            };
            if !made.iter().any(waits) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until nothing is in flight any more.
    async fn quiet(&self) -> Result<(), String> {
        const GAUGES: [&str; 3] = [
            "atoti_bridge_calls_in_flight",
            "atoti_bridge_upstream_requests_in_flight",
            "atoti_bridge_upstream_requests_waiting",
        ];
        let begun = Instant::now();
        loop {
            let metrics = self.bridge.metrics().await;
            let left: Vec<_> = metrics
                .lines()
                .filter(|line| {
                    GAUGES.iter().any(|gauge| line.strip_prefix(gauge).is_some_and(|l| l.starts_with(' ')))
                })
                .filter(|line| !line.ends_with(" 0"))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            // A probe of Atoti is in flight for a moment too.
            if begun.elapsed() > MARGIN {
                return Err(format!("still in flight: {left:?}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Each cancel may be repeated once, and a 404 may be answered by one more.
fn most_cancels(to_one: &[Carried]) -> usize {
    if to_one.iter().any(|cancel| cancel.answered == Some(404)) { 4 } else { 2 }
}

fn cancels(carried: &[Carried], request_id: &str) -> Vec<Carried> {
    let of_the_call = |carried: &&Carried| carried.method() == "PATCH" && carried.request_id() == request_id;
    carried.iter().filter(of_the_call).cloned().collect()
}

/// What really happened about a call.
struct Truth {
    kind: Kind,
    /// Of the query, now.
    status: Option<Status>,
    /// The cancels that came out of the bridge, for the near and for the far node.
    cancels: [Vec<Carried>; 2],
    alone: bool,
    /// Bytes came out of which nobody can say whose they are.
    fragments: bool,
    /// The history could be read for the call, whatever befell it.
    looked: bool,
}

impl Truth {
    fn check(&self, made: &Made) -> Result<(), String> {
        if self.cancels.iter().any(|to_one| to_one.len() > most_cancels(to_one)) {
            return Err("more cancels to one node than allowed".to_owned());
        }
        let Some(audit) = &made.audit else {
            let nothing = made.may_have_begun_nothing() && self.cancels.concat().is_empty();
            return if nothing { Ok(()) } else { Err("no audit record".to_owned()) };
        };
        let recorded = Told::by_the_record(audit);
        self.check_told(&recorded).map_err(|why| format!("the record: {why}"))?;
        let Some(reply) = &made.reply else { return Ok(()) };
        let answered = Told::by_the_answer(reply);
        self.check_told(&answered).map_err(|why| format!("the answer: {why}"))?;
        let says_unread = || reply.error().metadata("historyRead") == Some("false");
        if answered.what == "QUERY_NOT_FOUND" && self.status == Some(Status::Running) && !says_unread() {
            return Err("NOT_FOUND without reserve, and the query runs".to_owned());
        }
        // At the deadline the caller is told what is certain then, and the record what came of it.
        let at_the_deadline = answered.code == "DEADLINE_EXCEEDED";
        if !at_the_deadline && answered != recorded {
            return Err(format!("the record says {recorded:?}, the answer {answered:?}"));
        }
        if at_the_deadline && !answered.request_sent && recorded.request_sent {
            return Err("the answer says that nothing was sent, the record that something was".to_owned());
        }
        Ok(())
    }

    fn check_told(&self, told: &Told) -> Result<(), String> {
        let all = self.cancels.concat();
        let accepted = all.iter().any(|cancel| cancel.whole && cancel.answered == Some(204));
        if !told.request_sent && (!all.is_empty() || self.alone && self.fragments) {
            return Err("requestSent is false, and bytes left".to_owned());
        }
        let holds = match (&*told.code, &*told.what) {
            ("OK", "CANCEL_OUTCOME_REQUESTED") => accepted,
            ("OK", "CANCEL_OUTCOME_CANCELLED") => self.status == Some(Status::Cancelled),
            ("OK", "CANCEL_OUTCOME_FINISHED") => {
                matches!(self.status, Some(Status::Successful | Status::Failed))
            }
            ("NOT_FOUND", "QUERY_NOT_RUNNING") => self.status.is_some_and(|status| status != Status::Running),
            // A node says 404 of what runs on another one. Who could not read the history does not know better: that
            // is documented, and the one exception.
            ("NOT_FOUND", "QUERY_NOT_FOUND") => {
                self.status != Some(Status::Running)
                    || !self.looked && matches!(self.kind, Kind::Far { .. } | Kind::Nowhere)
            }
            ("FAILED_PRECONDITION", "QUERY_ON_OTHER_NODE") => {
                matches!(self.kind, Kind::Far { .. } | Kind::Nowhere)
            }
            ("UNAVAILABLE", "BACKEND_CONNECT_FAILED" | "BACKEND_CONNECTION_LOST")
            | ("DEADLINE_EXCEEDED", "BACKEND_TIMEOUT") => true,
            ("DEADLINE_EXCEEDED", "DEADLINE_BEFORE_SEND") => !told.request_sent,
            _ => false,
        };
        if !holds {
            return Err(format!("{} {} is not true: the query is {:?}", told.code, told.what, self.status));
        }
        Ok(())
    }
}

/// What the caller, or the record, is told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    code: String,
    /// The outcome, or the reason.
    what: String,
    request_sent: bool,
}

impl Told {
    fn by_the_answer(reply: &Reply) -> Self {
        if reply.code() == 0 {
            let what = match reply.cancelled().outcome {
                REQUESTED => "CANCEL_OUTCOME_REQUESTED",
                CANCELLED => "CANCEL_OUTCOME_CANCELLED",
                FINISHED => "CANCEL_OUTCOME_FINISHED",
                _ => "another",
            };
            return Self { code: "OK".to_owned(), what: what.to_owned(), request_sent: true };
        }
        let code = match reply.code() {
            4 => "DEADLINE_EXCEEDED".to_owned(),
            5 => "NOT_FOUND".to_owned(),
            9 => "FAILED_PRECONDITION".to_owned(),
            14 => "UNAVAILABLE".to_owned(),
            other => other.to_string(),
        };
        let error = reply.error();
        let request_sent = error.metadata("requestSent") != Some("false");
        Self { code, what: error.reason().to_owned(), request_sent }
    }

    fn by_the_record(record: &Value) -> Self {
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let code = text("code");
        let what = if code == "OK" { text("outcome") } else { text("error_reason") };
        Self { code, what, request_sent: record["request_sent"] != false }
    }
}

fn told(made: &Made, truth: &Truth, carried: &[Vec<Carried>; 2]) -> String {
    let mut text = format!("{}: {:?}\n", made.request_id, made.call);
    let reply = made.reply.as_ref().map(Told::by_the_answer);
    let _ = writeln!(text, "  answer: {reply:?}");
    let _ = writeln!(text, "  record: {}", made.audit.as_ref().unwrap_or(&Value::Null));
    let _ = writeln!(text, "  query:  {:?} {:?}", truth.kind, truth.status);
    for (node, requests) in ["near", "far"].iter().zip(carried) {
        for Carried { head, bytes, whole, answered } in requests {
            let line = head.lines().next().unwrap_or_default();
            let id = header_of(head);
            let _ = writeln!(text, "  {node}: {line} ({id}), {bytes} bytes, whole: {whole}, {answered:?}");
        }
    }
    text
}

fn header_of(head: &str) -> &str {
    head.lines()
        .find(|line| line.to_ascii_lowercase().starts_with("x-request-id"))
        .unwrap_or("the bridge's own")
}

fn count(seen: &Seen, made: &Made) {
    let mut seen = seen.lock().expect("not poisoned");
    let mut add = |what: String| *seen.entry(what).or_default() += 1;
    match &made.reply {
        None => add("hung up".to_owned()),
        Some(reply) => {
            let Told { code, what, request_sent } = Told::by_the_answer(reply);
            add(format!("{code} {what}{}", if request_sent { "" } else { ", nothing sent" }));
        }
    }
    if made.audit.as_ref().is_some_and(|record| record["attempts"].as_u64().is_some_and(|times| times > 1)) {
        add("repeated".to_owned());
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: give a number, not {text:?}")))
}

/// Whoever connects is heard only when the operating system asks again, after a second. Deadlines all around that
/// moment then meet requests that are just about to be written, many at once so that they wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_in_the_very_moment_of_writing_is_told_truly() {
    const ROUNDS: u64 = 2;
    const CALLS: u64 = 200;
    const FIRST_MICROSECONDS: u64 = 980_000;
    const APART_MICROSECONDS: u64 = 600;

    let options = Options { security: Security::Off, ..Options::default() };
    let atoti = Simulator::start(options).await.expect("it starts");
    let proxy = Proxy::start(atoti.address()).await;
    let flags = ["--upstream-connect-timeout=3s", "--upstream-max-connections=512", "--max-in-flight=512"];
    let bridge = Bridge::start_with(&proxy.url(), &flags).await;
    let client = bridge.client().await;
    let (mut sent, mut unsent) = (0, 0);
    for round in 0..ROUNDS {
        proxy.play(Plan { door: Door::Deaf(300), ..Plan::default() }).await;
        let id = atoti.history().start_query(NewQuery::default());
        let call = async |number: u64| {
            let request_id = format!("{round}-{number}");
            let timeout = format!("{}u", FIRST_MICROSECONDS + number * APART_MICROSECONDS);
            let headers = [("x-request-id", &*request_id), ("grpc-timeout", &timeout)];
            let request = CancelQueryRequest { query_id: id.clone(), ..CancelQueryRequest::default() };
            let reply = client.cancel_with(&request, &headers).await;
            (request_id, reply)
        };
        let replies = futures_util::future::join_all((0..CALLS).map(call)).await;
        // What is written too late has been written by then.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let carried = proxy.carried();
        for (request_id, reply) in replies {
            let told = Told::by_the_answer(&reply);
            if told.request_sent {
                sent += 1;
            } else {
                unsent += 1;
                assert!(cancels(&carried, &request_id).is_empty(), "{request_id}: {told:?}, and bytes left");
            }
        }
    }
    println!("{sent} sent, {unsent} not");
    assert!(sent > 0 && unsent > 0, "the moment was missed: {sent} sent, {unsent} not");
}

/// Plays random schedules in one world; yields what was wrong with the smallest one that failed.
fn run(
    world: &World,
    handle: &Handle,
    seen: &Seen,
    seed: u64,
    number: u32,
    cases: u32,
    stop: &AtomicBool,
) -> Option<String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 300,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let wrong = RefCell::new(None);
    let outcome = runner.run(&schedules(), |schedule| {
        let shrinking = wrong.borrow().is_some();
        if stop.load(Ordering::SeqCst) && !shrinking {
            return Ok(());
        }
        // What fails for its timing gets several chances to fail again.
        for _ in 0..if shrinking { 3 } else { 1 } {
            if let Err(why) = handle.block_on(world.play(&schedule, seen)) {
                if !shrinking {
                    println!("failed, and is being shrunk: {why}{schedule:?}");
                }
                stop.store(true, Ordering::SeqCst);
                wrong.replace(Some(why.clone()));
                return Err(TestCaseError::fail(why));
            }
        }
        Ok(())
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(_, schedule)) => {
            Some(format!("{}\n{schedule:#?}", wrong.take().unwrap_or_default()))
        }
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn the_promise_holds_under_every_schedule_of_faults() {
    let schedules = from_environment("ATOTI_BRIDGE_TEST_SCHEDULES").unwrap_or(240);
    let seed = from_environment("ATOTI_BRIDGE_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("ATOTI_BRIDGE_TEST_SEED={seed} ATOTI_BRIDGE_TEST_SCHEDULES={schedules}");
    let cases = u32::try_from(schedules.div_ceil(WORLDS.into())).expect("fewer");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let worlds: Vec<_> = (0..WORLDS)
        .map(|number| {
            let (handle, seen, stop) = (runtime.handle().clone(), Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || {
                let world = handle.block_on(World::begin());
                for pinned in PINNED {
                    for _ in 0..PINNED_TIMES {
                        if let Err(why) = handle.block_on(world.play(&pinned(), &seen)) {
                            return Some(format!("a pinned schedule: {why}\n{:#?}", pinned()));
                        }
                    }
                }
                run(&world, &handle, &seen, seed, number, cases, &stop)
            })
        })
        .collect();
    let mut wrong = Vec::new();
    for world in worlds {
        match world.join() {
            Ok(outcome) => wrong.extend(outcome),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let seen = seen.lock().expect("not poisoned");
    for (what, times) in &*seen {
        println!("{times:>6} {what}");
    }
    assert!(wrong.is_empty(), "ATOTI_BRIDGE_TEST_SEED={seed}: {}", wrong.join("\n\n"));
    // A checker that has met nothing has checked nothing; but a few schedules may miss something.
    const ENOUGH: u64 = 200;
    for what in [
        "OK CANCEL_OUTCOME_REQUESTED",
        "OK CANCEL_OUTCOME_CANCELLED",
        "OK CANCEL_OUTCOME_FINISHED",
        "NOT_FOUND QUERY_NOT_RUNNING",
        "UNAVAILABLE BACKEND_CONNECT_FAILED, nothing sent",
        "DEADLINE_EXCEEDED BACKEND_TIMEOUT",
        "DEADLINE_EXCEEDED DEADLINE_BEFORE_SEND, nothing sent",
        "hung up",
        "repeated",
    ] {
        assert!(schedules < ENOUGH || seen.contains_key(what), "no schedule met {what}");
    }
}
