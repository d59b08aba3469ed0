//! What the model database keeps: rows with the version of their last change, and the log of every attempt.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::sql::Tag;
use crate::story::Attempt;

/// A row's last change; without a value the row is deleted.
#[derive(Clone, Copy, Debug)]
struct Change {
    value: Option<i64>,
    version: u64,
}

/// The committed state, and the log.
#[derive(Debug)]
pub(crate) struct Store {
    rows: BTreeMap<i64, Change>,
    version: u64,
    sequence: i64,
    /// The type of column `v`.
    pub(crate) type_oid: u32,
    /// Every attempt that was committed.
    pub(crate) committed: Vec<Attempt>,
    /// Every attempt that was not.
    pub(crate) aborted: Vec<Attempt>,
    /// Steps of attempts whose commit has an unknown outcome: they must never be run again.
    pub(crate) in_doubt: HashSet<Tag>,
    /// What the database saw that no honest proxy does.
    pub(crate) complaints: Vec<String>,
    /// Payloads of notifications that were committed.
    pub(crate) news: Vec<String>,
}

impl Store {
    /// Keys 1 to `keys`, each with the value 10 times its key.
    pub(crate) fn new(keys: i64) -> Self {
        Self {
            rows: (1..=keys).map(|key| (key, Change { value: Some(10 * key), version: 0 })).collect(),
            version: 0,
            sequence: 0,
            type_oid: 20,
            committed: Vec::new(),
            aborted: Vec::new(),
            in_doubt: HashSet::new(),
            complaints: Vec::new(),
            news: Vec::new(),
        }
    }

    /// The next value of the sequence: never undone.
    pub(crate) const fn next_value(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }

    fn changed_since(&self, key: i64, version: u64) -> bool {
        self.rows.get(&key).is_some_and(|row| row.version > version)
    }
}

/// What a transaction has read and written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    snapshot: BTreeMap<i64, i64>,
    version: u64,
    reads: BTreeSet<i64>,
    scanned: bool,
    pub(crate) changes: Changes,
}

/// What a transaction would change; a savepoint keeps a copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    rows: BTreeMap<i64, Option<i64>>,
    type_oid: Option<u32>,
    news: Vec<String>,
}

/// A write to a row that another transaction has changed since the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

impl Work {
    /// Takes a snapshot.
    pub(crate) fn begin(store: &Store) -> Self {
        let snapshot = store.rows.iter().filter_map(|(key, row)| Some((*key, row.value?))).collect();
        Self { snapshot, version: store.version, ..Self::default() }
    }

    /// Reads one row.
    pub(crate) fn read(&mut self, key: i64) -> Option<i64> {
        self.reads.insert(key);
        match self.changes.rows.get(&key) {
            Some(value) => *value,
            None => self.snapshot.get(&key).copied(),
        }
    }

    /// Reads all rows.
    pub(crate) fn scan(&mut self) -> Vec<(i64, i64)> {
        self.scanned = true;
        let mut rows = self.snapshot.clone();
        for (key, value) in &self.changes.rows {
            match value {
                Some(value) => rows.insert(*key, *value),
                None => rows.remove(key),
            };
        }
        rows.into_iter().collect()
    }

    /// Writes one row.
    pub(crate) fn write(&mut self, store: &Store, key: i64, value: Option<i64>) -> Result<(), Conflict> {
        if store.changed_since(key, self.version) {
            return Err(Conflict);
        }
        self.changes.rows.insert(key, value);
        Ok(())
    }

    /// The type of column `v` as this transaction sees it.
    pub(crate) fn type_oid(&self, store: &Store) -> u32 {
        self.changes.type_oid.unwrap_or(store.type_oid)
    }

    /// Changes that type.
    pub(crate) const fn retype(&mut self, oid: u32) {
        self.changes.type_oid = Some(oid);
    }

    /// Leaves a notification.
    pub(crate) fn notify(&mut self, payload: String) {
        self.changes.news.push(payload);
    }

    /// Whether it could be committed: nothing that it read or wrote was changed by another one since.
    pub(crate) fn is_valid(&self, store: &Store) -> bool {
        let reads_count = !self.changes.rows.is_empty();
        let stale = |key: &i64| store.changed_since(*key, self.version);
        let scan_stale = self.scanned && store.rows.keys().any(stale);
        !(reads_count && (scan_stale || self.reads.iter().any(stale)) || self.changes.rows.keys().any(stale))
    }

    /// Makes its changes everyone's.
    pub(crate) fn commit(self, store: &mut Store) {
        if !self.changes.rows.is_empty() {
            store.version += 1;
        }
        for (key, value) in self.changes.rows {
            store.rows.insert(key, Change { value, version: store.version });
        }
        store.type_oid = self.changes.type_oid.unwrap_or(store.type_oid);
        store.news.extend(self.changes.news);
    }
}
