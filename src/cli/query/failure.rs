//! What can go wrong: what a person is told of it, and the exit code.

mod advice;

use std::{collections::BTreeMap, error::Error as StdError, fmt::Write as _, io};

use serde_json::{Value, json};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, RpcStatusExt as _, StatusExt as _};

use super::render::plain;
use crate::{cli::endpoint::innermost, status::code_name};

const SOME_REMAIN: u8 = 20;
const DECLINED: u8 = 21;
const USAGE: u8 = 64;
const OUTPUT: u8 = 74;
const INTERRUPTED: u8 = 130;

/// Why a subcommand did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The call failed.
    Call(Box<Refusal>),
    /// The bridge cannot be reached; where, and why.
    Unreachable(String),
    /// Wrong usage, which clap cannot see.
    Usage(String),
    /// Standard output or the terminal cannot be used.
    Output(io::Error),
    /// More queries match than the fuse allows.
    TooMany {
        count: usize,
        max: i32,
    },
    /// The person said no.
    Declined,
    Interrupted,
    /// Some of many could not be stopped; each has been told.
    SomeRemain,
    /// Told already, each for itself; the first one's exit code.
    Told(u8),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(Refusal::of(&status)))
    }
}

impl Failure {
    /// As `query --help` has them.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Call(refusal) => u8::try_from(i32::from(refusal.code)).unwrap_or(u8::MAX),
            Self::Unreachable(_) => Code::Unavailable as u8,
            Self::Usage(_) => USAGE,
            Self::Output(_) => OUTPUT,
            // What the bridge would have said.
            Self::TooMany { .. } => Code::FailedPrecondition as u8,
            Self::Declined => DECLINED,
            Self::Interrupted => INTERRUPTED,
            Self::SomeRemain => SOME_REMAIN,
            Self::Told(code) => *code,
        }
    }

    /// Tells it, with what to do about it, on standard error.
    pub(super) fn tell(&self) {
        match self {
            Self::Call(refusal) => note!("error: {}", refusal.text()),
            Self::Unreachable(why) => note!(
                "error: UNAVAILABLE: the bridge cannot be reached on {why}\n  what to do: {}",
                advice::UNREACHABLE
            ),
            Self::Usage(mend) => note!("error: {mend}"),
            Self::Output(error) => note!("error: the terminal or standard output cannot be used: {error}"),
            Self::TooMany { .. } => note!("error: {}", self.brief()),
            Self::Declined => note!("Nothing was done."),
            Self::Interrupted => note!("interrupted"),
            Self::SomeRemain | Self::Told(_) => {}
        }
    }

    /// The same, of one of several ids.
    fn tell_of(&self, id: &str) {
        match self {
            Self::Call(refusal) => note!("error: {}: {}", plain(id), refusal.text()),
            other => other.tell(),
        }
    }

    /// Whether asking again, a moment later, may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Call(refusal) => {
                matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
            }
            Self::Unreachable(_) => true,
            _ => false,
        }
    }

    /// In a few words.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Call(refusal) => refusal.brief(),
            Self::Unreachable(why) => format!("UNAVAILABLE: {why}"),
            Self::TooMany { count, max } => {
                format!(
                    "{count} queries match, more than --max {max}: none is stopped; narrow the filter, or allow more"
                )
            }
            other => format!("{other:?}"),
        }
    }
}

/// A status that is not OK, taken apart.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    message: String,
    reason: String,
    metadata: BTreeMap<String, String>,
    violations: Vec<String>,
    request_id: String,
}

impl Refusal {
    pub(super) fn of(status: &Status) -> Self {
        let refusal = Self::new(status.code(), status.message(), status.get_error_details());
        // Everything that the bridge says has a reason. What has none and a source comes from this side of the wire.
        match status.source() {
            Some(source) if refusal.reason.is_empty() => refusal.below_grpc(source),
            _ => refusal,
        }
    }

    /// The error of one of many.
    pub(super) fn of_one(status: &tonic_types::Status) -> Self {
        Self::new(Code::from(status.code), &status.message, status.get_error_details())
    }

    fn new(code: Code, message: &str, details: ErrorDetails) -> Self {
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        // A single one is described by the message.
        let told = |description: &str| description.is_empty() || description == message;
        let violations = violations.iter().map(|fault| match &*fault.description {
            description if told(description) => fault.field.clone(),
            description => format!("{}: {description}", fault.field),
        });
        let violations = violations.collect();
        let request_id = details.request_info().map(|info| info.request_id.clone()).unwrap_or_default();
        let (reason, metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone().into_iter().collect()),
            None => (String::new(), BTreeMap::new()),
        };
        Self { code, message: message.to_owned(), reason, metadata, violations, request_id }
    }

    /// tonic's codes for what happens on this side tell little: its own clock and a broken connection are CANCELLED.
    fn below_grpc(self, source: &(dyn StdError + 'static)) -> Self {
        let mut causes = std::iter::successors(Some(source), |error| (*error).source());
        let (code, message) = if causes.any(|cause| cause.is::<TimeoutExpired>()) {
            (Code::DeadlineExceeded, "no answer in time".to_owned())
        } else {
            (Code::Unavailable, format!("the connection to the bridge broke: {}", innermost(source)))
        };
        Self { code, message, ..self }
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The whole of it, for people: several lines.
    fn text(&self) -> String {
        let mut text = format!("{}: {}", code_name(self.code), plain(&self.message));
        let mut add = |what: &str, value: &str| {
            if !value.is_empty() {
                let _ = write!(text, "\n  {what}: {}", plain(value));
            }
        };
        self.violations.iter().for_each(|violation| add("at fault", violation));
        add("reason", &self.reason);
        for (key, what) in advice::worth_telling(self.code) {
            add(what, self.metadata(key).unwrap_or_default());
        }
        add("what to do", &advice::on(self));
        add("request id", &self.request_id);
        text
    }

    /// The same on one line.
    pub(super) fn brief(&self) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        plain(&format!("{}: {}{reason}", code_name(self.code), self.message))
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "code": code_name(self.code),
            "message": self.message,
            "reason": self.reason,
            "metadata": self.metadata,
            "requestId": self.request_id,
        })
    }
}

/// Tells every failure, and comes to the first.
pub(super) fn first_of(failures: impl IntoIterator<Item = (String, Failure)>) -> Result<(), Failure> {
    let mut first = None;
    for (id, failure) in failures {
        failure.tell_of(&id);
        first.get_or_insert_with(|| failure.exit_code());
    }
    first.map_or(Ok(()), |code| Err(Failure::Told(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32, message: &str) -> Failure {
        let status = tonic_types::Status { code, message: message.to_owned(), details: Vec::new() };
        Failure::Call(Box::new(Refusal::of_one(&status)))
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        for code in 1..=16 {
            assert_eq!(refused(code, "").exit_code(), u8::try_from(code).expect("small"));
        }
        assert_eq!(refused(99, "").exit_code(), 2, "a code that nobody knows is UNKNOWN");
        assert_eq!(Failure::Unreachable(String::new()).exit_code(), 14);
        assert_eq!(Failure::TooMany { count: 2, max: 1 }.exit_code(), 9);
    }

    #[test]
    fn what_a_bridge_says_is_text_alone_and_comes_with_what_to_do() {
        let Failure::Call(refusal) = refused(16, "no\u{1b}[2J\nway") else { panic!("a call") };
        let text = refusal.text();
        assert!(text.starts_with("UNAUTHENTICATED: no\\u{1b}[2J way\n"), "{text}");
        assert!(text.contains("what to do: ") && text.contains("--authorization-file"), "{text}");
    }
}
