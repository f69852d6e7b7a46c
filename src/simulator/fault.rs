//! Faults on demand: what goes wrong, with which requests, how often, and whether before or after the effect.

mod shaping;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use axum::response::Response;
use http::Method;
use serde::{Deserialize, Serialize};

use super::problem::Shape;

/// Something that goes wrong with some of the requests.
///
/// By default it befalls every request until it is cleared, and instead of the request's effect:
///
/// ```
/// use std::time::Duration;
///
/// use atoti_grpc_bridge::simulator::Fault;
///
/// let two_busy_answers = Fault::status(503).with_header("Retry-After", "1").times(2);
/// let slow_reads = Fault::delay(Duration::from_secs(5)).on("GET", "/queries");
/// // The query is cancelled all the same, and nobody learns of it.
/// let lost_answer = Fault::cut_before_head().on("PATCH", "/query/").after_effect().times(1);
/// ```
///
/// The control API takes the same thing as JSON:
/// `{"behaviour":{"status":{"code":503}},"method":"PATCH","path":"/query/","times":2,"after_effect":true}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    behaviour: Behaviour,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    #[serde(default)]
    after_effect: bool,
}

/// What happens instead of, or in addition to, the proper answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Behaviour {
    /// A status with an error body.
    Status {
        code: u16,
        #[serde(default = "spring")]
        shape: Shape,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Any answer.
    Answer {
        code: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
    },
    /// 200 with a login page.
    Html,
    /// 302.
    Redirect { location: String },
    /// 200 with JSON that breaks off.
    MalformedJson,
    /// The proper answer, late.
    Delay { milliseconds: u64 },
    /// No answer, for as long as the caller stands it.
    Hang,
    /// The connection ends without an answer.
    CutBeforeHead,
    /// The connection ends within the body.
    CutAfterHead,
    /// The proper answer's body, a little at a time.
    Trickle { bytes: usize, every_milliseconds: u64 },
    /// 200 with a body that does not end.
    EndlessBody,
    /// 200 with a JSON string of this length.
    HugeBody { bytes: u64 },
    /// A server on which the Query History API is not installed.
    MissingApi,
    /// The connection ends as soon as it is there. It befalls connections, not requests.
    DropConnection,
}

impl Fault {
    /// A status with an error body, of Spring Boot's shape unless [`Fault::with_shape`] says otherwise.
    #[must_use]
    pub const fn status(code: u16) -> Self {
        Self::new(Behaviour::Status { code, shape: Shape::Spring, headers: BTreeMap::new() })
    }

