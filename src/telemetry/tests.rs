//! What is counted for which event, and that every series is there from the start.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::insight::{Session, Who};
use crate::replay::{Cause, Outcome, Phase, Reason, TransactionEnd};
use crate::wire::SqlState;

fn session() -> Session {
    Session::new(1, Who::default(), String::new(), ["transparent", "postgres"], CancellationToken::new())
}

/// The value of a series, as Prometheus would read it.
fn value(telemetry: &Telemetry, series: &str) -> f64 {
    let text = telemetry.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series} in\n{text}")).parse().expect("a number")
}

fn recorded(events: &[Event]) -> Telemetry {
    let telemetry = Telemetry::new(1 << 20);
    for event in events {
        telemetry.record(&session(), event, Duration::ZERO);
    }
    telemetry
}

#[test]
fn every_row_of_the_table_is_shown_from_the_start() {
    let text = Telemetry::new(0).render();
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{text}");
        assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.name())), "{text}");
    }
    let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let (own, process): (Vec<_>, Vec<_>) = shown.partition(|name| name.starts_with("reprise_"));
    assert_eq!(own.len(), METRICS.len());
    if cfg!(target_os = "linux") {
        assert_eq!(process, PROCESS_METRICS);
    }
}

#[test]
fn every_label_value_is_shown_as_zero_from_the_start() {
    let telemetry = Telemetry::new(0);
    let mut series = Vec::new();
    for kind in ["explicit", "autocommit"] {
        for outcome in ["committed", "rolled_back", "surfaced", "in_doubt", "abandoned"] {
            series.extend(["cockroach", "postgres"].map(|dialect| {
                let labels = format!("dialect=\"{dialect}\",kind=\"{kind}\",outcome=\"{outcome}\"");
                format!("reprise_transactions_total{{{labels}}}")
            }));
        }
    }
    for sqlstate in ["40001", "40P01", "other"] {
        series.extend(Phase::ALL.map(|phase| {
            format!("reprise_conflicts_total{{phase=\"{}\",sqlstate=\"{sqlstate}\"}}", phase.name())
        }));
    }
    for name in ["reprise_conflicts_surfaced_total", "reprise_not_replayable_total"] {
        series.extend(Reason::ALL.map(|reason| format!("{name}{{reason=\"{reason}\"}}")));
    }
    series.extend(
        Refusal::ALL.map(|cause| format!("reprise_sessions_refused_total{{cause=\"{}\"}}", cause.name())),
    );
    for series in series {
        assert_eq!(value(&telemetry, &series), 0.0, "{series}");
    }
    assert_eq!(
        value(&telemetry, concat!("reprise_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")),
        1.0
    );
}

#[test]
fn transactions_are_counted_by_outcome_and_kind() {
    let outcomes = [
        Outcome::Committed,
        Outcome::RolledBack,
        Outcome::Surfaced(Reason::Cancelled),
        Outcome::InDoubt,
        Outcome::Abandoned,
    ];
    for outcome in outcomes {
        for (explicit, kind) in [(true, "explicit"), (false, "autocommit")] {
            let telemetry = recorded(&[Event::TransactionEnded(TransactionEnd {
                outcome,
                explicit,
                ..TransactionEnd::CALM
            })]);
            let name = outcome.name();
            let labels = format!("dialect=\"postgres\",kind=\"{kind}\",outcome=\"{name}\"");
            let series = format!("reprise_transactions_total{{{labels}}}");
            assert_eq!(value(&telemetry, &series), 1.0, "{series}");
            assert_eq!(value(&telemetry, "reprise_transaction_attempts_sum"), 1.0);
            assert_eq!(value(&telemetry, "reprise_retry_seconds_count"), 0.0);
        }
    }
}

#[test]
fn conflicts_are_hidden_unless_the_client_was_shown_one() {
    let met = TransactionEnd {
        attempts: 4,
        conflicts: 3,
        retry_time: Duration::from_millis(30),
        ..TransactionEnd::CALM
    };
    let surfaced = Outcome::Surfaced(Reason::AttemptsExhausted);
    let telemetry = recorded(&[
        Event::TransactionEnded(met),
        Event::TransactionEnded(TransactionEnd { outcome: surfaced, ..met }),
    ]);
    let shown = "reprise_conflicts_surfaced_total{reason=\"attempts_exhausted\"}";
    assert_eq!(value(&telemetry, "reprise_conflicts_hidden_total"), 3.0);
    assert_eq!(value(&telemetry, shown), 1.0);
    assert_eq!(value(&telemetry, "reprise_retry_seconds_count"), 2.0);
    assert_eq!(value(&telemetry, "reprise_retry_seconds_sum"), 0.06);
    assert_eq!(value(&telemetry, "reprise_transaction_attempts_bucket{le=\"3\"}"), 0.0);
    assert_eq!(value(&telemetry, "reprise_transaction_attempts_bucket{le=\"4\"}"), 2.0);
}

