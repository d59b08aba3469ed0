//! From settings to the typed configuration: what each option means, its limits, and which of them exclude each other.

use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Origin, Problem};
use super::rules::Rule;
use super::settings::{Setting, Settings};
use super::value::{self, Pattern, boolean, choice, duration, number, optional, size, socket_address};
use super::{
    Auth, Config, DialectChoice, Http, Log, Proxy, RULE_KEYS, Retry, Traces, Upstream, admin, keys, tls,
};
use crate::governor;
use crate::replay::{Begin, Dialect, LockTable, Mode, Policy};
use crate::telemetry::{self, LogFormat};

const ZERO: Duration = Duration::ZERO;
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// Reads every option, or tells everything that is wrong.
pub(super) fn config(settings: &Settings) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { settings, problems: Vec::new() };
    let config = Config {
        proxy: proxy(&mut reader),
        tls: tls::clients(&mut reader),
        auth: Auth { file: reader.read("auth", "file", optional(path)) },
        upstream: upstream(&mut reader),
        retry: retry(&mut reader),
        governor: governor(&mut reader),
        admin: admin::admin(&mut reader),
        report: admin::report(&mut reader),
        traces: Traces { endpoint: reader.read("traces", "endpoint", optional(value::plain_url)) },
        http: Http { listen: reader.read("http", "listen", optional(socket_address)) },
        log: log(&mut reader),
        rules: settings.rules().filter_map(|rule| reader.rule(rule)).collect(),
    };
    reader.check_together(&config);
    if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
}

