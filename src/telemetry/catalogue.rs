//! The table of all metrics: each is made from its row here, and the README is compared with it.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// One metric as Prometheus sees it.
#[derive(Debug)]
pub struct Metric {
    /// The name, unit last.
    pub name: &'static str,
    /// What can be done with its value.
    pub kind: Kind,
    /// The labels of its series.
    pub labels: &'static [&'static str],
    /// What exactly it counts.
    pub help: &'static str,
}

/// What can be done with the value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations, counted up to each of these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The name of the type, as in the README and on the `# TYPE` line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

const ATTEMPTS: Kind = Kind::Histogram(&[1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0]);
const MICROSECONDS: Kind = Kind::Histogram(&[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1,
]);
const SECONDS: Kind = Kind::Histogram(&[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0,
]);

/// Every metric, in the order in which they are documented.
pub static METRICS: &[Metric] = &[
    Metric {
        name: "reprise_transactions_total",
        kind: Kind::Counter,
        labels: &["outcome", "kind", "dialect"],
        help: "Transactions that ended, by how they ended and by how they are run again; a statement outside of BEGIN is an autocommit one.",
    },
    Metric {
        name: "reprise_conflicts_total",
        kind: Kind::Counter,
        labels: &["sqlstate", "phase"],
        help: "Conflicts that the database answered, hidden or not, by SQLSTATE and by when they were met.",
    },
    Metric {
        name: "reprise_conflict_causes_total",
        kind: Kind::Counter,
        labels: &["database_cause"],
        help: "The same conflicts, by the cause that the database names in its message.",
    },
    Metric {
        name: "reprise_conflicts_by_table_total",
        kind: Kind::Counter,
        labels: &["database", "table", "index"],
        help: "The same conflicts, by the table and the index that they were about, as far as that is known.",
    },
    Metric {
        name: "reprise_conflicts_hidden_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Conflicts of transactions that ended without the client being shown one.",
    },
    Metric {
        name: "reprise_conflicts_surfaced_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Transactions whose client was shown a conflict, by why it could not be hidden. What such a \
               transaction had retried before then counts neither as surfaced nor as hidden.",
    },
    Metric {
        name: "reprise_not_replayable_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Transactions that could not be replayed from some point on, with a conflict or without, by reason.",
    },
    Metric {
        name: "reprise_transaction_attempts",
        kind: ATTEMPTS,
        labels: &[],
        help: "Runs of each transaction that ended, the first included.",
    },
    Metric {
        name: "reprise_replay_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Time of each replay, from the write of the journal to its last answer.",
    },
    Metric {
        name: "reprise_retry_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Time from the first conflict of a transaction to its end; only of those that met one.",
    },
    Metric {
        name: "reprise_wasted_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Time of each attempt that a conflict ended, from its beginning to that, the client's own included.",
    },
    Metric { name: "reprise_backoff_seconds", kind: SECONDS, labels: &[], help: "Pause before each replay." },
    Metric {
        name: "reprise_admission_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Time that a replay waited for its turn under max_concurrent_replays; only of those that had to wait.",
    },
    Metric {
        name: "reprise_replays_waiting",
        kind: Kind::Gauge,
        labels: &[],
        help: "Replays that wait for their turn now.",
    },
    Metric {
        name: "reprise_replayed_bytes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Bytes of requests that replays sent again.",
    },
    Metric {
        name: "reprise_replayed_statements_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Statements that replays ran again.",
    },
    Metric {
        name: "reprise_governor_classes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Kinds of contending transactions, by database and first statement, or by a value of that.",
    },
    Metric {
        name: "reprise_governor_limit",
        kind: Kind::Gauge,
        labels: &["class"],
        help: "Transactions of a class that may run at a time; 0 for any number.",
    },
    Metric {
        name: "reprise_governor_running",
        kind: Kind::Gauge,
        labels: &["class"],
        help: "Transactions of a class that run, as of the last second.",
    },
    Metric {
        name: "reprise_governor_waiting",
        kind: Kind::Gauge,
        labels: &["class"],
        help: "Transactions of a class that wait for a place, as of the last second.",
    },
    Metric {
        name: "reprise_governor_gained_per_second",
        kind: Kind::Gauge,
        labels: &["class"],
        help: "Transactions of a class that are done per second beyond those before it had a limit; an estimate, below 0 \
               if there are fewer.",
    },
    Metric {
        name: "reprise_governor_admissions_total",
        kind: Kind::Counter,
        labels: &["how"],
        help: "First attempts and replays of contending transactions that were let in: at_once, when their turn came \
               (waited), after max_wait, or a sixth of it where nothing moved (overdue), or, in observe mode, where they \
               might have waited (observed).",
    },
    Metric {
        name: "reprise_governor_wait_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Wait for a place, of those that waited.",
    },
    Metric {
        name: "reprise_governor_idle_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Transactions that lost their place because the database was not at work for them.",
    },
    Metric {
        name: "reprise_sessions",
        kind: Kind::Gauge,
        labels: &[],
        help: "Client sessions that are open.",
    },
    Metric {
        name: "reprise_sessions_by_state",
        kind: Kind::Gauge,
        labels: &["state", "dialect"],
        help: "Client sessions that are open, by what they do now and by how their transactions are run again.",
    },
    Metric {
        name: "reprise_sessions_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Client sessions that were opened.",
    },
    Metric {
        name: "reprise_sessions_moved_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that a client session went on on another thread, because that had room or one thread was enough.",
    },
    Metric {
        name: "reprise_sessions_tls_total",
        kind: Kind::Counter,
        labels: &["side"],
        help: "Client sessions that were opened with TLS, by the side that uses it: the client or the database.",
    },
    Metric {
        name: "reprise_sessions_refused_total",
        kind: Kind::Counter,
        labels: &["cause"],
        help: "Client connections that did not become a session, by cause.",
    },
    Metric {
        name: "reprise_sessions_broken_total",
        kind: Kind::Counter,
        labels: &["cause"],
        help: "Sessions that ended because something went wrong, by cause.",
    },
    Metric {
        name: "reprise_cancel_requests_total",
        kind: Kind::Counter,
        labels: &[],
        help: "CancelRequests that clients sent.",
    },
    Metric {
        name: "reprise_upstream_connect_errors_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connections to the database that failed or took longer than connect_timeout.",
    },
    Metric {
        name: "reprise_upstream_connect_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Time in which the database took each connection of a session: a round trip, and the lookup of its name and TLS where they are needed.",
    },
    Metric {
        name: "reprise_upstream_round_trip_seconds",
        kind: SECONDS,
        labels: &[],
        help: "Time from a request that is alone under way to the first of its answer, of one turn in 64.",
    },
    Metric {
        name: "reprise_added_seconds",
        kind: MICROSECONDS,
        labels: &[],
        help: "Time that the proxy itself takes: from a read of one side to the end of the writes that came of it, of one turn in 64.",
    },
    Metric {
        name: "reprise_journal_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes granted to journals, in steps of 64 KiB; those with up to 16 KiB need no grant.",
    },
    Metric {
        name: "reprise_held_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of answers that are kept from clients for the moment, because a later request of the same batch is unanswered.",
    },
    Metric {
        name: "reprise_journal_limit_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes that may be granted to journals at a time: retry.journal_bytes_total.",
    },
    Metric {
        name: "reprise_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; the version is in the label.",
    },
];

