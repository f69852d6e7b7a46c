//! The audit trail: a record for every attempt, with who, what, why and what came of it, and never a secret.

use base64::{Engine as _, engine::general_purpose};

use crate::support::{
    bridge::Bridge,
    client::cancel,
    upstream::{Upstream, answer},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn an_accepted_cancel_leaves_who_what_why_and_what_came_of_it() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let credentials = format!("Basic {}", general_purpose::STANDARD.encode("ada:s3cret"));
    let mut request = cancel("42");
    request.reason = "eats\nall \"memory\" \u{1b}[31m".to_owned();
    let headers = [("authorization", &*credentials), ("x-request-id", "request-1"), ("traceparent", PARENT)];
    assert_eq!(bridge.client().await.cancel_with(&request, &headers).await.code(), 0);

    let audit = bridge.audit("request-1").await;
    assert_eq!(audit["operation"], "CancelQuery");
    assert_eq!(audit["query_id"], "42");
    assert_eq!(audit["reason"], request.reason);
    assert_eq!(audit["caller.claimed_user"], "ada");
    assert!(audit["caller.peer"].as_str().expect("a peer").starts_with("127.0.0.1:"));
    assert_eq!(audit["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(audit["outcome"], "CANCEL_OUTCOME_REQUESTED");
    assert_eq!((&audit["code"], &audit["attempts"]), (&"OK".into(), &1.into()));
    assert_eq!((&audit["request_sent"], &audit["caller_waited"]), (&true.into(), &true.into()));
    let written: jiff::Timestamp = audit["timestamp"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!(jiff::Timestamp::now().duration_since(written).as_secs() < 60);
}

#[tokio::test]
async fn a_refused_request_is_audited_too_whatever_its_id_looks_like() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let client = bridge.client().await;
    let hostile = format!("../\n\u{1b}[31m{}", "x".repeat(10_000));
    assert_eq!(client.cancel_with(&cancel(&hostile), &[("x-request-id", "request-1")]).await.code(), 3);
    let audit = bridge.audit("request-1").await;
    assert_eq!(
        (&audit["code"], &audit["error_reason"]),
        (&"INVALID_ARGUMENT".into(), &"INVALID_QUERY_ID".into())
    );
    assert_eq!((&audit["attempts"], &audit["request_sent"]), (&0.into(), &false.into()));
    let written = audit["query_id"].as_str().expect("a string");
    assert_eq!(written, &hostile[..128]);
}

#[tokio::test]
async fn audit_records_are_written_whatever_the_log_level() {
    for level in ["off", "error", "audit=off"] {
        let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
        // The test needs the line that names the port.
        let level = format!("{level},atoti_grpc_bridge::server=info");
        let bridge = Bridge::start_in(&atoti.url(), &[], &[("RUST_LOG", &level)]).await;
        bridge.client().await.cancel_with(&cancel("42"), &[("x-request-id", "request-1")]).await;
        assert_eq!(bridge.audit("request-1").await["code"], "OK", "{level}");
    }
}

#[tokio::test]
async fn no_credential_is_ever_logged_not_even_at_the_finest_level() {
    let atoti = Upstream::start(|_, before| answer([401, 204][before % 2], "", "")).await;
    let bridge = Bridge::start_in(&atoti.url(), &[], &[("RUST_LOG", "trace")]).await;
    let client = bridge.client().await;
    let basic = format!("Basic {}", general_purpose::STANDARD.encode("ada:s3cret-password"));
    let payload = general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"ada","pin":"s3cret-claim"}"#);
    let bearer = format!("Bearer e30.{payload}.s3cret-signature");
    for (id, credentials) in [("a", &basic), ("b", &basic), ("c", &bearer), ("d", &bearer)] {
        client.cancel_with(&cancel("42"), &[("authorization", credentials), ("x-request-id", id)]).await;
        assert_eq!(bridge.audit(id).await["caller.claimed_user"], "ada");
    }
    let secrets = ["s3cret", basic.trim_start_matches("Basic "), &payload];
    for line in bridge.log_lines() {
        assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
    }
}