fn proxy(reader: &mut Reader<'_>) -> Proxy {
    Proxy {
        listen: reader.read("proxy", "listen", socket_address),
        threads: reader.read("proxy", "threads", number(0..=1024)) as usize,
        max_connections: reader.read("proxy", "max_connections", number(1..=1_000_000)) as usize,
        max_connections_per_user: reader.read("proxy", "max_connections_per_user", number(0..=1_000_000))
            as usize,
        max_connections_per_address: reader.read(
            "proxy",
            "max_connections_per_address",
            number(0..=1_000_000),
        ) as usize,
        unix_socket_directory: reader.read("proxy", "unix_socket_directory", optional(path)),
        idle_timeout: reader.read("proxy", "idle_timeout", duration(ZERO..=WEEK)),
        idle_in_transaction_timeout: reader.read(
            "proxy",
            "idle_in_transaction_timeout",
            duration(ZERO..=WEEK),
        ),
        half_closed_timeout: reader.read("proxy", "half_closed_timeout", duration(ZERO..=WEEK)),
        tcp_keepalive: reader.read("proxy", "tcp_keepalive", keepalive),
        allowed_clients: reader.read("proxy", "allowed_clients", value::networks),
        startup_timeout: reader.read("proxy", "startup_timeout", duration(MILLISECOND..=HOUR)),
        drain_timeout: reader.read("proxy", "drain_timeout", duration(ZERO..=HOUR)),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

/// TCP counts in whole seconds.
fn keepalive(text: &str) -> Result<Duration, String> {
    let read = duration(ZERO..=HOUR)(text)?;
    match read.subsec_nanos() {
        0 => Ok(read),
        _ => Err(format!("\"{text}\" is not in whole seconds")),
    }
}

fn upstream(reader: &mut Reader<'_>) -> Upstream {
    let dialects = [Dialect::Cockroach, Dialect::Postgres];
    let fixed = dialects.map(|dialect| (dialect.name(), DialectChoice::Fixed(dialect)));
    let choices = [("auto", DialectChoice::Auto)].into_iter().chain(fixed);
    Upstream {
        address: reader.read("upstream", "address", str::parse::<value::HostPort>),
        connect_timeout: reader.read("upstream", "connect_timeout", duration(MILLISECOND..=HOUR)),
        tcp_keepalive: reader.read("upstream", "tcp_keepalive", keepalive),
        dialect: reader.read("upstream", "dialect", choice(choices)),
        name_sessions: reader.read("upstream", "name_sessions", boolean),
        tls: tls::upstream(reader),
    }
}

fn retry(reader: &mut Reader<'_>) -> Retry {
    let modes = Mode::ALL.map(|mode| (mode.name(), mode));
    let journal_bytes = reader.read("retry", "journal_bytes", size(KIB..=GIB));
    let hold_bytes = reader.read("retry", "hold_bytes", size(0..=GIB));
    let lock_tables = LockTable::ALL.map(|choice| (choice.name(), choice));
    let begins = Begin::ALL.map(|begin| (begin.name(), begin));
    Retry {
        policy: Policy {
            mode: reader.read("retry", "mode", choice(modes)),
            max_attempts: reader.read("retry", "max_attempts", number(1..=1_000_000)),
            initial_backoff: reader.read("retry", "initial_backoff", duration(ZERO..=MINUTE)),
            max_backoff: reader.read("retry", "max_backoff", duration(ZERO..=MINUTE)),
            timeout: reader.read("retry", "timeout", duration(MILLISECOND..=HOUR)),
            journal_bytes: usize::try_from(journal_bytes).unwrap_or(usize::MAX),
            hold_bytes: usize::try_from(hold_bytes).unwrap_or(usize::MAX),
            hold_time: reader.read("retry", "hold_time", duration(ZERO..=MINUTE)),
            begin: reader.read("retry", "begin", choice(begins)),
            deadlocks: reader.read("retry", "deadlocks", boolean),
            lock_table: reader.read("compat", "lock_table", choice(lock_tables)),
        },
        max_concurrent_replays: reader.read("retry", "max_concurrent_replays", number(1..=1_000_000))
            as usize,
        journal_bytes_total: reader.read("retry", "journal_bytes_total", size(KIB..=1024 * GIB)),
    }
}

fn governor(reader: &mut Reader<'_>) -> governor::Policy {
    let modes = governor::Mode::ALL.map(|mode| (mode.name(), mode));
    governor::Policy {
        mode: reader.read("governor", "mode", choice(modes)),
        max_wait: reader.read("governor", "max_wait", duration(MILLISECOND..=HOUR)),
        idle: reader.read("governor", "idle", duration(MILLISECOND..=MINUTE)),
        calm: reader.read("governor", "calm", duration(MILLISECOND..=HOUR)),
        max_classes: reader.read("governor", "max_classes", number(1..=10_000)) as usize,
    }
}

fn log(reader: &mut Reader<'_>) -> Log {
    let formats = LogFormat::ALL.map(|format| (format.name(), format));
    let level = |text: &str| telemetry::log_filter(text).map(|_| text.to_owned());
    Log { format: reader.read("log", "format", choice(formats)), level: reader.read("log", "level", level) }
}

/// Reads options, and collects what is wrong with them.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Reads one option. After a problem it goes on with the default, so that the rest is read too.
    pub(super) fn read<T>(
        &mut self,
        section: &str,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let setting = self.settings.get(section, name);
        parse(&setting.text).unwrap_or_else(|message| {
            self.report(setting.origin.clone(), section, name, message);
            let key = keys::find(section, name).expect("a setting has its key");
            parse(key.default).expect("a test reads every default")
        })
    }

    /// Reads one rule. `None` after a problem.
    fn rule(&mut self, settings: &[Setting]) -> Option<Rule> {
        let of = |name: &str| {
            let mut named = RULE_KEYS.iter().zip(settings);
            named
                .find_map(|(key, setting)| (key.name == name).then_some(setting))
                .expect("its row is in the table")
        };
        let patterns = ["user", "database", "application_name"].map(|name| of(name).text.parse::<Pattern>());
        let everybody = patterns.iter().all(|pattern| *pattern == "*".parse());
        let [user, database, application_name] = patterns;
        let (mode, governor) = (of("mode"), of("governor"));
        let modes = choice(Mode::ALL.map(|mode| (mode.name(), mode)));
        let governors = choice(governor::Mode::ALL.map(|mode| (mode.name(), mode)));
        let read = (optional(modes)(&mode.text), optional(governors)(&governor.text));
        let (wrong, message) = match read {
            (Err(message), _) => ("mode", message),
            (_, Err(message)) => ("governor", message),
            (Ok(None), Ok(None)) => ("mode", "a rule must say its mode, or that of its governor".to_owned()),
            _ if everybody => {
                let message = "the rule is for everybody: name a user, a database or an application_name, \
                               or set retry.mode or governor.mode";
                ("mode", message.to_owned())
            }
            (Ok(mode), Ok(governor)) => {
                let (user, database, application_name) = (user.ok()?, database.ok()?, application_name.ok()?);
                return Some(Rule { user, database, application_name, mode, governor });
            }
        };
        self.report(of(wrong).origin.clone(), "rules", wrong, message);
        None
    }

    fn check_together(&mut self, config: &Config) {
        let policy = &config.retry.policy;
        if policy.max_backoff < policy.initial_backoff {
            let [initial, max] = [("retry", "initial_backoff"), ("retry", "max_backoff")];
            self.clash([max, initial], "max_backoff must not be shorter than initial_backoff");
        }
        if policy.initial_backoff > policy.timeout {
            let names = [("retry", "initial_backoff"), ("retry", "timeout")];
            self.clash(names, "initial_backoff must not be longer than timeout");
        }
        if policy.journal_bytes as u64 > config.retry.journal_bytes_total {
            let names = [("retry", "journal_bytes"), ("retry", "journal_bytes_total")];
            self.clash(names, "journal_bytes must not be larger than journal_bytes_total");
        }
        let postgres = config.upstream.dialect == DialectChoice::Fixed(Dialect::Postgres);
        if policy.lock_table == LockTable::Ignore && postgres {
            let names = [("compat", "lock_table"), ("upstream", "dialect")];
            self.clash(
                names,
                "PostgreSQL has table locks, and an ignored LOCK TABLE would lose updates there",
            );
        }
        let listen = config.proxy.listen;
        if config.http.listen == Some(listen) && listen.port() != 0 {
            self.clash([("http", "listen"), ("proxy", "listen")], "HTTP needs an address of its own");
        }
        if config.upstream.address.to_string() == listen.to_string() {
            self.clash([("upstream", "address"), ("proxy", "listen")], "the proxy would connect to itself");
        }
    }

    /// Reports two options that exclude each other, at the one that was set later: it is probably the mistake.
    pub(super) fn clash(&mut self, names: [(&str, &str); 2], message: &str) {
        let settings = names.map(|(section, name)| self.settings.get(section, name));
        let values: Vec<_> = std::iter::zip(names, settings)
            .map(|((section, name), setting)| format!("{section}.{name} = {:?}", setting.text))
            .collect();
        let later = usize::from(settings[1].origin > settings[0].origin);
        let (section, name) = names[later];
        let message = format!("{message} ({})", values.join(", "));
        self.report(settings[later].origin.clone(), section, name, message);
    }

    fn report(&mut self, origin: Origin, section: &str, name: &str, message: String) {
        self.problems.push(Problem { origin, key: format!("{section}.{name}"), message });
    }
}
