//! GetServerInfo, and how an Atoti without the API is told from one without the query: by its discovery document alone.

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Security, Simulator, User};
use prost::Message;

use crate::support::{
    bridge::Bridge,
    client::{Client, GetQueryRequest, Reply},
    messages::{
        CancelAllQueriesRequest, DeleteQueriesRequest, DeleteQueryRequest, Empty, GetQueryPlanRequest,
        GetServerInfoResponse, ListQueriesRequest, of_user,
    },
    upstream::{Answer, Upstream, answer},
    within,
};

const UNSPECIFIED: i32 = 0;
const ACCEPTED: i32 = 1;
const REJECTED: i32 = 2;
const DENIED: i32 = 3;

const ADMIN: (&str, &str) = ("authorization", "Basic YWRtaW46YWRtaW4=");
const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const WRONG: (&str, &str) = ("authorization", "Basic dXNlcjp3cm9uZw==");
const JSON: &str = "Content-Type: application/json\r\n";

async fn info(client: &Client, headers: &[(&'static str, &str)]) -> Reply {
    client.method("GetServerInfo", &Empty {}, headers).await
}

async fn open_atoti() -> Simulator {
    let options = Options { security: Security::Off, ..Options::default() };
    Simulator::start(options).await.expect("it starts")
}

#[tokio::test]
async fn an_atoti_with_the_api_is_told_with_its_version_and_what_it_thinks_of_the_caller() {
    let atoti = Simulator::start(Options::default()).await.expect("it starts");
    let bridge = Bridge::start(&atoti.base_url()).await;
    let client = bridge.client().await;
    for (headers, credentials) in [
        (&[ADMIN][..], ACCEPTED),
        (&[USER], ACCEPTED),
        (&[], REJECTED),
        (&[WRONG], REJECTED),
        (&[("authorization", "Bearer a.b.c")], REJECTED),
        (&[GUEST], DENIED),
    ] {
        let told: GetServerInfoResponse = info(&client, headers).await.message();
        assert_eq!(told.credentials, credentials, "{headers:?}");
        assert_eq!((&*told.server_version, told.api_installed), ("6.2.2", Some(true)));
        assert_eq!(told.api_versions, ["1"]);
        assert_eq!(told.bridge_version, env!("CARGO_PKG_VERSION"));
        assert!(told.node_names.is_empty());
    }
}

#[tokio::test]
async fn an_atoti_without_the_api_is_told_too() {
    let atoti = open_atoti().await;
    atoti.inject(Fault::missing_api());
    let bridge = Bridge::start(&atoti.base_url()).await;
    let told: GetServerInfoResponse = info(&bridge.client().await, &[]).await.message();
    assert_eq!((&*told.server_version, told.api_installed), ("6.2.2", Some(false)));
    assert!(told.api_versions.is_empty());
    assert_eq!(told.credentials, UNSPECIFIED, "where there is no history nobody may read, nobody may not");
}

#[tokio::test]
async fn what_is_no_discovery_document_leaves_open_what_is_installed() {
    for fault in [
        Fault::answer(200, "application/json", "{}"),
        Fault::answer(200, "application/json", r#"{"apis":[]}"#),
        Fault::malformed_json(),
        Fault::html(),
        Fault::redirect("/login"),
        Fault::status(401),
        Fault::status(404),
    ] {
        let atoti = open_atoti().await;
        atoti.inject(fault.clone().on("GET", "/versions/rest"));
        let bridge = Bridge::start(&atoti.base_url()).await;
        let told: GetServerInfoResponse = info(&bridge.client().await, &[]).await.message();
        assert_eq!((told.api_installed, &*told.server_version), (None, ""), "{fault:?}");
        assert_eq!(told.credentials, ACCEPTED, "{fault:?}");
    }
}

#[tokio::test]
async fn what_says_nothing_about_credentials_is_not_taken_for_a_judgement() {
    for (fault, credentials) in [
        (Fault::status(500), UNSPECIFIED),
        (Fault::status(503), UNSPECIFIED),
        (Fault::html(), UNSPECIFIED),
        (Fault::malformed_json(), UNSPECIFIED),
        (Fault::cut_before_head(), UNSPECIFIED),
        (Fault::answer(200, "application/json", "{}"), UNSPECIFIED),
        (Fault::redirect("/elsewhere"), UNSPECIFIED),
        (Fault::redirect("/login"), REJECTED),
        (Fault::status(401), REJECTED),
        (Fault::status(403), DENIED),
    ] {
        let atoti = open_atoti().await;
        atoti.inject(fault.clone().on("GET", "/queries"));
        let bridge = Bridge::start(&atoti.base_url()).await;
        let told: GetServerInfoResponse = info(&bridge.client().await, &[]).await.message();
        assert_eq!((told.credentials, told.api_installed), (credentials, Some(true)), "{fault:?}");
    }
}

#[tokio::test]
async fn an_atoti_that_does_not_answer_is_an_error() {
    let bridge = Bridge::start("http://127.0.0.1:1").await;
    let reply = info(&bridge.client().await, &[]).await;
    let error = reply.error();
    assert_eq!((reply.code(), error.reason()), (14, "BACKEND_CONNECT_FAILED"));
    assert_eq!((error.metadata("requestSent"), error.metadata("retryable")), (Some("false"), Some("true")));

    for (status, code, reason) in [(500, 13, "BACKEND_ERROR"), (503, 14, "BACKEND_UNAVAILABLE")] {
        let atoti = open_atoti().await;
        atoti.inject(Fault::status(status));
        let bridge = Bridge::start(&atoti.base_url()).await;
        let reply = info(&bridge.client().await, &[]).await;
        assert_eq!((reply.code(), reply.error().reason()), (code, reason));
    }

    let atoti = open_atoti().await;
    atoti.inject(Fault::hang());
    let bridge = Bridge::start(&atoti.base_url()).await;
    let reply = info(&bridge.client().await, &[("grpc-timeout", "200m")]).await;
    assert_eq!((reply.code(), reply.error().reason()), (4, "BACKEND_TIMEOUT"));
}

#[tokio::test]
async fn headers_that_break_a_rule_are_refused_here_as_everywhere() {
    let atoti = Upstream::start(|_, _| answer(200, "", "{}")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    for (headers, reason) in
        [(&[USER, ADMIN][..], "INVALID_AUTHORIZATION"), (&[("grpc-timeout", "soon")], "INVALID_TIMEOUT")]
    {
        let reply = info(&client, headers).await;
        assert_eq!((reply.code(), reply.error().reason()), (3, reason));
    }
    assert_eq!(atoti.connections(), 0);
}

#[tokio::test]
async fn the_bridges_own_account_is_what_is_judged_and_the_callers_credentials_go_nowhere() {
    let users = vec![User::new("bridge", "s3cret", &["ROLE_USER"])];
    let options = Options { security: Security::On { users }, ..Options::default() };
    let atoti = Simulator::start(options).await.expect("it starts");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("credentials");
    let flag = format!("--credentials-file={}", file.display());
    for (content, credentials) in [("bridge:s3cret", ACCEPTED), ("bridge:wrong", REJECTED)] {
        std::fs::write(&file, content).expect("written");
        for mode in ["--credentials=basic", "--credentials=jwt"] {
            let bridge = Bridge::start_with(&atoti.base_url(), &[mode, &flag]).await;
            let client = bridge.client().await;
            let own = ("authorization", "Bearer the-callers-own");
            let told: GetServerInfoResponse = info(&client, &[own]).await.message();
            assert_eq!((told.credentials, told.api_installed), (credentials, Some(true)), "{mode} {content}");
            // The question whether the API is there goes along with a 404, too.
            client.get_with("42", &[own]).await;
            let leaked = atoti.requests().into_iter().find(|request| {
                request.header("authorization").is_some_and(|value| value.ends_with(b"the-callers-own"))
            });
            assert!(leaked.is_none(), "{mode} {content}: {leaked:?}");
        }
    }
}

#[tokio::test]
async fn the_nodes_are_told_by_their_names_alone() {
    let atoti = open_atoti().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nodes.json");
    std::fs::write(&file, r#"{"node-b":"http://canary:1","node-a":"http://canary:2"}"#).expect("written");
    let flag = format!("--nodes-file={}", file.display());
    let bridge = Bridge::start_with(&atoti.base_url(), &[&flag]).await;
    let reply = info(&bridge.client().await, &[]).await;
    assert_eq!(reply.message::<GetServerInfoResponse>().node_names, ["node-a", "node-b"]);
    assert!(!reply.everything().contains("canary"));
}

/// A call of each RPC that a missing API keeps from being carried out.
fn calls() -> Vec<(&'static str, Vec<u8>)> {
    let id = || "42".to_owned();
    let (filter, reason) = (Some(of_user("ada")), String::new());
    vec![
        ("GetQuery", GetQueryRequest { query_id: id() }.encode_to_vec()),
        ("ListQueries", ListQueriesRequest::default().encode_to_vec()),
        ("GetQueryPlan", GetQueryPlanRequest { query_id: id(), timeout: None }.encode_to_vec()),
        ("DeleteQuery", DeleteQueryRequest { query_id: id(), reason: reason.clone() }.encode_to_vec()),
        ("DeleteQueries", DeleteQueriesRequest { filter, reason }.encode_to_vec()),
        ("CancelAllQueries", CancelAllQueriesRequest::default().encode_to_vec()),
    ]
}

async fn call(client: &Client, (name, message): &(&'static str, Vec<u8>)) -> (i32, String) {
    let path = format!("/atoti.queryhistory.v1.QueryHistoryService/{name}");
    let reply = client.call(&path, message, &[]).await;
    (reply.code(), reply.error().reason().to_owned())
}

#[tokio::test]
async fn the_api_is_missing_only_when_the_discovery_document_positively_lacks_it() {
    let with = r#"{"apis":{"activeviam/pivot":{},"activeviam/query-history":{"versions":[{"id":"1"}]}}}"#;
    let missing = || (12, "BACKEND_API_MISSING".to_owned());
    let not_found = || (5, "QUERY_NOT_FOUND".to_owned());
    for (discovery, expected) in [
        (answer(200, JSON, r#"{"apis":{"activeviam/pivot":{}}}"#), missing()),
        (answer(200, JSON, r#"{"apis":{}}"#), missing()),
        (answer(200, JSON, with), not_found()),
        (answer(200, JSON, "{}"), not_found()),
        (answer(200, JSON, r#"{"apis":{"#), not_found()),
        (answer(200, "Content-Type: text/html\r\n", "<html>"), not_found()),
        (answer(401, "", ""), not_found()),
        (answer(404, "", ""), not_found()),
        (answer(500, JSON, r#"{"apis":{}}"#), not_found()),
        (Answer::BytesThenClose(Vec::new()), not_found()),
    ] {
        let what = format!("{discovery:?}");
        let atoti = Upstream::start(move |seen, _| match &*seen.target {
            "/versions/rest" => discovery.clone(),
            _ => answer(404, "", ""),
        })
        .await;
        let bridge = Bridge::start_with(&atoti.url(), &["--allow-query-plan=true"]).await;
        let client = bridge.client().await;
        for rpc in calls() {
            assert_eq!(call(&client, &rpc).await, expected, "{} {what}", rpc.0);
        }
    }
}

#[tokio::test]
async fn what_is_installed_is_remembered_for_a_while_and_looked_up_again() {
    let atoti = open_atoti().await;
    atoti.inject(Fault::missing_api());
    let bridge = Bridge::start_with(&atoti.base_url(), &["--allow-query-plan=true"]).await;
    let client = bridge.client().await;
    for rpc in calls() {
        assert_eq!(call(&client, &rpc).await, (12, "BACKEND_API_MISSING".to_owned()), "{}", rpc.0);
    }
    let asked = |request: &atoti_grpc_bridge::simulator::RecordedRequest| {
        request.target == "/versions/rest" && request.header("x-request-id").is_some()
    };
    let asked = atoti.requests().iter().filter(|request| asked(request)).count();
    assert!(asked <= 1, "{asked} calls asked, although it was known");

    // Once it is there, it works at once; and before long a 404 means a query again.
    atoti.clear_faults();
    let id = atoti.history().start_query(NewQuery::default());
    assert_eq!(client.get(&id).await.code(), 0);
    let get = &calls()[0];
    within("the discovery document to be read again", async {
        while call(&client, get).await != (5, "QUERY_NOT_FOUND".to_owned()) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    // And when it goes, that is seen as soon.
    atoti.inject(Fault::missing_api());
    within("the discovery document to be read again", async {
        while call(&client, get).await != (12, "BACKEND_API_MISSING".to_owned()) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}
