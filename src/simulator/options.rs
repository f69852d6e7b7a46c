//! What a simulated node is started with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// How a node behaves. The defaults listen on a free loopback port, with security on and an empty history.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 picks a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Empty (the default), or a path such as `/atoti` in front of everything but the control API.
    pub context_path: String,
    /// Where everything random comes from. Default 0.
    pub seed: u64,
    /// Queries of this node that are running at the start and go on until cancelled. Default 0.
    pub running_queries: usize,
    /// Queries of this node that ended within the day before the start. Default 0.
    pub finished_queries: usize,
    /// Queries that begin per second, run for 0.1 to 30 s and end by themselves; 0 (the default) to 10 000.
    pub arrivals_per_second: f64,
    /// Who may log in. Default [`Security::on`].
    pub security: Security,
    /// How long after the 204 a cancelled query turns CANCELLED. Default 200 ms.
    pub cancel_latency: Duration,
    /// The `nodeName` of this node's queries, and which queries it can cancel. Default `node-1`.
    pub node_name: String,
    /// Queries kept; beyond it the oldest ended one is forgotten. Default 200 000. Ignored by a node that shares
    /// another one's history.
    pub history_capacity: usize,
    /// Requests remembered. Default 10 000.
    pub recorded_requests: usize,
    /// How long a connection may wait for the (rest of the) head of a request. Default 60 s.
    pub idle_timeout: Duration,
    /// The answer to this many requests closes the connection. Default 100.
    pub requests_per_connection: usize,
    /// How long a JWT is valid; zero gives tokens that have already expired. Default 12 h.
    pub token_lifetime: Duration,
    /// The offset dates are written with, in hours from UTC, -18 to 18. Default 2.
    pub utc_offset_hours: i8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            context_path: String::new(),
            seed: 0,
            running_queries: 0,
            finished_queries: 0,
            arrivals_per_second: 0.0,
            security: Security::on(),
            cancel_latency: Duration::from_millis(200),
            node_name: "node-1".to_owned(),
            history_capacity: 200_000,
            recorded_requests: 10_000,
            idle_timeout: Duration::from_secs(60),
            requests_per_connection: 100,
            token_lifetime: Duration::from_secs(12 * 3600),
            // Not UTC, so that a client which drops the offset is found out.
            utc_offset_hours: 2,
        }
    }
}

impl Options {
    /// Whether a node can be started with these options.
    ///
    /// # Errors
    ///
    /// What is wrong and what to give instead, naming the option.
    pub fn check(&self) -> Result<(), String> {
        let path = &self.context_path;
        if !path.is_empty() && (!path.starts_with('/') || path.ends_with('/') || !path.bytes().all(plain)) {
            return Err(format!(
                "context_path {path:?}: give nothing, or a path like /atoti that starts with a slash and does not end with one"
            ));
        }
        if path == "/simulator" || path.starts_with("/simulator/") {
            return Err("context_path: /simulator is taken by the control API".to_owned());
        }
        if !(0.0..=10_000.0).contains(&self.arrivals_per_second) {
            return Err(format!("arrivals_per_second {}: give 0 to 10000", self.arrivals_per_second));
        }
        if !(-18..=18).contains(&self.utc_offset_hours) {
            return Err(format!("utc_offset_hours {}: give -18 to 18", self.utc_offset_hours));
        }
        if self.history_capacity == 0 || self.requests_per_connection == 0 || self.idle_timeout.is_zero() {
            return Err("history_capacity, requests_per_connection and idle_timeout must not be 0".to_owned());
        }
        Ok(())
    }
}

/// Whether a byte may stand in a context path.
const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~')
}

/// Whether callers must log in.
#[derive(Clone, Debug)]
pub enum Security {
    /// Everybody may do everything; there is no token endpoint.
    Off,
    /// Basic or a JWT, and roles: `ROLE_USER` for everything, `ROLE_ADMIN` to delete.
    On {
        /// Who may log in.
        users: Vec<User>,
    },
}

impl Security {
    /// Security with three users, each with its name as password: `admin` (`ROLE_ADMIN`, `ROLE_USER`), `user`
    /// (`ROLE_USER`) and `guest` (`ROLE_GUEST`, which is good for nothing but a token).
    #[must_use]
    pub fn on() -> Self {
        Self::On {
            users: vec![
                User::new("admin", "admin", &["ROLE_ADMIN", "ROLE_USER"]),
                User::new("user", "user", &["ROLE_USER"]),
                User::new("guest", "guest", &["ROLE_GUEST"]),
            ],
        }
    }
}

/// Somebody who may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, without a colon.
    pub name: String,
    /// The password.
    pub password: String,
    /// Such as `ROLE_USER`.
    pub roles: Vec<String>,
}

impl User {
    /// A user.
    #[must_use]
    pub fn new(name: &str, password: &str, roles: &[&str]) -> Self {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        Self { name: name.to_owned(), password: password.to_owned(), roles }
    }
}