#[test]
fn what_cannot_be_replayed_is_counted_by_reason_without_a_conflict_too() {
    for reason in Reason::ALL {
        let end = TransactionEnd { not_replayable: Some(reason), ..TransactionEnd::CALM };
        let telemetry = recorded(&[Event::TransactionEnded(end)]);
        assert_eq!(value(&telemetry, &format!("reprise_not_replayable_total{{reason=\"{reason}\"}}")), 1.0);
    }
}

#[test]
fn conflicts_are_counted_by_sqlstate_and_phase() {
    let other = SqlState::parse(b"40XYZ").expect("a code");
    for (sqlstate, name) in
        [(SqlState::SERIALIZATION_FAILURE, "40001"), (SqlState::DEADLOCK_DETECTED, "40P01"), (other, "other")]
    {
        for phase in Phase::ALL {
            let telemetry =
                recorded(&[Event::Conflict { sqlstate, phase, cause: Cause::OTHER, wasted: Duration::ZERO }]);
            let phase = phase.name();
            let series = format!("reprise_conflicts_total{{phase=\"{phase}\",sqlstate=\"{name}\"}}");
            assert_eq!(value(&telemetry, &series), 1.0, "{series}");
        }
    }
}

#[test]
fn conflicts_are_counted_by_the_cause_that_the_database_names() {
    let (sqlstate, phase) = (SqlState::SERIALIZATION_FAILURE, Phase::Commit);
    for cause in Cause::all() {
        let telemetry = recorded(&[Event::Conflict { sqlstate, phase, cause, wasted: Duration::ZERO }]);
        for other in Cause::all() {
            let series = format!("reprise_conflict_causes_total{{database_cause=\"{}\"}}", other.name());
            assert_eq!(value(&telemetry, &series), f64::from(u8::from(cause == other)), "{series}");
        }
    }
}

#[test]
fn replays_are_measured() {
    let pause = Duration::from_millis(250);
    let telemetry = recorded(&[
        Event::BackedOff { attempt: 2, pause },
        Event::ReplayStarted { attempt: 2, journal_bytes: 1000, statements: 3 },
        Event::ReplayEnded { elapsed: Duration::from_millis(500) },
        Event::BackedOff { attempt: 3, pause },
        Event::ReplayStarted { attempt: 3, journal_bytes: 1000, statements: 4 },
    ]);
    assert_eq!(value(&telemetry, "reprise_backoff_seconds_sum"), 0.5);
    assert_eq!(value(&telemetry, "reprise_replayed_bytes_total"), 2000.0);
    assert_eq!(value(&telemetry, "reprise_replayed_statements_total"), 7.0);
    assert_eq!(value(&telemetry, "reprise_replay_seconds_count"), 1.0);
    assert_eq!(value(&telemetry, "reprise_replay_seconds_sum"), 0.5);
}

#[test]
fn a_session_is_open_until_its_guard_is_dropped() {
    let telemetry = Telemetry::new(0);
    let (one, two) = (telemetry.session_opened(), telemetry.session_opened());
    assert_eq!(value(&telemetry, "reprise_sessions"), 2.0);
    drop((one, two));
    assert_eq!(value(&telemetry, "reprise_sessions"), 0.0);
    assert_eq!(value(&telemetry, "reprise_sessions_total"), 2.0);
}

#[test]
fn what_the_shell_meets_is_counted() {
    let telemetry = Telemetry::new(0);
    telemetry.cancel_requested();
    telemetry.upstream_connect_failed();
    telemetry.upstream_connected(Duration::from_millis(5));
    telemetry.refused(Refusal::MaxConnections);
    assert_eq!(value(&telemetry, "reprise_cancel_requests_total"), 1.0);
    assert_eq!(value(&telemetry, "reprise_upstream_connect_errors_total"), 1.0);
    assert_eq!(value(&telemetry, "reprise_upstream_connect_seconds_sum"), 0.005);
    assert_eq!(value(&telemetry, "reprise_sessions_refused_total{cause=\"max_connections\"}"), 1.0);
}
