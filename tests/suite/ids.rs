//! Query ids: what is taken reaches Atoti byte for byte, and nothing else reaches it at all.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::support::{
    bridge::Bridge,
    client::cancel,
    upstream::{Upstream, answer},
};

/// As `.proto` and documentation have it, written down a second time.
fn is_valid(id: &str) -> bool {
    let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-";
    !id.is_empty() && id.len() <= 128 && id.chars().all(|c| allowed.contains(c)) && id != "." && id != ".."
}

#[tokio::test]
async fn ids_that_could_leave_their_path_segment_never_reach_atoti() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let long = "1".repeat(10 * 1024);
    for id in [
        "..",
        ".",
        "",
        "..\t",
        "../x",
        "a/b",
        "%2e%2e",
        "%2F",
        "a;b",
        "a\\b",
        "a\0",
        "\0",
        &long,
        "a?b",
        "a#b",
        " ",
        "1 ",
        "ä",
        "١",
        "a\r\nX: y",
        "//",
        "1%00",
    ] {
        let reply = client.cancel(&cancel(id)).await;
        assert_eq!(reply.code(), 3, "{id:?}");
        let error = reply.error();
        assert_eq!(error.reason(), "INVALID_QUERY_ID", "{id:?}");
        assert_eq!(error.metadata("requestSent"), Some("false"));
        assert_eq!(error.metadata("queryId"), None, "a bad id is not echoed");
        let violations = error.bad_request.expect("a BadRequest").field_violations;
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field, "query_id");
    }
    assert_eq!(atoti.connections(), 0, "Atoti was not even connected to");
}

#[tokio::test]
async fn valid_ids_arrive_byte_for_byte() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&format!("{}/context", atoti.url())).await;
    let client = bridge.client().await;
    let long = "x".repeat(128);
    for id in ["1", "9223372036854775807", "...", "a..", ".hidden", "~", "-", "_", "A-Z_a~z.0", &long] {
        assert_eq!(client.cancel(&cancel(id)).await.code(), 0, "{id:?}");
        let seen = atoti.seen();
        let last = seen.last().expect("a request");
        assert_eq!(last.method, "PATCH");
        assert_eq!(last.target, format!("/context/activeviam/query-history/rest/v1/query/{id}"));
        assert_eq!(last.body, br#"{"status":"CANCELLED"}"#);
        assert_eq!(last.header("content-type"), ["application/json"]);
        assert_eq!(last.header("content-length"), ["22"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_id_whatever_makes_atoti_see_another_path() {
    let atoti = Upstream::start(|_, _| answer(204, "", "")).await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let check = async |id: &str| {
        let before = atoti.seen().len();
        let code = client.cancel(&cancel(id)).await.code();
        let seen = atoti.seen();
        if is_valid(id) {
            prop_assert_eq!((code, seen.len()), (0, before + 1));
            prop_assert_eq!(&seen[before].target, &format!("/activeviam/query-history/rest/v1/query/{id}"));
        } else {
            prop_assert_eq!((code, seen.len()), (3, before));
        }
        Ok(())
    };
    let ids = prop_oneof!["[A-Za-z0-9_.~-]{0,130}", "[./%;a2eE\\\\]{1,6}", any::<String>()];
    let runtime = tokio::runtime::Handle::current();
    TestRunner::new(Config::with_cases(500))
        .run(&ids, |id| tokio::task::block_in_place(|| runtime.block_on(check(&id))))
        .expect("every id is one path segment or none");
}
