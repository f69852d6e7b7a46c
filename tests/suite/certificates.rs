//! TLS on both sides: what is shown, what is asked for, and certificates that change while calls go on.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    bridge::Bridge,
    certs::{Authority, Pair},
    client::{Client, cancel},
    frames::Raw,
    upstream::{Upstream, answer},
    within,
};

async fn accepting_atoti() -> Upstream {
    Upstream::start(|_, _| answer(204, "", "")).await
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// The flags that have the bridge show a certificate.
fn show(authority: &Authority, pair: &Pair) -> [String; 2] {
    [
        flag("tls-cert-file", &authority.write("cert.pem", &pair.cert)),
        flag("tls-key-file", &authority.write("key.pem", &pair.key)),
    ]
}

async fn start(atoti: &Upstream, flags: &[String]) -> Bridge {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Bridge::start_with(&atoti.url(), &flags).await
}

async fn client(authority: &Authority, address: SocketAddr, identity: Option<&Pair>) -> Client {
    let stream = within("a handshake", authority.connect(address, identity)).await.expect("a handshake");
    Client::over(stream).await
}

/// What is shown to a new connection.
async fn shown(authority: &Authority, address: SocketAddr) -> Vec<u8> {
    let stream = within("a handshake", authority.connect(address, None)).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec()
}

async fn until_shown(authority: &Authority, address: SocketAddr, pair: &Pair) {
    within("the new certificate", async {
        while shown(authority, address).await != pair.certificate().to_vec() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn calls_come_over_tls_and_in_plain_text_no_more() {
    let (atoti, authority) = (accepting_atoti().await, Authority::new());
    let bridge = start(&atoti, &show(&authority, &authority.issue("spiffe://test/bridge"))).await;
    let client = client(&authority, bridge.address(), None).await;
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    let mut plain = Raw::greeted(bridge.address()).await;
    assert!(plain.next_of(4).await.is_none(), "no settings for who speaks in plain text");
    let expiry = bridge.metric("atoti_bridge_certificate_expiry_timestamp_seconds{file=\"tls\"}").await;
    assert!(expiry.expect("a metric") > 1.8e9, "{expiry:?}");
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_is_not_kept() {
    let (atoti, authority) = (accepting_atoti().await, Authority::new());
    let bridge = start(&atoti, &show(&authority, &authority.issue("spiffe://test/bridge"))).await;
    let mut silent = Raw::silent(bridge.address()).await;
    // The head of a handshake record that promises 256 bytes.
    let mut slow = Raw::silent(bridge.address()).await;
    slow.send(&[22, 3, 1, 1, 0]).await;
    assert!(silent.next().await.is_none());
    assert!(slow.next().await.is_none());
    let client = client(&authority, bridge.address(), None).await;
    assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
    assert_eq!(bridge.metric("atoti_bridge_connections").await, Some(1.0), "that of the proper client");
}

#[tokio::test]
async fn a_certificate_is_renewed_without_losing_a_connection_and_a_bad_one_is_not_taken() {
    let (atoti, authority) = (accepting_atoti().await, Authority::new());
    let first = authority.issue("spiffe://test/bridge");
    let bridge = start(&atoti, &show(&authority, &first)).await;
    let old = client(&authority, bridge.address(), None).await;
    assert_eq!(old.cancel(&cancel("1")).await.code(), 0);

    let second = authority.issue("spiffe://test/bridge");
    // For a moment they do not belong together.
    authority.write("cert.pem", &second.cert);
    bridge.logged("the failure", |line| line["level"] == "ERROR" && line["what"].is_string()).await;
    assert_eq!(bridge.metric("atoti_bridge_reload_failed{file=\"tls\"}").await, Some(1.0));
    assert_eq!(
        shown(&authority, bridge.address()).await,
        first.certificate().to_vec(),
        "the old pair is kept"
    );
    authority.write("key.pem", &second.key);
    until_shown(&authority, bridge.address(), &second).await;
    within("the metric", async {
        while bridge.metric("atoti_bridge_reload_failed{file=\"tls\"}").await != Some(0.0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(old.cancel(&cancel("2")).await.code(), 0, "the old connection lives");
    std::fs::remove_file(authority.write("key.pem", "")).expect("removed");
    bridge
        .logged("the missing file", |line| {
            line["failure"].as_str().is_some_and(|text| text.contains("key.pem"))
        })
        .await;
    assert_eq!(client(&authority, bridge.address(), None).await.cancel(&cancel("3")).await.code(), 0);
}

#[tokio::test]
async fn certificates_that_change_all_the_time_cost_no_call() {
    let (atoti, authority) = (accepting_atoti().await, Arc::new(Authority::new()));
    let pair = || authority.issue("spiffe://test/bridge");
    let bridge = start(&atoti, &show(&authority, &pair())).await;
    let until = Instant::now() + crate::limits::duration();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (authority, address) = (Arc::clone(&authority), bridge.address());
            tokio::spawn(async move {
                let mut calls = 0;
                while Instant::now() < until {
                    // Old connections and new ones, under whatever is shown at the moment.
                    let client = client(&authority, address, None).await;
                    for _ in 0..5 {
                        assert_eq!(client.cancel(&cancel("42")).await.code(), 0);
                        calls += 1;
                    }
                }
                calls
            })
        })
        .collect();
    let mut swaps = 0;
    while Instant::now() < until {
        let Pair { cert, key } = pair();
        authority.write("key.pem", &key);
        authority.write("cert.pem", &cert);
        swaps += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("no call failed");
    }
    println!("{calls} calls during {swaps} new certificates");
    assert!(calls > 100 && swaps > 1, "{calls} calls, {swaps} swaps");
    let renewed = bridge.log_lines().iter().filter(|line| line.contains("read again")).count();
    assert!(renewed > 0, "they were taken");
}

#[tokio::test]
async fn callers_must_show_a_certificate_and_may_have_to_be_on_the_list() {
    let (atoti, authority, strangers) = (accepting_atoti().await, Authority::new(), Authority::new());
    let mut flags = show(&authority, &authority.issue("spiffe://test/bridge")).to_vec();
    flags.push(flag("tls-client-ca-file", &authority.file()));
    flags.push("--tls-client-names=spiffe://test/ops, spiffe://test/reports".to_owned());
    let bridge = start(&atoti, &flags).await;

    let reports = authority.issue("spiffe://test/reports");
    let welcome = client(&authority, bridge.address(), Some(&reports)).await;
    assert_eq!(welcome.cancel_with(&cancel("42"), &[("x-request-id", "welcome")]).await.code(), 0);
    assert_eq!(bridge.audit("welcome").await["caller.certificate"], "spiffe://test/reports");

    let other = authority.issue("spiffe://test/other");
    let unlisted = client(&authority, bridge.address(), Some(&other)).await;
    let reply = unlisted.cancel_with(&cancel("42"), &[("x-request-id", "unlisted")]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (7, "CALLER_NOT_ALLOWED"));
    assert_eq!(error.metadata("requestSent"), Some("false"));
    assert_eq!(bridge.audit("unlisted").await["error_reason"], "CALLER_NOT_ALLOWED");
    assert_eq!(unlisted.get("42").await.code(), 7);
    assert_eq!(unlisted.call("/grpc.health.v1.Health/Check", &[], &[]).await.code(), 0, "health is for all");
    assert_eq!(atoti.seen().len(), 1);

    let strange = strangers.issue("spiffe://test/reports");
    for identity in [None, Some(&strange)] {
        // With TLS 1.3 the client learns of it by its first read.
        if let Ok(stream) = authority.connect(bridge.address(), identity).await {
            let client = Client::over(stream).await;
            assert!(client.try_cancel(&cancel("42")).await.is_err(), "no call without a good certificate");
        }
    }
    assert_eq!(atoti.seen().len(), 1);
}

/// An Atoti over TLS that asks for certificates.
async fn strict_atoti(authority: &Authority, server: &Pair) -> Upstream {
    let mut roots = RootCertStore::empty();
    let ca = std::fs::read(authority.file()).expect("a file");
    roots
        .add(rustls::pki_types::pem::PemObject::from_pem_slice(&ca).expect("a certificate"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (chain, key) = server.der();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Upstream::start_behind(|_, _| answer(204, "", ""), move |stream| acceptor.accept(stream)).await
}

#[tokio::test]
async fn atoti_is_called_over_tls_with_a_certificate_that_is_renewed() {
    let authority = Authority::new();
    let atoti = strict_atoti(&authority, &authority.issue("spiffe://test/atoti")).await;
    let url = format!("https://{}", atoti.address());
    let ca = flag("upstream-ca-file", &authority.file());
    let call = async |bridge: &Bridge| {
        let reply = bridge.client().await.cancel(&cancel("42")).await;
        (reply.code(), reply.error().reason().to_owned())
    };
    let anonymous = Bridge::start_with(&url, &[&ca]).await;
    let (code, reason) = call(&anonymous).await;
    assert!(code == 14 && matches!(&*reason, "BACKEND_TLS_FAILED" | "BACKEND_CONNECTION_LOST"), "{reason}");

    let pair = authority.issue("spiffe://test/bridge");
    let cert = flag("upstream-client-cert-file", &authority.write("client.pem", &pair.cert));
    let key = flag("upstream-client-key-file", &authority.write("client-key.pem", &pair.key));
    let bridge = Bridge::start_with(&url, &[&ca, &cert, &key]).await;
    assert_eq!(call(&bridge).await, (0, String::new()));
    let next = authority.issue("spiffe://test/bridge");
    authority.write("client.pem", &next.cert);
    authority.write("client-key.pem", &next.key);
    bridge.logged("the renewal", |line| line["message"] == "read again").await;
    assert_eq!(call(&bridge).await, (0, String::new()));
    let expiry = "atoti_bridge_certificate_expiry_timestamp_seconds{file=\"upstream_tls\"}";
    assert!(bridge.metric(expiry).await.is_some());
}
