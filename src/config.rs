//! Settings: their names, defaults and rules, and the typed values the rest of the program runs on.
//!
//! [`Settings`] is what a person wrote (flags and environment variables, as text); [`Settings::validate`] turns it
//! into a [`Config`] or lists every fault at once, each with its mend. Nothing else reads the environment, but for
//! `RUST_LOG`.

use std::{fmt, io::IsTerminal as _, net::SocketAddr, num::NonZeroUsize, time::Duration};

use clap::Args;
use jiff::SignedDuration;
use url::Url;

/// Where the bridge listens when nothing else is said: gRPC's customary port, reachable from this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:50051";

/// What a person may set, still as text.
///
/// Every value is text here so that all faults can be told at once rather than the first one only.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Address to serve gRPC on; port 0 picks a free one, which the `listening` log line names
    #[arg(long, env = "ATOTI_BRIDGE_LISTEN", value_name = "IP:PORT", default_value = DEFAULT_LISTEN)]
    pub listen: String,

    /// Base URL of the Atoti Server, with its context path if it has one
    #[arg(
        long,
        env = "ATOTI_BRIDGE_UPSTREAM_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090"
    )]
    pub upstream_url: String,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own help text")]
    pub tuning: Tuning,
}

/// The settings that have a good value for nearly everybody; `demo` takes them too.
#[derive(Clone, Debug, Args)]
pub struct Tuning {
    /// How long one attempt may take to connect to Atoti, TLS included
    #[arg(
        long,
        env = "ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT",
        value_name = "DURATION",
        default_value = "1s"
    )]
    pub upstream_connect_timeout: String,

    /// How long one attempt at Atoti may take in all
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub upstream_timeout: String,

    /// Longest deadline a call may have, and the deadline of callers that send no `grpc-timeout`
    #[arg(long, env = "ATOTI_BRIDGE_MAX_DEADLINE", value_name = "DURATION", default_value = "30s")]
    pub max_deadline: String,

    /// Calls at work at once; the next one is refused at once with RESOURCE_EXHAUSTED
    #[arg(long, env = "ATOTI_BRIDGE_MAX_IN_FLIGHT", value_name = "COUNT", default_value = "128")]
    pub max_in_flight: String,

    /// How long calls in flight may go on after SIGTERM or Ctrl-C
    #[arg(long, env = "ATOTI_BRIDGE_DRAIN_GRACE", value_name = "DURATION", default_value = "15s")]
    pub drain_grace: String,

    /// Serve gRPC server reflection (v1 and v1alpha): true or false
    #[arg(long, env = "ATOTI_BRIDGE_REFLECTION", value_name = "BOOL", default_value = "true")]
    pub reflection: String,

    /// Log lines for people or for programs: text or json [default: text on a terminal, else json]
    #[arg(long, env = "ATOTI_BRIDGE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to serve gRPC on. `ATOTI_BRIDGE_LISTEN`, default `127.0.0.1:50051`: never reachable from outside by
    /// accident.
    pub listen: SocketAddr,
    /// Atoti, and how long to bear with it.
    pub upstream: Upstream,
    /// What one process takes on.
    pub limits: Limits,
    /// Whether reflection is served. `ATOTI_BRIDGE_REFLECTION`, default `true`.
    pub reflection: bool,
    /// How log lines look. `ATOTI_BRIDGE_LOG_FORMAT`.
    pub log_format: LogFormat,
}

/// Atoti, and how long to bear with it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Base URL without user, query and fragment; its path is the context path. `ATOTI_BRIDGE_UPSTREAM_URL`.
    pub url: Url,
    /// Per attempt. `ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT`, default 1 s: inside a data centre a slower connect is a
    /// dead host, and a cancel should be tried elsewhere.
    pub connect_timeout: Duration,
    /// Per attempt. `ATOTI_BRIDGE_UPSTREAM_TIMEOUT`, default 10 s.
    pub timeout: Duration,
}

