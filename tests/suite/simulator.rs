//! The simulated Atoti Server, as a plain HTTP client meets it. The bridge has no part in this: what its tests stand on
//! must be right by itself.

mod control;
mod faults;
mod life;
mod listing;
mod login;
mod manners;
mod nodes;

use atoti_grpc_bridge::simulator::{NewQuery, Options, Security, Simulator};

use crate::support::http::{Answer, Connection};

const HISTORY: &str = "/activeviam/query-history/rest/v1";
const JSON: (&str, &str) = ("content-type", "application/json");
const CANCELLED: &str = r#"{"status":"CANCELLED"}"#;

const ADMIN: (&str, &str) = ("authorization", "Basic YWRtaW46YWRtaW4=");
const USER: (&str, &str) = ("authorization", "Basic dXNlcjp1c2Vy");
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");

/// A node where nobody needs to log in.
async fn open() -> Simulator {
    start(Options { security: Security::Off, ..Options::default() }).await
}

async fn start(options: Options) -> Simulator {
    Simulator::start(options).await.expect("it starts")
}

fn start_query(atoti: &Simulator) -> String {
    atoti.history().start_query(NewQuery::default())
}

/// One request on a connection of its own.
async fn send(atoti: &Simulator, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    Connection::open(atoti.address()).await.send(method, target, headers, body).await
}

async fn get(atoti: &Simulator, target: &str) -> Answer {
    send(atoti, "GET", target, &[], "").await
}

/// A cancel as the REST page describes it.
async fn cancel(atoti: &Simulator, id: &str) -> Answer {
    send(atoti, "PATCH", &format!("{HISTORY}/query/{id}"), &[JSON], CANCELLED).await
}

/// The exceptions that an error names, of either wrapping.
fn exceptions(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let error = body.get("error").filter(|error| error.is_object()).unwrap_or(&body);
    let chain = error["errorChain"].as_array().unwrap_or_else(|| panic!("no chain: {answer:?}"));
    assert!(error["stackTrace"].is_string(), "{answer:?}");
    chain.iter().map(|link| link["type"].as_str().expect("a type").to_owned()).collect()
}
