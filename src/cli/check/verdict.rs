//! What Atoti's answers mean to whoever sets the bridge up. Pure.
//!
//! Nothing that Atoti or the network wrote is quoted, nor any credentials.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::{
    atoti::{Error, Fact, Refusal, Shape},
    config::Scheme,
};

/// The answer to one question.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) question: Question,
    /// Nothing where it cannot be told.
    pub(super) ok: Option<bool>,
    pub(super) detail: String,
    /// What to do about it.
    pub(super) mend: Option<String>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    Reachable,
    Api,
    Credentials,
}

impl Question {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Reachable => "Is Atoti reachable?",
            Self::Api => "Is the Query History API installed?",
            Self::Credentials => "Are the credentials accepted?",
        }
    }

    const fn answered(self, ok: Option<bool>, detail: String) -> Answer {
        Answer { question: self, ok, detail, mend: None }
    }

    fn yes(self, detail: impl Into<String>) -> Answer {
        self.answered(Some(true), detail.into())
    }

    fn no(self, detail: impl Into<String>, mend: impl Into<String>) -> Answer {
        Answer { mend: Some(mend.into()), ..self.answered(Some(false), detail.into()) }
    }

    fn open(self, detail: impl Into<String>) -> Answer {
        self.answered(None, detail.into())
    }
}

/// Whose credentials the history was asked with.
pub(super) enum Tried {
    /// The bridge's, from its file.
    Own(Scheme, PathBuf),
    /// Those of a file, as a caller would send them.
    Given(PathBuf),
    /// None.
    Nothing,
}

impl fmt::Display for Tried {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(_, file) => write!(out, "the bridge's own credentials, from {}", file.display()),
            Self::Given(file) => write!(out, "the credentials in {}", file.display()),
            Self::Nothing => out.write_str("no credentials"),
        }
    }
}

impl Tried {
    /// What to do when they are refused.
    fn mend(&self) -> String {
        match self {
            Self::Own(Scheme::Basic | Scheme::Jwt, file) => {
                format!("write user:password of an account that Atoti knows into {}", file.display())
            }
            Self::Own(Scheme::Bearer, file) => {
                format!("write a token that Atoti accepts, and that has not expired, into {}", file.display())
            }
            Self::Given(file) => format!("write credentials that Atoti accepts into {}", file.display()),
            Self::Nothing => TRY_SOME.to_owned(),
        }
    }
}

const BASE_URL: &str = "write into --upstream-url where Atoti itself is: scheme, host, port and context path";
const TRY_SOME: &str = "each caller sends its own; give --authorization-file to try some";

/// Answers all questions from what came of asking for the discovery document, without credentials, and then, where
/// anybody answered, for the history.
pub(super) fn judge(
    discovery: &Result<Option<bool>, Error>,
    history: Option<&Result<(), Error>>,
    tried: &Tried,
) -> [Answer; 3] {
    // A history that was read is proof enough, whatever became of a document that few ever look at.
    if let Some(Ok(())) = history {
        let detail = match tried {
            Tried::Nothing => "it was read without any: Atoti asks for none".to_owned(),
            _ => format!("the history was read with {tried}"),
        };
        return [
            Question::Reachable.yes("it answers"),
            Question::Api.yes("the history was read"),
            Question::Credentials.yes(detail),
        ];
    }
    let reachable = reachable(discovery);
    if reachable.ok != Some(true) {
        let open = |question: Question| question.open("not told before Atoti is reached");
        return [reachable, open(Question::Api), open(Question::Credentials)];
    }
    let error = history.and_then(|history| history.as_ref().err());
    let credentials = match error {
        Some(error) => credentials(error, tried),
        None => Question::Credentials.open("not asked"),
    };
    [reachable, api(discovery, error.is_some_and(Error::is_not_found)), credentials]
}

fn reachable(discovery: &Result<Option<bool>, Error>) -> Answer {
    match discovery {
        Ok(_) => Question::Reachable.yes("it answers"),
        // Of the answers, a proxy's and those of a page are not Atoti's.
        Err(error) if error.is_an_answer() && !is_somebody_elses(error) => {
            Question::Reachable.yes(format!("something answers: {}", told(error)))
        }
        Err(error) => Question::Reachable.no(told(error), mend(error)),
    }
}

fn is_somebody_elses(error: &Error) -> bool {
    match error.fact {
        Fact::Html => true,
        Fact::Refused(Refusal { status, .. }) => (300..400).contains(&status) || status == 407,
        _ => false,
    }
}

