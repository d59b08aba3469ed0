//! Every option there is: its name, its default and one line about it. The committed `config.toml`, the environment
//! variables, `--help` and the README follow this table.

/// One option of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The section of the file that it stands in.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// Its default, as text.
    pub default: &'static str,
    /// How the file writes it.
    pub form: Form,
    /// What it is for, in one line.
    pub help: &'static str,
}

/// How TOML writes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In quotes.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
}

impl Key {
    /// The name with its section, such as `retry.max_attempts`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets it, such as `REPRISE_RETRY_MAX_ATTEMPTS`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

impl Form {
    /// The name that a problem gives it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "a boolean",
        }
    }

    /// Writes a value as TOML does.
    pub(super) fn literal(self, text: &str) -> String {
        match self {
            Self::Text => toml::Value::from(text).to_string(),
            Self::Integer | Self::Boolean => text.to_owned(),
        }
    }
}

/// What the name of every environment variable begins with.
pub(super) const VARIABLE_PREFIX: &str = "REPRISE_";

/// Every option, in the order in which they are documented.
pub static KEYS: &[Key] = &[
    text("proxy", "listen", "127.0.0.1:6432", "Address and port that clients connect to."),
    integer(
        "proxy",
        "threads",
        "0",
        "Threads that sessions run on, at most: no more are at work than are needed. 0 for one on each processor.",
    ),
    integer("proxy", "max_connections", "1000", "Clients served at a time; one more is refused with 53300."),
    integer(
        "proxy",
        "max_connections_per_user",
        "0",
        "Clients of one user at a time; 0 for no limit of their own.",
    ),
    integer(
        "proxy",
        "max_connections_per_address",
        "0",
        "Clients from one IP address at a time; 0 for no limit of their own.",
    ),
    text(
        "proxy",
        "unix_socket_directory",
        "",
        "Directory of a Unix-domain socket with the port of proxy.listen, for local clients; \"\" for none.",
    ),
    text(
        "proxy",
        "idle_timeout",
        "0s",
        "Time that a client may be idle outside of transactions; \"0s\" for any.",
    ),
    text(
        "proxy",
        "idle_in_transaction_timeout",
        "0s",
        "Time that a client may be idle in a transaction; \"0s\" for any.",
    ),
    text(
        "proxy",
        "half_closed_timeout",
        "5s",
        "Wait for answers after which a client that has closed its sending side is gone; \"0s\" for any.",
    ),
    text(
        "proxy",
        "tcp_keepalive",
        "1m",
        "Silence after which TCP probes a client; after twice that time it is gone. \"0s\" leaves it to the system.",
    ),
    text(
        "proxy",
        "allowed_clients",
        "",
        "Networks and addresses whose clients are served, such as \"10.0.0.0/8, ::1\"; \"\" for all.",
    ),
    text("proxy", "startup_timeout", "10s", "Time that a client's startup may take, its login included."),
    text("proxy", "drain_timeout", "30s", "Time that open transactions get to end at shutdown."),
    text(
        "tls",
        "mode",
        "disable",
        "TLS to clients: \"disable\" declines it, \"allow\" leaves it to them, \"require\" refuses those without.",
    ),
    text("tls", "certificate", "", "PEM file with the certificate that clients are shown, and its chain."),
    text("tls", "key", "", "PEM file with the private key of tls.certificate, not encrypted."),
    text(
        "tls",
        "client_ca",
        "",
        "PEM file with the authorities of client certificates; \"\" asks for no such certificates.",
    ),
    text(
        "tls",
        "client_certificate",
        "require",
        "With tls.client_ca: \"require\" a certificate of each client, or \"allow\" to verify those that are shown.",
    ),
    text(
        "tls",
        "client_user",
        "any",
        "Whom a client's certificate lets log in: \"any\" user, or by \"match\" the one that its common name names.",
    ),
    text(
        "tls",
        "client_map",
        "",
        "With \"match\": file with lines of \"common name\" \"user\", for names that are no users; \"\" for none.",
    ),
    text("tls", "min_version", "1.2", "Oldest version of TLS that clients may use: \"1.2\" or \"1.3\"."),
    text(
        "auth",
        "file",
        "",
        "Users and passwords as in PgBouncer's userlist.txt: clients log in to Reprise; \"\" leaves it to the database.",
    ),
    text(
        "upstream",
        "address",
        "127.0.0.1:26257",
        "Host (a name, IPv4, [IPv6] or the directory of a Unix-domain socket) and port of the database.",
    ),
    text("upstream", "connect_timeout", "5s", "Time in which the database must have taken a connection."),
    text("upstream", "tcp_keepalive", "1m", "The same as proxy.tcp_keepalive, for the database."),
    text(
        "upstream",
        "dialect",
        "auto",
        "How to retry: \"cockroach\", \"postgres\", or \"auto\" to ask the server.",
    ),
    boolean(
        "upstream",
        "name_sessions",
        "false",
        "Whether the database sees a session's number behind its application_name, as in \"shop reprise:42\".",
    ),
    text(
        "upstream",
        "tls",
        "prefer",
        "TLS to the database, as sslmode in libpq: \"disable\", \"prefer\", \"require\", \"verify-ca\" or \"verify-full\".",
    ),
    text(
        "upstream",
        "tls_ca",
        "system",
        "PEM file with the authorities that the database's certificate may have, or \"system\" for the machine's.",
    ),
    text(
        "upstream",
        "tls_server_name",
        "",
        "Name that the database's certificate must have; \"\" for the host of upstream.address.",
    ),
    text(
        "upstream",
        "tls_certificate",
        "",
        "PEM file with a certificate to show to the database; \"\" for none.",
    ),
    text(
        "upstream",
        "tls_key",
        "",
        "PEM file with the private key of upstream.tls_certificate, not encrypted.",
    ),
    text(
        "retry",
        "mode",
        "transparent",
        "What to do about conflicts: \"transparent\" hides them, \"observe\" only counts them, \"off\" relays.",
    ),
    integer("retry", "max_attempts", "50", "Runs of one transaction in all, the first included."),
    text(
        "retry",
        "initial_backoff",
        "2ms",
        "Longest first pause; it doubles with each further one. CockroachDB's first replay has none.",
    ),
    text("retry", "max_backoff", "1s", "Longest pause between two attempts."),
    integer(
        "retry",
        "max_concurrent_replays",
        "32",
        "Replays of all sessions at a time; the others wait their turn, the oldest transaction first.",
    ),
    text("retry", "timeout", "15s", "Time since a transaction's start in which a new attempt may begin."),
    text(
        "retry",
        "journal_bytes",
        "4MiB",
        "Requests kept for one transaction; a larger one cannot be replayed.",
    ),
    text(
        "retry",
        "journal_bytes_total",
        "256MiB",
        "Requests kept for all transactions together, and what is noted of each; those with up to 16 KiB do not count.",
    ),
    text("retry", "hold_bytes", "16KiB", "Answers held while later requests of their batch are unanswered."),
    text("retry", "hold_time", "5ms", "Longest time that such answers are held."),
    text(
        "retry",
        "begin",
        "auto",
        "When a plain BEGIN is sent: \"deferred\" with the first statement, \"immediate\", or \"auto\" by dialect.",
    ),
    boolean("retry", "deadlocks", "true", "Whether 40P01 is a conflict in the postgres dialect."),
    text(
        "compat",
        "lock_table",
        "forward",
        "What becomes of LOCK TABLE on CockroachDB: \"forward\", or \"ignore\" under SERIALIZABLE, where none is needed.",
    ),
    text(
        "governor",
        "mode",
        "on",
        "Contending transactions: \"on\" lets as many run at a time as get the most done, \"observe\" only counts, \"off\".",
    ),
    text(
        "governor",
        "max_wait",
        "1m",
        "Longest wait of a transaction for its places; a sixth of it where nothing moves. After it, it is let in anyway.",
    ),
    text(
        "governor",
        "idle",
        "50ms",
        "Time without work of the database after which a transaction's place is free for others.",
    ),
    text("governor", "calm", "10s", "Time without conflicts after which transactions contend no more."),
    integer("governor", "max_classes", "64", "Kinds of contending transactions that are governed at a time."),
    text("admin", "file", "", "Users and passwords of the console, as in auth.file; \"\" switches it off."),
    text("admin", "database", "reprise", "Name of a database that stands for the console."),
    text("admin", "viewers", "", "Users of the console who may only look, separated by commas."),
    text(
        "admin",
        "networks",
        "127.0.0.0/8, ::1",
        "Where users of the console may come from, separated by commas; the Unix-domain socket is always open to them.",
    ),
    integer("report", "max_entries", "100", "Rows that are kept of each report."),
    integer(
        "report",
        "max_tables",
        "50",
        "Tables and indexes whose conflicts have series of their own in metrics; all others share one.",
    ),
    boolean(
        "report",
        "adviser",
        "false",
        "Whether every statement is watched for patterns that lose data without an error.",
    ),
    text(
        "report",
        "lookup_user",
        "",
        "User of the database who looks up the tables that CockroachDB names by numbers; \"\" for no lookup.",
    ),
    text(
        "report",
        "lookup_password_file",
        "",
        "File with the password of report.lookup_user; \"\" for none.",
    ),
    boolean(
        "privacy",
        "show_keys",
        "false",
        "Whether the keys of conflicts, which are data, are shown in reports and in the log.",
    ),
    boolean(
        "privacy",
        "show_tags",
        "false",
        "Whether the tags of sqlcommenter that tell places in a program are shown with the transactions that retries cost most.",
    ),
    text(
        "http",
        "listen",
        "127.0.0.1:9432",
        "Address and port of /metrics, /healthz and /readyz; \"\" for none.",
    ),
    text(
        "traces",
        "endpoint",
        "",
        "URL of a collector that takes OTLP over HTTP, such as \"http://127.0.0.1:4318/v1/traces\"; \"\" for none.",
    ),
    text("log", "format", "text", "Form of the log on standard error: \"text\" or \"json\"."),
    text("log", "level", "info", "What is logged: a level, or directives such as \"info,reprise=debug\"."),
];

