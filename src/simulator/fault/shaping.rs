//! How a fault looks on the wire.

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    io,
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::time::sleep;

use super::{super::problem::Problem, Behaviour, Made};

/// Answers that are taken apart to be trickled are no longer than a page of the history.
const MOST_TRICKLED_BYTES: usize = 64 * 1024 * 1024;
const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// Long enough for the head to leave before the connection does.
const BEFORE_THE_CUT: Duration = Duration::from_millis(50);

const LOGIN_PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form action=\"/login\" \
                          method=\"post\"><input name=\"username\"><input name=\"password\" type=\"password\">\
                          </form></body></html>";

pub(super) async fn answer(behaviour: Behaviour) -> Made {
    let response = match behaviour {
        Behaviour::Status { code, shape, headers } => {
            let problem = Problem::simulated(status(code), shape);
            with_headers(problem.into_response(), &headers)
        }
        Behaviour::Answer { code, headers, body } => {
            with_headers((status(code), Body::from(body)).into_response(), &headers)
        }
        Behaviour::Html => ([(CONTENT_TYPE, "text/html;charset=UTF-8")], LOGIN_PAGE).into_response(),
        Behaviour::Redirect { location } => with_headers(
            StatusCode::FOUND.into_response(),
            &BTreeMap::from([("location".to_owned(), location)]),
        ),
        Behaviour::MalformedJson => json(Body::from(r#"{"id":"42","status":"RUNN"#)),
        Behaviour::Hang => pending().await,
        Behaviour::CutBeforeHead | Behaviour::DropConnection => return Made::Cut,
        Behaviour::CutAfterHead => {
            let cut = stream::once(async {
                sleep(BEFORE_THE_CUT).await;
                Err(io::Error::other("the fault"))
            });
            let body = stream::once(ready(Ok(Bytes::from_static(b"{\"id\":")))).chain(cut);
            with_length(json(Body::from_stream(body)), 1000)
        }
        Behaviour::EndlessBody => json(Body::from_stream(stream::repeat_with(|| piece(PIECE.len())))),
        Behaviour::HugeBody { bytes } => with_length(json(Body::from_stream(json_string(bytes))), bytes),
        // These have been given the proper answer, so there is nothing left to be made up.
        Behaviour::Delay { .. } | Behaviour::Trickle { .. } | Behaviour::MissingApi => {
            StatusCode::NO_CONTENT.into_response()
        }
    };
    Made::Answer(response)
}

/// Sends a body in pieces; the content length stays what it was.
pub(super) async fn trickle(real: Response, bytes: usize, every: Duration) -> Made {
    let (head, body) = real.into_parts();
    let Ok(body) = to_bytes(body, MOST_TRICKLED_BYTES).await else { return Made::Cut };
    let length = body.len();
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(every).await;
        let piece = rest.split_to(bytes.min(rest.len()));
        Some((io::Result::Ok(piece), rest))
    });
    let response = Response::from_parts(head, Body::from_stream(pieces));
    Made::Answer(if length == 0 { response } else { with_length(response, length as u64) })
}

/// Names and values as HTTP takes them, or nothing when one cannot be.
pub(super) fn headers(texts: &BTreeMap<String, String>) -> Option<HeaderMap> {
    let header = |(name, value): (&String, &String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    texts.iter().map(header).collect()
}

fn with_headers(mut response: Response, texts: &BTreeMap<String, String>) -> Response {
    response.headers_mut().extend(headers(texts).unwrap_or_default());
    response
}

fn with_length(mut response: Response, bytes: u64) -> Response {
    response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    response
}

fn json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A JSON string that takes so many bytes, its quotes included.
fn json_string(bytes: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let quote = || stream::once(ready(io::Result::Ok(Bytes::from_static(b"\""))));
    let inside = stream::unfold(bytes.saturating_sub(2), |left| {
        let length = left.min(PIECE.len() as u64);
        ready((length > 0).then(|| (piece(usize::try_from(length).unwrap_or(PIECE.len())), left - length)))
    });
    quote().chain(inside).chain(quote())
}

fn piece(length: usize) -> io::Result<Bytes> {
    static PIECES: Bytes = Bytes::from_static(&PIECE);
    Ok(PIECES.slice(..length))
}
