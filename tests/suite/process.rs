//! The process: settings, health, signals and exit codes, as an operator meets them.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use tokio::net::TcpListener;

use crate::support::{
    bridge::{Bridge, command},
    client::{Client, cancel},
    eventually,
    upstream::{Answer, Upstream, answer},
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
        ("ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT", "1s"),
        ("ATOTI_BRIDGE_UPSTREAM_TIMEOUT", "10s"),
        ("ATOTI_BRIDGE_MAX_DEADLINE", "30s"),
        ("ATOTI_BRIDGE_MAX_IN_FLIGHT", "128"),
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

/// The health of a service: `Ok` with the number of the serving status, `Err` with the gRPC code.
async fn health(client: &Client, service: &str) -> Result<u8, i32> {
    let message = [&[0x0a, u8::try_from(service.len()).expect("short")], service.as_bytes()].concat();
    let reply = client.call("/grpc.health.v1.Health/Check", &message, &[]).await;
    match reply.code() {
        // Field 1, a varint; 1 is SERVING, 2 NOT_SERVING.
        0 => Ok(reply.body[6]),
        code => Err(code),
    }
}

const SERVICE: &str = "atoti.queryhistory.v1.QueryHistoryService";

#[tokio::test]
async fn health_is_served_for_the_process_and_the_service_without_atoti() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let client = bridge.client().await;
    assert_eq!(health(&client, "").await, Ok(1));
    assert_eq!(health(&client, SERVICE).await, Ok(1));
    assert_eq!(health(&client, "unknown").await, Err(5));
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
async fn an_unknown_method_is_unimplemented() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let client = bridge.client().await;
    for path in ["/atoti.queryhistory.v1.QueryHistoryService/Nothing", "/no.such.Service/Method", "/"] {
        assert_eq!(client.call(path, &[], &[]).await.code(), 12, "{path}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_or_no_message_is_refused_without_a_call() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let mut large = cancel("42");
    large.reason = "r".repeat(70_000);
    assert_ne!(client.cancel(&large).await.code(), 0);
    let path = format!("/{SERVICE}/CancelQuery");
    assert_ne!(client.call(&path, &[0xff, 0xff, 0xff], &[]).await.code(), 0);
    assert_eq!(atoti.connections(), 0);
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
