//! What operators see: events become Prometheus metrics, log lines and spans, and an HTTP endpoint serves the metrics.
//!
//! One [`Telemetry`] is made at the start and passed around; there is no global state but the log's.
//!
//! A conflict is *hidden* when the transaction that met it ended without its client being shown any: all conflicts of
//! such a transaction count. It is *surfaced* when the client was shown it: one a transaction, with the reason. The
//! conflicts that such a transaction retried in vain beforehand count as neither, so that "hidden" never flatters.

mod budget;
mod catalogue;
mod governor;
mod http;
mod logs;
mod metrics;
mod pace;
mod spans;
mod summary;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus::{IntGauge, Registry, TextEncoder};

pub use budget::JournalBudget;
pub use catalogue::{Kind, METRICS, Metric, PROCESS_METRICS};
pub use governor::{Admission, ClassFigures, GovernorMetrics};
pub use http::serve_http;
pub use logs::{LogFormat, log_filter, set_log_level, start_log};
pub use spans::Spans;

use crate::insight::{self, Insight, Session};
use crate::replay::{Encounter, Event};
use metrics::Metrics;
use pace::Pace;
use tables::ByTable;

/// Why a client connection did not become a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `max_connections` are being served.
    MaxConnections,
    /// `max_connections_per_user` are being served.
    MaxConnectionsPerUser,
    /// `max_connections_per_address` are being served.
    MaxConnectionsPerAddress,
    /// Its address is not among those that are served.
    AddressNotAllowed,
    /// The startup message did not come in time.
    StartupTimeout,
    /// What came was no startup message, or one of a protocol that is not spoken.
    ProtocolViolation,
    /// A startup parameter of Reprise's own has no such name or value.
    BadParameter,
    /// LOCK TABLE is to be ignored on a database that has table locks.
    LockTable,
    /// The database could not be reached.
    UpstreamUnreachable,
    /// The proxy is shutting down.
    ShuttingDown,
    /// The client uses no TLS, and must.
    TlsRequired,
    /// The TLS handshake failed, its certificate not accepted for example.
    TlsFailed,
    /// The client did not prove that it knows its password.
    AuthenticationFailed,
    /// Its certificate is another user's.
    CertificateMismatch,
    /// Too many logins from its address have failed.
    LoginBackoff,
    /// The client has logged in, and could not be logged in to the database.
    UpstreamLoginFailed,
    /// It asks for the console from where that is not open.
    ConsoleClosed,
    /// The client insists on a login that is bound to its TLS connection.
    ChannelBinding,
}

impl Refusal {
    /// Every cause.
    pub const ALL: [Self; 18] = [
        Self::MaxConnections,
        Self::MaxConnectionsPerUser,
        Self::MaxConnectionsPerAddress,
        Self::AddressNotAllowed,
        Self::StartupTimeout,
        Self::ProtocolViolation,
        Self::BadParameter,
        Self::LockTable,
        Self::UpstreamUnreachable,
        Self::ShuttingDown,
        Self::TlsRequired,
        Self::TlsFailed,
        Self::AuthenticationFailed,
        Self::CertificateMismatch,
        Self::LoginBackoff,
        Self::UpstreamLoginFailed,
        Self::ConsoleClosed,
        Self::ChannelBinding,
    ];

    /// The stable name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerUser => "max_connections_per_user",
            Self::MaxConnectionsPerAddress => "max_connections_per_address",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::StartupTimeout => "startup_timeout",
            Self::ProtocolViolation => "protocol_violation",
            Self::BadParameter => "bad_parameter",
            Self::LockTable => "lock_table",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::ShuttingDown => "shutting_down",
            Self::TlsRequired => "tls_required",
            Self::TlsFailed => "tls_failed",
            Self::AuthenticationFailed => "authentication_failed",
            Self::CertificateMismatch => "certificate_mismatch",
            Self::LoginBackoff => "login_backoff",
            Self::UpstreamLoginFailed => "upstream_login_failed",
            Self::ConsoleClosed => "console_closed",
            Self::ChannelBinding => "channel_binding",
        }
    }
}

/// What ended a session that should have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breakage {
    /// The client sent what is no message.
    ClientViolation,
    /// The database sent what is no message.
    UpstreamViolation,
    /// The connection to the database was lost while the session needed it.
    UpstreamLost,
    /// After a conflict the session could not be brought to a known state.
    NotRecovered,
}

impl Breakage {
    /// Every cause.
    pub const ALL: [Self; 4] =
        [Self::ClientViolation, Self::UpstreamViolation, Self::UpstreamLost, Self::NotRecovered];

    /// The stable name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientViolation => "client_violation",
            Self::UpstreamViolation => "upstream_violation",
            Self::UpstreamLost => "upstream_lost",
            Self::NotRecovered => "not_recovered",
        }
    }
}

/// Everything that is counted, for one proxy.
pub struct Telemetry {
    registry: Registry,
    metrics: Metrics,
    governor: GovernorMetrics,
    by_table: ByTable,
    pace: Pace,
    /// That of refusals.
    refusals: Pace,
    spans: Option<Spans>,
    insight: Arc<Insight>,
    journal: JournalBudget,
    ready: AtomicBool,
    started: Instant,
}

impl Telemetry {
    /// Starts counting from zero, with this many bytes for all journals together.
    pub fn new(journal_bytes_total: u64) -> Self {
        Self::remembering(journal_bytes_total, insight::Options::default())
    }

