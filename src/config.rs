//! Settings: their names, defaults and rules, and the typed values the rest of the program runs on.
//!
//! [`Settings`] is what a person wrote (flags and environment variables, as text); [`Settings::validate`] turns it
//! into a [`Config`] or lists every fault at once, each with its mend. Nothing else reads the environment, but for
//! `RUST_LOG` and OpenTelemetry's own variables, which [`telemetry`](crate::telemetry) reads. One file per concern:
//! `upstream` (Atoti), `nodes` (where each of its nodes is), `callers` (TLS and who may call), `places` (where calls come
//! in and records go out); the rest is here.

mod callers;
mod check;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod nodes;
mod places;
mod upstream;

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use clap::Args;

use self::check::Check;
pub use self::{
    callers::{CallerSettings, Callers, TlsFiles},
    check::{Fault, duration, unix_path},
    nodes::nodes,
    places::{AuditLog, Listen},
    upstream::{Credentials, Scheme, Secret, Upstream, UpstreamFiles, UpstreamSettings, one_line},
};

/// Where the bridge listens when nothing else is said: gRPC's customary port, reachable from this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:50051";
/// Where metrics and probes are served when nothing else is said.
pub const DEFAULT_ADMIN_LISTEN: &str = "127.0.0.1:9464";

/// What a person may set, still as text.
///
/// Every value is text here so that all faults can be told at once rather than the first one only.
#[derive(Clone, Debug, Args)]
#[expect(missing_docs, reason = "doc comments on flattened groups would replace the command's own help text")]
pub struct Settings {
    /// Address to serve gRPC on, or unix:PATH for a Unix socket; port 0 picks a free one, which the `listening` log
    /// line names
    #[arg(long, env = "ATOTI_BRIDGE_LISTEN", value_name = "IP:PORT", default_value = DEFAULT_LISTEN)]
    pub listen: String,

    #[command(flatten)]
    pub upstream: UpstreamSettings,

    #[command(flatten)]
    pub callers: CallerSettings,

    /// How long to serve on after SIGTERM or Ctrl-C, while health says NOT_SERVING, until clients have noticed
    #[arg(long, env = "ATOTI_BRIDGE_DRAIN_DELAY", value_name = "DURATION", default_value = "5s")]
    pub drain_delay: String,

    /// Where audit records go: stdout, stderr, or the path of a file, which may be rotated
    #[arg(long, env = "ATOTI_BRIDGE_AUDIT_LOG", value_name = "WHERE", default_value = "stdout")]
    pub audit_log: String,

    /// Refuse cancels and deletions while their audit records cannot be written: true or false
    #[arg(long, env = "ATOTI_BRIDGE_AUDIT_REQUIRED", value_name = "BOOL", default_value = "false")]
    pub audit_required: String,

    #[command(flatten)]
    pub tuning: Tuning,
}

/// The settings that have a good value for nearly everybody; `demo` takes them too.
#[derive(Clone, Debug, Args)]
pub struct Tuning {
    /// Address to serve metrics and probes on (HTTP: /metrics, /livez, /readyz); port 0 picks a free one
    #[arg(long, env = "ATOTI_BRIDGE_ADMIN_LISTEN", value_name = "IP:PORT", default_value = DEFAULT_ADMIN_LISTEN)]
    pub admin_listen: String,