fn api(discovery: &Result<Option<bool>, Error>, history_missing: bool) -> Answer {
    match discovery {
        Ok(Some(true)) if history_missing => Question::Api.no(
            "the discovery document names it, but nothing is found at its path (HTTP 404)",
            "let everything below /activeviam/ through to Atoti, wherever a proxy stands before it",
        ),
        Ok(Some(true)) => Question::Api.yes("the discovery document names it"),
        Ok(Some(false)) => Question::Api.no(
            "the discovery document does not name it",
            "add the query history starter to the Atoti Server (6.1.19 or later), and leave it enabled",
        ),
        Ok(None) => Question::Api.no("what answers has no discovery document of Atoti's", BASE_URL),
        Err(error) if error.is_not_found() => {
            Question::Api.no("what answers has no discovery document (HTTP 404)", BASE_URL)
        }
        Err(error) => Question::Api.open(format!(
            "the discovery document, which Atoti shows without a login, cannot be read: {}; is the context path right?",
            told(error)
        )),
    }
}

fn credentials(error: &Error, tried: &Tried) -> Answer {
    let question = Question::Credentials;
    let login_wanted = match error.fact {
        Fact::Refused(Refusal { status, to_login, .. }) => status == 401 || to_login,
        _ => false,
    };
    let forbidden = matches!(error.fact, Fact::Refused(Refusal { status: 403, .. }));
    let of_token = error.attempts == 0 && matches!(tried, Tried::Own(Scheme::Jwt, _));
    match tried {
        _ if error.shape == Shape::Licence => {
            question.no(format!("Atoti speaks of its licence: {}", told(error)), "see to Atoti's licence")
        }
        // Some set-ups answer whoever brings nothing with a 403.
        Tried::Nothing if login_wanted || forbidden => question.open(TRY_SOME),
        _ if of_token && (login_wanted || forbidden) => {
            question.no(format!("Atoti issues no token for {tried}: {}", told(error)), tried.mend())
        }
        _ if of_token && error.http_status.is_some() => question.no(
            format!("Atoti's token endpoint does not do its work: {}", told(error)),
            "write basic or bearer into --credentials where Atoti issues no tokens",
        ),
        Tried::Own(Scheme::Jwt, _) if login_wanted => question.no(
            format!("Atoti refused the token that it had issued: {}", told(error)),
            "look whether all nodes of Atoti check tokens with the same key, and whether their clocks agree",
        ),
        _ if login_wanted => question.no(format!("Atoti refused {tried}: {}", told(error)), tried.mend()),
        _ if forbidden => question.no(
            format!("Atoti knows {tried}, and does not let them use the history: {}", told(error)),
            "give their user the role that Atoti wants for its Query History API",
        ),
        _ if error.is_not_found() => question.open("not told, because the history is not there to be asked"),
        _ => question.no(told(error), mend(error)),
    }
}

/// What happened, in words that hold nothing of Atoti's.
fn told(error: &Error) -> String {
    match error.http_status {
        Some(status) if !(200..300).contains(&status) => format!("{} (HTTP {status})", error.cause.class),
        _ => error.cause.class.to_owned(),
    }
}

