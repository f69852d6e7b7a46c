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
//!
//! To call a bridge from Rust, [`client`] is enough: depend on this crate with
//! `default-features = false, features = ["client"]`, and no more than a client needs is compiled.

#[cfg(feature = "client")]
pub mod proto;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "bridge")]
pub mod files;
#[cfg(feature = "bridge")]
pub mod tls;

#[cfg(feature = "bridge")]
pub mod config;

#[cfg(feature = "bridge")]
pub mod atoti;

#[cfg(feature = "bridge")]
pub mod status;

#[cfg(feature = "bridge")]
pub mod service;

#[cfg(feature = "bridge")]
pub mod server;

#[cfg(feature = "bridge")]
pub mod audit;
#[cfg(feature = "bridge")]
pub mod telemetry;

#[cfg(feature = "bridge")]
pub mod simulator;

#[cfg(feature = "bridge")]
pub mod cli;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

/// Makes ring the crypto provider of this process; a provider that is there already stays.
///
/// Call it before an [`atoti::Atoti`] is made: rustls refuses to guess, and the HTTP client panics without one.
#[cfg(feature = "bridge")]
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
