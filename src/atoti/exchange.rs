//! One attempt: a turn, a request out, an answer in, all of it bounded in time and size.

use std::{error::Error as StdError, pin::pin, time::Duration};

use http::{HeaderMap, HeaderValue, Request, header, response, uri::Uri};
use hyper::{
    Response,
    body::{Body as _, Incoming},
};
use jiff::Timestamp;
use tokio::{
    task::yield_now,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Atoti, Call,
    answer::{self, BodyEnd, Expected, Shape},
    base::Asked,
    body::Body,
    client::Client,
    error::{Cause, Error, Fact, full_text},
    gate::{Content, Gate},
    lanes::{Lane, Turn},
    link::Link,
    pool::Pooled,
};
use crate::telemetry::{Attempt, TraceContext};

/// With less time than this, a request is not worth sending: its answer would come too late.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(10);
/// How long the body of an answer to a write is waited for once its head, the answer proper, is there.
const WRITE_BODY_PATIENCE: Duration = Duration::from_secs(1);

/// How an operation is to be carried out.
pub(super) struct Exchange<'a> {
    pub(super) asked: &'a Asked,
    /// On whose behalf; nobody's, if it is the bridge's own concern.
    pub(super) call: Option<&'a Call>,
    /// What goes along of the caller's headers.
    pub(super) headers: &'a HeaderMap,
    /// What is sent, through the gate.
    pub(super) content: Option<&'static Text>,
    pub(super) expected: Expected,
    pub(super) bounds: Bounds,
    /// Bytes of body that are read at most.
    pub(super) body_cap: usize,
    /// For writes.
    pub(super) gate: Option<&'a Gate>,
    /// Not repeated while Atoti may still be at work on it: it costs too much.
    pub(super) once: bool,
    /// Where it waits for its turn; nowhere, if it needs none.
    pub(super) lane: Option<Lane>,
}

/// A body that is the same in every request, and how long it is, in words.
pub(super) struct Text {
    pub(super) body: &'static str,
    pub(super) length: &'static str,
}

/// When things must be over.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Nothing is sent after this.
    pub(super) begin_by: Instant,
    /// What has been sent is given up at this.
    pub(super) end_by: Instant,
    pub(super) per_attempt: Duration,
}

impl Bounds {
    /// Whether a repeat after a pause would still be worth it.
    pub(super) fn leave_room_for(&self, pause: Duration) -> bool {
        Instant::now() + pause + SHORTEST_ATTEMPT < self.begin_by
    }
}

/// An attempt that succeeded.
pub(super) struct Success {
    pub(super) http_status: u16,
    pub(super) body: Body,
}

/// An attempt that failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) fact: Fact,
    pub(super) http_status: Option<u16>,
    pub(super) shape: Shape,
    pub(super) cause: Cause,
    /// The connection was lost before anything of the request had been written to it.
    pub(super) untouched: bool,
}

impl Failed {
    pub(super) const fn new(fact: Fact, class: &'static str) -> Self {
        Self { fact, http_status: None, shape: Shape::Empty, cause: Cause::of(class), untouched: false }
    }

    /// A failure before the head of an answer, with all that is known of why.
    pub(super) fn explained((fact, class): (Fact, &'static str), error: &(dyn StdError + 'static)) -> Self {
        Self { cause: Cause::detailed(class, full_text(error)), ..Self::new(fact, class) }
    }

    /// What a failure to get a token means for the call that needs it. A 404 here, for one, says nothing about a query.
    pub(super) fn of_token_endpoint(self) -> Self {
        let fact = match self.fact {
            // Wrong login; not now; or somebody in between.
            Fact::Refused(refusal) if matches!(refusal.status, 401 | 403 | 408 | 429 | 502..=504) => {
                self.fact
            }
            Fact::Refused(_) | Fact::Html | Fact::MalformedBody | Fact::ResponseTooLarge => Fact::NoToken,
            fact => fact,
        };
        Self { fact, ..self }
    }

    /// The error of an operation that came to no attempt for this.
    pub(super) fn before_any_attempt(self) -> Error {
        let Self { fact, http_status, shape, cause, .. } = self;
        // What timed out was the way to a token.
        let fact = if fact == Fact::TimedOut { Fact::DeadlineBeforeSend } else { fact };
        Error {
            fact,
            http_status,
            node: None,
            attempts: 0,
            request_sent: false,
            answer_lost: false,
            shape,
            cause,
            own_credentials: false,
        }
    }
}

