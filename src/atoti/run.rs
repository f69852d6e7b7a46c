//! How an operation is carried out: with whose credentials, and repeated when.

use http::{HeaderMap, HeaderValue, header};
use tokio::time::{Instant, timeout_at};
use tower::retry::budget::Budget as _;

use super::{
    Atoti, Call, Error, Fact, Refusal,
    credentials::{Credentials, Token},
    exchange::{Exchange, Failed, Success},
    retry,
};

/// The longest answer of the token endpoint.
const TOKEN_BODY_CAP: usize = 64 * 1024;

impl Atoti {
    /// Makes an attempt, and one more where that is allowed; yields the number of attempts and the answer.
    pub(super) async fn run(&self, exchange: &Exchange<'_>) -> Result<(u32, Success), Error> {
        self.budget.deposit();
        let by = exchange.bounds.begin_by;
        let own = self.own_authorization(by, None).await.map_err(|failed| self.not_begun(failed))?;
        let first = match self.attempt(exchange, own.clone(), 0).await {
            Ok(success) => return Ok((1, success)),
            Err(failed) => failed,
        };
        // What is seldom done takes no room in every call.
        let Some((own, answer_lost)) = Box::pin(self.repeat(exchange, &first, own)).await else {
            return Err(self.ended(exchange.error(first, 1, false)));
        };
        tracing::debug!(
            request_id = exchange.call.and_then(Call::request_id),
            trace_id = exchange.trace().map(|trace| tracing::field::display(trace.trace_id())),
            span_id = exchange.trace().map(|trace| tracing::field::display(trace.span_id())),
            fact = ?first.fact,
            cause = %first.cause,
            "attempt failed; repeating once"
        );
        match self.attempt(exchange, own, 1).await {
            Ok(success) => Ok((2, success)),
            Err(second) => Err(self.ended(exchange.error(second, 2, answer_lost))),
        }
    }

    /// Whether to repeat: with what credentials, and whether the first attempt may have reached Atoti.
    async fn repeat(
        &self,
        exchange: &Exchange<'_>,
        first: &Failed,
        own: Option<HeaderValue>,
    ) -> Option<(Option<HeaderValue>, bool)> {
        if matches!(first.fact, Fact::Refused(Refusal { status: 401, .. })) {
            // Perhaps renewed in between, or thrown away by Atoti. What was refused has had no effect.
            let refused = own?;
            let fresh = self.own_authorization(exchange.bounds.begin_by, Some(&refused)).await.ok()?;
            return (fresh.as_ref() != Some(&refused)).then_some((fresh, false));
        }
        let pause = retry::pause();
        let may_repeat = retry::may_repeat(&first.fact)
            && !exchange.would_cost_twice(first)
            && retry::worth_waiting(&first.fact, pause)
            && exchange.bounds.leave_room_for(pause)
            && self.within_budget();
        if !may_repeat {
            return None;
        }
        let answer_lost = exchange.was_sent(first);
        tokio::time::sleep(pause).await;
        Some((own, answer_lost))
    }

    fn within_budget(&self) -> bool {
        let granted = self.budget.withdraw();
        self.telemetry.metrics.upstream.repeated(granted);
        granted
    }

    async fn attempt(
        &self,
        exchange: &Exchange<'_>,
        own: Option<HeaderValue>,
        before: u32,
    ) -> Result<Success, Failed> {
        let theirs = || exchange.headers.get(header::AUTHORIZATION).cloned();
        let authorization = if self.credentials.are_own() { own } else { theirs() };
        exchange.attempt(self, authorization, before).await
    }

    /// The bridge's own `authorization`, if it has one; `refused` is one that Atoti wants no more.
    pub(super) async fn own_authorization(
        &self,
        by: Instant,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Failed> {
        match &self.credentials {
            Credentials::Forward => Ok(None),
            Credentials::Fixed(file) => {
                if refused.is_some() {
                    file.refresh();
                }
                Ok(Some(HeaderValue::clone(&file.current())))
            }
            Credentials::Jwt { login, tokens } => {
                // Asked for as long as any request may take: what becomes of it holds for all who wait, and must not
                // be that the first of them was in a hurry.
                let ask = || Box::pin(self.ask_for_token(login.current().as_ref().clone()));
                let token = timeout_at(by, tokens.get(refused, ask)).await;
                let late = Failed::new(Fact::DeadlineBeforeSend, "deadline over while waiting for a token");
                token.unwrap_or(Err(late)).map(Some)
            }
        }
    }

    /// `GET /activeviam/jwt/rest/v3/token`.
    async fn ask_for_token(&self, login: HeaderValue) -> Result<Token, Failed> {
        let (asked, headers) = (self.base.token(), HeaderMap::new());
        // No call can do without it.
        let by = Instant::now() + self.timeout;
        let exchange = self.bounded(&asked, by, TOKEN_BODY_CAP, &headers, None);
        let answer = exchange.attempt(self, Some(login), 0).await;
        match answer {
            Ok(Success { body, .. }) => Token::from_json(&body.beginning())
                .ok_or(Failed::new(Fact::NoToken, "the token endpoint's answer is no token")),
            Err(failed) => Err(failed.of_token_endpoint()),
        }
    }

    /// A failure before the first attempt.
    pub(super) fn not_begun(&self, failed: Failed) -> Error {
        self.ended(failed.before_any_attempt())
    }

    pub(super) fn ended(&self, error: Error) -> Error {
        let fact = error.fact.of_a_whole(error.request_sent);
        Error { fact, own_credentials: self.credentials.are_own(), ..error }
    }
}
