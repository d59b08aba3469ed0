//! The metrics in use: every series exists from the start, so that it shows as zero before the first event, and its
//! handle is kept, so that an event looks nothing up in Prometheus.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::catalogue::Maker;
use super::{Breakage, Refusal};
use crate::insight::Activity;
use crate::replay::{Cause, Dialect, Event, Outcome, Phase, Reason, TransactionEnd};
use crate::wire::SqlState;

/// The conflicts that have series of their own; any other is counted as `other`.
const CONFLICTS: [SqlState; 2] = [SqlState::SERIALIZATION_FAILURE, SqlState::DEADLOCK_DETECTED];

/// The ways in which transactions are run again.
const DIALECTS: [Dialect; 2] = [Dialect::Cockroach, Dialect::Postgres];

pub(super) struct Metrics {
    transactions: [(&'static str, ByKind); 2],
    conflicts: Labelled<(Option<SqlState>, Phase)>,
    /// In the order of the causes.
    causes: Vec<IntCounter>,
    pub(super) hidden: IntCounter,
    surfaced: Labelled<Reason>,
    not_replayable: Labelled<Reason>,
    attempts: Histogram,
    pub(super) replay_seconds: Histogram,
    pub(super) retry_seconds: Histogram,
    wasted_seconds: Histogram,
    backoff_seconds: Histogram,
    admission_seconds: Histogram,
    pub(super) replayed_bytes: IntCounter,
    replayed_statements: IntCounter,
    refused: Labelled<Refusal>,
    broken: Labelled<Breakage>,
    pub(super) sessions: IntGauge,
    by_state: Vec<((Activity, Dialect), IntGauge)>,
    pub(super) sessions_total: IntCounter,
    pub(super) sessions_moved: IntCounter,
    with_tls: [IntCounter; 2],
    pub(super) cancel_requests: IntCounter,
    pub(super) upstream_connect_errors: IntCounter,
    pub(super) upstream_connect_seconds: Histogram,
    pub(super) round_trip_seconds: Histogram,
    pub(super) added_seconds: Histogram,
    pub(super) held_bytes: IntGauge,
    pub(super) journal_bytes: IntGauge,
    pub(super) journal_limit_bytes: IntGauge,
    pub(super) replays_waiting: IntGauge,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let make = Maker(registry);
        let transactions = make.counters("reprise_transactions_total");
        make.gauges("reprise_build_info").with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            transactions: DIALECTS.map(Dialect::name).map(|dialect| {
                let of = |kind| ByOutcome::new(&transactions, kind, dialect);
                (dialect, ByKind { explicit: of("explicit"), autocommit: of("autocommit") })
            }),
            conflicts: conflicts(&make.counters("reprise_conflicts_total")),
            causes: causes(&make.counters("reprise_conflict_causes_total")),
            hidden: make.counter("reprise_conflicts_hidden_total"),
            surfaced: by_reason(&make.counters("reprise_conflicts_surfaced_total")),
            not_replayable: by_reason(&make.counters("reprise_not_replayable_total")),
            attempts: make.histogram("reprise_transaction_attempts"),
            replay_seconds: make.histogram("reprise_replay_seconds"),
            retry_seconds: make.histogram("reprise_retry_seconds"),
            wasted_seconds: make.histogram("reprise_wasted_seconds"),
            backoff_seconds: make.histogram("reprise_backoff_seconds"),
            admission_seconds: make.histogram("reprise_admission_seconds"),
            replayed_bytes: make.counter("reprise_replayed_bytes_total"),
            replayed_statements: make.counter("reprise_replayed_statements_total"),
            refused: by_cause(&make.counters("reprise_sessions_refused_total")),
            broken: by_breakage(&make.counters("reprise_sessions_broken_total")),
            sessions: make.gauge("reprise_sessions"),
            by_state: by_state(&make.gauges("reprise_sessions_by_state")),
            sessions_total: make.counter("reprise_sessions_total"),
            sessions_moved: make.counter("reprise_sessions_moved_total"),
            with_tls: {
                let sides = make.counters("reprise_sessions_tls_total");
                ["client", "database"].map(|side| sides.with_label_values(&[side]))
            },
            cancel_requests: make.counter("reprise_cancel_requests_total"),
            upstream_connect_errors: make.counter("reprise_upstream_connect_errors_total"),
            upstream_connect_seconds: make.histogram("reprise_upstream_connect_seconds"),
            round_trip_seconds: make.histogram("reprise_upstream_round_trip_seconds"),
            added_seconds: make.histogram("reprise_added_seconds"),
            held_bytes: make.gauge("reprise_held_bytes"),
            journal_bytes: make.gauge("reprise_journal_bytes"),
            journal_limit_bytes: make.gauge("reprise_journal_limit_bytes"),
            replays_waiting: make.gauge("reprise_replays_waiting"),
        }
    }

