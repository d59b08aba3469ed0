//! What goes wrong in the database, decided by dice of its own.

use fastrand::Rng;
use reprise::replay::Dialect;

use crate::scenario::Rates;

/// A mishap of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The statement fails with this SQLSTATE.
    Error(&'static str),
    /// The session is ended, with a word.
    Shutdown,
    /// The connection is lost, without one.
    Loss,
}

/// A mishap of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitMishap {
    /// It fails with this SQLSTATE, and nothing is committed.
    Error(&'static str),
    /// 40003: committed or not.
    Ambiguous { committed: bool },
    /// The connection is lost: committed or not.
    Loss { committed: bool },
}

/// The dice.
#[derive(Debug)]
pub(crate) struct Faults {
    rng: Rng,
    rates: Rates,
    dialect: Dialect,
}

impl Faults {
    pub(crate) fn new(seed: u64, rates: Rates, dialect: Dialect) -> Self {
        Self { rng: Rng::with_seed(seed ^ 0xfa17), rates, dialect }
    }

    fn strikes(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng.u32(0..1000) < thousandths
    }

    fn conflict(&mut self) -> &'static str {
        if self.dialect == Dialect::Postgres && self.rng.u32(0..4) == 0 { "40P01" } else { "40001" }
    }

    /// What happens to a statement that reads or writes.
    pub(crate) fn at_statement(&mut self) -> Option<Mishap> {
        if self.strikes(self.rates.loss) {
            Some(Mishap::Loss)
        } else if self.strikes(self.rates.shutdown) {
            Some(Mishap::Shutdown)
        } else if self.strikes(self.rates.error) {
            Some(Mishap::Error(self.rng.choice(["57014", "XX000", "53200"]).expect("there are some")))
        } else if self.strikes(self.rates.statement_conflict) {
            Some(Mishap::Error(self.conflict()))
        } else {
            None
        }
    }

    /// What happens to a commit.
    pub(crate) fn at_commit(&mut self) -> Option<CommitMishap> {
        if self.strikes(self.rates.loss) {
            Some(CommitMishap::Loss { committed: self.rng.bool() })
        } else if self.strikes(self.rates.ambiguous) {
            Some(CommitMishap::Ambiguous { committed: self.rng.bool() })
        } else if self.strikes(self.rates.error) {
            Some(CommitMishap::Error("23503"))
        } else if self.strikes(self.rates.commit_conflict) {
            Some(CommitMishap::Error("40001"))
        } else {
            None
        }
    }

    /// How many of so many rows are sent before a statement fails.
    pub(crate) fn rows_before(&mut self, rows: usize) -> usize {
        self.rng.usize(0..=rows)
    }
}
