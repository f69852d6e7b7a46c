//! A client in Rust: lists what runs, stops the query that has run longest, and reads an error.
//!
//! ```sh
//! cargo run --no-default-features --features client --example rust -- 127.0.0.1:50051 [USERNAME]
//! ```
//!
//! The credentials for Atoti are taken from `AUTHORIZATION` (`Bearer ...`, for example), or from the file that
//! `AUTHORIZATION_FILE` names.

use std::{env, error::Error, fs, time::Duration};

use atoti_grpc_bridge::client::{
    self, CancelQueryRequest, ListQueriesRequest, QueryFilter, QueryHistoryServiceClient, QueryStatus,
    tonic::{Request, metadata::AsciiMetadataValue, transport::Endpoint},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let usernames: Vec<_> = arguments.next().into_iter().collect();

    // Every call carries the credentials; the bridge hands them to Atoti as they are.
    let authorization = authorization()?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut bridge = QueryHistoryServiceClient::with_interceptor(channel, move |mut request: Request<()>| {
        if let Some(value) = &authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    });

    // What runs, page by page, the newest start first.
    let filter = QueryFilter { usernames, statuses: vec![QueryStatus::Running.into()], ..Default::default() };
    let (mut oldest, mut page_token) = (None, String::new());
    loop {
        let wanted = ListQueriesRequest { filter: Some(filter.clone()), page_token, ..Default::default() };
        let page = bridge.list_queries(within(10, wanted)).await?.into_inner();
        for query in page.queries {
            println!("running: {} of {}", query.query_id, query.username);
            oldest = Some(query);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    // Stop it, and wait until it has stopped. `allow_finished`: that it ended meanwhile is as good.
    if let Some(query) = oldest {
        let request = CancelQueryRequest {
            query_id: query.query_id.clone(),
            wait: Some(client::Duration { seconds: 10, nanos: 0 }),
            reason: "has run longest".to_owned(),
            allow_finished: true,
        };
        let answer = bridge.cancel_query(within(15, request)).await?.into_inner();
        println!("cancel {}: {}", query.query_id, answer.outcome().as_str_name());
    }

    // An error says more than its code: why, whether Atoti may have been asked, whether a repeat may help.
    let unknown = CancelQueryRequest { query_id: "0".to_owned(), ..Default::default() };
    if let Err(status) = bridge.cancel_query(within(15, unknown)).await {
        println!("cancel 0: {:?}: {}", status.code(), status.message());
        if let Some(reason) = client::reason(&status) {
            println!(
                "  {}, requestSent {}, retryable {}",
                reason.name, reason.request_sent, reason.retryable
            );
        }
    }
    Ok(())
}

/// A request with a deadline, which the bridge keeps, too.
fn within<T>(seconds: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}

fn authorization() -> Result<Option<AsciiMetadataValue>, Box<dyn Error>> {
    let text = match (env::var("AUTHORIZATION"), env::var("AUTHORIZATION_FILE")) {
        (Ok(value), _) => value,
        (_, Ok(path)) => fs::read_to_string(path)?,
        _ => return Ok(None),
    };
    Ok(Some(text.trim().parse()?))
}