    /// Any answer.
    #[must_use]
    pub fn answer(code: u16, content_type: &str, body: &str) -> Self {
        let headers = BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]);
        Self::new(Behaviour::Answer { code, headers, body: body.to_owned() })
    }

    /// 200 with a login page, as an identity-aware proxy answers.
    #[must_use]
    pub const fn html() -> Self {
        Self::new(Behaviour::Html)
    }

    /// 302 to a location.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::new(Behaviour::Redirect { location: location.to_owned() })
    }

    /// 200 with JSON that breaks off, under an honest content length.
    #[must_use]
    pub const fn malformed_json() -> Self {
        Self::new(Behaviour::MalformedJson)
    }

    /// The proper answer, late: the request waits before it takes effect, or with [`Fault::after_effect`] after it.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::new(Behaviour::Delay { milliseconds: milliseconds(delay) })
    }

    /// No answer, for as long as the caller stands it.
    #[must_use]
    pub const fn hang() -> Self {
        Self::new(Behaviour::Hang)
    }

    /// The connection ends without an answer.
    #[must_use]
    pub const fn cut_before_head() -> Self {
        Self::new(Behaviour::CutBeforeHead)
    }

    /// 200, a content length, and the end of the connection before that many bytes have come.
    #[must_use]
    pub const fn cut_after_head() -> Self {
        Self::new(Behaviour::CutAfterHead)
    }

    /// The proper answer, its body so many bytes at a time.
    #[must_use]
    pub fn trickle(bytes: usize, every: Duration) -> Self {
        Self::new(Behaviour::Trickle { bytes, every_milliseconds: milliseconds(every) })
    }

    /// 200 with a body that does not end.
    #[must_use]
    pub const fn endless_body() -> Self {
        Self::new(Behaviour::EndlessBody)
    }

    /// 200 with a JSON string of so many bytes.
    #[must_use]
    pub const fn huge_body(bytes: u64) -> Self {
        Self::new(Behaviour::HugeBody { bytes })
    }

    /// A server on which the Query History API is not installed: its paths are unknown, and `/versions/rest` does not
    /// name it.
    #[must_use]
    pub const fn missing_api() -> Self {
        Self::new(Behaviour::MissingApi)
    }

    /// The next connection ends as soon as it is there; say [`Fault::times`] for more of them. Methods and paths do
    /// not matter.
    #[must_use]
    pub const fn drop_connection() -> Self {
        Self::new(Behaviour::DropConnection).times(1)
    }

    const fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, method: None, path: None, times: None, after_effect: false }
    }

    /// Another shape for the error body of [`Fault::status`]; nothing else has one.
    #[must_use]
    pub const fn with_shape(mut self, wanted: Shape) -> Self {
        if let Behaviour::Status { shape, .. } = &mut self.behaviour {
            *shape = wanted;
        }
        self
    }

    /// A header of [`Fault::status`] or [`Fault::answer`]; nothing else has any.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Behaviour::Status { headers, .. } | Behaviour::Answer { headers, .. } = &mut self.behaviour {
            headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// Only requests of this method whose path or query holds this text; an empty one fits all.
    #[must_use]
    pub fn on(mut self, method: &str, path: &str) -> Self {
        self.method = (!method.is_empty()).then(|| method.to_owned());
        self.path = (!path.is_empty()).then(|| path.to_owned());
        self
    }

    /// Only so many requests; 0 is none.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The request takes its effect first, and only then things go wrong.
    #[must_use]
    pub const fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }

    /// Says what cannot be used.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match &self.behaviour {
            Behaviour::Status { code, headers, .. } | Behaviour::Answer { code, headers, .. } => {
                if !(200..=599).contains(code) {
                    return Err("code: give 200 to 599");
                }
                shaping::headers(headers).map(drop).ok_or("headers: not a name and a value of HTTP")
            }
            Behaviour::Redirect { location } => {
                http::HeaderValue::from_str(location).map(drop).map_err(|_| "location: not a header value")
            }
            Behaviour::Trickle { bytes: 0, .. } => Err("bytes: give at least 1"),
            Behaviour::DropConnection if self.times.is_none() => {
                Err("times: say how many connections, or not even this API can be reached again")
            }
            _ => Ok(()),
        }
    }

    fn fits(&self, method: &Method, target: &str) -> bool {
        !matches!(self.behaviour, Behaviour::DropConnection)
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method.as_str()))
            && self.path.as_deref().is_none_or(|part| target.contains(part))
    }
}

fn spring() -> Shape {
    Shape::Spring
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The faults that wait for their requests.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: Mutex<Vec<Fault>>,
}

/// What befalls a request.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) behaviour: Behaviour,
    pub(super) after_effect: bool,
}

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.waiting().push(fault);
    }

    pub(super) fn clear(&self) {
        self.waiting().clear();
    }

    /// Those that wait, in order, each with the times that are left.
    pub(super) fn all(&self) -> Vec<Fault> {
        self.waiting().clone()
    }

    pub(super) fn take(&self, method: &Method, target: &str) -> Option<Taken> {
        let Fault { behaviour, after_effect, .. } = self.take_first(|fault| fault.fits(method, target))?;
        Some(Taken { behaviour, after_effect })
    }

    /// Whether a new connection is to be dropped.
    pub(super) fn take_connection(&self) -> bool {
        self.take_first(|fault| matches!(fault.behaviour, Behaviour::DropConnection)).is_some()
    }

    fn take_first(&self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut waiting = self.waiting();
        let fault = waiting.iter_mut().find(|fault| fits(fault))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.clone())
    }

    /// The faults without those that are used up.
    fn waiting(&self) -> MutexGuard<'_, Vec<Fault>> {
        let mut waiting = self.waiting.lock().expect("nobody panics while holding the faults");
        waiting.retain(|fault| fault.times != Some(0));
        waiting
    }
}

/// What a fault makes of the answer.
#[derive(Debug)]
pub(super) enum Made {
    /// Another answer, or the same one differently sent.
    Answer(Response),
    /// The end of the connection.
    Cut,
}

impl Behaviour {
    /// Whether the request is carried out whatever the fault says about before or after.
    pub(super) const fn needs_the_real_answer(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::Trickle { .. } | Self::MissingApi)
    }

    /// How long the proper answer is held back.
    pub(super) const fn delay(&self) -> Duration {
        match self {
            Self::Delay { milliseconds } => Duration::from_millis(*milliseconds),
            _ => Duration::ZERO,
        }
    }

    /// The answer without a proper one.
    pub(super) async fn answer(self) -> Made {
        shaping::answer(self).await
    }

    /// What becomes of the proper answer.
    pub(super) async fn reshape(self, real: Response) -> Made {
        match self {
            Self::Trickle { bytes, every_milliseconds } => {
                shaping::trickle(real, bytes, Duration::from_millis(every_milliseconds)).await
            }
            _ => Made::Answer(real),
        }
    }
}
