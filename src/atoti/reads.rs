//! What only looks: one query, a list of them, a plan.

use std::{panic::resume_unwind, time::Duration};

use http::HeaderMap;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    Atoti, Call, Error, Filter, Listing, Part, Query, QueryId,
    body::Body,
    exchange::{Exchange, Success},
};

/// The longest answer to a read of one query: the text of a large query fits many times over.
const QUERY_BODY_CAP: usize = 1024 * 1024;

/// A body of this many bytes is read in about a millisecond; a longer one is read beside the calls.
const QUICKLY_READ: usize = 256 * 1024;

impl Atoti {
    /// Reads one query: `GET /query/{id}`.
    ///
    /// # Errors
    ///
    /// Whatever kept the query from being read; a 404 when the history does not hold it.
    pub async fn get_query(&self, call: &Call, id: &QueryId) -> Result<Query, Error> {
        // It has no body to hold back.
        call.gate.open();
        let asked = self.base.get_query(id);
        let exchange =
            self.bounded(&asked, call.read_by, QUERY_BODY_CAP.min(self.max_body), &call.headers, Some(call));
        self.get(&exchange).await
    }

    /// Reads a part of the history: `GET /queries`.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being read.
    pub async fn list_queries(&self, call: &Call, filter: &Filter, part: Part) -> Result<Listing, Error> {
        call.gate.open();
        let asked = self.base.get_queries(&filter.with(part));
        let exchange = self.bounded(&asked, call.read_by, self.max_body, &call.headers, Some(call));
        self.get(&exchange).await
    }

    /// Has Atoti execute a query again and explain how: `GET /query/{id}/query-plan`. Yields a JSON array as it came.
    ///
    /// # Errors
    ///
    /// Whatever kept Atoti from it; a 400 when the query is not MDX.
    pub async fn query_plan(&self, call: &Call, id: &QueryId, timeout: Duration) -> Result<String, Error> {
        call.gate.open();
        // Java reads fractions of a second, and counts in nanoseconds.
        let parameters = format!("timeout=PT{}.{:09}S", timeout.as_secs(), timeout.subsec_nanos());
        let asked = self.base.query_plan(id, &parameters);
        let mut exchange = self.bounded(&asked, call.read_by, self.max_body, &call.headers, Some(call));
        // The caller has said how long a query may take to execute, and that is no attempt like any other.
        exchange.once = true;
        exchange.bounds.per_attempt = call.read_by.saturating_duration_since(Instant::now());
        let (attempts, Success { http_status, body }) = self.run(&exchange).await?;
        let malformed =
            |why: &dyn std::fmt::Display| self.ended(Error::malformed(attempts, http_status, why));
        let plan = |body: Body| {
            let text = body.text()?;
            let array = serde_json::from_str::<Vec<IgnoredAny>>(&text);
            array.map(|_| text).map_err(|why| why.to_string())
        };
        read(body, plan).await.map_err(|why| malformed(&why))
    }

    /// Reads the newest query of the history, whichever it is, with the bridge's own credentials or else with these
    /// headers, on behalf of a call or of nobody: `GET /queries`.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being read.
    pub async fn read_history(
        &self,
        headers: &HeaderMap,
        call: Option<&Call>,
        by: Instant,
    ) -> Result<(), Error> {
        let asked = self.base.get_queries(&Filter::default().with(Part { size: 1, page: 0 }));
        // One request now and then, which must not wait behind those that it tells about.
        let exchange = Exchange { lane: None, ..self.bounded(&asked, by, self.max_body, headers, call) };
        self.get::<Listing>(&exchange).await.map(drop)
    }

    async fn get<T: DeserializeOwned + Send + 'static>(&self, exchange: &Exchange<'_>) -> Result<T, Error> {
        let (attempts, Success { http_status, body }) = self.run(exchange).await?;
        read(body, Body::json).await.map_err(|why| self.ended(Error::malformed(attempts, http_status, &why)))
    }
}

/// Reads a body: beside the calls of this thread, cancels among them, if they would wait meanwhile.
async fn read<T: Send + 'static>(
    body: Body,
    how: impl FnOnce(Body) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    if body.len() <= QUICKLY_READ {
        return how(body);
    }
    spawn_blocking(|| how(body)).await.unwrap_or_else(|bug| resume_unwind(bug.into_panic()))
}