/// What one process takes on.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Cap on `grpc-timeout`, and the deadline of callers that send none. `ATOTI_BRIDGE_MAX_DEADLINE`, default 30 s.
    pub max_deadline: Duration,
    /// Calls at work at once. `ATOTI_BRIDGE_MAX_IN_FLIGHT`, default 128: below the threads of a stock Tomcat (200).
    pub max_in_flight: NonZeroUsize,
    /// Time for calls in flight after the signal to stop. `ATOTI_BRIDGE_DRAIN_GRACE`, default 15 s: with what
    /// surrounds it, inside the 30 s that Kubernetes grants.
    pub drain_grace: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// One setting that cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The environment variable; the flag is the same name in lower case with dashes, without the prefix.
    pub variable: &'static str,
    /// What was written.
    pub value: String,
    /// What is wrong with it and what to write instead.
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = self.variable.trim_start_matches(PREFIX).to_lowercase().replace('_', "-");
        write!(out, "{} (--{flag}) = {:?}: {}", self.variable, self.value, self.mend)
    }
}

const PREFIX: &str = "ATOTI_BRIDGE_";

impl Settings {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// Every fault there is, in the order of `--help`.
    pub fn validate(&self) -> Result<Config, Vec<Fault>> {
        let mut check = Check::default();
        let tuning = &self.tuning;
        let listen = check.address("ATOTI_BRIDGE_LISTEN", &self.listen);
        let url = check.base_url("ATOTI_BRIDGE_UPSTREAM_URL", &self.upstream_url);
        let connect_timeout =
            check.duration("ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT", &tuning.upstream_connect_timeout);
        let timeout = check.duration("ATOTI_BRIDGE_UPSTREAM_TIMEOUT", &tuning.upstream_timeout);
        let max_deadline = check.duration("ATOTI_BRIDGE_MAX_DEADLINE", &tuning.max_deadline);
        let max_in_flight = check.count("ATOTI_BRIDGE_MAX_IN_FLIGHT", &tuning.max_in_flight);
        let drain_grace = check.duration("ATOTI_BRIDGE_DRAIN_GRACE", &tuning.drain_grace);
        let reflection = check.flag("ATOTI_BRIDGE_REFLECTION", &tuning.reflection);
        let log_format = check.log_format("ATOTI_BRIDGE_LOG_FORMAT", tuning.log_format.as_deref());

        let config = || {
            Some(Config {
                listen: listen?,
                upstream: Upstream { url: url?, connect_timeout: connect_timeout?, timeout: timeout? },
                limits: Limits {
                    max_deadline: max_deadline?,
                    max_in_flight: max_in_flight?,
                    drain_grace: drain_grace?,
                },
                reflection: reflection?,
                log_format: log_format?,
            })
        };
        config().ok_or(check.faults)
    }
}

/// Collects faults; each check yields nothing exactly when it has noted one.
#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
}

impl Check {
    fn keep<T>(&mut self, variable: &'static str, value: &str, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|mend| self.faults.push(Fault { variable, value: value.to_owned(), mend })).ok()
    }

    fn address(&mut self, variable: &'static str, value: &str) -> Option<SocketAddr> {
        let checked = value.parse().map_err(|_| {
            "not an IP address with a port; write for example 0.0.0.0:50051 or [::1]:50051".to_owned()
        });
        self.keep(variable, value, checked)
    }

    fn base_url(&mut self, variable: &'static str, value: &str) -> Option<Url> {
        // A password must not be echoed by the very message that complains about it.
        let shown = if value.contains('@') { "(hidden: it holds an @)" } else { value };
        self.keep(variable, shown, base_url(value))
    }

    fn duration(&mut self, variable: &'static str, value: &str) -> Option<Duration> {
        self.keep(variable, value, positive_duration(value))
    }

    fn count(&mut self, variable: &'static str, value: &str) -> Option<NonZeroUsize> {
        // The upper bound is that of the semaphore which keeps the count.
        let checked = match value.parse::<NonZeroUsize>() {
            Ok(count) if count.get() <= 1_000_000 => Ok(count),
            _ => Err("not a whole number from 1 to 1000000".to_owned()),
        };
        self.keep(variable, value, checked)
    }

    fn flag(&mut self, variable: &'static str, value: &str) -> Option<bool> {
        self.keep(variable, value, value.parse().map_err(|_| "write true or false".to_owned()))
    }

