//! Checking settings: each check yields a typed value, or notes what is wrong and what to write instead.

use std::{fmt, io::IsTerminal as _, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use http::uri::Authority;
use jiff::SignedDuration;
use rustls::pki_types::ServerName;
use url::Url;

use super::{AuditLog, Listen, LogFormat};
use crate::files;

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

/// Collects faults; each check yields nothing exactly when it has noted one.
#[derive(Default)]
pub(super) struct Check {
    pub(super) faults: Vec<Fault>,
}

impl Check {
    pub(super) fn keep<T>(
        &mut self,
        variable: &'static str,
        value: &str,
        checked: Result<T, String>,
    ) -> Option<T> {
        checked.map_err(|mend| self.faults.push(Fault { variable, value: value.to_owned(), mend })).ok()
    }

    pub(super) fn refuse<T>(&mut self, variable: &'static str, value: &str, mend: &str) -> Option<T> {
        self.keep(variable, value, Err(mend.to_owned()))
    }

    /// An IP address with a port.
    pub(super) fn address(&mut self, variable: &'static str, value: &str) -> Option<SocketAddr> {
        let checked = value.parse().map_err(|_| {
            "not an IP address with a port; write for example 0.0.0.0:50051 or [::1]:50051".to_owned()
        });
        self.keep(variable, value, checked)
    }

    /// The same, or `unix:` and a path.
    pub(super) fn listen(&mut self, variable: &'static str, value: &str) -> Option<Listen> {
        match unix_path(value) {
            None => self.address(variable, value).map(Listen::Tcp),
            Some(path) => self.keep(variable, value, path).map(Listen::Unix),
        }
    }

    pub(super) fn base_url(&mut self, variable: &'static str, value: &str) -> Option<Url> {
        // A password must not be echoed by the very message that complains about it.
        let shown = if value.contains('@') { "(hidden: it holds an @)" } else { value };
        self.keep(variable, shown, base_url(value))
    }

    /// Longer than nothing.
    pub(super) fn duration(&mut self, variable: &'static str, value: &str) -> Option<Duration> {
        self.keep(variable, value, positive_duration(value))
    }

    /// Nothing, or longer.
    pub(super) fn delay(&mut self, variable: &'static str, value: &str) -> Option<Duration> {
        self.keep(variable, value, duration(value))
    }

    pub(super) fn count(&mut self, variable: &'static str, value: &str) -> Option<NonZeroUsize> {
        // The upper bound is that of the semaphore which keeps the count.
        let checked = match value.parse::<NonZeroUsize>() {
            Ok(count) if count.get() <= 1_000_000 => Ok(count),
            _ => Err("not a whole number from 1 to 1000000".to_owned()),
        };
        self.keep(variable, value, checked)
    }

    pub(super) fn bytes(&mut self, variable: &'static str, value: &str) -> Option<NonZeroUsize> {
        let checked = match value.parse::<NonZeroUsize>() {
            Ok(bytes) if (64 * 1024..=1024 * 1024 * 1024).contains(&bytes.get()) => Ok(bytes),
            _ => Err("not a whole number of bytes from 65536 (64 KiB) to 1073741824 (1 GiB)".to_owned()),
        };
        self.keep(variable, value, checked)
    }

    pub(super) fn flag(&mut self, variable: &'static str, value: &str) -> Option<bool> {
        self.keep(variable, value, value.parse().map_err(|_| "write true or false".to_owned()))
    }

    pub(super) fn log_format(&mut self, variable: &'static str, value: Option<&str>) -> Option<LogFormat> {
        match value {
            None if std::io::stderr().is_terminal() => Some(LogFormat::Text),
            None | Some("json") => Some(LogFormat::Json),
            Some("text") => Some(LogFormat::Text),
            Some(other) => self.refuse(variable, other, "write text or json"),
        }
    }

    /// A share: 0 to 1.
    pub(super) fn ratio(&mut self, variable: &'static str, value: &str) -> Option<f64> {
        let checked = match value.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err("not a number from 0 to 1; write for example 0.01".to_owned()),
        };
        self.keep(variable, value, checked)
    }

    /// A standard stream, or a file that can be appended to.
    pub(super) fn audit_log(&mut self, variable: &'static str, value: &str) -> Option<AuditLog> {
        let checked = match value {
            "stdout" => Ok(AuditLog::Stdout),
            "stderr" => Ok(AuditLog::Stderr),
            // A word without a slash is rather a slip of the pen than a file in whatever folder this is.
            path if path.contains('/') => match files::append_to(path.as_ref()) {
                Ok(_) => Ok(AuditLog::File(path.into())),
                Err(error) => Err(format!("it cannot be appended to: {error}")),
            },
            _ => Err("write stdout, stderr, or the path of a file, such as ./audit.log".to_owned()),
        };
        self.keep(variable, value, checked)
    }

    /// A file that can be read and whose content fits, where one is given.
    pub(super) fn file<T>(
        &mut self,
        variable: &'static str,
        path: Option<&String>,
        fits: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Option<Option<PathBuf>> {
        let Some(path) = path else { return Some(None) };
        let file = PathBuf::from(path);
        let checked = files::read(&file).and_then(|content| fits(&content)).map(|_| Some(file));
        self.keep(variable, path, checked)
    }
}

pub(super) fn base_url(value: &str) -> Result<Url, String> {
    let url = Url::parse(value)
        .map_err(|why| format!("{why}; write for example http://atoti.example:9090/context"))?;
    let mend = if !matches!(url.scheme(), "http" | "https") {
        "the scheme must be http or https"
    } else if url.host_str().is_none_or(str::is_empty) {
        "it has no host; write for example http://atoti.example:9090"
    } else if !is_a_host(&url) {
        "its host is neither a name nor an address; was a template not filled in?"
    } else if !url.username().is_empty() || url.password().is_some() {
        "credentials do not belong into the URL; callers send theirs as `authorization` metadata, and the bridge's own come from ATOTI_BRIDGE_CREDENTIALS_FILE"
    } else if url.query().is_some() || url.fragment().is_some() {
        "leave out everything from ? or # on; only scheme, host, port and context path count"
    } else if url.path().contains("//") || url.path().contains('%') || url.path().contains(';') {
        "the context path holds //, % or ; which Atoti's web server refuses"
    } else {
        return Ok(url);
    };
    Err(mend.to_owned())
}

/// Whether a host can be connected to and asked for a certificate: URLs may have hosts that are none, `{name}` for one.
fn is_a_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name).is_ok() && Authority::try_from(host).is_ok()
}

/// The path of a Unix socket, where a value is `unix:` and a path; what to write instead, where that is no file's.
#[must_use]
pub fn unix_path(value: &str) -> Option<Result<PathBuf, String>> {
    // gRPC's name syntax: `unix:path` or `unix:///absolute/path`.
    let path = value.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(if path.is_empty() || path.ends_with('/') {
        Err("it has no file name; write for example unix:/run/bridge/grpc.sock".to_owned())
    } else {
        Ok(PathBuf::from(path))
    })
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
    use super::*;

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
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_socket_is_a_tcp_address_or_a_unix_path() {
        let listen = |value| Check::default().listen("X", value);
        let unix = |path: &str| Some(Listen::Unix(PathBuf::from(path)));
        assert_eq!(listen("[::1]:1"), Some(Listen::Tcp(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1)))));
        assert_eq!(listen("unix:/run/a.sock"), unix("/run/a.sock"));
        assert_eq!(listen("unix:///run/a.sock"), unix("/run/a.sock"));
        assert_eq!(listen("unix:a.sock"), unix("a.sock"));
        for wrong in ["unix:", "unix:/run/", "unix://", "localhost:1", "1.2.3.4"] {
            assert_eq!(listen(wrong), None, "{wrong}");
        }
    }
}
