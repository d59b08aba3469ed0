//! The savepoints of a transaction: which of them survive a restart, and which commit on RELEASE.

use crate::errors::SqlError;
use crate::kv::Mark;

/// A savepoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Savepoint {
    /// Its name.
    pub name: String,
    /// Whether RELEASE commits the transaction. It is always initial then.
    pub commits: bool,
    /// Whether no data had been touched when it was made, so that it means the beginning of any attempt.
    pub initial: bool,
    /// The place in the storage transaction.
    pub mark: Mark,
    /// How many changes of the schema came before it.
    pub changes: usize,
}

/// The savepoints of a transaction, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Savepoints {
    entries: Vec<Savepoint>,
}

/// Names that begin so make a savepoint whose RELEASE commits.
const RESTART_PREFIX: &str = "cockroach_restart";

impl Savepoints {
    /// Whether RELEASE of a savepoint of this name commits.
    pub fn is_restart_name(name: &str, force: bool) -> bool {
        force || name.starts_with(RESTART_PREFIX)
    }

    /// Adds a savepoint. A restart savepoint must come first of all, but may be set again before data was touched,
    /// which adds nothing.
    pub fn add(&mut self, savepoint: Savepoint) -> Result<(), SqlError> {
        if savepoint.commits {
            match self.entries.as_slice() {
                [] if !savepoint.initial => return Err(SqlError::late_restart_savepoint()),
                [] => {}
                [only] if only.commits && savepoint.initial => return Ok(()),
                _ => return Err(SqlError::nested_restart_savepoint()),
            }
        }
        self.entries.push(savepoint);
        Ok(())
    }

    /// The newest savepoint of a name.
    pub fn find(&self, name: &str) -> Result<&Savepoint, SqlError> {
        self.entries.iter().rev().find(|entry| entry.name == name).ok_or_else(|| SqlError::no_savepoint(name))
    }

    /// Removes all savepoints above the newest of a name.
    pub fn pop_above(&mut self, name: &str) {
        if let Some(index) = self.position(name) {
            self.entries.truncate(index + 1);
        }
    }

    /// Removes the newest savepoint of a name and all above it.
    pub fn pop(&mut self, name: &str) {
        if let Some(index) = self.position(name) {
            self.entries.truncate(index);
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry.name == name)
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Savepoint> {
        self.entries.iter()
    }
}
