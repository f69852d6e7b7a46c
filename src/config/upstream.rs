//! Where Atoti is, how TLS with it is set up, and with whose credentials it is called.

use std::{fmt, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{Tuning, check::Check, nodes::nodes};
use crate::tls;

/// Atoti, as text.
#[derive(Clone, Debug, Args)]
pub struct UpstreamSettings {
    /// Base URL of the Atoti Server, with its context path if it has one
    #[arg(
        long,
        env = "ATOTI_BRIDGE_UPSTREAM_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090"
    )]
    pub upstream_url: String,

    /// Where each Atoti node can be reached, when there are several: a JSON object of base URLs by nodeName; read again
    /// when it changes
    #[arg(long, env = "ATOTI_BRIDGE_NODES_FILE", value_name = "FILE")]
    pub nodes_file: Option<String>,

    /// Authorities that Atoti's certificate may come from, instead of the system's; PEM
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_CA_FILE", value_name = "FILE")]
    pub upstream_ca_file: Option<String>,

    /// Certificate to show to Atoti, with its chain; PEM
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_CLIENT_CERT_FILE", value_name = "FILE")]
    pub upstream_client_cert_file: Option<String>,

    /// Key of that certificate; PEM
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_CLIENT_KEY_FILE", value_name = "FILE")]
    pub upstream_client_key_file: Option<String>,

    /// Whose credentials Atoti gets: forward (each caller's own), or the bridge's: basic, bearer or jwt (a token that
    /// Atoti itself issues, fetched and renewed)
    #[arg(long, env = "ATOTI_BRIDGE_CREDENTIALS", value_name = "MODE", default_value = "forward")]
    pub credentials: String,

    /// The bridge's own: `user:password` for basic and jwt, the token for bearer; read again when it changes
    #[arg(long, env = "ATOTI_BRIDGE_CREDENTIALS_FILE", value_name = "FILE")]
    pub credentials_file: Option<String>,
}

impl UpstreamSettings {
    /// Plain HTTP with the callers' credentials.
    #[must_use]
    pub fn plain(url: &str) -> Self {
        Self {
            upstream_url: url.to_owned(),
            nodes_file: None,
            upstream_ca_file: None,
            upstream_client_cert_file: None,
            upstream_client_key_file: None,
            credentials: "forward".to_owned(),
            credentials_file: None,
        }
    }

    pub(super) fn validate(&self, tuning: &Tuning, check: &mut Check) -> Option<Upstream> {
        let url = check.base_url("ATOTI_BRIDGE_UPSTREAM_URL", &self.upstream_url);
        let nodes = check.file("ATOTI_BRIDGE_NODES_FILE", self.nodes_file.as_ref(), nodes);
        let files = self.tls_files(url.as_ref(), check);
        let credentials = self.own_credentials(check);
        let connect_timeout =
            check.duration("ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT", &tuning.upstream_connect_timeout);
        let timeout = check.duration("ATOTI_BRIDGE_UPSTREAM_TIMEOUT", &tuning.upstream_timeout);
        let max_connections =
            check.count("ATOTI_BRIDGE_UPSTREAM_MAX_CONNECTIONS", &tuning.upstream_max_connections);
        let max_body = check.bytes("ATOTI_BRIDGE_UPSTREAM_MAX_BODY", &tuning.upstream_max_body);
        Some(Upstream {
            url: url?,
            nodes: nodes?,
            connect_timeout: connect_timeout?,
            timeout: timeout?,
            max_connections: max_connections?,
            max_body: max_body?,
            files: files?,
            credentials: credentials?,
        })
    }

    fn tls_files(&self, url: Option<&Url>, check: &mut Check) -> Option<UpstreamFiles> {
        const CERT: &str = "ATOTI_BRIDGE_UPSTREAM_CLIENT_CERT_FILE";
        const KEY: &str = "ATOTI_BRIDGE_UPSTREAM_CLIENT_KEY_FILE";
        let ca =
            check.file("ATOTI_BRIDGE_UPSTREAM_CA_FILE", self.upstream_ca_file.as_ref(), tls::certificates);
        let cert = check.file(CERT, self.upstream_client_cert_file.as_ref(), tls::certificates);
        let key = check.file(KEY, self.upstream_client_key_file.as_ref(), tls::private_key);
        let (ca, cert, key) = (ca?, cert?, key?);
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return check.refuse(KEY, "", "a client certificate needs its key: give both files");
            }
            (None, Some(_)) => {
                return check.refuse(CERT, "", "a client key needs its certificate: give both files");
            }
        };
        let files = UpstreamFiles { ca, identity };
        if files.is_some() && url.is_some_and(|url| url.scheme() == "http") {
            let mend = "certificates are given for Atoti, but the URL says http: write https";
            return check.refuse("ATOTI_BRIDGE_UPSTREAM_URL", &self.upstream_url, mend);
        }
        Some(files)
    }

    fn own_credentials(&self, check: &mut Check) -> Option<Credentials> {
        const MODE: &str = "ATOTI_BRIDGE_CREDENTIALS";
        const FILE: &str = "ATOTI_BRIDGE_CREDENTIALS_FILE";
        let scheme = match &*self.credentials {
            "forward" if self.credentials_file.is_none() => return Some(Credentials::Forward),
            "forward" => {
                return check.refuse(MODE, "forward", "a file is given for the bridge's own credentials: write basic, bearer or jwt, or leave the file out");
            }
            "basic" => Scheme::Basic,
            "bearer" => Scheme::Bearer,
            "jwt" => Scheme::Jwt,
            other => return check.refuse(MODE, other, "write forward, basic, bearer or jwt"),
        };
        if self.credentials_file.is_none() {
            let mend = format!("--credentials={} needs the file that holds them", self.credentials);
            return check.refuse(FILE, "", &mend);
        }
        let file = check.file(FILE, self.credentials_file.as_ref(), |content| scheme.read(content))??;
        Some(Credentials::Own(scheme, file))
    }
}

