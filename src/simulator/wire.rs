//! The HTTP server proper: connections, and what happens to a request before and after the API sees it.

pub(super) mod connection;
pub(super) mod exchange;
mod firewall;
pub(super) mod recorder;