    /// Counts what the engine of a session reports that runs transactions again in this way.
    pub(super) fn count(&self, dialect: &str, event: &Event) {
        match event {
            Event::Conflict { sqlstate, phase, cause, wasted } => {
                self.wasted_seconds.observe(wasted.as_secs_f64());
                let known = CONFLICTS.contains(sqlstate).then_some(*sqlstate);
                self.conflicts.count((known, *phase));
                self.causes[cause.index()].inc();
            }
            Event::BackedOff { pause, .. } => self.backoff_seconds.observe(pause.as_secs_f64()),
            Event::Admitted { waited } => self.admission_seconds.observe(waited.as_secs_f64()),
            Event::ReplayStarted { journal_bytes, statements, .. } => {
                self.replayed_bytes.inc_by(*journal_bytes as u64);
                self.replayed_statements.inc_by(*statements as u64);
            }
            Event::ReplayEnded { elapsed } => self.replay_seconds.observe(elapsed.as_secs_f64()),
            Event::TransactionEnded(end) => self.count_end(dialect, end),
        }
    }

    fn count_end(&self, dialect: &str, end: &TransactionEnd) {
        if let Some((_, by)) = self.transactions.iter().find(|(name, _)| *name == dialect) {
            let transactions = if end.explicit { &by.explicit } else { &by.autocommit };
            transactions.of(end.outcome).inc();
        }
        self.attempts.observe(f64::from(end.attempts));
        if end.conflicts > 0 {
            self.retry_seconds.observe(end.retry_time.as_secs_f64());
        }
        match end.outcome {
            Outcome::Surfaced(reason) => self.surfaced.count(reason),
            // Most meet none, and a counter is shared by all threads.
            _ if end.conflicts > 0 => self.hidden.inc_by(u64::from(end.conflicts)),
            _ => {}
        }
        if let Some(reason) = end.not_replayable {
            self.not_replayable.count(reason);
        }
    }

    /// Counts a session by the sides that use TLS: the client, and the database.
    pub(super) fn count_tls(&self, sides: [bool; 2]) {
        let used = self.with_tls.iter().zip(sides).filter(|(_, used)| *used);
        used.for_each(|(counter, _)| counter.inc());
    }

    /// Sets how many sessions do what now.
    pub(super) fn set_states(&self, sessions: &[(Activity, &str)]) {
        for ((activity, dialect), gauge) in &self.by_state {
            let are = |session: &&(Activity, &str)| **session == (*activity, dialect.name());
            gauge.set(sessions.iter().filter(are).count() as i64);
        }
    }

    /// Transactions by outcome: committed, rolled back, surfaced, in doubt, abandoned.
    pub(super) fn outcomes(&self) -> [u64; 5] {
        let kinds = || self.transactions.iter().flat_map(|(_, by)| [&by.explicit, &by.autocommit]);
        let sum = |of: fn(&ByOutcome) -> &IntCounter| kinds().map(|by| of(by).get()).sum();
        [
            sum(|by| &by.committed),
            sum(|by| &by.rolled_back),
            sum(|by| &by.surfaced),
            sum(|by| &by.in_doubt),
            sum(|by| &by.abandoned),
        ]
    }

