//! The tokens a node issues: JSON Web Tokens, signed with HMAC-SHA-256 by a key that comes from the seed.
//!
//! The original signs with RSA. Clients cannot tell: a token is opaque to them.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::guard::authorization;

/// Issues tokens and knows them again.
#[derive(Debug)]
pub(in super::super) struct Jwt {
    key: hmac::Key,
    lifetime: Duration,
}

/// What a token says.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) authorities: Vec<String>,
    iat: i64,
    exp: i64,
}

impl Jwt {
    pub(in super::super) fn new(seed: u64, lifetime: Duration) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &seed.to_be_bytes()), lifetime }
    }

    pub(super) fn issue(&self, name: &str, roles: &[String]) -> String {
        let now = Timestamp::now().as_second();
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            sub: name.to_owned(),
            authorities: roles.to_vec(),
            iat: now,
            exp: now.saturating_add(lifetime),
        };
        let claims = serde_json::to_string(&claims).expect("texts and numbers are JSON");
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.as_bytes()));
        let signature = encode(hmac::sign(&self.key, signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    /// What a token says, if it is one of ours and has not expired.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        hmac::verify(&self.key, signed.as_bytes(), &decode(signature)?).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        (Timestamp::now().as_second() < claims.exp).then_some(claims)
    }
}

/// The token that a caller presents, under either name of the scheme.
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = authorization(headers)?;
    ["Bearer", "Jwt"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(token)
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
