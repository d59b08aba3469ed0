//! Conflicts by table and index: as many series as are allowed, and one for all others.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounterVec;

use super::catalogue::Maker;
use crate::insight::Contended;

/// The label of what has no series of its own.
const OTHER: &str = "other";

/// The counters.
pub(super) struct ByTable {
    conflicts: IntCounterVec,
    series_max: usize,
    known: Mutex<HashSet<[String; 3]>>,
}

impl ByTable {
    pub(super) fn new(make: &Maker<'_>, series_max: usize) -> Self {
        let conflicts = make.counters("reprise_conflicts_by_table_total");
        conflicts.with_label_values(&[OTHER; 3]);
        Self { conflicts, series_max, known: Mutex::default() }
    }

    /// Counts a conflict. That of a table that nobody has named is one of the others.
    pub(super) fn count(&self, contended: &Contended) {
        let Contended { database, table, index, .. } = contended;
        let labels = [database.clone(), table.clone(), index.clone()];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let has_series = !table.is_empty()
            && (known.contains(&labels) || (known.len() < self.series_max && known.insert(labels.clone())));
        drop(known);
        let labels = if has_series { labels } else { [OTHER; 3].map(str::to_owned) };
        self.conflicts.with_label_values(&labels).inc();
    }
}