    /// Conflicts that the database answered.
    pub(super) fn conflicts_total(&self) -> u64 {
        self.causes.iter().map(IntCounter::get).sum()
    }

    pub(super) fn count_breakage(&self, cause: Breakage) {
        self.broken.count(cause);
    }

    pub(super) fn count_refusal(&self, cause: Refusal) {
        self.refused.count(cause);
    }
}

/// Transactions that are run again in the same way.
struct ByKind {
    explicit: ByOutcome,
    autocommit: ByOutcome,
}

/// Transactions of one kind.
struct ByOutcome {
    committed: IntCounter,
    rolled_back: IntCounter,
    surfaced: IntCounter,
    in_doubt: IntCounter,
    abandoned: IntCounter,
}

impl ByOutcome {
    fn new(transactions: &IntCounterVec, kind: &str, dialect: &str) -> Self {
        let of = |outcome: Outcome| transactions.with_label_values(&[outcome.name(), kind, dialect]);
        Self {
            committed: of(Outcome::Committed),
            rolled_back: of(Outcome::RolledBack),
            surfaced: of(Outcome::Surfaced(Reason::Mode)),
            in_doubt: of(Outcome::InDoubt),
            abandoned: of(Outcome::Abandoned),
        }
    }

    fn of(&self, outcome: Outcome) -> &IntCounter {
        match outcome {
            Outcome::Committed => &self.committed,
            Outcome::RolledBack => &self.rolled_back,
            Outcome::Surfaced(_) => &self.surfaced,
            Outcome::InDoubt => &self.in_doubt,
            Outcome::Abandoned => &self.abandoned,
        }
    }
}

/// One counter for each of a few values. They are so few that they are searched in order.
struct Labelled<K>(Vec<(K, IntCounter)>);

impl<K: PartialEq> Labelled<K> {
    fn count(&self, key: K) {
        if let Some((_, counter)) = self.0.iter().find(|(candidate, _)| *candidate == key) {
            counter.inc();
        }
    }
}

fn by_reason(counters: &IntCounterVec) -> Labelled<Reason> {
    Labelled(Reason::ALL.map(|reason| (reason, counters.with_label_values(&[reason.name()]))).into())
}

fn causes(counters: &IntCounterVec) -> Vec<IntCounter> {
    Cause::all().map(|cause| counters.with_label_values(&[cause.name()])).collect()
}

fn by_cause(counters: &IntCounterVec) -> Labelled<Refusal> {
    Labelled(Refusal::ALL.map(|cause| (cause, counters.with_label_values(&[cause.name()]))).into())
}

fn by_state(gauges: &IntGaugeVec) -> Vec<((Activity, Dialect), IntGauge)> {
    let pairs = Activity::ALL.into_iter().flat_map(|activity| DIALECTS.map(|dialect| (activity, dialect)));
    let gauge = |(activity, dialect): (Activity, Dialect)| {
        gauges.with_label_values(&[&*activity.name().replace(' ', "_"), dialect.name()])
    };
    pairs.map(|pair| (pair, gauge(pair))).collect()
}

fn by_breakage(counters: &IntCounterVec) -> Labelled<Breakage> {
    Labelled(Breakage::ALL.map(|cause| (cause, counters.with_label_values(&[cause.name()]))).into())
}

fn conflicts(counters: &IntCounterVec) -> Labelled<(Option<SqlState>, Phase)> {
    let sqlstates = CONFLICTS.map(Some).into_iter().chain([None]);
    let pairs = sqlstates.flat_map(|sqlstate| Phase::ALL.map(|phase| (sqlstate, phase)));
    let counter = |(sqlstate, phase): (Option<SqlState>, Phase)| {
        let name = sqlstate.as_ref().map_or("other", SqlState::as_str);
        ((sqlstate, phase), counters.with_label_values(&[name, phase.name()]))
    };
    Labelled(pairs.map(counter).collect())
}
