//! Whose credentials a request carries: the caller's, or the bridge's own, from a file or as a token that Atoti issues.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose};
use http::HeaderValue;
use tokio::{sync::Mutex, time::Instant};

use super::exchange::Failed;
use crate::{
    config::{self, Scheme, Secret},
    files::{FromFiles, Refreshed},
};

/// A token is renewed when this part of its life is over.
const RENEW_AFTER: f64 = 0.8;
/// A token that does not say when it expires is renewed after this.
const LIFE_UNTOLD: Duration = Duration::from_secs(60 * 60);
/// Who asks for a token within this of a failure gets the same failure, so that a crowd does not ask one by one.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

/// Where the `authorization` of requests comes from.
#[derive(Debug)]
pub(super) enum Credentials {
    /// The caller.
    Forward,
    /// The same for every request: Basic, or a token from a file.
    Fixed(FromFiles<HeaderValue>),
    /// A token that Atoti issues for the login in a file.
    Jwt { login: FromFiles<HeaderValue>, tokens: Tokens },
}

impl Credentials {
    pub(super) fn new(credentials: &config::Credentials) -> Result<Self, String> {
        let config::Credentials::Own(scheme, path) = credentials else { return Ok(Self::Forward) };
        let scheme = *scheme;
        let parse = move |contents: &[Vec<u8>]| authorization(&scheme.read(&contents.concat())?);
        let file = FromFiles::load("the bridge's own credentials", vec![path.clone()], parse)?;
        Ok(match scheme {
            Scheme::Basic | Scheme::Bearer => Self::Fixed(file),
            Scheme::Jwt => Self::Jwt { login: file, tokens: Tokens::default() },
        })
    }

    pub(super) const fn are_own(&self) -> bool {
        !matches!(self, Self::Forward)
    }

    /// Reads the file again.
    pub(super) fn refresh(&self) -> Refreshed {
        match self {
            Self::Forward => Refreshed::Unchanged,
            Self::Fixed(file) => file.refresh(),
            Self::Jwt { login, tokens } => {
                let refreshed = login.refresh();
                if refreshed == Refreshed::Renewed {
                    // The one before was issued to the login before.
                    tokens.forget();
                }
                refreshed
            }
        }
    }
}

fn authorization(secret: &Secret) -> Result<HeaderValue, String> {
    let text = match secret {
        Secret::Login(_) => format!("Basic {}", general_purpose::STANDARD.encode(secret.expose())),
        Secret::Token(_) => format!("Bearer {}", secret.expose()),
    };
    sensitive(&text)
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "it cannot be sent in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token that counts now, and the one place where another is asked for.
#[derive(Default)]
pub(super) struct Tokens {
    current: ArcSwapOption<Token>,
    /// Whoever holds it asks; the others wait and use what comes of it.
    asking: Mutex<Option<(Instant, Failed)>>,
}

pub(super) struct Token {
    header: HeaderValue,
    renew_at: SystemTime,
    expires: Option<SystemTime>,
}

impl Token {
    /// Reads what the token endpoint answered: `{"token":"..."}`.
    pub(super) fn from_json(body: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Answer {
            token: String,
        }
        let Answer { token } = serde_json::from_slice(body).ok()?;
        let header = sensitive(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
        let now = SystemTime::now();
        let expires = expiry(&token);
        let life = expires.map_or(LIFE_UNTOLD, |end| end.duration_since(now).unwrap_or_default());
        Some(Self { header, renew_at: now + life.mul_f64(RENEW_AFTER), expires })
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|end| end <= SystemTime::now())
    }
}

/// `exp` of a JSON Web Token; nobody here can check the signature, nor needs to.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp))
}

impl Tokens {
    /// The token to send; asks for one when there is none or `refused` is the one there is.
    pub(super) async fn get<F>(
        &self,
        refused: Option<&HeaderValue>,
        ask: impl FnOnce() -> F,
    ) -> Result<HeaderValue, Failed>
    where
        F: Future<Output = Result<Token, Failed>>,
    {
        let fit = || {
            let token = self.current.load();
            let token = token.as_ref().filter(|token| !token.has_expired() && Some(&token.header) != refused);
            token.map(|token| token.header.clone())
        };
        if let Some(header) = fit() {
            return Ok(header);
        }
        let mut last_failure = self.asking.lock().await;
        // Somebody else may have got one meanwhile, or failed to.
        if let Some(header) = fit() {
            return Ok(header);
        }
        if let Some((at, failed)) = &*last_failure
            && at.elapsed() < FAILURE_HOLDS
        {
            return Err(failed.clone());
        }
        match ask().await {
            Ok(token) => {
                let header = token.header.clone();
                self.current.store(Some(Arc::new(token)));
                *last_failure = None;
                Ok(header)
            }
            Err(failed) => {
                *last_failure = Some((Instant::now(), failed.clone()));
                Err(failed)
            }
        }
    }

    /// The token that should be renewed although it is still good.
    pub(super) fn due(&self) -> Option<HeaderValue> {
        let token = self.current.load();
        let due = token.as_ref().filter(|token| token.renew_at <= SystemTime::now());
        due.map(|token| token.header.clone())
    }

    fn forget(&self) {
        self.current.store(None);
    }
}

/// Without the token.
impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tokens")
    }
}
