//! What callers are shown and asked: TLS, client certificates, and who may call at all.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;

use super::{Credentials, Listen, check::Check};
use crate::{files, tls};

/// The side of the callers, as text.
#[derive(Clone, Debug, Default, Args)]
pub struct CallerSettings {
    /// Certificate to show to callers, with its chain; PEM. With it, gRPC is served over TLS only
    #[arg(long, env = "ATOTI_BRIDGE_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<String>,

    /// Key of that certificate; PEM
    #[arg(long, env = "ATOTI_BRIDGE_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<String>,

    /// Authorities that callers' certificates must come from; PEM. With it, callers must show one (mTLS)
    #[arg(long, env = "ATOTI_BRIDGE_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    pub tls_client_ca_file: Option<String>,

    /// Callers that may call, by the names in their certificates (URI, else DNS, else common name), separated by
    /// commas [default: all whose certificate is good]
    #[arg(long, env = "ATOTI_BRIDGE_TLS_CLIENT_NAMES", value_name = "NAMES")]
    pub tls_client_names: Option<String>,

    /// Take calls from whoever reaches the address although the bridge calls Atoti with its own credentials: true
    /// where a mesh authenticates callers [default: false]
    #[arg(long, env = "ATOTI_BRIDGE_ALLOW_ANONYMOUS_CALLERS", value_name = "BOOL")]
    pub allow_anonymous_callers: Option<String>,
}

/// The side of the callers.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// The files that gRPC is served with over TLS.
    pub tls: Option<TlsFiles>,
    /// Who may call; everybody when empty. `ATOTI_BRIDGE_TLS_CLIENT_NAMES`.
    pub names: BTreeSet<String>,
}

/// Files of TLS with callers.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// `ATOTI_BRIDGE_TLS_CERT_FILE`.
    pub cert: PathBuf,
    /// `ATOTI_BRIDGE_TLS_KEY_FILE`.
    pub key: PathBuf,
    /// `ATOTI_BRIDGE_TLS_CLIENT_CA_FILE`.
    pub client_ca: Option<PathBuf>,
}

const CERT: &str = "ATOTI_BRIDGE_TLS_CERT_FILE";
const KEY: &str = "ATOTI_BRIDGE_TLS_KEY_FILE";
const CLIENT_CA: &str = "ATOTI_BRIDGE_TLS_CLIENT_CA_FILE";
const NAMES: &str = "ATOTI_BRIDGE_TLS_CLIENT_NAMES";
const ANONYMOUS: &str = "ATOTI_BRIDGE_ALLOW_ANONYMOUS_CALLERS";

impl CallerSettings {
    pub(super) fn validate(
        &self,
        listen: Option<&Listen>,
        credentials: Option<&Credentials>,
        check: &mut Check,
    ) -> Option<Callers> {
        let tls = self.tls_files(check);
        let names = self.names(check);
        let anonymous = check.flag(ANONYMOUS, self.allow_anonymous_callers.as_deref().unwrap_or("false"));
        let asked_for_certificates = self.tls_client_ca_file.is_some();
        if let (Some(listen), Some(Credentials::Own(..)), Some(false)) = (listen, credentials, anonymous)
            && !listen.is_local()
            && !asked_for_certificates
        {
            return check.refuse(
                ANONYMOUS,
                "false",
                "whoever reaches the address could cancel with the bridge's own credentials: ask callers for certificates (ATOTI_BRIDGE_TLS_CLIENT_CA_FILE), listen on a loopback address, or write true where a mesh authenticates callers",
            );
        }
        anonymous?;
        Some(Callers { tls: tls?, names: names? })
    }

    fn tls_files(&self, check: &mut Check) -> Option<Option<TlsFiles>> {
        let cert = check.file(CERT, self.tls_cert_file.as_ref(), tls::certificates);
        let key = check.file(KEY, self.tls_key_file.as_ref(), tls::private_key);
        let client_ca = check.file(CLIENT_CA, self.tls_client_ca_file.as_ref(), tls::certificates);
        let files = match (cert?, key?, client_ca?) {
            (Some(cert), Some(key), client_ca) => TlsFiles { cert, key, client_ca },
            (None, None, None) => return Some(None),
            (Some(_), None, _) => {
                return check.refuse(KEY, "", "a certificate needs its key: give both files");
            }
            (None, Some(_), _) => {
                return check.refuse(CERT, "", "a key needs its certificate: give both files");
            }
            (None, None, Some(_)) => {
                return check.refuse(
                    CERT,
                    "",
                    "callers show certificates over TLS only: give the bridge's own, too",
                );
            }
        };
        let loaded = files.paths().iter().map(|path| files::read(path)).collect::<Result<Vec<_>, _>>();
        let fits = loaded.and_then(|contents| TlsFiles::parse(&contents));
        check.keep(KEY, self.tls_key_file.as_deref().unwrap_or_default(), fits)?;
        Some(Some(files))
    }

    fn names(&self, check: &mut Check) -> Option<BTreeSet<String>> {
        let Some(text) = &self.tls_client_names else { return Some(BTreeSet::new()) };
        if self.tls_client_ca_file.is_none() {
            return check.refuse(
                NAMES,
                text,
                "names are those of certificates: give ATOTI_BRIDGE_TLS_CLIENT_CA_FILE, too",
            );
        }
        let names: BTreeSet<String> =
            text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return check.refuse(
                NAMES,
                text,
                "it names nobody; leave it out to let every good certificate in",
            );
        }
        Some(names)
    }
}

impl TlsFiles {
    /// In the order that [`TlsFiles::parse`] takes their contents.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Reads the contents of the files.
    ///
    /// # Errors
    ///
    /// What is wrong with which of them.
    pub fn parse(contents: &[Vec<u8>]) -> Result<tls::Server, String> {
        match contents {
            [cert, key] => tls::Server::from_pem(cert, key, None),
            [cert, key, client_ca] => tls::Server::from_pem(cert, key, Some(client_ca)),
            _ => Err("two or three files are wanted".to_owned()),
        }
    }
}
