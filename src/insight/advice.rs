//! What to change: drawn from what stood in the way of replays, and from the statements that gave other results in them.

use std::collections::BTreeMap;

use super::figures::Sums;
use super::report::{Column, Report, Value, count, number, text};
use super::session::Who;
use crate::replay::Reason;

pub(super) const COLUMNS: &[Column] =
    &[text("about"), text("subject"), count("count"), number("share_pct"), text("what_to_change")];

/// One row for each reason why transactions could not be run again, then one for each statement that differed.
pub(super) fn report(groups: &BTreeMap<Who, Sums>, statements: &Report) -> Report {
    let mut all = Sums::default();
    groups.values().for_each(|sums| all.add(sums));
    let of_reason = |(reason, transactions): (Reason, u64)| {
        vec![
            "transactions not replayable".into(),
            reason.name().into(),
            transactions.into(),
            Value::share(transactions, all.transactions),
            reason.hint().into(),
        ]
    };
    let column = |name| statements.columns.iter().position(|column| column.name == name);
    let of_statement = |row: &Vec<Value>| {
        let value = |name| column(name).and_then(|at| row.get(at)).cloned().unwrap_or(Value::None);
        let differed = value("differed");
        let is_some = matches!(differed, Value::Count(1..));
        is_some.then(|| {
            let hint = Reason::ResultsDiffer.hint();
            vec![
                "statement differed in replays".into(),
                value("statement"),
                differed,
                Value::None,
                hint.into(),
            ]
        })
    };
    let mut rows: Vec<_> = all.obstacles().into_iter().map(of_reason).collect();
    rows.extend(statements.rows.iter().filter_map(of_statement));
    Report { columns: COLUMNS, rows }
}
