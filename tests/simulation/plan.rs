//! The statements that a client runs, one after the other: transactions, single statements, and what it does about errors.

use fastrand::Rng;
use reprise::replay::Dialect;

use crate::scenario::{Habits, Scenario};
use crate::sql::Statement;

/// A client's intentions. The status is what the client expects: it sends without waiting.
pub(crate) struct Plan {
    rng: Rng,
    pub(crate) habits: Habits,
    keys: i64,
    dialect: Dialect,
    /// Transactions and single statements still to be begun.
    left: u32,
    /// Statements of the open transaction still to be run.
    left_inside: u32,
    status: char,
    savepoints: Vec<String>,
    /// The client runs the retry protocol itself in this transaction, and how it goes on.
    own_retry: OwnRetry,
    conflicted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnRetry {
    No,
    SetsSavepoint,
    Runs { retries: u32 },
    Released,
}

const RESTART: &str = "cockroach_restart";

impl Plan {
    pub(crate) fn new(rng: Rng, scenario: &Scenario) -> Self {
        Self {
            rng,
            habits: scenario.habits,
            keys: scenario.keys,
            dialect: scenario.traits.dialect,
            left: scenario.transactions,
            left_inside: 0,
            status: 'I',
            savepoints: Vec::new(),
            own_retry: OwnRetry::No,
            conflicted: false,
        }
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.rng.u32(0..1000) < thousandths
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.left == 0 && self.status == 'I'
    }

    /// Whether a transaction is expected to be open and sound.
    pub(crate) const fn is_open(&self) -> bool {
        self.status == 'T'
    }

    /// The server said where the session stands.
    pub(crate) fn status(&mut self, status: char) {
        if status == 'I' {
            self.savepoints.clear();
            self.own_retry = OwnRetry::No;
        }
        self.status = status;
    }

    /// Errors came.
    pub(crate) fn errors(&mut self, sqlstates: &[String]) {
        self.conflicted = sqlstates.iter().any(|sqlstate| sqlstate == "40001");
    }

    /// The next statement.
    pub(crate) fn next(&mut self) -> Statement {
        match self.status {
            'I' => self.outside(),
            'T' => self.inside(),
            _ => self.after_error(),
        }
    }

    fn outside(&mut self) -> Statement {
        self.left = self.left.saturating_sub(1);
        match self.rng.u32(0..100) {
            0..=59 => {
                self.status = 'T';
                self.left_inside = self.rng.u32(0..=5);
                let own = self.habits.own_retry;
                self.own_retry = if self.chance(own) { OwnRetry::SetsSavepoint } else { OwnRetry::No };
                Statement::Begin
            }
            60..=61 => Statement::Commit,
            62 => Statement::Rollback,
            63 => Statement::Listen,
            64 => Statement::Empty,
            _ => self.data(),
        }
    }

    fn inside(&mut self) -> Statement {
        match self.own_retry {
            OwnRetry::SetsSavepoint => {
                self.own_retry = OwnRetry::Runs { retries: 0 };
                self.savepoints.push(RESTART.into());
                return Statement::Savepoint(RESTART.into());
            }
            OwnRetry::Released => return self.end(Statement::Commit),
            OwnRetry::Runs { .. } if self.left_inside == 0 => {
                self.own_retry = OwnRetry::Released;
                return Statement::Release(RESTART.into());
            }
            _ => {}
        }
        if self.left_inside == 0 {
            let end = if self.chance(850) { Statement::Commit } else { Statement::Rollback };
            return self.end(end);
        }
        self.left_inside -= 1;
        let savepoint = self.habits.savepoint;
        if self.chance(savepoint) { self.savepoint() } else { self.data() }
    }

    fn end(&mut self, statement: Statement) -> Statement {
        self.status('I');
        statement
    }

    fn savepoint(&mut self) -> Statement {
        let known = self.savepoints.last().filter(|name| *name != RESTART).cloned();
        match (known, self.rng.u32(0..3)) {
            (Some(name), 0) => Statement::RollbackTo(name),
            (Some(name), 1) => {
                self.savepoints.pop();
                Statement::Release(name)
            }
            _ => {
                let name = format!("sp{}", self.savepoints.len());
                self.savepoints.push(name.clone());
                Statement::Savepoint(name)
            }
        }
    }

    fn after_error(&mut self) -> Statement {
        match self.own_retry {
            OwnRetry::Runs { retries } if std::mem::take(&mut self.conflicted) && retries < 3 => {
                self.own_retry = OwnRetry::Runs { retries: retries + 1 };
                self.savepoints.truncate(1);
                self.left_inside = self.rng.u32(0..=3);
                self.status = 'T';
                Statement::RollbackTo(RESTART.into())
            }
            _ => self.some_way_out(),
        }
    }

    fn some_way_out(&mut self) -> Statement {
        match self.rng.u32(0..10) {
            0..=3 => self.end(Statement::Rollback),
            4..=5 => self.end(Statement::Commit),
            6..=8 if !self.savepoints.is_empty() => {
                let name = self.savepoints.last().cloned().unwrap_or_default();
                self.status = 'T';
                Statement::RollbackTo(name)
            }
            6..=7 => self.end(Statement::Rollback),
            _ => self.data(),
        }
    }

    /// Data, or whatever else runs inside a transaction and outside.
    fn data(&mut self) -> Statement {
        let Habits { failing, sequence, setting, definition, .. } = self.habits;
        if self.chance(failing) {
            return self.failing();
        }
        if self.chance(sequence) {
            return Statement::NextValue;
        }
        if self.chance(setting) {
            let value = format!("app{}", self.rng.u32(0..5));
            let local = self.dialect == Dialect::Postgres && self.rng.bool();
            return if local { Statement::SetLocal(value) } else { Statement::Set(value) };
        }
        if self.chance(definition) {
            return Statement::Retype(if self.rng.bool() { 20 } else { 23 });
        }
        match self.rng.u32(0..100) {
            0..=19 => Statement::SelectKey(self.key()),
            20..=39 => Statement::SelectAll,
            94..=95 if self.chance(self.habits.copy) => self.copy(),
            96 => Statement::Notify(format!("n{}", self.rng.u32(0..1000))),
            97..=99 => Statement::Empty,
            _ => self.some_change(),
        }
    }

    fn key(&mut self) -> i64 {
        self.rng.i64(1..=self.keys)
    }

    fn failing(&mut self) -> Statement {
        match self.rng.u32(0..3) {
            0 => Statement::DivideByZero,
            1 => Statement::RollbackTo("nowhere".into()),
            _ => Statement::Insert { key: self.key(), value: 1 },
        }
    }

    /// Some rows, a key of which may be there already.
    fn copy(&mut self) -> Statement {
        let rows = self.rng.i64(0..=3);
        let first = self.keys + self.key();
        Statement::Copy((first..first + rows).map(|key| (key, key)).collect())
    }

    /// A statement that writes.
    pub(crate) fn some_change(&mut self) -> Statement {
        let key = self.key();
        match self.rng.u32(0..10) {
            0 => Statement::Insert { key: self.keys + key, value: key },
            1 => Statement::Delete(self.keys + key),
            2..=3 => Statement::Swap { key, old: 10 * key, new: 10 * key + 1 },
            _ => Statement::Add { key, delta: self.rng.i64(1..=9) },
        }
    }
}