impl Exchange<'_> {
    /// What the attempts are a part of.
    pub(super) fn trace(&self) -> Option<&TraceContext> {
        self.call.and_then(|call| call.trace.as_ref())
    }

    /// Makes the attempt, when its turn comes, with these credentials; `before` were made before it.
    pub(super) async fn attempt(
        &self,
        atoti: &Atoti,
        authorization: Option<HeaderValue>,
        before: u32,
    ) -> Result<Success, Failed> {
        let _turn = match self.lane {
            Some(lane) => match atoti.lanes.try_enter(lane) {
                Some(turn) => Some(turn),
                // What is seldom done takes no room in every call.
                None => Some(Box::pin(self.turn(atoti, lane)).await?),
            },
            None => None,
        };
        // Whoever else is ready gets as far as this first. Then requests leave one behind the other, and whoever takes
        // them is not woken for each. Before the clock is looked at: nothing is sent too late.
        yield_now().await;
        let now = Instant::now();
        let end_by = self.bounds.end_by.min(now + self.bounds.per_attempt);
        if now + SHORTEST_ATTEMPT > self.bounds.begin_by {
            return Err(Failed::new(Fact::DeadlineBeforeSend, "deadline over before sending"));
        }
        let attempt =
            Attempt::start(&atoti.telemetry, &self.asked.target, self.asked, self.trace(), now, before);
        let mut request = self.request(authorization);
        attempt.propagate(request.headers_mut());
        let done = self.carry_out(&atoti.http.client(), &mut request, end_by).await;
        match &done {
            Ok(success) => attempt.ended(Some(success.http_status), None),
            Err(failed) => attempt.ended(failed.http_status, Some(failed.fact.error_type())),
        }
        done
    }

    async fn turn<'l>(&self, atoti: &'l Atoti, lane: Lane) -> Result<Turn<'l>, Failed> {
        let _waiting = atoti.telemetry.metrics.upstream.waiting();
        let turn = timeout_at(self.bounds.begin_by, atoti.lanes.enter(lane)).await;
        turn.map_err(|_| Failed::new(Fact::DeadlineBeforeSend, "deadline over while waiting for a turn"))
    }

    fn request(&self, authorization: Option<HeaderValue>) -> Request<Content> {
        let content = self.content.zip(self.gate).map(|(content, gate)| gate.guard(content.body.as_bytes()));
        let mut request = Request::new(content.unwrap_or_default());
        *request.method_mut() = self.asked.method.clone();
        *request.uri_mut() = Uri::from(self.asked.path.clone());
        let mut headers = self.asked.headers();
        if let Some(Text { length, .. }) = self.content {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static(length));
        }
        headers.extend(authorization.map(|authorization| (header::AUTHORIZATION, authorization)));
        for (name, value) in self.headers {
            if name != header::AUTHORIZATION {
                headers.append(name, value.clone());
            }
        }
        *request.headers_mut() = headers;
        request
    }

    async fn carry_out(
        &self,
        client: &Client,
        request: &mut Request<Content>,
        end_by: Instant,
    ) -> Result<Success, Failed> {
        let (pooled, response) = self.head(client, request, end_by).await?;
        self.read(client, pooled, response, end_by).await
    }

    /// What became of the operation as a whole.
    pub(super) fn error(&self, failed: Failed, attempts: u32, answer_lost: bool) -> Error {
        let attempts = if matches!(failed.fact, Fact::DeadlineBeforeSend) { attempts - 1 } else { attempts };
        let request_sent = answer_lost || self.was_sent(&failed);
        let Failed { fact, http_status, shape, cause, .. } = failed;
        Error {
            fact,
            http_status,
            node: None,
            attempts,
            request_sent,
            answer_lost,
            shape,
            cause,
            own_credentials: false,
        }
    }

    /// Whether bytes of the request may have left, after a failed attempt.
    pub(super) fn was_sent(&self, failed: &Failed) -> bool {
        match self.gate {
            Some(gate) => gate.was_sent(),
            None => !failed.untouched && !failed.fact.precludes_sending(),
        }
    }

    /// Whether a repeat may have Atoti do costly work a second time. A refusal says that it does none.
    pub(super) fn would_cost_twice(&self, failed: &Failed) -> bool {
        self.once && self.was_sent(failed) && !matches!(failed.fact, Fact::Refused(_))
    }

    async fn head(
        &self,
        client: &Client,
        request: &mut Request<Content>,
        end_by: Instant,
    ) -> Result<(Pooled, Response<Incoming>), Failed> {
        let mut exchange = pin!(client.send(self.asked.origin(), request));
        let decide_at = self.bounds.begin_by.min(end_by);
        match timeout_at(decide_at, &mut exchange).await {
            Ok(received) => received,
            Err(_) => match self.gate {
                // Still connecting. Now it must not be sent any more, and it will not be.
                Some(gate) if gate.close() => Err(if end_by < self.bounds.begin_by {
                    Failed::new(Fact::ConnectFailed, "attempt timed out while connecting")
                } else {
                    Failed::new(Fact::DeadlineBeforeSend, "deadline over while connecting")
                }),
                // It has been sent: carried to its end, however long its caller waits.
                Some(_) => timeout_at(end_by, exchange).await.unwrap_or(NO_ANSWER),
                None => NO_ANSWER,
            },
        }
    }

    async fn read(
        &self,
        client: &Client,
        mut pooled: Pooled,
        response: Response<Incoming>,
        end_by: Instant,
    ) -> Result<Success, Failed> {
        let (head, mut rest) = response.into_parts();
        let link = &mut pooled.link;
        let (body, end) = if rest.is_end_stream() {
            // As the answer to a cancel nearly always.
            (Body::default(), BodyEnd::Complete)
        } else {
            let body_by = match self.expected {
                Expected::Nothing => end_by.min(Instant::now() + WRITE_BODY_PATIENCE),
                Expected::Json => end_by,
            };
            Box::pin(read_body(link, &mut rest, self.body_cap, body_by)).await
        };
        let reusable = match end {
            BodyEnd::Complete => true,
            BodyEnd::Capped => Box::pin(throw_away(link, &mut rest)).await,
            BodyEnd::Cut | BodyEnd::TimedOut => false,
        };
        let result = self.judge(head, body, end);
        // Last, when nothing holds on to the bytes of the head any more: the connection reads the next answer there.
        if reusable {
            client.give_back(self.asked.origin(), pooled);
        }
        result
    }

    /// What an answer says.
    fn judge(&self, head: response::Parts, body: Body, end: BodyEnd) -> Result<Success, Failed> {
        let (status, head) = (head.status, &head.headers);
        let verdict = answer::verdict(status, head, &body.beginning(), end, self.expected, Timestamp::now);
        verdict.map_err(|fact| {
            let beginning = body.beginning();
            Failed {
                fact,
                http_status: Some(status.as_u16()),
                shape: Shape::of(head, &beginning),
                cause: Cause::detailed(class_of(fact, self.asked, head), excerpt(&beginning)),
                untouched: false,
            }
        })?;
        Ok(Success { http_status: status.as_u16(), body })
    }
}

