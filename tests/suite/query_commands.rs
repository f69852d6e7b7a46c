//! `query` and `completions`: the client for people on call, as a process, against the bridge and a simulated Atoti.

use std::{path::PathBuf, sync::Arc, time::Duration};

use atoti_grpc_bridge::simulator::{Fault, NewQuery, Options, Outcome, Security, Status};

use crate::support::{
    bridge::Bridge,
    certs::Authority,
    query::{Going, Scene, run},
};

#[tokio::test]
async fn a_list_is_a_table_for_people_and_json_for_programs() {
    let scene = Scene::open().await;
    let (long, short) = (scene.start("ada", 10), scene.start("bob", 1));
    assert!(scene.atoti.history().end(&short, Outcome::Failed));

    // No terminal: JSON.
    let said = scene.query(&["list"]).await;
    said.assert(0, &[]);
    let queries = said.objects();
    let ids: Vec<_> = queries.iter().map(|query| query["queryId"].as_str()).collect();
    assert_eq!(ids, [Some(&*short), Some(&*long)], "the newest first");
    assert_eq!(queries[0]["status"], "QUERY_STATUS_FAILED");
    assert_eq!((&queries[1]["type"], &queries[1]["username"]), (&"QUERY_TYPE_MDX".into(), &"ada".into()));
    assert!(
        queries[0]["endTime"].as_str().is_some_and(|end| end.ends_with('Z'))
            && queries[1]["endTime"].is_null()
    );

    let said = scene.query(&["list", "--output=table"]).await;
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("TEXT"), "{said:?}");
    assert!(lines[1].contains(&short) && lines[1].contains("FAILED"), "{said:?}");
    assert!(lines[2].contains(&long) && lines[2].contains("10m"), "{said:?}");

    let said = scene.query(&["get", &long, "--output=table"]).await;
    assert!(said.out.contains("running for  10m") && said.out.contains("FROM [Sales]"), "{said:?}");
}

#[tokio::test]
async fn flags_choose_what_is_listed() {
    let scene = Scene::open().await;
    let (ada, bob) = (scene.start("ada", 10), scene.start("bob", 1));
    let tagged = scene.atoti.history().start_query(NewQuery {
        username: "eve".into(),
        metadata: Arc::new([("team".to_owned(), "sales".to_owned())].into()),
        ends: Some((Duration::from_secs(30), Outcome::Successful)),
        started_ago: Duration::from_secs(3600),
        ..NewQuery::default()
    });
    for (flags, expected) in [
        (&["--user=ada", "--user=bob"][..], &[&bob, &ada][..]),
        (&["--running"], &[&bob, &ada]),
        (&["--status=successful,failed"], &[&tagged]),
        (&["--older-than=5m"], &[&ada, &tagged]),
        (&["--running", "--older-than=5m"], &[&ada]),
        (&["--started-after=5m"], &[&bob]),
        (&["--ended-before=0s"], &[&tagged]),
        (&["--metadata=team=sales"], &[&tagged]),
        (&["--min-duration=20s", "--max-duration=40s"], &[&tagged]),
        (&["--type=unknown"], &[]),
        (&["--limit=1"], &[&bob]),
        (&["--limit=0"], &[]),
    ] {
        let said = scene.query(&[&["list"], flags].concat()).await;
        said.assert(0, &[]);
        let ids: Vec<_> = said.objects().iter().map(|query| query["queryId"].to_string()).collect();
        let expected: Vec<_> = expected.iter().map(|id| format!("\"{id}\"")).collect();
        assert_eq!(ids, expected, "{flags:?}");
    }
}

