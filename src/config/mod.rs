//! The configuration: from text, in a file, the environment and flags, to validated and typed values.
//!
//! Two steps. First the layers are laid over each other as they were written, each value with its origin
//! ([`Settings`]); then every value is read, and [`Config`] is what the rest of the program sees. Both steps go on
//! after a mistake, so that all of them are told at once.

mod admin;
mod file;
mod keys;
mod problem;
mod read;
mod rules;
mod settings;
mod tls;
mod value;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use admin::{Admin, Lookup, Report};
use ipnet::IpNet;
pub use keys::{Form, KEYS, Key, READ_AT_START, RULE_KEYS};
pub use problem::{Origin, Problem};
pub use rules::{Client, Rule};
pub use settings::{Flag, Setting, Settings};
pub use tls::{
    Authorities, ClientCertificate, ClientUser, Identity, Tls, TlsMode, TlsVersion, UpstreamTls,
    UpstreamTlsMode,
};
pub use value::{HostPort, Pattern, unix_socket};

use crate::governor;
use crate::replay::{Dialect, Mode, Policy};
use crate::telemetry::LogFormat;

/// What the program runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The side that clients see.
    pub proxy: Proxy,
    /// TLS on that side.
    pub tls: Tls,
    /// How clients log in.
    pub auth: Auth,
    /// The database.
    pub upstream: Upstream,
    /// What is done about conflicts.
    pub retry: Retry,
    /// What is done against contention.
    pub governor: governor::Policy,
    /// The console.
    pub admin: Admin,
    /// What is remembered for reports.
    pub report: Report,
    /// The HTTP endpoint.
    pub http: Http,
    /// Spans.
    pub traces: Traces,
    /// The log.
    pub log: Log,
    /// What is different for some clients.
    pub rules: Vec<Rule>,
}

/// Section `[proxy]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Threads for sessions; zero is one on each processor.
    pub threads: usize,
    /// Clients at a time.
    pub max_connections: usize,
    /// Clients of one user at a time; zero is no limit.
    pub max_connections_per_user: usize,
    /// Clients from one address at a time; zero is no limit.
    pub max_connections_per_address: usize,
    /// Where local clients find a Unix-domain socket.
    pub unix_socket_directory: Option<PathBuf>,
    /// Time that a client may be idle outside of transactions; zero is no limit.
    pub idle_timeout: Duration,
    /// Time that a client may be idle in a transaction; zero is no limit.
    pub idle_in_transaction_timeout: Duration,
    /// Time that a client which has closed its sending side may wait for the next answer; zero is no limit.
    pub half_closed_timeout: Duration,
    /// Silence after which TCP probes a client; zero leaves that to the operating system.
    pub tcp_keepalive: Duration,
    /// Whose clients are served; empty for all. Those of the Unix-domain socket are served in any case.
    pub allowed_clients: Vec<IpNet>,
    /// Time for the startup, login included.
    pub startup_timeout: Duration,
    /// Time for open transactions at shutdown; zero waits for none.
    pub drain_timeout: Duration,
}

/// Section `[auth]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Users and passwords, if clients log in to the proxy.
    pub file: Option<PathBuf>,
}

/// Section `[upstream]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Where the database is.
    pub address: HostPort,
    /// Time for the connection to be taken.
    pub connect_timeout: Duration,
    /// Silence after which TCP probes the database; zero leaves that to the operating system.
    pub tcp_keepalive: Duration,
    /// How the server wants a transaction retried.
    pub dialect: DialectChoice,
    /// Whether it is told the numbers of sessions.
    pub name_sessions: bool,
    /// TLS to it.
    pub tls: UpstreamTls,
}

/// How the dialect of a session is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialectChoice {
    /// From what the server tells of itself at startup.
    Auto,
    /// It is this one, whatever the server tells.
    Fixed(Dialect),
}

/// Section `[retry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// What each transaction may do.
    pub policy: Policy,
    /// Replays of all sessions at a time.
    pub max_concurrent_replays: usize,
    /// Bytes of requests kept for all transactions together.
    pub journal_bytes_total: u64,
}

/// Section `[http]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Where metrics and health are served, if at all.
    pub listen: Option<SocketAddr>,
}

/// Section `[traces]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Where spans are sent, if at all: a URL.
    pub endpoint: Option<String>,
}

/// Section `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// Directives that have been validated.
    pub level: String,
}

impl Config {
    /// What the engine may do.
    pub fn policy(&self) -> Policy {
        self.retry.policy.clone()
    }

    /// What is done about the conflicts of a client that does not say so itself: by the first rule for it that tells, or by
    /// `retry.mode`.
    pub fn mode_for(&self, client: &Client) -> Mode {
        self.rules_for(client).find_map(|rule| rule.mode).unwrap_or(self.retry.policy.mode)
    }

    /// What the governor does with the transactions of a client: by the first rule for it that tells, or by `governor.mode`.
    pub fn governor_for(&self, client: &Client) -> governor::Mode {
        self.rules_for(client).find_map(|rule| rule.governor).unwrap_or(self.governor.mode)
    }

    fn rules_for(&self, client: &Client) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.fits(client))
    }
}

impl Default for Config {
    fn default() -> Self {
        read::config(&Settings::default()).expect("the defaults are valid: a test reads them")
    }
}

/// Where a configuration comes from, besides the defaults: each field overrides the one before it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must be there.
    pub file: Option<PathBuf>,
    /// Variables; those that do not begin with `REPRISE_` are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags of the command line.
    pub flags: Vec<Flag>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, not readable or not UTF-8.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Everything that is wrong, in the order of the file.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// Reads and validates a configuration; the settings tell where each of its values comes from.
pub fn load(sources: Sources) -> Result<(Config, Settings), Error> {
    let (mut settings, mut problems) = (Settings::default(), Vec::new());
    if let Some(path) = sources.file {
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| Error::Unreadable { path: path.clone(), error })?;
        file::apply(&path.display().to_string(), &text, &mut settings, &mut problems);
    }
    settings.set_variables(sources.environment, &mut problems);
    settings.set_flags(&sources.flags);
    match read::config(&settings) {
        Ok(config) if problems.is_empty() => Ok((config, settings)),
        read => {
            problems.extend(read.err().unwrap_or_default());
            problems.sort();
            Err(Error::Invalid(problems))
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
