//! The bridge's own account: Basic, a token from a file, and tokens that Atoti issues; and that none of it leaks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Security, Simulator, User};
use tempfile::TempDir;

use crate::support::{
    bridge::Bridge,
    client::{Reply, cancel},
    eventually,
    messages::{Empty, GetServerInfoResponse},
    upstream::{Answer, Upstream, answer},
    within,
};

const SECRET: &str = "s3cret-canary";
const TOKEN: &str = "/activeviam/jwt/rest/v3/token";

/// A file of a test's own, and the flags that name it.
struct File {
    folder: TempDir,
}

impl File {
    fn new(content: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("a folder") };
        file.write(content);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    fn write(&self, content: &str) {
        std::fs::write(self.path(), content).expect("written");
    }

    async fn bridge(&self, url: &str, mode: &str) -> Bridge {
        let file = format!("--credentials-file={}", self.path().display());
        Bridge::start_with(url, &[&format!("--credentials={mode}"), &file]).await
    }
}

/// An Atoti where the bridge has an account.
async fn atoti(options: Options) -> Simulator {
    let users = vec![User::new("bridge", SECRET, &["ROLE_USER"])];
    Simulator::start(Options { security: Security::On { users }, ..options }).await.expect("it starts")
}

async fn cancel_one(atoti: &Simulator, bridge: &Bridge) -> Reply {
    let id = atoti.history().start_query(NewQuery::default());
    bridge.client().await.cancel(&cancel(&id)).await
}

fn token_requests(atoti: &Simulator) -> usize {
    atoti.requests().iter().filter(|request| request.path() == TOKEN).count()
}

fn assert_silent(bridge: &Bridge, replies: &[Reply]) {
    let said: String =
        bridge.log_lines().concat() + &replies.iter().map(Reply::everything).collect::<String>();
    // `bridge:s3cret-canary`, as it travels.
    for secret in [SECRET, "YnJpZGdlOnMzY3JldC1jYW5hcnk", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"] {
        assert!(!said.contains(secret), "{secret} was said");
    }
}

#[tokio::test]
async fn basic_credentials_go_along_instead_of_the_callers() {
    let atoti = atoti(Options::default()).await;
    let bridge = File::new(&format!("bridge:{SECRET}\n")).bridge(&atoti.base_url(), "basic").await;
    let id = atoti.history().start_query(NewQuery::default());
    let headers = [("authorization", "Bearer the-callers-own")];
    let reply = bridge.client().await.cancel_with(&cancel(&id), &headers).await;
    assert_eq!(reply.code(), 0);
    // Nor with what the bridge asks about Atoti itself.
    let info = bridge.client().await.method("GetServerInfo", &Empty {}, &headers).await;
    assert_eq!(info.message::<GetServerInfoResponse>().credentials, 1, "those of the bridge are good");
    let unknown = bridge.client().await.get_with("42", &headers).await;
    assert_eq!(unknown.code(), 5);
    let said: Vec<_> = atoti.requests();
    assert!(said.iter().all(|request| request.header("authorization") != Some(b"Bearer the-callers-own")));
    assert_silent(&bridge, &[reply]);
}

#[tokio::test]
async fn a_refusal_of_the_bridges_own_credentials_says_whose_they_are() {
    let atoti = atoti(Options::default()).await;
    let file = File::new("bridge:wrong");
    for mode in ["basic", "jwt"] {
        let bridge = file.bridge(&atoti.base_url(), mode).await;
        let reply = cancel_one(&atoti, &bridge).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (16, "BACKEND_UNAUTHENTICATED"), "{mode}");
        assert_eq!(error.metadata("credentialSource"), Some("bridge"));
        assert!(error.message.contains("the bridge's own credentials"), "{}", error.message);
    }
}

#[tokio::test]
async fn credentials_are_renewed_without_a_restart_and_a_bad_file_is_not_taken() {
    let atoti = atoti(Options::default()).await;
    let file = File::new("bridge:wrong");
    let bridge = file.bridge(&atoti.base_url(), "basic").await;
    let refused = cancel_one(&atoti, &bridge).await;
    assert_eq!(refused.code(), 16);
    // Found at once, because the refusal makes the bridge look.
    file.write(&format!("bridge:{SECRET}"));
    let accepted = cancel_one(&atoti, &bridge).await;
    assert_eq!(accepted.code(), 0);
    file.write("");
    let failure = bridge.logged("the failure", |line| line["level"] == "ERROR").await;
    assert_eq!(failure["what"], "the bridge's own credentials");
    assert_eq!(bridge.metric("atoti_bridge_reload_failed{file=\"credentials\"}").await, Some(1.0));
    assert_eq!(cancel_one(&atoti, &bridge).await.code(), 0, "the one before is kept");
    assert_silent(&bridge, &[refused, accepted]);
}

#[tokio::test]
async fn a_token_from_a_file_goes_along() {
    let seen = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = File::new("abc.def.ghi\n").bridge(&seen.url(), "bearer").await;
    assert_eq!(bridge.client().await.cancel(&cancel("42")).await.code(), 0);
    assert_eq!(seen.seen()[0].header("authorization"), ["Bearer abc.def.ghi"]);
}

