//! What was seen, on the terminal; and the table of the README, which must say the same.

use std::process::ExitCode;

use crate::catalogue::Driver;
use crate::encryption::Tls;
use crate::target::Kind;
use crate::trial::{Cancel, Outcome};

const README: &str = include_str!("../../../README.md");

/// What the columns of the README's table stand for: the checks, one of which a driver must do.
const FEATURES: [(&str, &[&str]); 8] = [
    ("prepared", &["prepared", "prepared_script"]),
    ("savepoints", &["savepoint", "restart_savepoint"]),
    ("SQLSTATEs", &["unique", "foreign_key"]),
    ("cancel", &["cancel", "abandon", "cancel_by_pid"]),
    ("COPY", &["copy_in"]),
    ("pipelines, batches", &["pipeline", "batch", "pipelined"]),
    ("hidden", &["hidden", "hidden_simple", "hidden_wrapped", "withdrawal"]),
    ("surfaced", &["surfaced", "surfaced_simple", "retry_loop", "withdrawal_unlocked"]),
];

/// Tells at once what a driver came to.
pub(crate) fn announce(driver: &Driver, outcome: &Outcome) {
    let verdict = if outcome.wrong.is_empty() { "ok" } else { "FAILED" };
    let (title, version, checks) = (driver.title, &outcome.version, outcome.checks);
    println!("{verdict:<7}{title:<26}{version:<22}{checks:>3} checks");
    for wrong in &outcome.wrong {
        println!("       {wrong}");
    }
}

/// The closing line, and whether all is well. The table is compared only if all drivers were run.
pub(crate) fn conclude(outcomes: &[(&Driver, Outcome)], is_all: bool) -> ExitCode {
    let failed = outcomes.iter().filter(|(_, outcome)| !outcome.wrong.is_empty()).count();
    let mut is_well = failed == 0;
    if is_all && is_well {
        let expected = table(outcomes);
        if !matches(&expected) {
            is_well = false;
            println!(
                "\nthe README's table of drivers is not what was seen; it must be\n\n{}",
                text(&expected)
            );
        }
    }
    println!("\n{} passed, {failed} failed", outcomes.len() - failed);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(outcomes: &[(&Driver, Outcome)]) -> Vec<Vec<String>> {
    let header =
        ["Driver", "Version", "TLS", "cancel with TLS"].into_iter().chain(FEATURES.map(|(name, _)| name));
    let rows = outcomes.iter().map(|(driver, outcome)| {
        let seen = FEATURES.iter().map(|(_, checks)| cell(driver, checks).to_owned());
        let first = [driver.title, &outcome.version, tls(driver), cancel(outcome)];
        first.map(str::to_owned).into_iter().chain(seen).collect()
    });
    std::iter::once(header.map(str::to_owned).collect()).chain(rows).collect()
}

/// How a driver comes to TLS. Those that would not verify everything have failed.
fn tls(driver: &Driver) -> &'static str {
    match driver.tls {
        Tls::Asked => "verify-full",
        Tls::Direct => "verify-full, direct",
        Tls::Certificate => "verify-full, client certificate",
    }
}

fn cancel(outcome: &Outcome) -> &'static str {
    match outcome.cancel {
        None => "",
        Some(Cancel::Encrypted) => "encrypted",
        Some(Cancel::Plain) => "in clear",
    }
}

/// On which databases a driver does one of these checks.
fn cell(driver: &Driver, checks: &[&str]) -> &'static str {
    let does = |kind| checks.iter().any(|check| driver.does(check, kind));
    match (does(Kind::Postgres), does(Kind::Double)) {
        (true, true) => "both",
        (true, false) => "PostgreSQL",
        (false, true) => "CockroachDB",
        (false, false) => "",
    }
}

fn text(table: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |", row.join(" | "));
    let mut lines: Vec<_> = table.iter().map(line).collect();
    lines.insert(1, format!("|{}", "---|".repeat(table[0].len())));
    lines.join("\n")
}

/// Whether the README has these rows. Of a version that the system's packages decide, it may tell the beginning.
fn matches(table: &[Vec<String>]) -> bool {
    let cells =
        |line: &'static str| -> Vec<&str> { line.trim_matches('|').split('|').map(str::trim).collect() };
    let found = README.lines().filter(|line| line.starts_with('|')).map(cells);
    let mut found = found.skip_while(|row| *row != table[0]);
    if found.next().is_none() {
        return false;
    }
    let rows = found.skip(1).take(table.len() - 1).collect::<Vec<_>>();
    let is_same = |(row, expected): (&Vec<&str>, &Vec<String>)| {
        let told = row.iter().zip(expected).enumerate();
        row.len() == expected.len()
            && told.into_iter().all(|(column, (told, seen))| {
                if column == 1 { !told.is_empty() && seen.starts_with(told) } else { told == seen }
            })
    };
    rows.len() == table.len() - 1 && rows.iter().zip(&table[1..]).all(is_same)
}
