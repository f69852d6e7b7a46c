//! Whatever Atoti answers with: nothing makes the bridge panic, and no read succeeds on what is no answer to it.

use std::sync::{Arc, Mutex};

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use crate::support::{
    bridge::Bridge,
    client::{Client, Reply, cancel},
    messages::ListQueriesRequest,
    upstream::{Answer, Upstream, answer},
};

/// Documents that look like answers, and are none: nothing in them has an id.
fn lookalikes() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[a-z]{0,6}".prop_map(|text| format!("{text:?}")),
    ];
    let key = prop::sample::select(vec![
        "data",
        "pagination",
        "status",
        "query",
        "startDate",
        "queryMetadata",
        "errorChain",
        "stackTrace",
        "apis",
    ]);
    let json = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key.clone(), inner), 0..4).prop_map(|fields| {
                let fields: Vec<_> = fields.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    });
    json.prop_map(String::into_bytes)
}

/// A good document, cut off somewhere before its end.
fn cut_off() -> impl Strategy<Value = Vec<u8>> {
    let whole = r#"{"data":[{"id":"42","status":"RUNNING","query":"SELECT \u00e9","queryMetadata":{"a":"b"}}],"pagination":{"totalItems":1}}"#;
    (0..whole.len() - 1).prop_map(|end| whole.as_bytes()[..end].to_vec())
}

fn response(status: u16, label: &str, body: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 {status} X\r\n{label}Content-Length: {}\r\n\r\n", body.len());
    Answer::Bytes([head.as_bytes(), body].concat())
}

async fn reads(client: &Client) -> [Reply; 2] {
    [client.get("42").await, client.method("ListQueries", &ListQueriesRequest::default(), &[]).await]
}

#[tokio::test]
async fn no_body_makes_it_panic_and_none_that_is_no_answer_is_ok() {
    let next = Arc::new(Mutex::new(answer(500, "", "")));
    let atoti = Upstream::start({
        let next = Arc::clone(&next);
        move |_, _| next.lock().expect("not poisoned").clone()
    })
    .await;
    let bridge = Bridge::start(&atoti.url()).await;
    let client = bridge.client().await;
    let mut runner = TestRunner::default();
    let bodies = prop_oneof![any::<Vec<u8>>(), lookalikes(), cut_off()];
    let statuses = prop::sample::select(vec![200u16, 200, 201, 204, 400, 404, 500]);
    let labels =
        prop::sample::select(vec!["", "Content-Type: application/json\r\n", "Content-Type: text/plain\r\n"]);
    let cases = (statuses, labels, bodies);
    for _ in 0..300 {
        let (status, label, body) = cases.new_tree(&mut runner).expect("a case").current();
        // HTTP has no body behind a 204.
        let body = if status == 204 { Vec::new() } else { body };
        *next.lock().expect("not poisoned") = response(status, label, &body);
        for (index, reply) in reads(&client).await.into_iter().enumerate() {
            // A list of nothing is a list.
            let is_empty_list = index == 1
                && serde_json::from_slice::<serde_json::Value>(&body)
                    .is_ok_and(|value| value["data"].as_array().is_some_and(Vec::is_empty));
            let shown = body.escape_ascii();
            assert!(reply.code() != 0 || is_empty_list, "{status} {label:?} {shown}");
            assert_ne!(reply.error().reason(), "BRIDGE_BUG", "{status} {label:?} {shown}");
        }
        let told = client.cancel(&cancel("42")).await;
        assert_ne!(told.error().reason(), "BRIDGE_BUG");
        assert!(
            (told.code() == 0) == (status < 300 && !body.trim_ascii_start().starts_with(b"<")),
            "{status}"
        );
    }
}