    fn log_format(&mut self, variable: &'static str, value: Option<&str>) -> Option<LogFormat> {
        match value {
            None if std::io::stderr().is_terminal() => Some(LogFormat::Text),
            None | Some("json") => Some(LogFormat::Json),
            Some("text") => Some(LogFormat::Text),
            Some(other) => self.keep(variable, other, Err("write text or json".to_owned())),
        }
    }
}

fn base_url(value: &str) -> Result<Url, String> {
    let url = Url::parse(value)
        .map_err(|why| format!("{why}; write for example http://atoti.example:9090/context"))?;
    let mend = if !matches!(url.scheme(), "http" | "https") {
        "the scheme must be http or https"
    } else if url.host_str().is_none_or(str::is_empty) {
        "it has no host; write for example http://atoti.example:9090"
    } else if !url.username().is_empty() || url.password().is_some() {
        "credentials do not belong into the URL; callers send theirs as `authorization` metadata"
    } else if url.query().is_some() || url.fragment().is_some() {
        "leave out everything from ? or # on; only scheme, host, port and context path count"
    } else if url.path().contains("//") || url.path().contains('%') || url.path().contains(';') {
        "the context path holds //, % or ; which Atoti's web server refuses"
    } else {
        return Ok(url);
    };
    Err(mend.to_owned())
}

/// Reads `500ms`, `1s`, `5m`, `1m 30s`, or an ISO 8601 duration such as `PT1S`; up to a day.
///
/// # Errors
///
/// What to write instead.
pub fn duration(value: &str) -> Result<Duration, String> {
    /// Longer than anything sensible, short enough that adding it to a clock cannot overflow.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    let parsed = value.parse::<SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok());
    match parsed {
        None => Err("not a duration; write for example 500ms, 10s or 5m".to_owned()),
        Some(duration) if duration > LONGEST => Err("longer than a day".to_owned()),
        Some(duration) => Ok(duration),
    }
}

fn positive_duration(value: &str) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("must be longer than nothing; write for example 500ms".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn validate(flags: &[&str]) -> Result<Config, Vec<Fault>> {
        let command = Command::try_parse_from(["bridge"].iter().chain(flags)).expect("known flags");
        command.settings.validate()
    }

    #[test]
    fn defaults_are_valid_and_as_documented() {
        let config = validate(&[]).expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.upstream.url.as_str(), "http://127.0.0.1:9090/");
        assert_eq!(config.upstream.connect_timeout, Duration::from_secs(1));
        assert_eq!(config.upstream.timeout, Duration::from_secs(10));
        assert_eq!(config.limits.max_deadline, Duration::from_secs(30));
        assert_eq!(config.limits.max_in_flight.get(), 128);
        assert_eq!(config.limits.drain_grace, Duration::from_secs(15));
        assert!(config.reflection);
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_flag() {
        let faults =
            validate(&["--listen=here", "--upstream-timeout=soon", "--max-in-flight=0"]).expect_err("faults");
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("ATOTI_BRIDGE_LISTEN (--listen) = \"here\": "), "{told:?}");
        assert!(told[1].contains("(--upstream-timeout)") && told[1].contains("10s"), "{told:?}");
        assert!(told[2].contains("(--max-in-flight)") && told[2].contains("1 to 1000000"), "{told:?}");
    }

    #[test]
    fn a_base_url_with_more_than_a_base_is_refused() {
        for url in [
            "atoti:9090",
            "ftp://atoti",
            "http://",
            "http://u:secret@atoti",
            "http://atoti/?a=b",
            "http://atoti/#x",
            "http://atoti//x",
            "http://atoti/a%2fb",
        ] {
            let faults = validate(&[&format!("--upstream-url={url}")]).expect_err(url);
            assert!(!faults[0].to_string().contains("secret"), "{faults:?}");
        }
    }

    #[test]
    fn durations_are_read_in_the_usual_spellings_only() {
        for (text, millis) in
            [("500ms", 500), ("1s", 1000), ("5m", 300_000), ("1m 30s", 90_000), ("PT2S", 2000)]
        {
            assert_eq!(positive_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "-1s", "0s", "1 fortnight", "25h", "99999999999999h"] {
            assert!(positive_duration(text).is_err(), "{text}");
        }
    }
}