/// What is told of the process itself, under the names that Prometheus gives such metrics. Linux only.
pub static PROCESS_METRICS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// Makes metrics from their rows and registers them.
pub(super) struct Maker<'a>(pub(super) &'a Registry);

impl Maker<'_> {
    pub(super) fn counters(&self, name: &str) -> IntCounterVec {
        let (row, options) = row(name, "counter");
        self.register(IntCounterVec::new(options, row.labels))
    }

    pub(super) fn counter(&self, name: &str) -> IntCounter {
        self.register(IntCounter::with_opts(row(name, "counter").1))
    }

    pub(super) fn gauges(&self, name: &str) -> IntGaugeVec {
        let (row, options) = row(name, "gauge");
        self.register(IntGaugeVec::new(options, row.labels))
    }

    pub(super) fn fractions(&self, name: &str) -> GaugeVec {
        let (row, options) = row(name, "gauge");
        self.register(GaugeVec::new(options, row.labels))
    }

    pub(super) fn gauge(&self, name: &str) -> IntGauge {
        self.register(IntGauge::with_opts(row(name, "gauge").1))
    }

    pub(super) fn histogram(&self, name: &str) -> Histogram {
        let (row, options) = row(name, "histogram");
        let options = HistogramOpts::from(options);
        self.register(Histogram::with_opts(match row.kind {
            Kind::Histogram(bounds) => options.buckets(bounds.to_vec()),
            Kind::Counter | Kind::Gauge => options,
        }))
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("the row of a metric is valid");
        self.0.register(Box::new(metric.clone())).expect("each row is made once");
        metric
    }
}

fn row(name: &str, kind: &str) -> (&'static Metric, Opts) {
    let row = METRICS.iter().find(|metric| metric.name == name && metric.kind.name() == kind);
    let row = row.expect("every metric that is made is in the table");
    (row, Opts::new(row.name, row.help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in METRICS {
            assert!(metric.name.starts_with("reprise_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