/// What to do about it.
fn mend(error: &Error) -> &'static str {
    match error.fact {
        Fact::ConnectFailed => {
            "start Atoti, or mend host and port in --upstream-url; a firewall may stand in between"
        }
        Fact::DnsFailed => "mend the host in --upstream-url, or this machine's name service",
        Fact::TlsUntrusted => {
            "give the authority of Atoti's certificate as --upstream-ca-file, and call Atoti by a name in it"
        }
        Fact::TlsFailed => {
            "write http:// into --upstream-url if this port speaks no TLS; Atoti may also want a certificate \
             (--upstream-client-cert-file)"
        }
        Fact::Html => "write into --upstream-url where Atoti itself is, not a portal or login page before it",
        Fact::TimedOut | Fact::DeadlineBeforeSend => {
            "see what keeps Atoti busy, or allow it more time with --upstream-timeout"
        }
        Fact::Protocol | Fact::ConnectionLost | Fact::BodyTruncated => {
            "look whether this is Atoti's port, and whether it wants https:// in --upstream-url"
        }
        Fact::MalformedBody | Fact::ResponseTooLarge => BASE_URL,
        Fact::NoToken => "look into Atoti's log",
        Fact::Refused(refusal) => match refusal.status {
            _ if refusal.to_login => {
                "write into --upstream-url where Atoti itself is, behind what asks browsers to log in"
            }
            300..400 => BASE_URL,
            407 | 511 => "have the network let the bridge through to Atoti without a proxy's login",
            429 => "try again later, or have Atoti's limit on calls raised",
            500.. => "look into the log of Atoti, and of what stands before it",
            _ => "look into Atoti's log",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Tried = Tried::Nothing;

    fn given() -> Tried {
        Tried::Given("/given".into())
    }

    fn own(scheme: Scheme) -> Tried {
        Tried::Own(scheme, "/own".into())
    }

    fn failed(fact: Fact) -> Error {
        Error { attempts: 1, ..Error::unsent(fact) }
    }

    fn refused(status: u16) -> Error {
        Error { http_status: Some(status), ..failed(Fact::Refused(Refusal::of(status))) }
    }

    fn to_login() -> Error {
        let refusal = Refusal { to_login: true, ..Refusal::of(302) };
        Error { http_status: Some(302), ..failed(Fact::Refused(refusal)) }
    }

    fn verdicts(answers: &[Answer; 3]) -> String {
        let letter = |answer: &Answer| match answer.ok {
            Some(true) => 'y',
            Some(false) => 'n',
            None => '-',
        };
        answers.iter().map(letter).collect()
    }

    #[test]
    fn what_answers_decides_and_only_a_failure_is_to_be_mended() {
        let named = || Ok(Some(true));
        let cases = [
            (named(), Ok(()), given(), "yyy"),
            (named(), Ok(()), NOTHING, "yyy"),
            // Hidden or strange documents do not matter where the history can be read.
            (Err(refused(404)), Ok(()), given(), "yyy"),
            (Ok(None), Ok(()), own(Scheme::Basic), "yyy"),
            (Err(to_login()), Ok(()), given(), "yyy"),
            (named(), Err(refused(401)), NOTHING, "yy-"),
            (named(), Err(refused(403)), NOTHING, "yy-"),
            (named(), Err(to_login()), NOTHING, "yy-"),
            (named(), Err(refused(401)), given(), "yyn"),
            (named(), Err(refused(403)), own(Scheme::Bearer), "yyn"),
            (named(), Err(to_login()), given(), "yyn"),
            (named(), Err(refused(404)), given(), "yn-"),
            (named(), Err(refused(503)), NOTHING, "yyn"),
            (named(), Err(failed(Fact::TimedOut)), NOTHING, "yyn"),
            (named(), Err(failed(Fact::MalformedBody)), NOTHING, "yyn"),
            (Ok(Some(false)), Err(refused(404)), given(), "yn-"),
            (Ok(Some(false)), Err(refused(401)), given(), "ynn"),
            (Ok(None), Err(refused(404)), given(), "yn-"),
            (Err(refused(404)), Err(refused(404)), given(), "yn-"),
            (Err(refused(401)), Err(refused(401)), NOTHING, "y--"),
            (Err(refused(401)), Err(refused(401)), given(), "y-n"),
            (Err(refused(407)), Err(refused(407)), NOTHING, "n--"),
            (Err(refused(503)), Err(refused(503)), given(), "n--"),
            (Err(to_login()), Err(to_login()), NOTHING, "n--"),
            (Err(failed(Fact::Html)), Err(failed(Fact::Html)), given(), "n--"),
        ];
        for (discovery, history, tried, expected) in cases {
            let answers = judge(&discovery, Some(&history), &tried);
            assert_eq!(verdicts(&answers), expected, "{discovery:?} {history:?} {tried}");
            let mends = answers.iter().all(|answer| answer.mend.is_some() == (answer.ok == Some(false)));
            assert!(mends, "{answers:?}");
        }
    }

    #[test]
    fn whoever_does_not_answer_is_told_how_to_be_reached() {
        for (fact, mend) in [
            (Fact::ConnectFailed, "host and port"),
            (Fact::DnsFailed, "name service"),
            (Fact::TlsUntrusted, "--upstream-ca-file"),
            (Fact::TlsFailed, "http://"),
            (Fact::TimedOut, "--upstream-timeout"),
            (Fact::Protocol, "https://"),
            (Fact::ConnectionLost, "https://"),
        ] {
            let answers = judge(&Err(failed(fact)), None, &NOTHING);
            assert_eq!(verdicts(&answers), "n--", "{fact:?}");
            assert!(answers[0].mend.as_ref().is_some_and(|told| told.contains(mend)), "{answers:?}");
        }
    }

    #[test]
    fn refused_credentials_are_named_by_where_they_are() {
        for (tried, error, detail, mend) in [
            (own(Scheme::Basic), refused(401), "own credentials, from /own", "user:password"),
            (own(Scheme::Bearer), refused(401), "own credentials, from /own", "token"),
            (own(Scheme::Jwt), refused(401), "had issued", "clocks"),
            (own(Scheme::Jwt), Error { attempts: 0, ..refused(401) }, "issues no token", "user:password"),
            (own(Scheme::Jwt), Error { attempts: 0, ..refused(404) }, "token endpoint", "basic or bearer"),
            (own(Scheme::Jwt), refused(403), "from /own", "role"),
            (given(), refused(401), "in /given", "into /given"),
            (given(), Error { shape: Shape::Licence, ..refused(403) }, "licence", "licence"),
        ] {
            let [_, _, answer] = judge(&Ok(Some(true)), Some(&Err(error)), &tried);
            assert!(answer.detail.contains(detail), "{answer:?}");
            assert!(answer.mend.as_ref().is_some_and(|told| told.contains(mend)), "{answer:?}");
        }
    }
}