    /// How long one attempt may take to connect to Atoti, TLS included
    #[arg(
        long,
        env = "ATOTI_BRIDGE_UPSTREAM_CONNECT_TIMEOUT",
        value_name = "DURATION",
        default_value = "1s"
    )]
    pub upstream_connect_timeout: String,

    /// How long one attempt at Atoti may take in all
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub upstream_timeout: String,

    /// Requests at work at Atoti at once; an admitted call waits for its turn inside its deadline
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_MAX_CONNECTIONS", value_name = "COUNT", default_value = "64")]
    pub upstream_max_connections: String,

    /// Bytes read of one answer of Atoti at most; a longer listing is read in smaller pages
    #[arg(long, env = "ATOTI_BRIDGE_UPSTREAM_MAX_BODY", value_name = "BYTES", default_value = "8388608")]
    pub upstream_max_body: String,

    /// Longest deadline a call may have, and the deadline of callers that send no `grpc-timeout`
    #[arg(long, env = "ATOTI_BRIDGE_MAX_DEADLINE", value_name = "DURATION", default_value = "30s")]
    pub max_deadline: String,

    /// Calls at work at once; the next one is refused at once with RESOURCE_EXHAUSTED. A quarter is kept for cancels
    #[arg(long, env = "ATOTI_BRIDGE_MAX_IN_FLIGHT", value_name = "COUNT", default_value = "128")]
    pub max_in_flight: String,

    /// Connections open at once; the next one is closed at once
    #[arg(long, env = "ATOTI_BRIDGE_MAX_CONNECTIONS", value_name = "COUNT", default_value = "1024")]
    pub max_connections: String,

    /// How long a connection lives, give or take a tenth; then its calls finish and its client connects anew
    #[arg(long, env = "ATOTI_BRIDGE_MAX_CONNECTION_AGE", value_name = "DURATION", default_value = "5m")]
    pub max_connection_age: String,

    /// How long calls in flight may go on when connections are closed after SIGTERM or Ctrl-C
    #[arg(long, env = "ATOTI_BRIDGE_DRAIN_GRACE", value_name = "DURATION", default_value = "15s")]
    pub drain_grace: String,

    /// Allow GetQueryPlan, for which Atoti executes a query again: true or false
    #[arg(long, env = "ATOTI_BRIDGE_ALLOW_QUERY_PLAN", value_name = "BOOL", default_value = "false")]
    pub allow_query_plan: String,

    /// Serve gRPC server reflection (v1 and v1alpha): true or false
    #[arg(long, env = "ATOTI_BRIDGE_REFLECTION", value_name = "BOOL", default_value = "true")]
    pub reflection: String,

    /// Log lines for people or for programs: text or json [default: text on a terminal, else json]
    #[arg(long, env = "ATOTI_BRIDGE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Share of the calls that ended well which get a line in the log, from 0 (none) to 1 (all); failures always do
    #[arg(long, env = "ATOTI_BRIDGE_ACCESS_LOG_RATIO", value_name = "RATIO", default_value = "1")]
    pub access_log_ratio: String,
}

/// Validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to serve gRPC. `ATOTI_BRIDGE_LISTEN`, default `127.0.0.1:50051`: never reachable from outside by
    /// accident.
    pub listen: Listen,
    /// Where to serve metrics and probes. `ATOTI_BRIDGE_ADMIN_LISTEN`, default `127.0.0.1:9464`.
    pub admin_listen: SocketAddr,
    /// Atoti, and how long to bear with it.
    pub upstream: Upstream,
    /// What callers are shown and asked.
    pub callers: Callers,
    /// What one process takes on.
    pub limits: Limits,
    /// Whether `GetQueryPlan` is allowed, for which Atoti executes a query again. `ATOTI_BRIDGE_ALLOW_QUERY_PLAN`,
    /// default `false`.
    pub allow_query_plan: bool,
    /// Whether reflection is served. `ATOTI_BRIDGE_REFLECTION`, default `true`.
    pub reflection: bool,
    /// How log lines look. `ATOTI_BRIDGE_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// Share of the calls that ended well which get a log line, 0 to 1. `ATOTI_BRIDGE_ACCESS_LOG_RATIO`, default 1:
    /// who stops queries seldom wants to see each one.
    pub access_log_ratio: f64,
    /// Where audit records go. `ATOTI_BRIDGE_AUDIT_LOG`, default `stdout`: apart from log lines, and collected like
    /// them.
    pub audit_log: AuditLog,
    /// Whether cancels and deletions are refused while records cannot be written. `ATOTI_BRIDGE_AUDIT_REQUIRED`,
    /// default `false`: a full disk must not keep a runaway query running, unless the operator says so.
    pub audit_required: bool,
}

