//! To call a bridge: the generated client with its messages, and how to read its errors.
//!
//! With this alone, nothing of the server is compiled:
//!
//! ```toml
//! atoti-grpc-bridge = { version = "0.1", default-features = false, features = ["client"] }
//! ```
//!
//! Stopping a query, waiting until it has stopped, and knowing what an error means:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use atoti_grpc_bridge::client::{self, CancelQueryRequest, QueryHistoryServiceClient, tonic};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut bridge = QueryHistoryServiceClient::connect("http://127.0.0.1:50051").await?;
//! let mut request = tonic::Request::new(CancelQueryRequest {
//!     query_id: "866361181072397002".to_owned(),
//!     wait: Some(client::Duration { seconds: 10, nanos: 0 }),
//!     reason: "blocks the close".to_owned(),
//!     allow_finished: true,
//! });
//! // What Atoti wants to see, as it is: `Basic ...`, `Bearer ...` or `Jwt ...`.
//! request.metadata_mut().insert("authorization", std::env::var("AUTHORIZATION")?.parse()?);
//! // Longer than `wait`, which ends inside of it.
//! request.set_timeout(Duration::from_secs(15));
//! match bridge.cancel_query(request).await {
//!     Ok(answer) => println!("{:?}", answer.into_inner().outcome()),
//!     Err(status) => match client::reason(&status) {
//!         Some(reason) if reason.name == "QUERY_NOT_FOUND" => println!("there is no such query"),
//!         Some(reason) if reason.retryable => println!("again after {:?}", reason.retry_after),
//!         Some(reason) if !reason.request_sent => println!("certainly not stopped: {}", reason.name),
//!         _ => println!("perhaps stopped: {status}"),
//!     },
//! }
//! # Ok(())
//! # }
//! ```
//!
//! For TLS, connect an [`Endpoint`](tonic::transport::Endpoint) with a
//! [`ClientTlsConfig`](tonic::transport::ClientTlsConfig), and give it to [`QueryHistoryServiceClient::new`]. Clones of a
//! client share its connection.

use std::{collections::HashMap, time};

pub use prost_types::{Duration, Timestamp};
pub use tonic;
use tonic_types::{ErrorInfo, RetryInfo, RpcStatusExt as _, StatusExt as _};

#[doc(no_inline)]
pub use crate::proto::queryhistory::{query_history_service_client::QueryHistoryServiceClient, *};

/// `ErrorInfo.domain` of every error that a bridge made.
pub const DOMAIN: &str = "atoti-grpc-bridge";

/// Why a call failed, as the bridge that refused it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// Its stable name, such as `QUERY_NOT_RUNNING`; `docs/STATUS.md` lists them all.
    pub name: String,
    /// Could bytes of the request have left for Atoti? `false` is certain: Atoti does nothing about it.
    pub request_sent: bool,
    /// May the same call succeed when it is repeated later?
    pub retryable: bool,
    /// When to repeat it at the earliest, where the bridge or Atoti has said so.
    pub retry_after: Option<time::Duration>,
    /// What else is known: `httpStatus`, `queryId`, `queryStatus`, `attempts` and the like.
    pub metadata: HashMap<String, String>,
}

/// Why a call failed.
///
/// `None` when no bridge has said so: the error is of this client's making, of the network, or of a proxy on the way. No
/// more is known then than its code, and a cancel may have been carried out.
///
/// ```
/// use atoti_grpc_bridge::client::{self, tonic::Status};
///
/// assert_eq!(client::reason(&Status::unavailable("connection refused")), None);
/// ```
#[must_use]
pub fn reason(status: &tonic::Status) -> Option<Reason> {
    read(status.get_details_error_info(), status.get_details_retry_info())
}

/// Why one query among many could not be stopped: the reason in [`CancelQueriesResponse::error`].
#[must_use]
pub fn reason_of_match(error: &tonic_types::Status) -> Option<Reason> {
    read(error.get_details_error_info(), error.get_details_retry_info())
}

/// What is not said is taken for the worse: the request may have left, and a repeat does not help.
fn read(info: Option<ErrorInfo>, retry: Option<RetryInfo>) -> Option<Reason> {
    let info = info.filter(|info| info.domain == DOMAIN)?;
    let says = |key, value| info.metadata.get(key).is_some_and(|said| said == value);
    Some(Reason {
        request_sent: !says("requestSent", "false"),
        retryable: says("retryable", "true"),
        retry_after: retry.and_then(|retry| retry.retry_delay),
        name: info.reason,
        metadata: info.metadata,
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorInfo;

    use super::*;

    #[test]
    fn what_is_not_said_is_taken_for_the_worse() {
        let info = ErrorInfo::new("SOMETHING_NEW", DOMAIN, HashMap::new());
        let reason = read(Some(info), None).expect("it is of a bridge");
        assert!(reason.request_sent && !reason.retryable && reason.retry_after.is_none(), "{reason:?}");
    }

    #[test]
    fn only_a_bridge_is_believed() {
        let metadata = HashMap::from([("requestSent".to_owned(), "false".to_owned())]);
        assert_eq!(read(Some(ErrorInfo::new("RATE_LIMITED", "proxy.example", metadata)), None), None);
        assert_eq!(read(None, None), None);
    }

    #[cfg(feature = "bridge")]
    #[test]
    fn errors_of_the_bridge_are_understood() {
        use prost::Message as _;

        use crate::status::{Failure, Subject};

        let subject = Subject { request_id: "r", query_id: Some("42") };
        let status = Failure::Overloaded.to_status(subject);
        let told = reason(&status).expect("a reason");
        assert_eq!((told.name.as_str(), told.request_sent, told.retryable), ("OVERLOADED", false, true));
        assert!(told.retry_after.is_some_and(|after| !after.is_zero()), "{told:?}");
        assert_eq!(told.metadata["queryId"], "42");
        let packed = tonic_types::Status::decode(status.details()).expect("what a response carries");
        assert_eq!(reason_of_match(&packed), Some(told));
    }
}
