//! Locks on keys: who holds one, what was written under it, and who waits for whom.

use std::collections::BTreeMap;

use super::clock::Timestamp;
use super::key::{Key, Row};

/// A key held by a transaction.
#[derive(Debug)]
pub(super) struct Lock {
    /// Who holds it.
    pub(super) holder: u64,
    /// From where on reads of others must wait.
    pub(super) at: Timestamp,
    /// What was written, with the number of the write; empty for SELECT FOR UPDATE and after a restart.
    pub(super) writes: Vec<(u32, Option<Row>)>,
}

impl Lock {
    /// Whether it is an intent: it will change the key when its holder commits.
    pub(super) fn is_intent(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What its holder sees under the key, if it wrote there.
    pub(super) fn value(&self) -> Option<&Option<Row>> {
        self.writes.last().map(|(_, row)| row)
    }
}

/// All locks, and at most one for each key.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    locks: BTreeMap<Key, Lock>,
}

impl LockTable {
    pub(super) fn get(&self, key: &Key) -> Option<&Lock> {
        self.locks.get(key)
    }

    /// All locks from a key on.
    pub(super) fn from<'a>(&'a self, first: &Key) -> impl Iterator<Item = (&'a Key, &'a Lock)> + use<'a> {
        self.locks.range(first..)
    }

    /// The lock of a transaction on a key, made if it is not there.
    pub(super) fn acquire(&mut self, key: &Key, holder: u64, at: Timestamp) -> &mut Lock {
        self.locks.entry(key.clone()).or_insert_with(|| Lock { holder, at, writes: Vec::new() })
    }

    /// Makes the lock of a key begin later.
    pub(super) fn push(&mut self, key: &Key, at: Timestamp) {
        if let Some(lock) = self.locks.get_mut(key) {
            lock.at = lock.at.max(at);
        }
    }

    /// Forgets what a transaction wrote after a number, and keeps its locks.
    pub(super) fn forget_writes(&mut self, holder: u64, after: u32) {
        for lock in self.locks.values_mut().filter(|lock| lock.holder == holder) {
            lock.writes.retain(|(number, _)| *number <= after);
        }
    }

    /// Frees all keys of a transaction, and returns what it wrote under them.
    pub(super) fn release(&mut self, holder: u64) -> Vec<(Key, Option<Row>)> {
        let held: Vec<Key> =
            self.locks.iter().filter(|(_, lock)| lock.holder == holder).map(|(key, _)| key.clone()).collect();
        let mut written = Vec::new();
        for key in held {
            if let Some(row) = self.locks.remove(&key).and_then(|mut lock| lock.writes.pop()) {
                written.push((key, row.1));
            }
        }
        written
    }

    /// Whether a transaction has written anything.
    pub(super) fn has_intents(&self, holder: u64) -> bool {
        self.locks.values().any(|lock| lock.holder == holder && lock.is_intent())
    }
}