/// What one process takes on.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Cap on `grpc-timeout`, and the deadline of callers that send none. `ATOTI_BRIDGE_MAX_DEADLINE`, default 30 s.
    pub max_deadline: Duration,
    /// Calls at work at once. `ATOTI_BRIDGE_MAX_IN_FLIGHT`, default 128: below the threads of a stock Tomcat (200).
    pub max_in_flight: NonZeroUsize,
    /// Connections open at once. `ATOTI_BRIDGE_MAX_CONNECTIONS`, default 1024.
    pub max_connections: NonZeroUsize,
    /// How long a connection lives, give or take a tenth. `ATOTI_BRIDGE_MAX_CONNECTION_AGE`, default 5 min: soon
    /// enough that clients find new replicas, seldom enough to cost nothing.
    pub max_connection_age: Duration,
    /// How long to serve on after the signal to stop. `ATOTI_BRIDGE_DRAIN_DELAY`, default 5 s: until endpoints and
    /// balancers have noticed.
    pub drain_delay: Duration,
    /// Time for calls in flight after that. `ATOTI_BRIDGE_DRAIN_GRACE`, default 15 s: with the delay and what
    /// surrounds it, inside the 30 s that Kubernetes grants.
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).expect("not zero");
        Self {
            max_deadline: Duration::from_secs(30),
            max_in_flight: count(128),
            max_connections: count(1024),
            max_connection_age: Duration::from_secs(300),
            drain_delay: Duration::from_secs(5),
            drain_grace: Duration::from_secs(15),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

impl Settings {
    /// Checks every setting, and that the files named can be used.
    ///
    /// # Errors
    ///
    /// Every fault there is.
    pub fn validate(&self) -> Result<Config, Vec<Fault>> {
        let mut check = Check::default();
        let tuning = &self.tuning;
        let listen = check.listen("ATOTI_BRIDGE_LISTEN", &self.listen);
        let admin_listen = check.address("ATOTI_BRIDGE_ADMIN_LISTEN", &tuning.admin_listen);
        let upstream = self.upstream.validate(tuning, &mut check);
        let credentials = upstream.as_ref().map(|upstream| &upstream.credentials);
        let callers = self.callers.validate(listen.as_ref(), credentials, &mut check);
        let drain_delay = check.delay("ATOTI_BRIDGE_DRAIN_DELAY", &self.drain_delay);
        let limits = tuning.limits(&mut check);
        let allow_query_plan = check.flag("ATOTI_BRIDGE_ALLOW_QUERY_PLAN", &tuning.allow_query_plan);
        let reflection = check.flag("ATOTI_BRIDGE_REFLECTION", &tuning.reflection);
        let log_format = check.log_format("ATOTI_BRIDGE_LOG_FORMAT", tuning.log_format.as_deref());
        let access_log_ratio = check.ratio("ATOTI_BRIDGE_ACCESS_LOG_RATIO", &tuning.access_log_ratio);
        let audit_log = check.audit_log("ATOTI_BRIDGE_AUDIT_LOG", &self.audit_log);
        let audit_required = check.flag("ATOTI_BRIDGE_AUDIT_REQUIRED", &self.audit_required);

        let config = || {
            Some(Config {
                listen: listen?,
                admin_listen: admin_listen?,
                upstream: upstream?,
                callers: callers?,
                limits: Limits { drain_delay: drain_delay?, ..limits? },
                allow_query_plan: allow_query_plan?,
                reflection: reflection?,
                log_format: log_format?,
                access_log_ratio: access_log_ratio?,
                audit_log: audit_log?,
                audit_required: audit_required?,
            })
        };
        config().ok_or(check.faults)
    }
}

impl Tuning {
    fn limits(&self, check: &mut Check) -> Option<Limits> {
        let max_deadline = check.duration("ATOTI_BRIDGE_MAX_DEADLINE", &self.max_deadline);
        let max_in_flight = check.count("ATOTI_BRIDGE_MAX_IN_FLIGHT", &self.max_in_flight);
        let max_connections = check.count("ATOTI_BRIDGE_MAX_CONNECTIONS", &self.max_connections);
        let max_connection_age = check.duration("ATOTI_BRIDGE_MAX_CONNECTION_AGE", &self.max_connection_age);
        let drain_grace = check.duration("ATOTI_BRIDGE_DRAIN_GRACE", &self.drain_grace);
        Some(Limits {
            max_deadline: max_deadline?,
            max_in_flight: max_in_flight?,
            max_connections: max_connections?,
            max_connection_age: max_connection_age?,
            drain_grace: drain_grace?,
            ..Limits::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn validate(flags: &[&str]) -> Result<Config, Vec<Fault>> {
        let command = Command::try_parse_from(["bridge"].iter().chain(flags)).expect("known flags");
        command.settings.validate()
    }

    #[test]
    fn defaults_are_valid_and_as_documented() {
        let config = validate(&[]).expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.upstream.url.as_str(), "http://127.0.0.1:9090/");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9464");
        // The defaults for those who embed the library are the same.
        let (upstream, limits) = (Upstream::at(config.upstream.url.clone()), Limits::default());
        assert_eq!(format!("{:?}", config.upstream), format!("{upstream:?}"));
        assert_eq!(format!("{:?}", config.limits), format!("{limits:?}"));
        assert_eq!(config.upstream.connect_timeout, Duration::from_secs(1));
        assert_eq!(config.upstream.timeout, Duration::from_secs(10));
        assert_eq!(config.upstream.max_connections.get(), 64);
        assert_eq!(config.limits.max_deadline, Duration::from_secs(30));
        assert_eq!(config.limits.max_in_flight.get(), 128);
        assert_eq!(config.limits.max_connection_age, Duration::from_secs(300));
        assert_eq!(config.limits.drain_delay, Duration::from_secs(5));
        assert_eq!(config.limits.drain_grace, Duration::from_secs(15));
        assert!(config.reflection);
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_flag() {
        let faults =
            validate(&["--listen=here", "--upstream-timeout=soon", "--max-in-flight=0"]).expect_err("faults");
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("ATOTI_BRIDGE_LISTEN (--listen) = \"here\": "), "{told:?}");
        assert!(told[1].contains("(--upstream-timeout)") && told[1].contains("10s"), "{told:?}");
        assert!(told[2].contains("(--max-in-flight)") && told[2].contains("1 to 1000000"), "{told:?}");
    }

    #[test]
    fn a_base_url_with_more_than_a_base_is_refused() {
        for url in [
            "atoti:9090",
            "ftp://atoti",
            "http://",
            "http://u:secret@atoti",
            "http://atoti/?a=b",
            "http://atoti/#x",
            "http://atoti//x",
            "http://atoti/a%2fb",
            "http://${HOST}:9090",
            "https://atoti-.example",
            "http://a..b",
            "http://a'b",
        ] {
            let faults = validate(&[&format!("--upstream-url={url}")]).expect_err(url);
            assert!(!faults[0].to_string().contains("secret"), "{faults:?}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_what_to_do() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE");
        for (flags, variable, mend) in [
            (&["--credentials=basic"][..], "_CREDENTIALS_FILE", "needs the file"),
            (&["--credentials=kerberos"], "_CREDENTIALS", "forward, basic, bearer or jwt"),
            (&["--credentials-file", file], "_CREDENTIALS", "leave the file out"),
            (&["--credentials=basic", "--credentials-file=/no/such"], "_CREDENTIALS_FILE", "/no/such: "),
            (&["--credentials=basic", "--credentials-file", file], "_CREDENTIALS_FILE", "one line"),
            (&["--tls-cert-file", file], "_TLS_CERT_FILE", "no certificate in PEM"),
            (&["--tls-key-file", file], "_TLS_KEY_FILE", "no private key in PEM"),
            (&["--tls-client-names=ada"], "_TLS_CLIENT_NAMES", "_TLS_CLIENT_CA_FILE"),
            (&["--upstream-ca-file=/no/such"], "_UPSTREAM_CA_FILE", "/no/such: "),
            (&["--allow-anonymous-callers=perhaps"], "_ALLOW_ANONYMOUS_CALLERS", "true or false"),
            (&["--upstream-client-cert-file=/no/such"], "_UPSTREAM_CLIENT_CERT_FILE", "/no/such: "),
        ] {
            let faults = validate(flags).expect_err(variable);
            let (fault, told) = (&faults[0], faults[0].to_string());
            assert!(fault.variable.ends_with(variable) && told.contains(mend), "{flags:?}: {told}");
        }
    }

    #[test]
    fn the_bridges_own_credentials_are_not_lent_to_whoever_comes_by() {
        let secret = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&secret, "ada:s3cret").expect("written");
        let own = |flags: &[&str]| {
            let file = format!("--credentials-file={}", secret.path().display());
            validate(&[&["--credentials=jwt", &file], flags].concat())
        };
        assert!(own(&[]).is_ok());
        assert!(own(&["--listen=[::1]:50051"]).is_ok());
        assert!(own(&["--listen=unix:/run/bridge.sock"]).is_ok());
        assert!(own(&["--listen=0.0.0.0:50051", "--allow-anonymous-callers=true"]).is_ok());
        let faults = own(&["--listen=0.0.0.0:50051"]).expect_err("open to all");
        assert_eq!(faults[0].variable, "ATOTI_BRIDGE_ALLOW_ANONYMOUS_CALLERS");
        assert!(!format!("{faults:?}").contains("s3cret"));
    }
}
