//! The process: settings, health, signals and exit codes, as an operator meets them.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use tokio::net::TcpListener;

use crate::support::{
    bridge::{Bridge, command},
    client::cancel,
    eventually,
    upstream::{Answer, Upstream},
};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command()
        .args(arguments)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_bad_setting_is_named_with_its_mend_and_the_exit_code_is_64() {
    let output = run(
        &["serve", "--upstream-timeout=soon", "--reflection=maybe"],
        &[
            ("ATOTI_BRIDGE_LISTEN", "localhost"),
            ("ATOTI_BRIDGE_UPSTREAM_URL", "http://ada:s3cret@atoti:9090"),
            ("ATOTI_BRIDGE_MAX_IN_FLIGHT", "0"),
            ("ATOTI_BRIDGE_LOG_FORMAT", "xml"),
        ],
    );
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{errors}");
    for (name, mend) in [
        ("ATOTI_BRIDGE_LISTEN", "0.0.0.0:50051"),
        ("ATOTI_BRIDGE_UPSTREAM_URL", "credentials do not belong"),
        ("ATOTI_BRIDGE_UPSTREAM_TIMEOUT", "10s"),
        ("ATOTI_BRIDGE_MAX_IN_FLIGHT", "1 to 1000000"),
        ("ATOTI_BRIDGE_REFLECTION", "true or false"),
        ("ATOTI_BRIDGE_LOG_FORMAT", "text or json"),
    ] {
        let line =
            errors.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {errors}"));
        assert!(line.contains(mend), "{line}");
    }
    assert!(!errors.contains("s3cret"), "{errors}");
}

#[test]
fn an_unknown_flag_or_command_exits_with_64_and_says_what_there_is() {
    for arguments in [&["serve", "--lisen=1"][..], &["sreve"], &[]] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains("Usage:") || errors.contains("similar"), "{errors}");
    }
}

#[test]
fn help_lists_every_setting_with_its_variable_and_default() {
    let output = run(&["serve", "--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for (variable, default) in [
        ("ATOTI_BRIDGE_LISTEN", "127.0.0.1:50051"),
        ("ATOTI_BRIDGE_UPSTREAM_URL", "http://127.0.0.1:9090"),
        ("ATOTI_BRIDGE_ADMIN_LISTEN", "127.0.0.1:9464"),
        ("ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT", "1s"),
        ("ATOTI_BRIDGE_UPSTREAM_TIMEOUT", "10s"),
        ("ATOTI_BRIDGE_UPSTREAM_MAX_CONNECTIONS", "64"),
        ("ATOTI_BRIDGE_UPSTREAM_CA_FILE", "PEM"),
        ("ATOTI_BRIDGE_UPSTREAM_CLIENT_CERT_FILE", "PEM"),
        ("ATOTI_BRIDGE_UPSTREAM_CLIENT_KEY_FILE", "PEM"),
        ("ATOTI_BRIDGE_CREDENTIALS", "forward"),
        ("ATOTI_BRIDGE_CREDENTIALS_FILE", "user:password"),
        ("ATOTI_BRIDGE_TLS_CERT_FILE", "PEM"),
        ("ATOTI_BRIDGE_TLS_KEY_FILE", "PEM"),
        ("ATOTI_BRIDGE_TLS_CLIENT_CA_FILE", "PEM"),
        ("ATOTI_BRIDGE_TLS_CLIENT_NAMES", "commas"),
        ("ATOTI_BRIDGE_ALLOW_ANONYMOUS_CALLERS", "false"),
        ("ATOTI_BRIDGE_MAX_DEADLINE", "30s"),
        ("ATOTI_BRIDGE_MAX_IN_FLIGHT", "128"),
        ("ATOTI_BRIDGE_MAX_CONNECTIONS", "1024"),
        ("ATOTI_BRIDGE_MAX_CONNECTION_AGE", "5m"),
        ("ATOTI_BRIDGE_DRAIN_DELAY", "5s"),
        ("ATOTI_BRIDGE_DRAIN_GRACE", "15s"),
        ("ATOTI_BRIDGE_REFLECTION", "true"),
        ("ATOTI_BRIDGE_LOG_FORMAT", "json"),
    ] {
        assert!(help.contains(variable) && help.contains(default), "{variable} {default}: {help}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&["serve", "--listen", &address], &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}

#[test]
fn a_machine_without_authorities_for_tls_is_told_what_is_missing() {
    let none = [("SSL_CERT_FILE", "/no/such"), ("SSL_CERT_DIR", "/no/such")];
    let encrypted =
        ["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--upstream-url=https://atoti"];
    let output = run(&encrypted, &none);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is there a bundle of authorities on this machine?"));
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    for (flag, code) in [("--reflection=true", 0), ("--reflection=false", 12)] {
        let bridge = Bridge::start_with("http://127.0.0.1:1", &[flag]).await;
        let client = bridge.client().await;
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            // list_services, field 7.
            assert_eq!(client.call(&path, &[0x3a, 0], &[]).await.code(), code, "{flag} {version}");
        }
    }
}

#[tokio::test]
async fn sigterm_lets_a_call_in_flight_finish_and_exits_with_0() {
    for signal in ["-TERM", "-INT"] {
        let slow = Answer::After(Duration::from_millis(500), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
        let atoti = Upstream::start(move |_, _| slow.clone()).await;
        let mut bridge = Bridge::start(&atoti.url()).await;
        let client = bridge.client().await;
        let call = tokio::spawn(async move { client.cancel(&cancel("42")).await });
        eventually("the call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
        bridge.signal(signal);
        assert_eq!(call.await.expect("an answer").code(), 0, "{signal}");
        assert_eq!(bridge.exit().await.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_cancel_whose_caller_has_gone_is_waited_for_before_the_exit() {
    let slow = Answer::After(Duration::from_millis(500), b"HTTP/1.1 204 X\r\n\r\n".to_vec());
    let atoti = Upstream::start(move |_, _| slow.clone()).await;
    let mut bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let call = client.start_cancel(&cancel("42"), &[("x-request-id", "gone")]).await;
    eventually("the call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    drop((call, client));
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
    assert_eq!(bridge.audit("gone").await["code"], "OK");
}

#[tokio::test]
async fn the_drain_ends_with_its_grace_and_says_what_was_cut() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let mut bridge = Bridge::start_with(&atoti.url(), &["--drain-grace=200ms"]).await;
    let client = bridge.client().await;
    let _call = client.start_cancel(&cancel("42"), &[]).await;
    eventually("the call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
    let cut = bridge.logged("what was cut", |line| line["level"] == "WARN").await;
    assert_eq!(cut["cancels"], 1);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let atoti = Upstream::start(|_, _| Answer::Hang).await;
    let mut bridge = Bridge::start_with(&atoti.url(), &["--drain-grace=1h"]).await;
    let client = bridge.client().await;
    let _call = client.start_cancel(&cancel("42"), &[]).await;
    eventually("the call to reach Atoti", || (!atoti.seen().is_empty()).then_some(())).await;
    bridge.signal("-TERM");
    bridge.logged("the drain", |line| line["message"] == "draining").await;
    bridge.signal("-TERM");
    assert_eq!(bridge.exit().await.code(), Some(0));
}
