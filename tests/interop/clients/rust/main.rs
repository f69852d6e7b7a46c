//! The matrix client of tonic. `../README.md` says what it reads and prints.

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs,
    io::stdin,
    sync::Arc,
    time::{Duration, Instant},
};

use atoti_grpc_bridge::client::{
    self, CancelAllQueriesRequest, CancelOutcome, CancelQueriesRequest, CancelQueryRequest,
    DeleteQueriesRequest, DeleteQueryRequest, GetQueryPlanRequest, GetQueryRequest, GetServerInfoRequest,
    ListQueriesRequest, Query, QueryFilter, QueryHistoryServiceClient, WatchQueryRequest,
    tonic::{
        Code, Request, Status,
        metadata::MetadataMap,
        transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt as _;

type Words = HashMap<String, String>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let target = arguments.next().ok_or("which target?")?;
    let channel = connect(&target, &words(arguments))?;
    let (mut under_way, tasks) = (HashMap::new(), TaskTracker::new());
    for line in stdin().lines() {
        let asked = words(line?.split('\t').map(str::to_owned));
        if asked["do"] == "Stop" {
            let stop: &CancellationToken = &under_way[&asked["call"]];
            stop.cancel();
            continue;
        }
        let stop = CancellationToken::new();
        under_way.insert(asked["id"].clone(), stop.clone());
        let call = Call { channel: channel.clone(), asked: Arc::new(asked) };
        tasks.spawn(async move { call.run(stop).await });
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

fn words(texts: impl Iterator<Item = String>) -> Words {
    texts
        .filter_map(|text| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

fn connect(target: &str, arguments: &Words) -> Result<Channel, Box<dyn Error>> {
    let (is_unix, ca) = (target.starts_with("unix:"), arguments.get("ca"));
    let endpoint = match ca {
        _ if is_unix => Endpoint::from_shared(target.to_owned())?,
        None => Endpoint::from_shared(format!("http://{target}"))?,
        Some(ca) => {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(ca)?));
            if let (Some(cert), Some(key)) = (arguments.get("cert"), arguments.get("key")) {
                tls = tls.identity(Identity::from_pem(fs::read(cert)?, fs::read(key)?));
            }
            Endpoint::from_shared(format!("https://{target}"))?.tls_config(tls)?
        }
    };
    Ok(match arguments.get("authority") {
        Some(authority) => endpoint.origin(format!("http://{authority}").parse()?).connect_lazy(),
        None => endpoint.connect_lazy(),
    })
}

fn tell(id: &str, told: &[(&str, String)]) {
    let mut line = format!("id={id}");
    for (name, value) in told {
        line.push_str(&format!("\t{name}={}", value.replace(['\t', '\n', '\r'], " ")));
    }
    println!("{line}");
}

/// As the other languages spell it.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// What the details of an error say, each under its name in the README.
fn details(status: &Status) -> Vec<(&'static str, String)> {
    let (details, mut told) = (status.get_error_details(), Vec::new());
    if let Some(info) = details.error_info() {
        told.push(("reason", info.reason.clone()));
        told.push(("domain", info.domain.clone()));
        for name in ["requestSent", "retryable"] {
            told.push((name, info.metadata.get(name).cloned().unwrap_or_default()));
        }
    }
    if let Some(info) = details.request_info() {
        told.push(("request", info.request_id.clone()));
    }
    if let Some(info) = details.resource_info() {
        told.push(("resource", info.resource_name.clone()));
    }
    if let Some(violation) = details.bad_request().and_then(|bad| bad.field_violations.first()) {
        told.push(("field", violation.field.clone()));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        told.push(("retry_ms", delay.as_millis().to_string()));
    }
    told
}

/// A text of the metadata; empty where there is none.
fn text(metadata: &MetadataMap, name: &str) -> String {
    metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[derive(Clone)]
struct Call {
    channel: Channel,
    asked: Arc<Words>,
}

impl Call {
    /// One call, from its line to its end.
    async fn run(self, stop: CancellationToken) {
        let (began, id) = (Instant::now(), &self.asked["id"]);
        let mut told = match stop.run_until_cancelled(self.make()).await {
            // In Rust a call is cancelled by dropping it: nobody is left to be told a code.
            None => vec![("code", name(Code::Cancelled))],
            Some(Ok(answered)) => vec![("code", name(Code::Ok)), ("answered", answered)],
            Some(Err(status)) => {
                let mut told = vec![("code", name(status.code())), ("text", status.message().to_owned())];
                told.extend(details(&status));
                let pushback = text(status.metadata(), "grpc-retry-pushback-ms");
                if !pushback.is_empty() {
                    told.push(("pushback", pushback));
                }
                told
            }
        };
        told.push(("ms", began.elapsed().as_millis().to_string()));
        tell(id, &told);
    }

    fn message(&self, message: String) {
        tell(&self.asked["id"], &[("message", message)]);
    }

    fn word(&self, name: &str) -> String {
        self.asked.get(name).cloned().unwrap_or_default()
    }

    /// A request with all that the line says of the call.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let mut put = |name: &'static str, value: String| {
            if !value.is_empty() {
                request.metadata_mut().insert(name, value.parse().expect("the test sends ASCII"));
            }
        };
        put("authorization", self.word("authorization"));
        put("x-request-id", self.word("request_id"));
        put("x-pad", "x".repeat(self.word("pad").parse().unwrap_or(0)));
        if let Ok(milliseconds) = self.word("timeout_ms").parse() {
            request.set_timeout(Duration::from_millis(milliseconds));
        }
        request
    }

    /// Makes the call, and returns the request id of the answer.
    async fn make(&self) -> Result<String, Status> {
        let mut bridge = QueryHistoryServiceClient::new(self.channel.clone());
        let query_id = self.word("query_id");
        let wait = self.word("wait").parse().ok().map(|seconds| client::Duration { seconds, nanos: 0 });
        let usernames: Vec<_> = self.asked.get("user").cloned().into_iter().collect();
        let filter = Some(QueryFilter { usernames, ..Default::default() });
        let metadata = match self.asked["do"].as_str() {
            "CancelQuery" => {
                let request = CancelQueryRequest { query_id, wait, ..Default::default() };
                let answer = bridge.cancel_query(self.request(request)).await?;
                let query = answer.get_ref().query.clone().unwrap_or_default();
                self.message(format!(
                    "{} {}",
                    answer.get_ref().outcome().as_str_name(),
                    id_and_status(&query)
                ));
                answer.metadata().clone()
            }
            "CancelQueries" => {
                let request = CancelQueriesRequest { filter, wait, ..Default::default() };
                let mut answers = bridge.cancel_queries(self.request(request)).await?;
                while let Some(answer) = answers.get_mut().message().await? {
                    let outcome: CancelOutcome = answer.outcome();
                    let reason = answer.error.as_ref().and_then(client::reason_of_match);
                    let reason = reason.map(|reason| reason.name).unwrap_or_default();
                    let query = answer.query.unwrap_or_default();
                    self.message(format!("{} {} {reason}", query.query_id, outcome.as_str_name()));
                }
                answers.metadata().clone()
            }
            "CancelAllQueries" => {
                let request = CancelAllQueriesRequest { wait, ..Default::default() };
                let answer = bridge.cancel_all_queries(self.request(request)).await?;
                let told = answer.get_ref();
                self.message(format!(
                    "{} {}",
                    told.outcome().as_str_name(),
                    told.still_running.unwrap_or_default()
                ));
                answer.metadata().clone()
            }
            "GetQuery" => {
                let answer = bridge.get_query(self.request(GetQueryRequest { query_id })).await?;
                let query = answer.get_ref().query.clone().unwrap_or_default();
                let kind = query.r#type().as_str_name();
                self.message(format!("{} {kind} {}", id_and_status(&query), query.username));
                answer.metadata().clone()
            }
            "ListQueries" => {
                let mut request = ListQueriesRequest { filter, page_size: 2, ..Default::default() };
                loop {
                    let answer = bridge.list_queries(self.request(request.clone())).await?;
                    let mut line = answer.get_ref().total_size.to_string();
                    for query in &answer.get_ref().queries {
                        line.push_str(&format!(" {}", query.query_id));
                    }
                    self.message(line);
                    request.page_token.clone_from(&answer.get_ref().next_page_token);
                    if request.page_token.is_empty() {
                        break answer.metadata().clone();
                    }
                }
            }
            "WatchQuery" => {
                let mut answers = bridge.watch_query(self.request(WatchQueryRequest { query_id })).await?;
                while let Some(answer) = answers.get_mut().message().await? {
                    self.message(id_and_status(&answer.query.unwrap_or_default()));
                }
                answers.metadata().clone()
            }
            "GetQueryPlan" => {
                let request = GetQueryPlanRequest { query_id, ..Default::default() };
                let answer = bridge.get_query_plan(self.request(request)).await?;
                self.message(answer.get_ref().plan_json.clone());
                answer.metadata().clone()
            }
            "DeleteQuery" => {
                let request = DeleteQueryRequest { query_id, ..Default::default() };
                let answer = bridge.delete_query(self.request(request)).await?;
                self.message("deleted".to_owned());
                answer.metadata().clone()
            }
            "DeleteQueries" => {
                let request = DeleteQueriesRequest { filter, ..Default::default() };
                let answer = bridge.delete_queries(self.request(request)).await?;
                self.message("deleted".to_owned());
                answer.metadata().clone()
            }
            "GetServerInfo" => {
                let answer = bridge.get_server_info(self.request(GetServerInfoRequest {})).await?;
                let info = answer.get_ref();
                let (is_installed, credentials) = (info.api_installed(), info.credentials().as_str_name());
                self.message(format!("{is_installed} {credentials} {}", info.server_version));
                answer.metadata().clone()
            }
            "Health" => {
                let request = self.request(HealthCheckRequest { service: self.word("service") });
                let answer = HealthClient::new(self.channel.clone()).check(request).await?;
                self.message(answer.get_ref().status().as_str_name().to_owned());
                answer.metadata().clone()
            }
            "Reflection" => return self.reflect().await.map(|()| String::new()),
            other => panic!("no such call: {other}"),
        };
        Ok(text(&metadata, "x-request-id"))
    }

    /// Two definitions that differ in nothing but their package.
    async fn reflect(&self) -> Result<(), Status> {
        macro_rules! list {
            ($version:ident) => {{
                use $version::{
                    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
                };
                let ask = MessageRequest::ListServices(String::new());
                let ask = ServerReflectionRequest { message_request: Some(ask), ..Default::default() };
                let mut client = ServerReflectionClient::new(self.channel.clone());
                let mut answers =
                    client.server_reflection_info(futures_util::stream::iter([ask])).await?.into_inner();
                while let Some(answer) = answers.message().await? {
                    if let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response {
                        list.service.into_iter().for_each(|service| self.message(service.name));
                    }
                }
            }};
        }
        if self.asked["version"] == "v1" {
            list!(v1);
        } else {
            list!(v1alpha);
        }
        Ok(())
    }
}

fn id_and_status(query: &Query) -> String {
    format!("{} {}", query.query_id, query.status().as_str_name())
}