const NO_ANSWER: Result<(Pooled, Response<Incoming>), Failed> =
    Err(Failed::new(Fact::TimedOut, "no answer in time"));

/// What is left of a body above the cap is read and thrown away, so that the connection can be used again, up to this
/// size and time; beyond it a new connection costs less.
const MOST_THROWN_AWAY: usize = 1024 * 1024;
const THROWING_AWAY: Duration = Duration::from_millis(250);

/// Tells whether the end came.
async fn throw_away(link: &mut Link, rest: &mut Incoming) -> bool {
    let mut left = MOST_THROWN_AWAY;
    let rest = async {
        loop {
            match link.piece(rest).await {
                None => return true,
                Some(Ok(piece)) if piece.len() < left => left -= piece.len(),
                Some(_) => return false,
            }
        }
    };
    timeout(THROWING_AWAY, rest).await.unwrap_or(false)
}

/// Reads to the end or to the cap. To the end, so that the connection can be used again.
async fn read_body(link: &mut Link, rest: &mut Incoming, cap: usize, by: Instant) -> (Body, BodyEnd) {
    let mut body = Body::default();
    let mut to_the_end = async || {
        loop {
            match link.piece(rest).await {
                Some(Ok(piece)) if body.len() + piece.len() > cap => {
                    body.push(piece.slice(..cap - body.len()));
                    return BodyEnd::Capped;
                }
                Some(Ok(piece)) => body.push(piece),
                None => return BodyEnd::Complete,
                Some(Err(_)) => return BodyEnd::Cut,
            }
        }
    };
    let end = timeout_at(by, to_the_end()).await.unwrap_or(BodyEnd::TimedOut);
    body.join();
    (body, end)
}

fn class_of(fact: Fact, asked: &Asked, head: &HeaderMap) -> &'static str {
    match fact {
        Fact::Refused(refusal) if refusal.to_login => "redirect to a login page",
        Fact::Refused(refusal) if (300..400).contains(&refusal.status) => {
            asked.url().map_or("redirect", |url| answer::redirect_class(&url, head))
        }
        Fact::Refused(_) => "Atoti refused",
        Fact::Html => "a page instead of an answer: is the base URL right?",
        Fact::BodyTruncated => "connection broke inside the body",
        Fact::ResponseTooLarge => "body above the cap",
        Fact::TimedOut => "body not complete in time",
        Fact::MalformedBody
        | Fact::ConnectFailed
        | Fact::DnsFailed
        | Fact::TlsFailed
        | Fact::TlsUntrusted
        | Fact::ConnectionLost
        | Fact::Protocol
        | Fact::DeadlineBeforeSend
        | Fact::NoToken => "unexpected",
    }
}

fn excerpt(body: &[u8]) -> String {
    const LENGTH: usize = 512;
    String::from_utf8_lossy(&body[..body.len().min(LENGTH)]).into_owned()
}
