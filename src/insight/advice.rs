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
        let (statement, differed) = (value("statement"), value("differed"));
        let is_some = matches!(differed, Value::Count(1..));
        is_some.then(|| {
            let hint = if let Value::Text(text) = &statement { hint(text) } else { "" };
            let about = "statement differed in replays".into();
            vec![about, statement, differed, value("differed_pct"), hint.into()]
        })
    };
    let mut rows: Vec<_> = all.obstacles().into_iter().map(of_reason).collect();
    rows.extend(statements.rows.iter().filter_map(of_statement));
    Report { columns: COLUMNS, rows }
}

/// Functions whose values are others in every attempt.
const GENERATORS: [&str; 7] = [
    "NEXTVAL(",
    "GEN_RANDOM_UUID(",
    "UNIQUE_ROWID(",
    "RANDOM(",
    "NOW(",
    "CLOCK_TIMESTAMP(",
    "CURRENT_TIMESTAMP",
];

/// What to change about a statement that differed, by its text without data.
fn hint(text: &str) -> &'static str {
    let upper = text.to_uppercase();
    let inserts = upper.starts_with("INSERT") && upper.contains(" RETURNING ");
    if inserts || GENERATORS.iter().any(|generator| upper.contains(generator)) {
        "It returns what is generated anew in every attempt, such as a key or a time: make that in the application."
    } else if upper.starts_with("SELECT") && upper.contains(" FOR UPDATE") {
        "Run it first in its transaction, with ORDER BY if it gives several rows."
    } else if upper.starts_with("SELECT") {
        "Lock what it reads with SELECT ... FOR UPDATE, or compute in the UPDATE itself."
    } else {
        Reason::ResultsDiffer.hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_fits_the_statement() {
        for (text, expected) in [
            ("SELECT balance FROM accounts WHERE id = ?", "FOR UPDATE"),
            ("SELECT balance FROM accounts WHERE id = ? FOR UPDATE", "Run it first"),
            ("INSERT INTO orders VALUES (?) RETURNING id", "generated"),
            ("select nextval(?)", "generated"),
            ("UPDATE accounts SET balance = ?", "Run the transaction again"),
        ] {
            assert!(hint(text).contains(expected), "{text}: {}", hint(text));
        }
    }
}
