//! Plays Atoti for speed: the right cancel gets 204, a page is a page, everything else is refused, so that a wrong
//! translation is never counted as a good one.

use std::{convert::Infallible, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::{Failure, args, message, page};

const DISCOVERY: &str =
    r#"{"serverVersion":"6.1.19","apis":{"activeviam/query-history":{"versions":[{"id":"1"}]}}}"#;

/// Queries on the page of who names no size: as many as the bridge asks Atoti for then, by this.
const USUAL: u64 = 50;
const USUAL_IS_ASKED_FOR: &str = "page_size=50";

/// Plays Atoti
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Address to serve HTTP/1.1 on
    #[arg(long)]
    listen: SocketAddr,
    /// Seconds that each answer takes
    #[arg(long, default_value = "0", value_parser = args::seconds)]
    delay: Duration,
    /// Requests that may take that time at once, as a web server has so many threads; the others wait
    #[arg(long, requires = "delay")]
    at_once: Option<NonZeroUsize>,
}

/// What is listed, by what is asked for.
#[derive(Clone)]
struct Pages {
    some_run: Bytes,
    all_run: Bytes,
    usual: Bytes,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let pages = Pages {
        some_run: page::json(page::QUERIES, false),
        all_run: page::json(page::QUERIES, true),
        usual: page::json(USUAL, false),
    };
    let places = Arc::new(Semaphore::new(options.at_once.map_or(Semaphore::MAX_PERMITS, NonZeroUsize::get)));
    let listener = crate::listen(options.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (pages, places, delay) = (pages.clone(), Arc::clone(&places), options.delay);
        let service = service_fn(move |request| {
            let (pages, places) = (pages.clone(), Arc::clone(&places));
            async move {
                if !delay.is_zero() {
                    let _place = places.acquire().await;
                    tokio::time::sleep(delay).await;
                }
                answer(request, pages).await
            }
        });
        // Whoever closes a connection is free to.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, pages: Pages) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    Ok(match (request.method(), path.strip_prefix(message::QUERY_PATH)) {
        (&Method::PATCH, Some(id)) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
            empty(if is_cancel(request).await { StatusCode::NO_CONTENT } else { StatusCode::BAD_REQUEST })
        }
        (&Method::GET, None) if path.ends_with("/rest/v1/queries") => {
            let query = request.uri().query().unwrap_or_default();
            let asks = |what: &str| query.split('&').any(|pair| pair == what);
            json(if asks("status=RUNNING") {
                pages.all_run
            } else if asks(USUAL_IS_ASKED_FOR) {
                pages.usual
            } else {
                pages.some_run
            })
        }
        (&Method::GET, None) if path == "/versions/rest" => json(Bytes::from_static(DISCOVERY.as_bytes())),
        _ => empty(StatusCode::NOT_FOUND),
    })
}

/// Whether a body is JSON that says CANCELLED, and nothing else.
async fn is_cancel(request: Request<Incoming>) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Patch<'a> {
        status: &'a str,
    }

    let Ok(body) = request.into_body().collect().await else { return false };
    serde_json::from_slice::<Patch<'_>>(&body.to_bytes()).is_ok_and(|patch| patch.status == "CANCELLED")
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
