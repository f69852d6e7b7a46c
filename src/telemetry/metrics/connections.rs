//! The connections that calls come over.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::Counted;

/// See the module.
#[derive(Debug)]
pub struct Connections {
    open: Gauge,
    limit: Gauge,
    refused: Counter,
    accept_errors: Counter,
    handshake_failures: Counter,
}

impl Connections {
    pub(super) fn register(ours: &mut Registry) -> Self {
        let connections = Self {
            open: Gauge::default(),
            limit: Gauge::default(),
            refused: Counter::default(),
            accept_errors: Counter::default(),
            handshake_failures: Counter::default(),
        };
        ours.register("connections", "Connections open", connections.open.clone());
        ours.register("connections_limit", "Connections that may be open at once", connections.limit.clone());
        ours.register(
            "connections_refused",
            "Connections closed at once because as many as allowed were open",
            connections.refused.clone(),
        );
        ours.register(
            "accept_errors",
            "Connections that could not be accepted, mostly for want of file descriptors",
            connections.accept_errors.clone(),
        );
        ours.register(
            "tls_handshake_failures",
            "Connections whose TLS handshake failed or took too long",
            connections.handshake_failures.clone(),
        );
        connections
    }

    /// As many may be open at once.
    pub fn limit(&self, connections: usize) {
        self.limit.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// One is open for as long as the value given back lives.
    #[must_use]
    pub fn opened(&self) -> Counted {
        Counted::new(&self.open)
    }

    /// One was closed at once, because as many as allowed were open.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// One could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    /// One came to no TLS.
    pub fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }
}