/// Atoti, and how long to bear with it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Base URL without user, query and fragment; its path is the context path. `ATOTI_BRIDGE_UPSTREAM_URL`.
    pub url: Url,
    /// The file that says where each node is. `ATOTI_BRIDGE_NODES_FILE`.
    pub nodes: Option<PathBuf>,
    /// Per attempt. `ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT`, default 1 s: inside a data centre a slower connect is a
    /// dead host, and a cancel should be tried elsewhere.
    pub connect_timeout: Duration,
    /// Per attempt. `ATOTI_BRIDGE_UPSTREAM_TIMEOUT`, default 10 s.
    pub timeout: Duration,
    /// Requests at work at Atoti at once. `ATOTI_BRIDGE_UPSTREAM_MAX_CONNECTIONS`, default 64.
    pub max_connections: NonZeroUsize,
    /// Bytes of body that are read of an answer at most. `ATOTI_BRIDGE_UPSTREAM_MAX_BODY`, default 8 MiB: a thousand
    /// queries of 8 KiB each.
    pub max_body: NonZeroUsize,
    /// For TLS.
    pub files: UpstreamFiles,
    /// Whose credentials Atoti gets.
    pub credentials: Credentials,
}

impl Upstream {
    /// An Atoti with the callers' credentials and every other setting at its default.
    #[must_use]
    pub fn at(url: Url) -> Self {
        Self {
            url,
            nodes: None,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            max_connections: const { NonZeroUsize::new(64).expect("not zero") },
            max_body: const { NonZeroUsize::new(8 * 1024 * 1024).expect("not zero") },
            files: UpstreamFiles::default(),
            credentials: Credentials::Forward,
        }
    }
}

/// The files of TLS with Atoti. Without any, the system's authorities count.
#[derive(Clone, Debug, Default)]
pub struct UpstreamFiles {
    /// `ATOTI_BRIDGE_UPSTREAM_CA_FILE`.
    pub ca: Option<PathBuf>,
    /// `ATOTI_BRIDGE_UPSTREAM_CLIENT_CERT_FILE` and `_KEY_FILE`.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl UpstreamFiles {
    const fn is_some(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }
}

/// Whose credentials Atoti gets. `ATOTI_BRIDGE_CREDENTIALS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Each caller's own `authorization`.
    Forward,
    /// The bridge's, from a file. A caller's `authorization` goes nowhere.
    Own(Scheme, PathBuf),
}

impl Credentials {
    /// The mode, as it is set.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Own(Scheme::Basic, _) => "basic",
            Self::Own(Scheme::Bearer, _) => "bearer",
            Self::Own(Scheme::Jwt, _) => "jwt",
        }
    }
}

/// What the bridge's own credentials are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A user and a password, sent along with every request.
    Basic,
    /// A token, sent along with every request.
    Bearer,
    /// A user and a password, sent to Atoti's token endpoint only.
    Jwt,
}

/// What a credentials file says.
#[derive(Clone)]
pub enum Secret {
    /// `user:password`.
    Login(SecretString),
    /// A token.
    Token(SecretString),
}

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Login(secret) | Self::Token(secret) => secret.expose_secret(),
        }
    }
}

/// Without the text.
impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

impl Scheme {
    /// Reads a credentials file: its first line, and nothing behind it.
    ///
    /// # Errors
    ///
    /// What it should hold; never what it holds.
    pub fn read(self, content: &[u8]) -> Result<Secret, String> {
        let line = one_line(content)?;
        match self {
            Self::Basic | Self::Jwt if line.find(':').is_none_or(|colon| colon == 0) => {
                Err("write user:password into it, on one line".to_owned())
            }
            Self::Basic | Self::Jwt => Ok(Secret::Login(line.into())),
            Self::Bearer if line.contains(|c: char| !c.is_ascii_graphic()) => {
                Err("write the token into it, on one line, without \"Bearer\"".to_owned())
            }
            Self::Bearer => Ok(Secret::Token(line.into())),
        }
    }
}

/// The one line that a file with a secret consists of.
///
/// # Errors
///
/// What it should hold; never what it holds.
pub fn one_line(content: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains(char::is_control) {
        return Err("write one line, and nothing else, into it".to_owned());
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_one_line_of_the_right_form_and_is_never_quoted() {
        for (scheme, content, good) in [
            (Scheme::Basic, "ada:s3cret:\u{e4}\r\n", true),
            (Scheme::Jwt, "ada:", true),
            (Scheme::Bearer, "abc.def-_=\n", true),
            (Scheme::Basic, "s3cret", false),
            (Scheme::Basic, ":s3cret", false),
            (Scheme::Jwt, "ada:s3cret\nbob:s3cret\n", false),
            (Scheme::Bearer, "Bearer s3cret", false),
            (Scheme::Bearer, "\n", false),
        ] {
            match scheme.read(content.as_bytes()) {
                Ok(secret) => assert!(good && !format!("{secret:?}").contains("s3cret"), "{content:?}"),
                Err(told) => assert!(!good && !told.contains("s3cret"), "{content:?}: {told}"),
            }
        }
        assert!(Scheme::Bearer.read(&[0xff]).is_err());
    }
}
