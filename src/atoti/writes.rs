//! What changes something at Atoti: cancelling and deleting.

use tokio::time::Instant;

use super::{
    Atoti, Call, Error, Filter, Node, QueryId,
    answer::Expected,
    base::{Asked, Base},
    exchange::{Bounds, Exchange, Text},
};

static CANCEL: Text = Text { body: r#"{"status":"CANCELLED"}"#, length: "22" };
/// The body of an answer to a write is information only; more of it than this is not read.
const BODY_CAP: usize = 64 * 1024;

/// A write that Atoti accepted.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Requests made.
    pub attempts: u32,
}

impl Atoti {
    /// Asks Atoti, or one node of it, to cancel a query: `PATCH /query/{id}`.
    ///
    /// Once sent it is waited for until `call.carry_until`, past the caller's own deadline.
    ///
    /// # Errors
    ///
    /// Whatever kept Atoti from accepting; a 404 too, which leaves open whether the query ended or never was.
    pub async fn cancel_query(
        &self,
        call: &Call,
        id: &QueryId,
        at: Option<&Node>,
    ) -> Result<Accepted, Error> {
        self.cancel(call, &self.base_of(at).cancel_query(id), at).await
    }

    /// Asks Atoti, or one node of it, to cancel everything that runs there: `PATCH /queries?status=RUNNING`.
    ///
    /// Once sent it is waited for until `call.carry_until`.
    ///
    /// # Errors
    ///
    /// Whatever kept Atoti from accepting; a 500 may mean that some queries were cancelled and others could not be.
    pub async fn cancel_all(&self, call: &Call, at: Option<&Node>) -> Result<Accepted, Error> {
        self.cancel(call, &self.base_of(at).cancel_queries("status=RUNNING"), at).await
    }

    /// Deletes a query that has ended: `DELETE /query/{id}`.
    ///
    /// # Errors
    ///
    /// Whatever kept Atoti from it; a 400 when the query still runs.
    pub async fn delete_query(&self, call: &Call, id: &QueryId) -> Result<Accepted, Error> {
        self.delete(call, &self.base.delete_query(id)).await
    }

    /// Deletes what has ended and is wanted: `DELETE /queries`. A filter that wants everything deletes everything.
    ///
    /// # Errors
    ///
    /// Whatever kept Atoti from it.
    pub async fn delete_queries(&self, call: &Call, filter: &Filter) -> Result<Accepted, Error> {
        self.delete(call, &self.base.delete_queries(&filter.parameters())).await
    }

    fn base_of<'a>(&'a self, at: Option<&'a Node>) -> &'a Base {
        at.map_or(&self.base, |node| &node.base)
    }

    async fn cancel(&self, call: &Call, asked: &Asked, at: Option<&Node>) -> Result<Accepted, Error> {
        let exchange = Exchange {
            asked,
            call: Some(call),
            headers: &call.headers,
            content: Some(&CANCEL),
            expected: Expected::Nothing,
            bounds: Bounds { begin_by: call.begin_by, end_by: call.carry_until, per_attempt: self.timeout },
            body_cap: BODY_CAP,
            gate: Some(&call.gate),
            once: false,
            lane: Some(call.lane),
        };
        self.write(&exchange)
            .await
            .map_err(|error| Error { node: at.map(|node| node.name.as_str().into()), ..error })
    }

    async fn delete(&self, call: &Call, asked: &Asked) -> Result<Accepted, Error> {
        // It has no body to hold back. Past the deadline nothing is sent, and the gate says so.
        if Instant::now() < call.read_by {
            call.gate.open();
        }
        let bounded = self.bounded(asked, call.read_by, BODY_CAP, &call.headers, Some(call));
        let exchange = Exchange { expected: Expected::Nothing, ..bounded };
        self.write(&exchange).await
    }

    async fn write(&self, exchange: &Exchange<'_>) -> Result<Accepted, Error> {
        let (attempts, _) = self.run(exchange).await?;
        Ok(Accepted { attempts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_as_long_as_is_said() {
        assert_eq!(CANCEL.body.len().to_string(), CANCEL.length);
    }
}
