//! What is remembered of a failure, for the one line that the log has of the call: in bounded words, nothing that Atoti
//! or the network wrote.

use crate::{
    atoti::Shape,
    status::{Failure, Reason},
};

/// A failure in brief.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The row of the status table.
    pub reason: Reason,
    /// The class of the cause, for the operator.
    pub cause: Option<&'static str>,
    /// Atoti's last status.
    pub http_status: Option<u16>,
    /// The node that was asked, or that runs the query.
    pub node: Option<Box<str>>,
    /// What the body of the answer looked like.
    pub body_shape: Option<Shape>,
    /// Requests made to Atoti.
    pub attempts: Option<u32>,
    /// Whether bytes of the request may have left.
    pub request_sent: bool,
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        let error = failure.atoti_error();
        Self {
            reason: failure.reason(),
            cause: error.map(|error| error.cause.class),
            http_status: error.and_then(|error| error.http_status),
            node: error.and_then(|error| error.node.clone()),
            body_shape: error.map(|error| error.shape),
            attempts: error.map(|error| error.attempts),
            request_sent: failure.request_sent(),
        }
    }
}
