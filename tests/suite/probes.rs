//! The commands that ask and go: `check`, before the bridge serves, and `healthcheck`, while it does.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use atoti_grpc_bridge::simulator::{Fault, Options, Security, Simulator, User};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::ServerConfig;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    bridge::{Bridge, command},
    certs::Authority,
    upstream::{Upstream, answer},
    within,
};

const SECRET: &str = "s3cret-canary";
const QUERIES: &str = "/activeviam/query-history/rest/v1/queries?page=0&page_size=1";
const SERVICE: &str = "atoti.queryhistory.v1.QueryHistoryService";

/// What a command left behind.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a command to its end; whatever it says, it says no secret.
async fn run(arguments: &[&str], environment: &[(&'static str, &str)]) -> Said {
    let mut command = command();
    command.args(arguments).envs(environment.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = spawn_blocking(move || command.output().expect("the program runs"));
    let output = within("the end", ended).await.expect("it was waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let said = Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    // `bridge:s3cret-canary`, as it travels.
    for secret in [SECRET, "YnJpZGdlOnMzY3JldC1jYW5hcnk", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"] {
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "{}{}", said.out, said.err);
    }
    said
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A file of a test's own, and the flag that names it.
struct File {
    folder: TempDir,
}

impl File {
    fn new(content: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(file.path(), content).expect("written");
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn flag(&self, name: &str) -> String {
        format!("--{name}={}", self.path().display())
    }
}

/// An Atoti where `bridge` may do everything and `guest` nothing.
async fn atoti() -> Simulator {
    let users =
        vec![User::new("bridge", SECRET, &["ROLE_USER"]), User::new("guest", SECRET, &["ROLE_GUEST"])];
    let options = Options { security: Security::On { users }, ..Options::default() };
    Simulator::start(options).await.expect("it starts")
}

async fn open_atoti() -> Simulator {
    let options = Options { security: Security::Off, ..Options::default() };
    Simulator::start(options).await.expect("it starts")
}

/// The answers of a check: their exit code, and each question's answer.
struct Checked {
    code: Option<i32>,
    answers: Vec<Value>,
}

impl Checked {
    /// A letter for each question: yes, no, or open.
    fn verdicts(&self) -> String {
        let letter = |answer: &Value| match answer["ok"] {
            Value::Bool(true) => 'y',
            Value::Bool(false) => 'n',
            _ => '-',
        };
        self.answers.iter().map(letter).collect()
    }

    fn says(&self, text: &str) -> bool {
        self.answers.iter().any(|answer| answer.to_string().contains(text))
    }

    #[track_caller]
    fn assert(&self, verdicts: &str, texts: &[&str]) {
        assert_eq!(self.verdicts(), verdicts, "{:?}", self.answers);
        assert_eq!(self.code, Some(i32::from(verdicts.contains('n'))), "{:?}", self.answers);
        for text in texts {
            assert!(self.says(text), "{text}: {:?}", self.answers);
        }
        for answer in &self.answers {
            assert_eq!(answer["mend"].is_string(), answer["ok"] == false, "{answer}");
        }
    }
}

async fn check(url: &str, flags: &[&str]) -> Checked {
    let said = run(&[&["check", "--output=json", "--upstream-url", url], flags].concat(), &[]).await;
    assert_eq!(said.out.lines().count(), 1, "{}{}", said.out, said.err);
    let mut told: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(told["ok"], said.code == Some(0), "{told}");
    assert!(told["upstreamUrl"].as_str().expect("a URL").starts_with(url), "{told}");
    let Value::Array(answers) = told["answers"].take() else { panic!("a list: {told}") };
    let questions: Vec<_> = answers.iter().map(|answer| answer["question"].clone()).collect();
    assert_eq!(questions, ["reachable", "api", "credentials"]);
    Checked { code: said.code, answers }
}

/// The same with the bridge's own credentials.
async fn check_own(url: &str, mode: &str, secret: &str) -> Checked {
    let file = File::new(secret);
    check(url, &[&format!("--credentials={mode}"), &file.flag("credentials-file")]).await
}

/// The same with a caller's.
async fn check_given(url: &str, authorization: &str) -> Checked {
    let file = File::new(authorization);
    check(url, &[&file.flag("authorization-file")]).await
}

#[tokio::test]
async fn the_bridges_own_credentials_are_tried() {
    let atoti = atoti().await;
    let login = format!("bridge:{SECRET}\n");
    check_own(&atoti.base_url(), "basic", &login).await.assert("yyy", &["own credentials"]);
    let (first, last) = (&atoti.requests()[0], &atoti.requests()[1]);
    assert_eq!((&*first.target, first.header("authorization")), ("/versions/rest", None));
    assert_eq!((&*last.target, last.method.as_str()), (QUERIES, "GET"));

    check_own(&atoti.base_url(), "jwt", &login).await.assert("yyy", &[]);
    let wrong = format!("bridge:{SECRET}-not\n");
    for mode in ["basic", "jwt"] {
        let checked = check_own(&atoti.base_url(), mode, &wrong).await;
        checked.assert("yyn", &["HTTP 401", "user:password"]);
    }
    check_own(&atoti.base_url(), "bearer", SECRET).await.assert("yyn", &["HTTP 401", "token"]);
    for mode in ["basic", "jwt"] {
        let checked = check_own(&atoti.base_url(), mode, &format!("guest:{SECRET}")).await;
        checked.assert("yyn", &["HTTP 403", "role"]);
    }
    check_own(&open_atoti().await.base_url(), "jwt", &login)
        .await
        .assert("yyn", &["HTTP 404", "basic or bearer"]);
}

#[tokio::test]
async fn a_callers_credentials_are_tried_where_each_sends_its_own() {
    let atoti = atoti().await;
    let url = atoti.base_url();
    check_given(&url, &basic("bridge", SECRET)).await.assert("yyy", &["credentials in "]);
    check_given(&url, &basic("bridge", "wrong")).await.assert("yyn", &["HTTP 401", "credentials in "]);
    check_given(&url, &basic("guest", SECRET)).await.assert("yyn", &["HTTP 403", "role"]);
    check_given(&url, &format!("Bearer {SECRET}")).await.assert("yyn", &["HTTP 401"]);
    // Without any, nothing is wrong, and nothing is claimed.
    check(&url, &[]).await.assert("yy-", &["each caller sends its own", "--authorization-file"]);
    check(&open_atoti().await.base_url(), &[]).await.assert("yyy", &["Atoti asks for none"]);
}

#[tokio::test]
async fn what_keeps_atoti_from_being_reached_is_told_with_its_mend() {
    for (url, texts) in [
        ("http://127.0.0.1:1", ["connection refused", "host and port"]),
        ("http://canary-host.invalid:1", ["host name not resolved", "name service"]),
    ] {
        check(url, &[]).await.assert("n--", &texts);
    }
    let atoti = open_atoti().await;
    for (fault, texts) in [
        (Fault::html(), ["a page instead of an answer", "portal or login page"]),
        (Fault::redirect("/login"), ["redirect to a login page", "asks browsers to log in"]),
        (Fault::redirect("https://127.0.0.1/"), ["redirect to another scheme", "--upstream-url"]),
        (Fault::redirect("/elsewhere/"), ["redirect to another path", "context path"]),
        (Fault::status(503), ["HTTP 503", "log of Atoti"]),
        (Fault::cut_before_head(), ["connection closed", "https://"]),
        (Fault::hang(), ["no answer in time", "--upstream-timeout"]),
    ] {
        atoti.inject(fault);
        check(&atoti.base_url(), &["--upstream-timeout=1s"]).await.assert("n--", &texts);
        atoti.clear_faults();
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_told_from_a_trusted_one() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("spiffe://test/atoti").der();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listing = |_: &_, _| answer(200, "", r#"{"data":[]}"#);
    let atoti = Upstream::start_behind(listing, move |stream| acceptor.accept(stream)).await;
    let url = format!("https://{}", atoti.address());
    check(&url, &[]).await.assert("n--", &["certificate", "--upstream-ca-file"]);
    let ca = format!("--upstream-ca-file={}", authority.file().display());
    check(&url, &[&ca]).await.assert("yyy", &[]);
    check(&url.replace("https", "http"), &[]).await.assert("n--", &["https://"]);
}

#[tokio::test]
async fn a_missing_api_is_told_from_a_wrong_path() {
    let atoti = atoti().await;
    let url = atoti.base_url();
    atoti.inject(Fault::missing_api());
    check_given(&url, &basic("bridge", SECRET)).await.assert("yn-", &["starter"]);
    check(&url, &[]).await.assert("yn-", &["starter", "each caller sends its own"]);
    atoti.clear_faults();
    // What a wrong context path meets is behind the login, too.
    check(&format!("{url}/wrong"), &[]).await.assert("y--", &["HTTP 401", "context path"]);
    let open = open_atoti().await;
    check(&format!("{}/wrong", open.base_url()), &[]).await.assert("yn-", &["HTTP 404", "context path"]);
    let other = Upstream::start(|_, _| answer(200, "", "{}")).await;
    check(&other.url(), &[]).await.assert("ynn", &["no discovery document", "context path"]);
}

#[tokio::test]
async fn people_get_a_line_for_each_question_and_one_more_for_each_mend() {
    let atoti = atoti().await;
    let file = File::new("bridge:wrong");
    let flags =
        ["check", "--upstream-url", &atoti.base_url(), "--credentials=basic", &file.flag("credentials-file")];
    let said = run(&flags, &[]).await;
    let lines: Vec<_> = said.out.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 5, "{}", said.out);
    for (line, start) in lines.iter().zip([
        "Atoti on http://",
        "ok      Is Atoti reachable?",
        "ok      Is the Query History API installed?",
        "FAILED  Are the credentials accepted?",
        "to mend: write user:password",
    ]) {
        assert!(line.starts_with(start), "{}", said.out);
    }
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("mended"), "{}", said.err);
}

#[tokio::test]
async fn settings_are_checked_as_those_of_serve_are() {
    let (file, missing) = (File::new(SECRET), PathBuf::from("/no/such"));
    let own = File::new(&format!("bridge:{SECRET}"));
    for (flags, mends) in [
        (vec!["--upstream-timeout=soon".to_owned()], ["ATOTI_BRIDGE_UPSTREAM_TIMEOUT", "10s"]),
        (vec![file.flag("authorization-file")], ["--authorization-file", "whole value"]),
        (vec![format!("--authorization-file={}", missing.display())], ["--authorization-file", "/no/such"]),
        (
            vec![
                file.flag("authorization-file"),
                "--credentials=basic".to_owned(),
                own.flag("credentials-file"),
            ],
            ["--authorization-file", "leave the file out"],
        ),
    ] {
        let flags: Vec<&str> = ["check"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        let said = run(&flags, &[]).await;
        assert_eq!((said.code, &*said.out), (Some(64), ""), "{flags:?}: {}", said.err);
        assert!(mends.iter().all(|mend| said.err.contains(mend)), "{flags:?}: {}", said.err);
    }
}

async fn healthcheck(flags: &[&str]) -> Said {
    // The machine may be busy.
    run(&[&["healthcheck", "--timeout=10s"], flags].concat(), &[]).await
}

/// Asks until there is this answer: a bridge serves a little before it is ready.
async fn until_health_is(wanted: &str, flags: &[&str]) -> Said {
    within(wanted, async {
        loop {
            let said = healthcheck(flags).await;
            if said.out.trim_end() == wanted {
                return said;
            }
            assert_eq!(said.out.trim_end(), "NOT_SERVING", "{}", said.err);
        }
    })
    .await
}

#[tokio::test]
async fn health_is_told_by_word_and_exit_code() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let address = format!("--address={}", bridge.address());
    let said = until_health_is("SERVING", &[&address]).await;
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    let service = format!("--service={SERVICE}");
    assert_eq!(until_health_is("SERVING", &[&address, &service]).await.code, Some(0));
    let said = healthcheck(&[&address, "--service=upstream"]).await;
    assert_eq!((said.code, &*said.out), (Some(1), "NOT_SERVING\n"));
    assert!(said.err.contains("upstream"), "{}", said.err);
    let said = healthcheck(&[&address, "--service=nobody"]).await;
    assert_eq!((said.code, &*said.out), (Some(1), "SERVICE_UNKNOWN\n"));
    assert!(said.err.contains("nobody"), "{}", said.err);

    // What `serve` listens on is where to ask, also when that is everywhere.
    let everywhere = format!("0.0.0.0:{}", bridge.address().port());
    for listen in [&*bridge.address().to_string(), &*everywhere] {
        let said = run(&["healthcheck", "--timeout=10s"], &[("ATOTI_BRIDGE_LISTEN", listen)]).await;
        assert_eq!((said.code, &*said.out), (Some(0), "SERVING\n"), "{listen}: {}", said.err);
    }
    let by_name = format!("--address=localhost:{}", bridge.address().port());
    assert_eq!(healthcheck(&[&by_name]).await.out, "SERVING\n");
}

#[tokio::test]
async fn whoever_does_not_answer_is_not_healthy() {
    let said = healthcheck(&["--address=127.0.0.1:1"]).await;
    assert_eq!((said.code, &*said.out), (Some(1), ""));
    assert!(said.err.contains("127.0.0.1:1") && said.err.contains("refused"), "{}", said.err);
    let said = healthcheck(&["--address=unix:/no/such"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("unix:/no/such: No such file"), "{}", said.err);

    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("--address={}", silent.local_addr().expect("an address"));
    let said = run(&["healthcheck", "--timeout=200ms", &address], &[]).await;
    assert_eq!((said.code, &*said.out), (Some(1), ""));
    assert!(said.err.contains("200ms"), "{}", said.err);

    let atoti = open_atoti().await;
    let said = healthcheck(&[&format!("--address={}", atoti.address())]).await;
    assert_eq!((said.code, &*said.out), (Some(1), ""));
    assert!(said.err.contains("no answer"), "{}", said.err);
}

#[tokio::test]
async fn health_is_asked_over_tls() {
    let authority = Authority::new();
    let (shown, caller) = (authority.issue("spiffe://test/bridge"), authority.issue("spiffe://test/probe"));
    let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let cert = flag("tls-cert-file", authority.write("cert.pem", &shown.cert));
    let key = flag("tls-key-file", authority.write("key.pem", &shown.key));
    let client_ca = flag("tls-client-ca-file", authority.file());
    let ca = flag("tls-ca-file", authority.file());

    let bridge = Bridge::start_with("http://127.0.0.1:1", &[&cert, &key]).await;
    let address = format!("--address={}", bridge.address());
    assert_eq!(until_health_is("SERVING", &[&address, &ca]).await.code, Some(0));
    let said = healthcheck(&[&address, &ca, "--tls-server-name=localhost"]).await;
    assert_eq!((said.code, &*said.out), (Some(0), "SERVING\n"), "{}", said.err);
    let stranger = Authority::new();
    let strangers = flag("tls-ca-file", stranger.file());
    for (flags, told) in [
        (vec![&*address], "--tls-ca-file"),
        (vec![&address, &ca, "--tls-server-name=other.example"], "other.example"),
        (vec![&address, &strangers], "invalid peer certificate"),
    ] {
        let said = healthcheck(&flags).await;
        assert_eq!((said.code, &*said.out), (Some(1), ""), "{flags:?}: {}", said.err);
        assert!(said.err.contains(told), "{flags:?}: {}", said.err);
    }

    let strict = Bridge::start_with("http://127.0.0.1:1", &[&cert, &key, &client_ca]).await;
    let address = format!("--address={}", strict.address());
    let cert = flag("tls-cert-file", authority.write("probe.pem", &caller.cert));
    let key = flag("tls-key-file", authority.write("probe-key.pem", &caller.key));
    assert_eq!(until_health_is("SERVING", &[&address, &ca, &cert, &key]).await.code, Some(0));
    let said = healthcheck(&[&address, &ca]).await;
    assert_eq!((said.code, &*said.out), (Some(1), ""), "{}", said.err);
}

#[tokio::test]
async fn health_is_asked_over_a_unix_socket() {
    let authority = Authority::new();
    let shown = authority.issue("spiffe://test/bridge");
    let socket = format!("unix:{}", authority.file().with_file_name("bridge.sock").display());
    let (listen, address) = (format!("--listen={socket}"), format!("--address={socket}"));
    {
        let _bridge = Bridge::start_with("http://127.0.0.1:1", &[&listen]).await;
        assert_eq!(until_health_is("SERVING", &[&address]).await.code, Some(0));
    }
    let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let cert = flag("tls-cert-file", authority.write("cert.pem", &shown.cert));
    let key = flag("tls-key-file", authority.write("key.pem", &shown.key));
    let _bridge = Bridge::start_with("http://127.0.0.1:1", &[&listen, &cert, &key]).await;
    let ca = flag("tls-ca-file", authority.file());
    assert_eq!(until_health_is("SERVING", &[&address, &ca]).await.code, Some(0));
}

#[tokio::test]
async fn a_probe_that_cannot_be_made_is_wrong_usage() {
    let file = File::new("no certificate");
    for (flags, mend) in [
        (vec!["--address=127.0.0.1".to_owned()], "127.0.0.1:50051"),
        (vec!["--address=127.0.0.1:0".to_owned()], "127.0.0.1:50051"),
        (vec!["--timeout=soon".to_owned()], "500ms"),
        (vec!["--timeout=0s".to_owned()], "1s"),
        (vec![file.flag("tls-ca-file")], "no certificate in PEM"),
        (vec!["--tls-ca-file=/no/such".to_owned()], "/no/such"),
        (vec!["--tls-server-name=bridge".to_owned()], "--tls-ca-file"),
        (vec![file.flag("tls-ca-file"), file.flag("tls-cert-file")], "--tls-key-file"),
    ] {
        let flags: Vec<&str> = ["healthcheck"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        let said = run(&flags, &[]).await;
        assert_eq!((said.code, &*said.out), (Some(64), ""), "{flags:?}: {}", said.err);
        assert!(said.err.contains(mend), "{flags:?}: {}", said.err);
    }
}

#[tokio::test]
async fn help_lists_what_there_is() {
    for (name, texts) in [
        ("check", &["--authorization-file", "--output", "ATOTI_BRIDGE_UPSTREAM_URL", "64"][..]),
        ("healthcheck", &["ATOTI_BRIDGE_LISTEN", "127.0.0.1:50051", "--service", "--tls-ca-file", "1s"]),
    ] {
        let said = run(&[name, "--help"], &[]).await;
        assert_eq!(said.code, Some(0));
        assert!(texts.iter().all(|text| said.out.contains(text)), "{}", said.out);
    }
}
