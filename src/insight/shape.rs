//! What transactions are known by in reports: the statements that they run, in order and without their data.

use std::sync::Arc;

use super::session::Who;
use super::statements::{Statements, label};
use crate::replay::Fingerprint;

/// Statements of a transaction that are kept at most.
const STATEMENTS_MAX: usize = 12;
/// What stands for those behind them.
const MORE: &str = "...";

/// The statements of a transaction that work on data, in order: the first of them, if there are many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Outline {
    statements: Vec<Fingerprint>,
    is_longer: bool,
}

impl Outline {
    /// Adds a statement behind the others.
    pub(super) fn push(&mut self, statement: Fingerprint) {
        if self.statements.len() < STATEMENTS_MAX {
            self.statements.push(statement);
        } else {
            self.is_longer = true;
        }
    }

    /// Takes the place of another that tells less of the same transaction.
    pub(super) fn extend_to(&mut self, other: Self) {
        let known = |outline: &Self| (outline.statements.len(), outline.is_longer);
        if known(&other) > known(self) {
            *self = other;
        }
    }

    /// The statements that were kept.
    pub(super) fn statements(&self) -> impl Iterator<Item = Fingerprint> {
        self.statements.iter().copied()
    }

    /// The statement behind all others, if it was kept.
    pub(super) fn last(&self) -> Option<Fingerprint> {
        self.statements.last().copied()
    }

    /// The texts of the statements.
    pub(super) fn text(&self, texts: &Statements) -> String {
        self.join("; ", |statement| texts.text(statement))
    }

    /// The numbers of the statements.
    pub(super) fn labels(&self) -> String {
        self.join(" ", label)
    }

    fn join(&self, separator: &str, words: impl Fn(Fingerprint) -> String) -> String {
        let more = self.is_longer.then(|| MORE.to_owned());
        let statements = self.statements.iter().map(|statement| words(*statement));
        statements.chain(more).collect::<Vec<_>>().join(separator)
    }
}

impl FromIterator<Fingerprint> for Outline {
    /// The statements of a transaction; no more of them are taken than are kept.
    fn from_iter<T: IntoIterator<Item = Fingerprint>>(statements: T) -> Self {
        let mut outline = Self::default();
        for statement in statements.into_iter().take(STATEMENTS_MAX + 1) {
            outline.push(statement);
        }
        outline
    }
}

/// The transactions of an application that run the same statements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) database: Arc<str>,
    pub(super) application: Arc<str>,
    pub(super) outline: Outline,
}

impl Shape {
    pub(super) fn new(who: &Who, outline: Outline) -> Self {
        Self { database: Arc::clone(&who.database), application: Arc::clone(&who.application), outline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Statement;

    #[test]
    fn a_long_transaction_is_known_by_its_beginning() {
        let (mut outline, texts) = (Outline::default(), Statements::default());
        for number in 0..1000 {
            let sql = format!("SELECT 1 FROM t{number}");
            let fingerprint = Fingerprint::of(sql.as_bytes()).expect("a statement");
            texts.learn(Statement { fingerprint, sql: Some(sql.as_bytes()) });
            outline.push(fingerprint);
        }
        let text = outline.text(&texts);
        assert!(text.starts_with("SELECT ? FROM t0; SELECT ? FROM t1; "), "{text}");
        assert!(text.ends_with("; SELECT ? FROM t11; ..."), "{text}");
        assert_eq!(outline.labels().split(' ').count(), STATEMENTS_MAX + 1);
        assert!(outline.statements.capacity() < 2 * STATEMENTS_MAX);
    }

    #[test]
    fn of_two_outlines_the_one_that_tells_more_is_kept() {
        let of = |sql: &str| Fingerprint::of(sql.as_bytes()).expect("a statement");
        let (mut short, mut long) = (Outline::default(), Outline::default());
        short.push(of("SELECT 1 FROM a"));
        long.push(of("SELECT 1 FROM a"));
        long.push(of("SELECT 1 FROM b"));
        let mut outline = short.clone();
        outline.extend_to(long.clone());
        assert_eq!(outline, long);
        outline.extend_to(short);
        assert_eq!((outline.last(), &outline), (Some(of("SELECT 1 FROM b")), &long));
    }
}