#[tokio::test]
async fn all_pages_are_followed_and_a_table_says_when_there_is_more() {
    let options = Options { security: Security::Off, finished_queries: 450, ..Options::default() };
    let scene = Scene::with(options).await;
    let mut ids: Vec<_> =
        scene.query(&["list"]).await.objects().iter().map(|query| query["queryId"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 450);

    let said = scene.query(&["list", "--output=table"]).await;
    said.assert(0, &["50 of 450 queries", "--all"]);
    assert_eq!(said.out.lines().count(), 51);
    assert_eq!(scene.query(&["list", "--output=table", "--all"]).await.out.lines().count(), 451);
    scene.query(&["list", "--user=nobody", "--output=table"]).await.assert(0, &["No query matches"]);
}

#[tokio::test]
async fn a_cancel_tells_what_became_of_each_and_exits_with_the_first_failure() {
    let scene = Scene::open().await;
    let (first, second) = (scene.start("ada", 1), scene.start("bob", 1));
    let said = scene.query(&["cancel", &first, "42", "../x", &second, "--wait=10s", "--reason=test"]).await;
    said.assert(5, &["error: 42: NOT_FOUND: ", "QUERY_NOT_FOUND", "request id: ", "INVALID_QUERY_ID"]);
    let told = said.objects();
    assert_eq!(told.len(), 2, "{said:?}");
    for (object, id) in told.iter().zip([&first, &second]) {
        assert_eq!(
            (&object["queryId"], &object["outcome"]),
            (&(**id).into(), &"CANCEL_OUTCOME_CANCELLED".into())
        );
        assert_eq!(scene.status(id), Some(Status::Cancelled));
    }

    scene.query(&["cancel", &first]).await.assert(5, &["QUERY_NOT_RUNNING", "CANCELLED", "--allow-finished"]);
    scene.query(&["cancel", &first, "--allow-finished"]).await.assert(0, &[]);
    scene.query(&["cancel", "../x"]).await.assert(3, &["at fault: query_id"]);
    let third = scene.start("ada", 1);
    let said = scene.query(&["cancel", &third, "--output=table"]).await;
    assert!(said.out.contains("REQUESTED") && said.out.contains("--wait"), "{said:?}");
}

#[tokio::test]
async fn a_bulk_cancel_shows_first_and_asks_nobody_who_is_not_there() {
    let scene = Scene::open().await;
    let (old, new) = (scene.start("ada", 10), scene.start("ada", 0));
    scene.query(&["cancel-many", "--older-than=5m"]).await.assert(64, &["terminal", "--yes", "--dry-run"]);
    scene.query(&["cancel-many", "--yes"]).await.assert(64, &["cancel-all", "--user"]);
    scene.query(&["cancel-all"]).await.assert(64, &["--yes"]);

    let said = scene.query(&["cancel-many", "--older-than=5m", "--dry-run"]).await;
    said.assert(0, &["1 running query matches: ada 1.", "running for 10m", "Nothing was stopped"]);
    assert_eq!(said.objects()[0]["query"]["queryId"], *old);
    assert!(said.objects()[0].get("outcome").is_none(), "{said:?}");
    assert_eq!(scene.status(&old), Some(Status::Running));

    let said =
        scene.query(&["cancel-many", "--min-running-time=5m", "--yes", "--wait=10s", "--output=table"]).await;
    said.assert(0, &[]);
    assert_eq!(said.out, "stopped 1, requested 0, ended by themselves 0, failed 0\n");
    assert_eq!((scene.status(&old), scene.status(&new)), (Some(Status::Cancelled), Some(Status::Running)));
    let said = scene.query(&["cancel-many", "--older-than=5m", "--yes"]).await;
    said.assert(0, &["No running query matches"]);
}

#[tokio::test]
async fn more_matches_than_the_fuse_allows_are_all_left_alone() {
    let scene = Scene::open().await;
    let ids: Vec<_> = (0..3).map(|_| scene.start("ada", 10)).collect();
    let flags = ["cancel-many", "--user=ada", "--max=2"];
    let said = scene.query(&[&flags[..], &["--yes"]].concat()).await;
    said.assert(9, &["TOO_MANY_MATCHES", "3", "--max"]);
    assert!(said.out.is_empty(), "{said:?}");
    scene
        .query(&[&flags[..], &["--dry-run"]].concat())
        .await
        .assert(0, &["3 queries match, more than --max 2"]);
    assert!(ids.iter().all(|id| scene.status(id) == Some(Status::Running)));
}

#[tokio::test]
async fn a_bulk_cancel_that_some_escape_says_which_and_why() {
    let scene = Scene::open().await;
    let ids: Vec<_> = (0..3).map(|_| scene.start("ada", 10)).collect();
    scene.atoti.inject(Fault::status(403).on("PATCH", &ids[1]));
    let said = scene.query(&["cancel-many", "--user=ada", "--yes", "--wait=10s"]).await;
    said.assert(20, &["stopped 2, requested 0, ended by themselves 0, failed 1", "PERMISSION_DENIED"]);
    assert!(said.err.contains(&format!("{} of ada could not be stopped", ids[1])), "{said:?}");
    let told = said.objects();
    let failed: Vec<_> = told.iter().filter(|object| object.get("error").is_some()).collect();
    assert_eq!((told.len(), failed.len()), (3, 1), "{said:?}");
    assert_eq!(failed[0]["query"]["queryId"], *ids[1]);
    assert_eq!(failed[0]["error"]["code"], "PERMISSION_DENIED");
    assert_eq!(failed[0]["error"]["reason"], "BACKEND_PERMISSION_DENIED");
    assert_eq!(scene.status(&ids[1]), Some(Status::Running));
}

#[tokio::test]
async fn a_bulk_cancel_goes_on_when_nobody_listens_any_more() {
    let scene = Scene::open().await;
    let ids: Vec<_> = (0..40).map(|_| scene.start("ada", 10)).collect();
    scene.atoti.inject(Fault::status(403).on("PATCH", &ids[1]));
    let address = scene.bridge.address().to_string();
    let flags = ["query", "cancel-many", "--user=ada", "--yes", "--wait=10s", "--address", &address];
    assert_eq!(Going::start(&flags).deaf().await, Some(20));
    let stopped = ids.iter().filter(|id| scene.status(id) == Some(Status::Cancelled)).count();
    assert_eq!(stopped, 39);
}

#[tokio::test]
async fn everything_can_be_stopped_at_once() {
    let scene = Scene::open().await;
    let ids = [scene.start("ada", 10), scene.start("bob", 0)];
    let said = scene.query(&["cancel-all", "--yes", "--wait=10s", "--reason=end of day"]).await;
    said.assert(0, &[]);
    let expected = serde_json::json!({"outcome": "CANCEL_OUTCOME_CANCELLED", "stillRunning": "0"});
    assert_eq!(said.objects(), [expected]);
    assert!(ids.iter().all(|id| scene.status(id) == Some(Status::Cancelled)));
}

#[tokio::test]
async fn what_has_ended_can_be_deleted() {
    let scene = Scene::open().await;
    let (ended, other, running) = (scene.start("ada", 1), scene.start("bob", 1), scene.start("bob", 1));
    assert!(scene.atoti.history().finish(&ended) && scene.atoti.history().finish(&other));
    let said = scene.query(&["delete", &ended, &running]).await;
    said.assert(9, &["QUERY_STILL_RUNNING", "stop it first"]);
    assert_eq!(said.objects(), [serde_json::json!({"queryId": ended})]);
    scene.query(&["get", &ended]).await.assert(5, &["QUERY_NOT_FOUND"]);

    scene.query(&["delete-many", "--yes"]).await.assert(64, &["which"]);
    scene.query(&["delete-many", "--user=bob"]).await.assert(64, &["--yes"]);
    scene.query(&["delete-many", "--user=bob", "--yes"]).await.assert(0, &[]);
    assert_eq!((scene.status(&other), scene.status(&running)), (None, Some(Status::Running)));
}

#[tokio::test]
async fn a_watch_goes_on_until_the_query_has_ended_whichever_bridge_is_there() {
    let mut scene = Scene::open().await;
    let id = scene.start("ada", 1);
    let address = scene.bridge.address().to_string();
    let (watch, first) = Going::start(&["query", "watch", &id, "--address", &address]).line().await;
    assert_eq!(first.expect("a state")["status"], "QUERY_STATUS_RUNNING");
    scene.bridge.signal("-TERM");
    scene.bridge.exit().await;
    scene.bridge = Bridge::start_with(&scene.atoti.base_url(), &["--listen", &address]).await;
    assert!(scene.atoti.history().finish(&id));
    let (watch, last) = watch.line().await;
    assert_eq!(last.expect("a state")["status"], "QUERY_STATUS_SUCCESSFUL");
    let (watch, nothing) = watch.line().await;
    assert_eq!(nothing, None);
    watch.end().await.assert(0, &["DRAINING", "watching again"]);
    scene.query(&["watch", "42"]).await.assert(5, &["QUERY_NOT_FOUND"]);
}

#[tokio::test]
async fn what_runs_is_followed_line_by_line_until_nobody_reads() {
    let scene = Scene::open().await;
    let (new, old) = (scene.start("ada", 1), scene.start("bob", 10));
    let address = scene.bridge.address().to_string();
    let flags = ["query", "list", "--follow", "--interval=50ms", "--address", &address];
    let (follow, look) = Going::start(&flags).line().await;
    let look = look.expect("a look");
    assert_eq!(look["totalSize"], "2");
    assert_eq!(look["queries"][0]["queryId"], *old, "the longest first: {look}");
    assert_eq!(look["queries"][1]["queryId"], *new);
    follow.end().await.assert(0, &[]);
}

#[tokio::test]
async fn nobody_who_stops_reading_is_told_of_a_broken_pipe() {
    let options = Options { security: Security::Off, finished_queries: 3000, ..Options::default() };
    let scene = Scene::with(options).await;
    let address = scene.bridge.address().to_string();
    let (list, line) = Going::start(&["query", "list", "--address", &address]).line().await;
    assert!(line.is_some());
    let said = list.end().await;
    said.assert(0, &[]);
    assert_eq!(said.err, "");
}

#[tokio::test]
async fn nothing_of_a_query_moves_the_terminal() {
    let scene = Scene::open().await;
    let id = scene.atoti.history().start_query(NewQuery {
        text: "\u{1b}]0;owned\u{7}SELECT\u{9b}31m\n\u{202e}x".into(),
        username: "eve\u{1b}[2J".into(),
        ..NewQuery::default()
    });
    for flags in
        [&["list"][..], &["get", &id], &["cancel-many", "--older-than=0s", "--type=mdx", "--dry-run"]]
    {
        let said = scene.query(&[flags, &["--output=table"]].concat()).await;
        said.assert(0, &[]);
        let told = format!("{}{}", said.out, said.err);
        assert!(told.chars().all(|c| c == '\n' || !c.is_control()) && !told.contains('\u{202e}'), "{said:?}");
        assert!(told.contains("eve\\u{1b}[2J"), "{said:?}");
    }
}

#[tokio::test]
async fn credentials_come_from_a_file_and_a_refusal_says_so() {
    let scene = Scene::with(Options::default()).await;
    let id = scene.start("ada", 1);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let flag = format!("--authorization-file={}", file.path().display());
    scene.query(&["get", &id]).await.assert(16, &["UNAUTHENTICATED", "--authorization-file", "request id"]);
    scene.query(&["get", &id, &flag]).await.assert(64, &["--authorization-file", "one line"]);
    std::fs::write(&file, "Basic dXNlcjp1c2Vy\n").expect("written");
    assert_eq!(scene.query(&["get", &id, &flag]).await.objects()[0]["queryId"], *id);
    let said = scene.query(&["delete", &id, &flag]).await;
    said.assert(7, &["PERMISSION_DENIED"]);
    assert!(!said.err.contains("dXNlcjp1c2Vy"), "{said:?}");

    let said = scene.query(&["info", "--output=table"]).await;
    assert!(said.out.contains("rejected") && said.out.contains("installed, version 1"), "{said:?}");
    let told = scene.query(&["info", &flag]).await.objects();
    assert_eq!(told[0]["credentials"], "CREDENTIALS_STATUS_ACCEPTED");
    assert_eq!(told[0]["bridgeVersion"], env!("CARGO_PKG_VERSION"));
    scene.query(&["plan", &id, &flag]).await.assert(9, &["QUERY_PLAN_DISABLED"]);
}

#[tokio::test]
async fn what_does_not_answer_is_told_with_what_to_do() {
    let unreachable = run(&["query", "list", "--address=127.0.0.1:1"]).await;
    unreachable.assert(14, &["UNAVAILABLE", "127.0.0.1:1", "--address", "--tls-ca-file"]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("--address={}", silent.local_addr().expect("an address"));
    let said = run(&["query", "info", &address, "--timeout=300ms"]).await;
    said.assert(4, &["DEADLINE_EXCEEDED", "--timeout"]);
    let scene = Scene::open().await;
    scene.atoti.inject(Fault::delay(Duration::from_secs(5)).on("GET", "/query/"));
    let said = scene.query(&["get", "42", "--timeout=300ms"]).await;
    said.assert(4, &["DEADLINE_EXCEEDED"]);

    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("unix:{}", folder.path().join("grpc.sock").display());
    let bridge = Bridge::start_with(&scene.atoti.base_url(), &["--listen", &socket]).await;
    run(&["query", "info", "--address", &socket]).await.assert(0, &[]);
    drop(bridge);
}

#[tokio::test]
async fn a_bridge_is_asked_over_tls() {
    let authority = Authority::new();
    let shown = authority.issue("spiffe://test/bridge");
    let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let cert = flag("tls-cert-file", authority.write("cert.pem", &shown.cert));
    let key = flag("tls-key-file", authority.write("key.pem", &shown.key));
    let ca = flag("tls-ca-file", authority.file());
    let scene = Scene::open().await;
    let bridge = Bridge::start_with(&scene.atoti.base_url(), &[&cert, &key]).await;
    let address = format!("--address={}", bridge.address());
    run(&["query", "info", &address, &ca]).await.assert(0, &[]);
    run(&["query", "info", &address]).await.assert(14, &["UNAVAILABLE", "--tls-ca-file"]);
    run(&["query", "info", &address, &ca, "--tls-server-name=other.example"])
        .await
        .assert(14, &["UNAVAILABLE", "other.example"]);
}

#[tokio::test]
async fn wrong_usage_is_64_before_anything_is_asked() {
    for arguments in [
        &["query"][..],
        &["query", "stop"],
        &["query", "get"],
        &["query", "list", "--address=here"],
        &["query", "list", "--status=gone"],
        &["query", "list", "--started-after=yesterday"],
        &["query", "list", "--running", "--status=failed"],
        &["query", "list", "--limit=1", "--all"],
        &["query", "list", "--interval=1s"],
        &["query", "list", "--metadata=team"],
        &["query", "list", "--tls-server-name=x"],
        &["query", "list", "--tls-ca-file=/no/such"],
        &["query", "list", "--authorization-file=/no/such"],
        &["query", "list", "--timeout=0s"],
        &["query", "cancel", "42", "--wait=soon"],
        &["query", "cancel-many", "--user=ada", "--max=0"],
        &["query", "cancel-many", "--user=ada", "--yes", "--dry-run"],
        &["completions", "cmd"],
    ] {
        let said = run(arguments).await;
        assert_eq!(said.code, Some(64), "{arguments:?}: {said:?}");
        assert!(!said.err.is_empty() && said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

#[tokio::test]
async fn help_and_completions_tell_what_there_is() {
    let help = run(&["query", "--help"]).await;
    for told in ["Exit codes:", "20      cancel-many", "14 UNAVAILABLE", "Examples:", "cancel-all"] {
        assert!(help.out.contains(told), "{told}: {help:?}");
    }
    let help = run(&["query", "cancel-many", "--help"]).await;
    for told in ["--older-than", "--max <COUNT>", "--dry-run", "Examples:", "ATOTI_BRIDGE_ADDRESS"] {
        assert!(help.out.contains(told), "{told}: {help:?}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = run(&["completions", shell]).await;
        said.assert(0, &[]);
        assert!(said.out.contains("cancel-many") && said.out.contains("older-than"), "{shell}");
    }
}
