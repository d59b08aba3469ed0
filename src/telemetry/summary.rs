//! The figures of the proxy as a whole, for people: a short list, where metrics are many series.

use super::Telemetry;
use crate::insight::{Column, Report, Value, text};

const STATS: &[Column] = &[text("name"), text("value"), text("meaning")];

impl Telemetry {
    /// The columns of [`Self::stats`].
    pub const STATS: &'static [Column] = STATS;

    /// The figures since the start.
    pub fn stats(&self) -> Report {
        let metrics = &self.metrics;
        let row = |name: &str, value: String, meaning: &str| vec![name.into(), value.into(), meaning.into()];
        let [committed, rolled_back, surfaced, in_doubt, abandoned] = metrics.outcomes();
        let transactions = committed + rolled_back + surfaced + in_doubt + abandoned;
        let conflicts = metrics.conflicts_total();
        let rows: Vec<Vec<Value>> = vec![
            row("transactions", transactions.to_string(), "Transactions that ended."),
            row("committed", committed.to_string(), "Those that were committed."),
            row(
                "rolled_back",
                rolled_back.to_string(),
                "Those that were rolled back without a conflict shown.",
            ),
            row("surfaced", surfaced.to_string(), "Those whose client was shown a conflict."),
            row("in_doubt", in_doubt.to_string(), "Those whose commit may or may not have happened."),
            row("abandoned", abandoned.to_string(), "Those whose client or database went away."),
            row("conflicts", conflicts.to_string(), "Conflicts that the database answered."),
            row("hidden", metrics.hidden.get().to_string(), "Conflicts that no client was shown."),
            row(
                "replays",
                metrics.replay_seconds.get_sample_count().to_string(),
                "Attempts after a first one.",
            ),
            row("replay_s", seconds(metrics.replay_seconds.get_sample_sum()), "Time of these, in all."),
            row(
                "replayed_bytes",
                metrics.replayed_bytes.get().to_string(),
                "Bytes of requests that they sent.",
            ),
            row(
                "retry_s",
                seconds(metrics.retry_seconds.get_sample_sum()),
                "Time from first conflicts to ends.",
            ),
            row(
                "replays_waiting",
                metrics.replays_waiting.get().to_string(),
                "Replays that wait for their turn.",
            ),
            row("sessions", metrics.sessions.get().to_string(), "Client sessions that are open."),
            row(
                "sessions_total",
                metrics.sessions_total.get().to_string(),
                "Client sessions since the start.",
            ),
            row("cancels", metrics.cancel_requests.get().to_string(), "CancelRequests that clients sent."),
            row(
                "upstream_connect_errors",
                metrics.upstream_connect_errors.get().to_string(),
                "Connections to the database that failed.",
            ),
            row("journal_bytes", self.journal.used().to_string(), "Bytes granted to journals."),
        ];
        Report { columns: STATS, rows }
    }
}

fn seconds(sum: f64) -> String {
    format!("{sum:.3}")
}
