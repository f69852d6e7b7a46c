//! TLS from PEM files: what the bridge shows to its callers, and what it asks of them and of Atoti.
//!
//! Pure: contents of files in, configurations of rustls out. [`files`](crate::files) reads and follows the files.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// What a listening socket shows and asks.
#[derive(Clone, Debug)]
pub struct Server {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// When its certificate ends.
    pub expires: SystemTime,
}

impl Server {
    /// Reads a certificate chain, its key, and the authorities of the callers' certificates; without these, callers
    /// are not asked for any.
    ///
    /// # Errors
    ///
    /// What is wrong with which of them.
    pub fn from_pem(chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, String> {
        let chain = certificates(chain)?;
        let expires = expiry(&chain)?;
        let builder = ServerConfig::builder();
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots(pem)?)).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, private_key(key)?)
            .map_err(|error| format!("certificate and key do not go together: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config), expires })
    }
}

/// The certificates of a PEM file: at least one.
///
/// # Errors
///
/// When there is none, or one cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned()),
    }
}

/// The private key of a PEM file.
///
/// # Errors
///
/// When there is none.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)".to_owned())
}

/// Checks that a chain and a key belong together.
///
/// # Errors
///
/// When they do not.
pub fn matching(chain: &[u8], key: &[u8]) -> Result<(), String> {
    Server::from_pem(chain, key, None).map(drop)
}

/// When the first certificate of a chain ends.
///
/// # Errors
///
/// When it is not X.509.
pub fn expiry(chain: &[CertificateDer<'_>]) -> Result<SystemTime, String> {
    let first = chain.first().and_then(parsed).ok_or("its first certificate is not X.509")?;
    let seconds = u64::try_from(first.validity().not_after.timestamp()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// By what name a caller's certificate calls it: the first URI of its alternative names (a SPIFFE id, in a mesh), else
/// the first DNS name, else the common name.
#[must_use]
pub fn subject_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = parsed(certificate)?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let uri = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let dns = || {
        names.iter().find_map(|name| match name {
            GeneralName::DNSName(dns) => Some(*dns),
            _ => None,
        })
    };
    let common = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    uri.or_else(dns).or_else(common).map(str::to_owned)
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().map(|(_, certificate)| certificate)
}

/// Authorities, from PEM.
///
/// # Errors
///
/// When there is none, or one cannot be read.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| format!("not an authority: {error}"))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the common name");
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
    }

    #[test]
    fn a_caller_is_called_by_its_uri_then_its_dns_name_then_its_common_name() {
        let dns = || SanType::DnsName("reports.example".try_into().expect("ASCII"));
        let uri = || SanType::URI("spiffe://example/reports".try_into().expect("ASCII"));
        for (names, expected) in [
            (vec![dns(), uri()], "spiffe://example/reports"),
            (vec![dns()], "reports.example"),
            (vec![], "the common name"),
        ] {
            assert_eq!(subject_name(&named(names)).as_deref(), Some(expected));
        }
        assert_eq!(subject_name(&CertificateDer::from(vec![1, 2, 3])), None);
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let [(chain, key), (other_chain, other_key)] = [(); 2].map(|()| {
            let key = KeyPair::generate().expect("a key");
            let certificate =
                CertificateParams::new(["localhost".to_owned()]).expect("a name").self_signed(&key);
            (certificate.expect("a certificate").pem().into_bytes(), key.serialize_pem().into_bytes())
        });
        assert!(Server::from_pem(&chain, &key, Some(&other_chain)).is_ok());
        for (chain, key, client_ca, told) in [
            (&chain, &other_key, None, "do not go together"),
            (&key, &key, None, "no certificate"),
            (&chain, &chain, None, "no private key"),
            (&chain, &key, Some(&key), "no certificate"),
        ] {
            let error = Server::from_pem(chain, key, client_ca.map(Vec::as_slice)).expect_err(told);
            assert!(error.contains(told), "{error}");
        }
    }
}
