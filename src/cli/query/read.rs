//! `get`, `plan` and `info`: one question, one answer.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    connect::{Common, Session},
    failure::{Failure, first_of},
    json,
    out::Out,
    progress::during,
    render,
};
use crate::{
    cli::Output,
    proto::queryhistory::{
        CredentialsStatus, GetQueryPlanRequest, GetQueryRequest, GetServerInfoRequest, GetServerInfoResponse,
        Query,
    },
};

/// What `get` takes.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Ids of the queries
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    #[command(flatten)]
    common: Common,
}

/// What `plan` takes.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Id of the query
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    common: Common,
}

/// What `info` takes.
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn get(flags: Get, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    let mut failures = Vec::new();
    for (index, id) in flags.ids.into_iter().enumerate() {
        match one(&session, &id).await {
            Ok(query) => match flags.common.output() {
                Output::Json => out.line(&json::line("Query", &query)),
                Output::Table => {
                    if index > 0 {
                        out.line("");
                    }
                    out.text(&render::card(&query, Timestamp::now()));
                }
            },
            Err(failure) => failures.push((id, failure)),
        }
    }
    first_of(failures)
}

async fn one(session: &Session, id: &str) -> Result<Query, Failure> {
    let request = session.request(GetQueryRequest { query_id: id.to_owned() });
    let response = during("reading", session.client().get_query(request)).await?;
    Ok(response.into_inner().query.unwrap_or_default())
}

pub(super) async fn plan(flags: Plan, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    // The deadline bounds what Atoti does for it; the bridge sees to that.
    let request = session.request(GetQueryPlanRequest { query_id: flags.id, timeout: None });
    let mut client = session.client();
    let response =
        during("Atoti executes the query again", client.get_query_plan(request)).await?.into_inner();
    match flags.common.output() {
        Output::Json => out.line(&json::line("GetQueryPlanResponse", &response)),
        Output::Table => {
            let plan: Result<Value, _> = serde_json::from_str(&response.plan_json);
            let plan = plan.map(|plan| format!("{plan:#}"));
            out.text(&render::plain_lines(&plan.unwrap_or(response.plan_json)));
        }
    }
    Ok(())
}

pub(super) async fn info(flags: Info, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    let request = session.request(GetServerInfoRequest {});
    let response = during("asking Atoti", session.client().get_server_info(request)).await?.into_inner();
    match flags.common.output() {
        Output::Json => out.line(&json::line("GetServerInfoResponse", &response)),
        Output::Table => {
            let address = session.address();
            out.text(&format!("bridge       {address}, version {}", render::plain(&response.bridge_version)));
            out.text(&server(&response));
        }
    }
    Ok(())
}

fn server(info: &GetServerInfoResponse) -> String {
    let or_unknown = |text: &str| if text.is_empty() { "not told".to_owned() } else { render::plain(text) };
    let api = match info.api_installed {
        Some(true) => format!("installed, version {}", or_unknown(&info.api_versions.join(", "))),
        Some(false) => "not installed: Atoti needs the query history starter (6.1.19 or later)".to_owned(),
        None => "not told: what answers has no discovery document of Atoti's".to_owned(),
    };
    let credentials = match info.credentials() {
        CredentialsStatus::Unspecified => "not told",
        CredentialsStatus::Accepted => "accepted",
        CredentialsStatus::Rejected => {
            "rejected: there are none, or they are wrong; give some with --authorization-file"
        }
        CredentialsStatus::Denied => "good, but they may not read the history",
    };
    let mut told = format!(
        "Atoti        {}\nhistory API  {api}\ncredentials  {credentials}",
        or_unknown(&info.server_version)
    );
    if !info.node_names.is_empty() {
        told += &format!("\nnodes        {}", render::plain(&info.node_names.join(", ")));
    }
    told
}
