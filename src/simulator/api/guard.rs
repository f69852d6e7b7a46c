//! Who is calling, and whether they may.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::{
        Security,
        problem::{Problem, Shape},
        server::Server,
    },
    jwt,
};

/// Somebody who has logged in.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) roles: Vec<String>,
}

/// How a login was refused.
enum Refusal {
    /// Nothing that could be checked was presented: 401 without any challenge, so that no browser asks.
    Silent,
    /// Wrong user or password.
    Challenge,
}

/// Says who is calling, or refuses.
pub(super) async fn identify(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Response {
    match identity(&server, request.headers()) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(refusal) => {
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, Shape::Empty).into_response();
            if matches!(refusal, Refusal::Challenge) {
                let challenge = HeaderValue::from_static("Basic realm=\"Realm\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

/// Lets users through.
pub(super) async fn user(request: Request, next: Next) -> Result<Response, Problem> {
    with_role("ROLE_USER", request, next).await
}

/// Lets administrators through.
pub(super) async fn admin(request: Request, next: Next) -> Result<Response, Problem> {
    with_role("ROLE_ADMIN", request, next).await
}

async fn with_role(role: &str, request: Request, next: Next) -> Result<Response, Problem> {
    let identity = request.extensions().get::<Identity>();
    if identity.is_some_and(|identity| identity.roles.iter().any(|held| held == role)) {
        return Ok(next.run(request).await);
    }
    Err(Problem::spring(StatusCode::FORBIDDEN))
}

fn identity(server: &Server, headers: &HeaderMap) -> Result<Identity, Refusal> {
    let Security::On { users } = &server.options.security else {
        let roles = ["ROLE_ADMIN", "ROLE_USER"].map(str::to_owned).to_vec();
        return Ok(Identity { name: "anonymous".to_owned(), roles });
    };
    if let Some(token) = jwt::presented(headers) {
        let claims = server.jwt.verify(token).ok_or(Refusal::Silent)?;
        return Ok(Identity { name: claims.sub, roles: claims.authorities });
    }
    let (name, password) = basic(headers).ok_or(Refusal::Silent)?;
    let user = users.iter().find(|user| user.name == name && user.password == password);
    user.map(|user| Identity { name, roles: user.roles.clone() }).ok_or(Refusal::Challenge)
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = authorization(headers)?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (name, password) = decoded.as_deref().unwrap_or(":").split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// The scheme and the rest of the first `authorization` header.
pub(super) fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some((scheme, rest.trim()))
}
