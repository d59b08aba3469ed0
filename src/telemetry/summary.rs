//! The figures of the proxy as a whole, for people: a short list where metrics are many series, and all reports in one for the
//! status page.

use serde_json::{Map, Value as Json, json};

use super::Telemetry;
use crate::insight::{Column, Report, Topic, Value, number, text};

const STATS: &[Column] = &[text("name"), number("value"), text("meaning")];
/// Rows of each report that the status page gets at most.
const STATUS_ROWS_MAX: usize = 100;

impl Telemetry {
    /// The columns of [`Self::stats`].
    pub const STATS: &'static [Column] = STATS;

    /// The figures since the start.
    pub fn stats(&self) -> Report {
        let figures = self.figures();
        let row = |(name, value, meaning): (&str, f64, &str)| {
            vec![name.into(), Value::Number(value), meaning.into()]
        };
        Report { columns: STATS, rows: figures.into_iter().map(row).collect() }
    }

    fn figures(&self) -> Vec<(&'static str, f64, &'static str)> {
        let metrics = &self.metrics;
        let [committed, rolled_back, surfaced, in_doubt, abandoned] = metrics.outcomes().map(|n| n as f64);
        let transactions = committed + rolled_back + surfaced + in_doubt + abandoned;
        let seconds = |sum: f64| (sum * 1000.0).round() / 1000.0;
        let gauge = |gauge: &prometheus::IntGauge| gauge.get() as f64;
        vec![
            ("transactions", transactions, "Transactions that ended."),
            ("committed", committed, "Those that were committed."),
            ("rolled_back", rolled_back, "Those that were rolled back, without a conflict that was shown."),
            ("surfaced", surfaced, "Those whose client was shown a conflict."),
            ("in_doubt", in_doubt, "Those whose commit may or may not have happened."),
            ("abandoned", abandoned, "Those whose client or database went away."),
            ("conflicts", metrics.conflicts_total() as f64, "Conflicts that the database answered."),
            ("hidden", metrics.hidden.get() as f64, "Conflicts that no client was shown."),
            ("replays", metrics.replay_seconds.get_sample_count() as f64, "Attempts after a first one."),
            ("replay_s", seconds(metrics.replay_seconds.get_sample_sum()), "Time of these, in all."),
            (
                "replayed_bytes",
                metrics.replayed_bytes.get() as f64,
                "Bytes of requests that they sent again.",
            ),
            ("retried", metrics.retry_seconds.get_sample_count() as f64, "Transactions that met a conflict."),
            (
                "retry_s",
                seconds(metrics.retry_seconds.get_sample_sum()),
                "Time from their first conflicts to their ends.",
            ),
            (
                "added_us",
                mean_micros(&metrics.added_seconds),
                "Microseconds that the proxy itself takes to pass something on, on average.",
            ),
            ("replays_waiting", gauge(&metrics.replays_waiting), "Replays that wait for their turn now."),
            ("sessions", gauge(&metrics.sessions), "Client sessions that are open."),
            ("sessions_total", metrics.sessions_total.get() as f64, "Client sessions that were opened."),
            ("cancels", metrics.cancel_requests.get() as f64, "CancelRequests that clients sent."),
            (
                "upstream_connect_errors",
                metrics.upstream_connect_errors.get() as f64,
                "Connections to the database that failed.",
            ),
            ("journal_bytes", self.journal.used() as f64, "Bytes that are granted to journals."),
        ]
    }

    /// Everything that the status page shows.
    pub fn status(&self) -> Json {
        let stats: Map<_, _> =
            self.figures().into_iter().map(|(name, value, _)| (name.to_owned(), whole(value))).collect();
        let cut = |mut report: Report| {
            report.rows.truncate(STATUS_ROWS_MAX);
            report.json()
        };
        let mut reports: Map<_, _> = Topic::ALL
            .into_iter()
            .map(|topic| (topic.name().to_owned(), cut(self.insight.report(topic))))
            .collect();
        reports.insert("governor".to_owned(), cut(self.governor.report()));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.uptime().as_secs(),
            "ready": self.is_ready(),
            "stats": stats,
            "reports": reports,
        })
    }
}

/// The mean of what was observed, in microseconds to a tenth; zero of nothing.
fn mean_micros(seconds: &prometheus::Histogram) -> f64 {
    let count = seconds.get_sample_count().max(1) as f64;
    (seconds.get_sample_sum() * 1e7 / count).round() / 10.0
}

/// A number as JSON writes it: without a fraction where there is none.
fn whole(value: f64) -> Json {
    if value.fract() == 0.0 { Json::from(value as i64) } else { Json::from(value) }
}