/// The options of a rule, a `[[rules]]` table of the file; there is no variable and no flag for them.
pub static RULE_KEYS: &[Key] = &[
    text("rules", "user", "*", "Users that the rule is for; * stands for any characters, ? for one."),
    text("rules", "database", "*", "Databases that it is for."),
    text("rules", "application_name", "*", "Applications that it is for, by application_name."),
    text(
        "rules",
        "mode",
        "",
        "What to do about their conflicts, as in retry.mode; \"\" leaves that to other rules.",
    ),
    text(
        "rules",
        "governor",
        "",
        "Whether their contending transactions wait, as in governor.mode; likewise.",
    ),
];

/// The options that are read at the start only, by their paths: sockets, the form of the log, and what is shared by all sessions.
pub const READ_AT_START: [&str; 13] = [
    "proxy.listen",
    "proxy.threads",
    "proxy.unix_socket_directory",
    "retry.max_concurrent_replays",
    "retry.journal_bytes_total",
    "report.max_entries",
    "report.max_tables",
    "report.adviser",
    "privacy.show_keys",
    "privacy.show_tags",
    "http.listen",
    "traces.endpoint",
    "log.format",
];

/// Finds an option.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    all().find(|key| key.section == section && key.name == name)
}

/// Every option, those of rules included.
pub(super) fn all() -> impl Iterator<Item = &'static Key> + Clone {
    KEYS.iter().chain(RULE_KEYS)
}

const fn text(section: &'static str, name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { section, name, default, form: Form::Text, help }
}

const fn integer(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { section, name, default, form: Form::Integer, help }
}

const fn boolean(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { section, name, default, form: Form::Boolean, help }
}
