//! The floor: the least that a bridge in Rust does on top of hyper. Protobuf read by hand, a keep-alive connection for
//! each call in flight, no deadlines, no limits, nothing seen from outside, and no truth about what went wrong.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::{Failure, message, pool::Pool};

const OK: HeaderValue = HeaderValue::from_static("0");
const UNKNOWN: HeaderValue = HeaderValue::from_static("2");
const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");
const NOT_FOUND: HeaderValue = HeaderValue::from_static("5");
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");
const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

/// Is a bridge with nothing to it but the way of a cancel
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Address to serve gRPC on
    #[arg(long)]
    listen: SocketAddr,
    /// Address of the REST server
    #[arg(long)]
    upstream: SocketAddr,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let pool = Arc::new(Pool::new(options.upstream)?);
    let listener = crate::listen(options.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = Arc::clone(&pool);
        let service = service_fn(move |request| answer(request, Arc::clone(&pool)));
        let connection =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        // A caller that goes away is no failure.
        tokio::spawn(connection);
    }
}

async fn answer(
    request: Request<Incoming>,
    pool: Arc<Pool>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let status =
        if request.uri().path() == message::CANCEL { cancel(request, &pool).await } else { UNIMPLEMENTED };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", status);
    // A message with nothing in it.
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

async fn cancel(request: Request<Incoming>, pool: &Pool) -> HeaderValue {
    let Ok(body) = request.into_body().collect().await else { return UNKNOWN };
    let body = body.to_bytes();
    let Some(id) = message::query_id(&body) else { return INVALID_ARGUMENT };
    match pool.cancel(id).await {
        Ok(StatusCode::NO_CONTENT) => OK,
        Ok(StatusCode::NOT_FOUND) => NOT_FOUND,
        Ok(_) => UNKNOWN,
        Err(_) => UNAVAILABLE,
    }
}