#[tokio::test]
async fn one_token_is_asked_for_however_many_calls_wait() {
    let atoti = atoti(Options::default()).await;
    atoti.inject(Fault::delay(Duration::from_millis(300)).on("GET", TOKEN));
    let bridge = File::new(&format!("bridge:{SECRET}")).bridge(&atoti.base_url(), "jwt").await;
    let client = bridge.client().await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (client, id) = (client.clone(), atoti.history().start_query(NewQuery::default()));
            tokio::spawn(async move { client.cancel(&cancel(&id)).await })
        })
        .collect();
    let mut replies = Vec::new();
    for call in calls {
        replies.push(call.await.expect("an answer"));
    }
    assert!(replies.iter().all(|reply| reply.code() == 0));
    assert_eq!(token_requests(&atoti), 1);
    let login = atoti.requests().into_iter().find(|request| request.path() == TOKEN).expect("one");
    assert!(login.header("authorization").expect("a login").starts_with(b"Basic "));
    assert!(atoti.requests().iter().filter(|request| request.method == "PATCH").all(|request| {
        request.header("authorization").is_some_and(|value| value.starts_with(b"Bearer "))
    }));
    assert_silent(&bridge, &replies);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let options = Options { token_lifetime: Duration::from_secs(5), ..Options::default() };
    let atoti = atoti(options).await;
    let bridge = File::new(&format!("bridge:{SECRET}")).bridge(&atoti.base_url(), "jwt").await;
    assert_eq!(cancel_one(&atoti, &bridge).await.code(), 0);
    assert_eq!(token_requests(&atoti), 1);
    // Nobody calls meanwhile.
    eventually("another token", || (token_requests(&atoti) > 1).then_some(())).await;
    assert_eq!(cancel_one(&atoti, &bridge).await.code(), 0);
}

#[tokio::test]
async fn a_token_that_atoti_wants_no_more_is_replaced_once() {
    // The seed makes the key: a restart with another one forgets all tokens.
    let first = atoti(Options::default()).await;
    let (address, history) = (first.address(), first.history().clone());
    let bridge = File::new(&format!("bridge:{SECRET}")).bridge(&first.base_url(), "jwt").await;
    assert_eq!(cancel_one(&first, &bridge).await.code(), 0);
    first.stop().await;
    let users = vec![User::new("bridge", SECRET, &["ROLE_USER"])];
    let options =
        Options { listen: address, seed: 7, security: Security::On { users }, ..Options::default() };
    let second = Simulator::start_sharing(options, &history).await.expect("the port is free");
    let client = bridge.client().await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (client, id) = (client.clone(), second.history().start_query(NewQuery::default()));
            tokio::spawn(async move { client.cancel(&cancel(&id)).await.code() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("an answer"), 0);
    }
    assert_eq!(token_requests(&second), 1);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_told_apart_from_the_query() {
    for (script, code, reason) in [
        (answer(404, "", ""), 13, "BACKEND_TOKEN_FAILED"),
        (answer(500, "", "canary"), 13, "BACKEND_TOKEN_FAILED"),
        (answer(200, "", "{\"no\":\"canary\"}"), 13, "BACKEND_TOKEN_FAILED"),
        (answer(200, "Content-Type: text/html\r\n", "<html>canary"), 13, "BACKEND_TOKEN_FAILED"),
        (answer(503, "", ""), 14, "BACKEND_UNAVAILABLE"),
        (Answer::BytesThenClose(Vec::new()), 14, "BACKEND_CONNECTION_LOST"),
        (Answer::Hang, 4, "DEADLINE_BEFORE_SEND"),
    ] {
        let what = format!("{script:?}");
        let atoti = Upstream::start(move |_, _| script.clone()).await;
        let bridge = File::new("bridge:x").bridge(&atoti.url(), "jwt").await;
        let client = bridge.client().await;
        let reply = client.cancel_with(&cancel("42"), &[("grpc-timeout", "1S")]).await;
        let error = reply.error();
        assert_eq!((reply.code(), error.reason()), (code, reason), "{what}");
        assert_eq!(error.metadata("requestSent"), Some("false"), "{what}");
        assert!(!reply.everything().contains("canary"), "{what}");
        assert!(atoti.seen().iter().all(|seen| seen.method == "GET"), "the query was not touched: {what}");
        // Whether Atoti is there is asked with nobody's credentials.
        within("Atoti to be seen", async {
            while bridge.metric("atoti_bridge_upstream_up").await != Some(1.0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_crowd_does_not_ask_a_failing_token_endpoint_one_by_one() {
    let atoti = Upstream::start(|_, _| answer(500, "", "")).await;
    let bridge = File::new("bridge:x").bridge(&atoti.url(), "jwt").await;
    let client = Arc::new(bridge.client().await);
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.cancel(&cancel("42")).await.code() })
        })
        .collect();
    for call in crowd {
        assert_eq!(within("an answer", call).await.expect("an answer"), 13);
    }
    assert!(atoti.seen().len() < 10, "{} requests", atoti.seen().len());
}

/// What one caller has no time for is not what all the others get.
#[tokio::test]
async fn a_hurried_caller_does_not_keep_the_token_from_others() {
    let atoti = Upstream::start(|request, _| match request.method.as_str() {
        "GET" if request.target == TOKEN => {
            let token = b"HTTP/1.1 200 X\r\nContent-Length: 17\r\n\r\n{\"token\":\"a.b.c\"}";
            Answer::After(Duration::from_millis(300), token.to_vec())
        }
        _ => answer(204, "", ""),
    })
    .await;
    let bridge = File::new("bridge:x").bridge(&atoti.url(), "jwt").await;
    let client = Arc::new(bridge.client().await);
    let hurried = client.cancel_with(&cancel("42"), &[("grpc-timeout", "100m")]).await;
    assert_eq!(hurried.error().reason(), "DEADLINE_BEFORE_SEND");
    let patient = client.cancel_with(&cancel("42"), &[("grpc-timeout", "10S")]).await;
    assert_eq!(patient.code(), 0, "{}", patient.everything());
}
