//! What must hold of settings and of the files they name, whatever is in them. Each function panics where it does not;
//! `fuzz/` calls them by way of [`crate::fuzzing`].

use std::{collections::BTreeMap, time::Duration};

use serde::de::IgnoredAny;

use super::{Callers, Credentials, Scheme, Settings, TlsFiles, nodes, one_line};
use crate::tls;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of any text are refused with what to write instead, or are within their bounds; and no password is told.
pub(crate) fn settings(settings: &Settings, secret: &str) {
    let config = match settings.validate() {
        Ok(config) => config,
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            for fault in faults {
                assert!(!fault.mend.is_empty(), "{fault}");
                assert!(!format!("{fault} {fault:?}").contains(secret), "a password is told: {fault}");
            }
            return;
        }
    };
    let url = &config.upstream.url;
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
    assert!(url[..url::Position::BeforePath].parse::<http::Uri>().is_ok(), "{url}");
    let limits = &config.limits;
    for positive in [limits.max_deadline, limits.max_connection_age, config.upstream.timeout] {
        assert!(positive > Duration::ZERO && positive <= DAY, "{positive:?}");
    }
    assert!(limits.drain_delay <= DAY && limits.drain_grace <= DAY);
    assert!(limits.max_in_flight.get() <= 1_000_000 && limits.max_connections.get() <= 1_000_000);
    assert!((0.0..=1.0).contains(&config.access_log_ratio));
    let Callers { tls, names } = &config.callers;
    assert!(tls.is_none() && names.is_empty(), "no files were given");
    assert_eq!(config.upstream.credentials, Credentials::Forward, "no file was given");
}

/// The files that settings name: read or refused, and never quoted.
pub(crate) fn files(content: &[u8], secret: &str) {
    let told = |told: String| assert!(!told.contains(secret), "a secret is told: {told}");
    for scheme in [Scheme::Basic, Scheme::Bearer, Scheme::Jwt] {
        match scheme.read(content) {
            Ok(read) => told(format!("{read:?}")),
            Err(mend) => told(mend),
        }
    }
    if let Err(mend) = one_line(content) {
        told(mend);
    }
    match nodes(content) {
        Ok(nodes) => {
            assert!(!nodes.is_empty());
            for (name, url) in nodes {
                assert!((1..=128).contains(&name.chars().count()), "{name}");
                assert!(matches!(url.scheme(), "http" | "https") && url.password().is_none(), "{url}");
            }
        }
        // A name is told, whatever it is.
        Err(_) if is_in_a_name(content, secret) => {}
        Err(mend) => told(mend),
    }
    if let Err(mend) = tls::private_key(content) {
        told(mend);
    }
    if let Ok(chain) = tls::certificates(content) {
        let _ = tls::expiry(&chain);
        let _ = tls::subject_name(&chain[0]);
        let _ = TlsFiles::parse(&[content.to_vec(), content.to_vec(), content.to_vec()]);
    }
}

fn is_in_a_name(content: &[u8], secret: &str) -> bool {
    let names = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(content);
    names.is_ok_and(|names| names.keys().any(|name| name.contains(secret)))
}
