//! The table at the end, and the lines that say how to read it.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::audit::Findings;
use super::workload::{Style, Tally, Way};

const HEADER: [&str; 11] = [
    "transfers",
    "retries",
    "wanted",
    "committed",
    "errors the\napp saw",
    "conflicts\nhidden",
    "p50\nms",
    "p99\nms",
    "committed\nper second",
    "money\nconserved",
    "updates\nlost",
];

const EXPLANATION: &str = "\
Blind transfers: an application without a retry loop loses most of them, but through Reprise it need not know of conflicts.
Read-modify-write: it has been shown balances; where they changed, hiding a retry would be a lie, so it sees the conflict.
Latency counts from a committed transfer's first BEGIN; money and updates are checked against the journal each one writes.
";

/// One row: a style, a way, and what came of it.
pub(super) struct Row {
    pub(super) style: Style,
    pub(super) way: Way,
    pub(super) wanted: u32,
    pub(super) tally: Tally,
    /// Known only where a proxy is in between.
    pub(super) hidden: Option<u64>,
    pub(super) findings: Findings,
}

/// The whole report. Off a terminal it is plain ASCII.
pub(super) fn render(rows: &[Row], terminal: bool) -> String {
    let mut text = format!("{}\n\n{EXPLANATION}", table(rows, terminal));
    rows.iter().flat_map(remarks).for_each(|remark| {
        text.push_str(&remark);
        text.push('\n');
    });
    text
}

fn table(rows: &[Row], terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::ASCII_FULL_CONDENSED });
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEADER);
    table.add_rows(rows.iter().map(cells));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(row: &Row) -> [String; HEADER.len()] {
    let Row { tally, findings, .. } = row;
    let rate = tally.committed.len() as f64 / tally.elapsed.as_secs_f64().max(f64::EPSILON);
    [
        row.style.name().to_owned(),
        row.way.name().to_owned(),
        row.wanted.to_string(),
        tally.committed.len().to_string(),
        tally.errors.values().sum::<u64>().to_string(),
        row.hidden.map_or_else(|| "-".to_owned(), |hidden| hidden.to_string()),
        milliseconds(tally, 0.50),
        milliseconds(tally, 0.99),
        format!("{rate:.0}"),
        if findings.is_money_conserved() {
            "yes".to_owned()
        } else {
            format!("NO: {:+}", findings.money_created)
        },
        findings.lost().to_string(),
    ]
}

fn milliseconds(tally: &Tally, quantile: f64) -> String {
    const MICROSECONDS_PER_MILLISECOND: f64 = 1000.0;
    if tally.latency.is_empty() {
        return "-".to_owned();
    }
    format!("{:.1}", tally.latency.value_at_quantile(quantile) as f64 / MICROSECONDS_PER_MILLISECOND)
}

/// What has no column: errors that are no conflicts, doubt, and what the audit holds against a row.
fn remarks(row: &Row) -> Vec<String> {
    let Findings { repeated, unreported, in_doubt, lost_commits, lost_updates, .. } = row.findings;
    let mut remarks = Vec::new();
    let mut remark = |count: u64, what: &str| {
        if count > 0 {
            remarks.push(format!("{}, {}: {count} {what}", row.style.name(), row.way.name()));
        }
    };
    for (sqlstate, count) in &row.tally.errors {
        if !matches!(sqlstate.as_str(), "40001" | "40P01") {
            remark(*count, &unexpected(sqlstate));
        }
    }
    remark(in_doubt, "committed, though the COMMIT got no clear answer");
    remark(lost_commits, "ACKNOWLEDGED AND NOT THERE");
    remark(lost_updates, "UPDATES OVERWRITTEN OR MISSING IN A BALANCE");
    remark(repeated, "RUN MORE THAN ONCE");
    remark(unreported, "COMMITTED ALTHOUGH REPORTED FAILED");
    remarks
}

fn unexpected(sqlstate: &str) -> String {
    format!("errors that are no conflicts: {sqlstate}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::plan::TransferId;
    use super::*;

    fn row(way: Way) -> Row {
        let mut tally = Tally::new();
        tally.committed.extend((1..=50).map(|number| TransferId { client: 1, number }));
        tally.errors.insert("40001".to_owned(), 30);
        tally.latency.record_n(1_500, 49).unwrap();
        tally.latency.record(20_000).unwrap();
        tally.elapsed = Duration::from_secs(2);
        Row { style: Style::Blind, way, wanted: 80, tally, hidden: None, findings: Findings::default() }
    }

    fn line(text: &str, way: Way) -> String {
        let line = text.lines().find(|line| line.contains(way.name())).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_figure_stands_in_its_column() {
        let through = Row { hidden: Some(77), ..row(Way::Reprise) };
        let text = render(&[row(Way::Direct), through], false);
        assert_eq!(
            line(&text, Way::Direct),
            "| blind | no retries | 80 | 50 | 30 | - | 1.5 | 20.0 | 25 | yes | 0 |"
        );
        assert!(line(&text, Way::Reprise).contains("| 30 | 77 |"));
        assert!(text.ends_with(EXPLANATION), "a clean row needs no remark");
    }

    #[test]
    fn off_a_terminal_it_is_plain_ascii_and_on_one_it_is_not() {
        assert!(render(&[row(Way::Reprise)], false).is_ascii());
        assert!(!render(&[row(Way::Reprise)], true).is_ascii());
    }

    #[test]
    fn what_the_audit_holds_against_a_row_is_said_in_words() {
        let mut row = row(Way::Reprise);
        row.findings = Findings { money_created: -5, lost_commits: 2, repeated: 3, ..Findings::default() };
        row.tally.errors.insert("57014".to_owned(), 4);
        let text = render(&[row], false);
        assert!(line(&text, Way::Reprise).contains("| NO: -5 | 2 |"));
        for remark in ["4 errors that are no conflicts: 57014", "2 ACKNOWLEDGED", "3 RUN MORE"] {
            assert!(text.contains(&format!("blind, Reprise: {remark}")), "{text}");
        }
    }

    #[test]
    fn a_row_in_which_nothing_committed_has_no_latency() {
        let empty = Row { tally: Tally::new(), ..row(Way::Direct) };
        assert!(line(&render(&[empty], false), Way::Direct).contains("| 0 | 0 | - | - | - | 0 |"));
    }
}
