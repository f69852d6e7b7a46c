//! `check`: asks Atoti what an operator wants to know before `serve`, and says what to mend.

mod verdict;

use std::path::PathBuf;

use clap::Args;
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;
use tokio::time::Instant;

use self::verdict::{Answer, Tried};
use super::{Output, authorization};
use crate::{
    atoti::Atoti,
    config::{Config, Credentials, Settings},
    files,
    telemetry::{self, Telemetry},
};

/// What the check takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: Settings,

    /// Credentials to try where each caller sends its own (--credentials=forward): one line, the whole value of an
    /// `authorization` header, such as `Basic dXNlcjp1c2Vy`
    #[arg(long, value_name = "FILE")]
    authorization_file: Option<PathBuf>,

    /// How the answers are told on standard output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// What has been found valid.
pub(super) struct Valid {
    config: Config,
    authorization: Option<HeaderValue>,
}

impl Check {
    /// The settings and the content of the file, or everything that is wrong with them.
    pub(super) fn validate(&self) -> Result<Valid, Vec<String>> {
        match (self.settings.validate(), self.authorization()) {
            (Ok(config), Ok(authorization)) => Ok(Valid { config, authorization }),
            (config, authorization) => {
                let faults = config.err().unwrap_or_default();
                let told = faults.iter().map(ToString::to_string);
                Err(told.chain(authorization.err()).collect())
            }
        }
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let Some(path) = &self.authorization_file else { return Ok(None) };
        let read = || {
            if self.settings.upstream.credentials != "forward" {
                return Err("Atoti gets the bridge's own credentials: leave the file out".to_owned());
            }
            authorization::read(&files::read(path)?)
        };
        let fault = |mend| format!("--authorization-file = {:?}: {mend}", path.display().to_string());
        read().map(Some).map_err(fault)
    }
}

pub(super) async fn run(check: Check, valid: Valid) -> Result<(), String> {
    let Valid { config, authorization } = valid;
    let _logs = telemetry::init(config.log_format);
    let upstream = &config.upstream;
    let atoti = Atoti::new(upstream, Telemetry::default())
        .map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
    let tried = match (&upstream.credentials, check.authorization_file) {
        (Credentials::Own(scheme, file), _) => Tried::Own(*scheme, file.clone()),
        (Credentials::Forward, Some(file)) => Tried::Given(file),
        (Credentials::Forward, None) => Tried::Nothing,
    };
    let headers: HeaderMap = authorization.map(|value| (header::AUTHORIZATION, value)).into_iter().collect();

    let discovered = atoti.discover(None, Instant::now() + upstream.timeout).await;
    let discovery = discovered.map(|found| found.map(|found| found.api_versions.is_some()));
    // Whoever does not answer is not asked twice.
    let answered = discovery.as_ref().err().is_none_or(|error| error.http_status.is_some());
    let history = if answered {
        Some(atoti.read_history(&headers, None, Instant::now() + upstream.timeout).await)
    } else {
        None
    };
    let answers = verdict::judge(&discovery, history.as_ref(), &tried);

    let failed = answers.iter().filter(|answer| answer.ok == Some(false)).count();
    match check.output {
        Output::Table => {
            println!("Atoti on {}", upstream.url);
            answers.iter().for_each(|answer| print!("{}", lines(answer)));
        }
        Output::Json => {
            println!(
                "{}",
                json!({"ok": failed == 0, "upstreamUrl": upstream.url.as_str(), "answers": answers})
            );
        }
    }
    if failed == 0 { Ok(()) } else { Err("something is to be mended before the bridge can work".to_owned()) }
}

/// An answer, for people.
fn lines(answer: &Answer) -> String {
    let verdict = match answer.ok {
        Some(true) => "ok",
        Some(false) => "FAILED",
        None => "open",
    };
    let mend = answer.mend.as_ref().map(|mend| format!("          to mend: {mend}\n")).unwrap_or_default();
    format!("  {verdict:<6}  {} {}\n{mend}", answer.question.text(), answer.detail)
}
