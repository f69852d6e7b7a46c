//! `delete` and `delete-many`: what has ended is cleared away.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{
    ask,
    connect::Common,
    failure::{Failure, first_of},
    filter::{Statuses, Which},
    list,
    out::Out,
    progress::during,
    render,
};
use crate::{
    cli::Output,
    proto::queryhistory::{DeleteQueriesRequest, DeleteQueryRequest, QueryFilter, QueryStatus},
};

/// What `delete` takes.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Ids of the queries
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    /// Why, for the audit record of the bridge
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    #[command(flatten)]
    common: Common,
}

/// What `delete-many` takes.
#[derive(Debug, Args)]
pub(super) struct DeleteMany {
    /// Why, for the audit record of the bridge
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    statuses: Statuses,

    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(flags: Delete, out: &mut Out) -> Result<(), Failure> {
    let session = flags.common.connect().await?;
    let mut failures = Vec::new();
    for id in flags.ids {
        let message = DeleteQueryRequest { query_id: id.clone(), reason: flags.reason.clone() };
        let request = session.request(message);
        match during("deleting", session.client().delete_query(request)).await {
            Ok(_) => match flags.common.output() {
                Output::Json => out.line(&json!({"queryId": id}).to_string()),
                Output::Table => out.line(&format!("{}  deleted", render::plain(&id))),
            },
            Err(status) => failures.push((id, status.into())),
        }
    }
    first_of(failures)
}

pub(super) async fn many(flags: DeleteMany, out: &mut Out) -> Result<(), Failure> {
    let filter = flags.which.filter(Timestamp::now(), &flags.statuses.list());
    if filter == QueryFilter::default() {
        let mend = "say which queries to delete; --ended-before 0s is everything that has ended";
        return Err(Failure::Usage(mend.to_owned()));
    }
    if !flags.yes {
        ask::can_answer("--yes deletes without a question, query list shows what fits")?;
    }
    let session = flags.common.connect().await?;
    if !flags.yes {
        let count = match ended(&filter) {
            Some(filter) => during("counting", list::count(&session, filter)).await?,
            None => 0,
        };
        match count {
            0 => {
                note!("No query that has ended matches.");
                return Ok(());
            }
            1 => ask::confirm("Delete this 1 query from the history?").await?,
            count => ask::confirm(&format!("Delete these {count} queries from the history?")).await?,
        }
    }
    let request = session.request(DeleteQueriesRequest { filter: Some(filter), reason: flags.reason });
    let response = during("deleting", session.client().delete_queries(request)).await?.into_inner();
    match flags.common.output() {
        Output::Json => out.line(&super::json::line("DeleteQueriesResponse", &response)),
        Output::Table => out.line("deleted"),
    }
    Ok(())
}

/// The same filter without what runs, which is never deleted; nothing where it is about that alone.
fn ended(filter: &QueryFilter) -> Option<QueryFilter> {
    let all = [QueryStatus::Successful, QueryStatus::Failed, QueryStatus::Cancelled].map(i32::from);
    let wanted = |status: &i32| filter.statuses.is_empty() || filter.statuses.contains(status);
    let statuses: Vec<_> = all.into_iter().filter(wanted).collect();
    (!statuses.is_empty()).then(|| QueryFilter { statuses, ..filter.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_not_counted() {
        let statuses = |statuses: &[i32]| {
            let filter = QueryFilter { statuses: statuses.to_vec(), ..QueryFilter::default() };
            ended(&filter).map(|filter| filter.statuses)
        };
        assert_eq!(statuses(&[]), Some(vec![2, 3, 4]));
        assert_eq!(statuses(&[1, 4]), Some(vec![4]));
        assert_eq!(statuses(&[1]), None);
    }
}
