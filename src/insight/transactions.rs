//! Transactions by what they run: those whose retries cost the most, and how many of each kind could be run again.
//!
//! Those that met a conflict are all counted. Of the others a sample is, so that calm ones do not wait for each other: see
//! [`Sample`].

use std::sync::{Mutex, PoisonError};

use super::coverage;
use super::figures::{Figures, micros};
use super::report::{Column, Report, Value, count, number, text};
use super::shape::Shape;
use super::statements::Statements;
use super::top::Top;
use crate::replay::{Outcome, Reason, TransactionEnd};

/// One transaction in so many of a session is taken as a sample.
const SAMPLED_OF: u64 = 16;

/// Whether a transaction is among those that stand for the others of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The transactions of the session before it.
    pub(super) before: u64,
}

impl Sample {
    /// How many transactions it stands for: the first of a session for itself, and every sixteenth behind it for those since the
    /// last that was taken; `None` if it is not taken.
    pub(super) const fn stands_for(self) -> Option<u64> {
        match self.before {
            0 => Some(1),
            before if before % SAMPLED_OF == 0 => Some(SAMPLED_OF),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Costs {
    transactions: u64,
    conflicts: u64,
    surfaced: u64,
    attempts_max: u64,
    retry_micros: u64,
    retry_micros_max: u64,
    /// Why it was surfaced the last time.
    reason: Option<Reason>,
    /// Where in a program the last of them came from.
    tags: Option<Box<str>>,
}

/// What is known of transactions by their shapes.
#[derive(Debug)]
pub(super) struct Transactions {
    costs: Mutex<Top<Shape, Costs>>,
    covered: Mutex<Covered>,
}

#[derive(Debug)]
struct Covered {
    shapes: Top<Shape, Figures>,
    all: Figures,
}

impl Transactions {
    /// Of so many shapes at most.
    pub(super) fn new(entries: usize) -> Self {
        let covered = Covered { shapes: Top::new(entries), all: Figures::default() };
        Self { costs: Mutex::new(Top::new(entries)), covered: Mutex::new(covered) }
    }

    /// A transaction that had met conflicts has ended, which had these tags.
    pub(super) fn retried(&self, shape: &Shape, end: &TransactionEnd, tags: Option<&str>) {
        let retry = micros(end.retry_time);
        let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = costs.add(shape, retry.max(1));
        figures.transactions += 1;
        figures.conflicts += u64::from(end.conflicts);
        if let Outcome::Surfaced(reason) = end.outcome {
            figures.surfaced += 1;
            figures.reason = Some(reason);
        }
        if let Some(tags) = tags.filter(|tags| figures.tags.as_deref() != Some(*tags)) {
            figures.tags = Some(tags.into());
        }
        figures.attempts_max = figures.attempts_max.max(end.attempts.into());
        figures.retry_micros += retry;
        figures.retry_micros_max = figures.retry_micros_max.max(retry);
    }

    /// A transaction has ended that stands for so many; it took so long.
    pub(super) fn sampled(&self, shape: &Shape, end: &TransactionEnd, micros: u64, stands_for: u64) {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        covered.shapes.add(shape, stands_for).count(end, micros, stands_for);
        covered.all.count(end, micros, stands_for);
    }

    /// The transactions whose retries cost the most.
    pub(super) fn costs(&self, texts: &Statements) -> Report {
        let costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(shape, figures): (&Shape, &Costs)| {
            vec![
                (*shape.database).into(),
                (*shape.application).into(),
                figures.transactions.into(),
                figures.conflicts.into(),
                figures.surfaced.into(),
                figures.attempts_max.into(),
                Value::seconds(figures.retry_micros),
                Value::seconds(figures.retry_micros_max),
                figures.reason.map(Reason::name).into(),
                figures.tags.as_deref().into(),
                shape.outline.text(texts).into(),
            ]
        };
        Report { columns: COLUMNS, rows: costs.heaviest().into_iter().map(row).collect() }
    }

    /// How many of each shape could be run again, those with the most time first, as rows of the report on coverage.
    pub(super) fn coverage(&self, texts: &Statements) -> Vec<Vec<Value>> {
        let covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let shapes = covered.shapes.heaviest().into_iter();
        let mut shapes: Vec<_> = shapes.map(|(shape, figures)| (shape, figures.sums())).collect();
        shapes.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.micros));
        let mut others = covered.all.sums();
        shapes.iter().for_each(|(_, sums)| others.subtract(sums));
        let rows = shapes.iter().map(|(shape, sums)| {
            let statements = match shape.outline.text(texts) {
                text if text.is_empty() => NO_STATEMENTS.to_owned(),
                text => text,
            };
            coverage::row_of_shape([&shape.application, &shape.database, &statements], sums)
        });
        let others = (others.transactions > 0)
            .then(|| coverage::row_of_shape([coverage::OTHERS, coverage::OTHERS, coverage::OTHERS], &others));
        rows.chain(others).collect()
    }
}

/// What a transaction is called that worked on no data, as far as is known.
const NO_STATEMENTS: &str = "(none)";

pub(super) const COLUMNS: &[Column] = &[
    text("database"),
    text("application"),
    count("transactions"),
    count("conflicts"),
    count("surfaced"),
    count("max_attempts"),
    number("retry_s"),
    number("longest_retry_s"),
    text("last_reason"),
    text("last_tags"),
    text("statements"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Fingerprint;

    fn shape(table: usize) -> Shape {
        let statement = Fingerprint::of(format!("SELECT 1 FROM t{table}").as_bytes()).expect("a statement");
        let (database, application) = ("bank".into(), "shop".into());
        Shape { database, application, outline: [statement].into_iter().collect() }
    }

    fn end(not_replayable: Option<Reason>) -> TransactionEnd {
        TransactionEnd { not_replayable, ..TransactionEnd::CALM }
    }

    #[test]
    fn the_sample_stands_for_all_but_those_since_the_last() {
        let stands_for = |of: u64| (0..of).filter_map(|before| Sample { before }.stands_for()).sum::<u64>();
        assert_eq!([0, 1, 16, 17, 33, 1601].map(stands_for), [0, 1, 1, 17, 33, 1601]);
    }

    #[test]
    fn what_there_is_no_room_for_is_told_as_others() {
        let transactions = Transactions::new(2);
        for round in 0..10 {
            transactions.sampled(&shape(1), &end(None), 100, 16);
            transactions.sampled(&shape(2), &end(Some(Reason::SessionState)), 50, 16);
            transactions.sampled(&shape(100 + round), &end(None), 1, 1);
        }
        let rows = transactions.coverage(&Statements::default());
        assert_eq!(rows.len(), 3);
        let at = |name: &str| {
            let is_it = |column: &Column| column.name == name;
            coverage::COLUMNS.iter().position(is_it).expect("a column")
        };
        let counted: u64 = rows
            .iter()
            .map(|row| match row[at("transactions")] {
                Value::Count(count) => count,
                _ => panic!("{row:?}"),
            })
            .sum();
        assert_eq!(counted, 330, "nothing is lost");
        assert_eq!(rows[2][at("statements")], coverage::OTHERS.into());
    }
}