    /// The same, with what may be remembered for reports.
    pub fn remembering(journal_bytes_total: u64, options: insight::Options) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        metrics.journal_limit_bytes.set(i64::try_from(journal_bytes_total).unwrap_or(i64::MAX));
        register_process(&registry);
        let governor = GovernorMetrics::new(&catalogue::Maker(&registry));
        let by_table = ByTable::new(&catalogue::Maker(&registry), options.max_tables);
        Self {
            registry,
            metrics,
            governor,
            by_table,
            pace: Pace::default(),
            refusals: Pace::default(),
            spans: None,
            insight: Arc::new(Insight::new(options)),
            journal: JournalBudget::new(journal_bytes_total),
            ready: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    /// The same, and transactions that met a conflict have spans.
    #[must_use]
    pub fn with_spans(self, spans: Option<Spans>) -> Self {
        Self { spans, ..self }
    }

    /// The spans, if there are any.
    pub fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// Counts and logs what the engine of a session reports, so long after the session began.
    pub fn record(&self, session: &Session, event: &Event, now: Duration) {
        self.metrics.count(session.dialect, event);
        match event {
            Event::TransactionEnded(end) => {
                let story = self.insight.ended(session, end, now);
                logs::log_end(session, end, story.as_ref(), &self.pace);
                self.spans.iter().for_each(|spans| spans.ended(session, end, story.as_ref()));
            }
            event => {
                logs::log(session.id, event);
                self.spans.iter().for_each(|spans| spans.note(session.id, event));
            }
        }
    }

    /// Counts a conflict by where it was, and remembers it for reports.
    pub fn conflict(&self, session: &Session, encounter: &Encounter<'_>) {
        self.by_table.count(&self.insight.conflict(session, encounter));
    }

    /// What is remembered for reports.
    pub fn insight(&self) -> &Arc<Insight> {
        &self.insight
    }

    /// Counts a session whose client uses TLS, or whose connection to the database does.
    pub fn session_uses_tls(&self, client: bool, database: bool) {
        self.metrics.count_tls([client, database]);
    }

    /// Counts a session; it is open until the guard is dropped.
    #[must_use]
    pub fn session_opened(&self) -> SessionGuard {
        self.metrics.sessions_total.inc();
        self.metrics.sessions.inc();
        SessionGuard(self.metrics.sessions.clone())
    }

    /// Counts a session that went on on another thread.
    pub fn session_moved(&self) {
        self.metrics.sessions_moved.inc();
    }

    /// Counts a replay that waits for its turn; it does so until the guard is dropped.
    #[must_use]
    pub fn replay_waits(&self) -> WaitGuard {
        self.metrics.replays_waiting.inc();
        WaitGuard(self.metrics.replays_waiting.clone())
    }

    /// Counts a client connection that did not become a session. Logging it is left to who knows the peer: if it may write a
    /// line now, with how many were left out before it.
    pub fn refused(&self, cause: Refusal) -> Option<u64> {
        self.metrics.count_refusal(cause);
        self.refusals.allows()
    }

    /// Conflicts hidden since the start.
    pub fn conflicts_hidden(&self) -> u64 {
        self.metrics.hidden.get()
    }

    /// Counts a session that ended because something went wrong. Logging it is left to who knows what.
    pub fn session_broken(&self, cause: Breakage) {
        self.metrics.count_breakage(cause);
    }

    /// Counts a CancelRequest.
    pub fn cancel_requested(&self) {
        self.metrics.cancel_requests.inc();
    }

    /// Counts a connection to the database that did not come about.
    pub fn upstream_connect_failed(&self) {
        self.metrics.upstream_connect_errors.inc();
    }

    /// The metrics of the governor.
    pub fn governor(&self) -> &GovernorMetrics {
        &self.governor
    }

    /// Measures how long the database took to take a connection.
    pub fn upstream_connected(&self, elapsed: Duration) {
        self.metrics.upstream_connect_seconds.observe(elapsed.as_secs_f64());
    }

    /// Measures how long the database took to begin an answer.
    pub fn round_trip(&self, elapsed: Duration) {
        self.metrics.round_trip_seconds.observe(elapsed.as_secs_f64());
    }

    /// Measures how long the proxy itself took to pass something on.
    pub fn added(&self, elapsed: Duration) {
        self.metrics.added_seconds.observe(elapsed.as_secs_f64());
    }

    /// The bytes that all journals share.
    pub fn journal(&self) -> &JournalBudget {
        &self.journal
    }

    /// Says whether connections are accepted.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether connections are accepted.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// How long it has been counting.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.metrics.set_states(&self.insight.activities());
        self.metrics.held_bytes.set(i64::try_from(self.insight.held_bytes()).unwrap_or(i64::MAX));
        self.metrics.journal_bytes.set(i64::try_from(self.journal.used()).unwrap_or(i64::MAX));
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("registered metrics can be written")
    }
}

/// Tells what the operating system knows of this process, where it can be asked.
fn register_process(registry: &Registry) {
    #[cfg(target_os = "linux")]
    registry
        .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
        .expect("no other metric has these names");
    #[cfg(not(target_os = "linux"))]
    let _ = registry;
}

/// A session that is counted as open.
#[derive(Debug)]
pub struct SessionGuard(IntGauge);

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A replay that is counted as waiting.
#[derive(Debug)]
pub struct WaitGuard(IntGauge);

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
