//! A gRPC front for the Query History REST API of an Atoti Server: it stops runaway queries, and never says that it
//! did when it did not.
//!
//! A call walks through four rooms in a straight line and comes back the same way:
//!
//! ```text
//! gRPC in ─► server ─► service ─► atoti ─► HTTP out
//!              ▲          │          │
//!              └── status ◄┴──────────┘   every failure, from any room, becomes a Status here and only here
//! ```
//!
//! `docs/ARCHITECTURE.md` walks through it with two calls.

pub mod proto;

pub mod files;
pub mod tls;

pub mod config;

pub mod atoti;

pub mod status;

pub mod service;

pub mod server;

pub mod audit;
pub mod telemetry;

pub mod simulator;

pub mod cli;

/// Makes ring the crypto provider of this process; a provider that is there already stays.
///
/// Call it before an [`atoti::Atoti`] is made: rustls refuses to guess, and the HTTP client panics without one.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
