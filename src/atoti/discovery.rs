//! What is installed: the discovery document, `GET /versions/rest`, asked for now and then and remembered.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Atoti, Call, Error,
    exchange::{Exchange, Success},
    wire::{self, Discovery},
};

/// How the discovery document calls the API.
const API_KEY: &str = "activeviam/query-history";
/// The longest discovery document.
const BODY_CAP: usize = 256 * 1024;
/// What was seen so long ago is asked for again. Longer than the distance of the probes, which refresh it.
const FRESH: Duration = Duration::from_secs(15);

/// What was seen last, and when.
#[derive(Debug, Default)]
pub(super) struct Installed(ArcSwapOption<(Instant, Discovery)>);

impl Atoti {
    /// The discovery document, asked for now, on behalf of a call or of nobody. It is public: no credentials go along.
    /// Nothing, when what came is something else.
    ///
    /// # Errors
    ///
    /// Why nothing came.
    pub async fn discover(&self, call: Option<&Call>, by: Instant) -> Result<Option<Discovery>, Error> {
        let asked = self.base.versions();
        let nobodys = HeaderMap::new();
        let headers = call.map_or(&nobodys, |call| &*call.headers);
        // One request now and then, which must not wait behind those that it tells about.
        let exchange = Exchange { lane: None, ..self.bounded(&asked, by, BODY_CAP, headers, call) };
        match exchange.attempt(self, None, 0).await {
            Ok(Success { body, .. }) => {
                let discovery = wire::discovery(body, API_KEY);
                if let Some(discovery) = &discovery {
                    self.installed.0.store(Some(Arc::new((Instant::now(), discovery.clone()))));
                }
                Ok(discovery)
            }
            Err(failed) => Err(exchange.error(failed, 1, false)),
        }
    }

    /// Whether something answers in Atoti's place, whatever it thinks of the question.
    ///
    /// # Errors
    ///
    /// Why nothing does.
    pub async fn probe(&self, within: Duration) -> Result<(), Error> {
        match self.discover(None, Instant::now() + within).await {
            Err(error) if !error.is_an_answer() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether Atoti *positively* lacks the Query History API: it serves its discovery document, and the API is not in
    /// it. Anything less certain is `false`.
    pub async fn lacks_api(&self, call: &Call) -> bool {
        let seen = self.installed.0.load_full();
        match seen.filter(|seen| seen.0.elapsed() < FRESH) {
            Some(seen) => seen.1.api_versions.is_none(),
            None => {
                let discovered = self.discover(Some(call), call.read_by).await;
                matches!(discovered, Ok(Some(Discovery { api_versions: None, .. })))
            }
        }
    }
}
