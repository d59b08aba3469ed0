//! Keys of rows, as error texts show them, and spans of keys.

use std::fmt::{self, Display, Formatter};
use std::ops::Bound;
use std::sync::Arc;

use crate::sql::value::Datum;

/// The values of a row, by the slots of its table's columns.
pub type Row = Arc<Vec<Datum>>;

/// The place of a row: its table and the values of its primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The id of the table.
    pub table: u32,
    /// The values of the primary key's columns.
    pub parts: Vec<Datum>,
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "/Table/{}/1", self.table)?;
        self.parts.iter().try_for_each(|part| match part {
            Datum::Text(text) => write!(f, "/{text:?}"),
            other => write!(f, "/{other}"),
        })
    }
}

/// A part of a table, bounded by the first column of its primary key.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The id of the table.
    pub table: u32,
    /// Where it begins.
    pub start: Bound<Datum>,
    /// Where it ends.
    pub end: Bound<Datum>,
}

impl Span {
    /// A whole table.
    pub fn table(table: u32) -> Self {
        Self { table, start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// All rows whose primary key begins with this value.
    pub fn prefix(table: u32, first: Datum) -> Self {
        Self { table, start: Bound::Included(first.clone()), end: Bound::Included(first) }
    }

    /// Whether a key lies in it.
    pub fn contains(&self, key: &Key) -> bool {
        let Some(first) = key.parts.first().filter(|_| key.table == self.table) else {
            return false;
        };
        let after_start = match &self.start {
            Bound::Included(bound) => first >= bound,
            Bound::Excluded(bound) => first > bound,
            Bound::Unbounded => true,
        };
        let before_end = match &self.end {
            Bound::Included(bound) => first <= bound,
            Bound::Excluded(bound) => first < bound,
            Bound::Unbounded => true,
        };
        after_start && before_end
    }

    /// The smallest key that can lie in it.
    pub(super) fn first(&self) -> Key {
        let parts = match &self.start {
            Bound::Included(bound) | Bound::Excluded(bound) => vec![bound.clone()],
            Bound::Unbounded => Vec::new(),
        };
        Key { table: self.table, parts }
    }

    /// Whether a key lies behind all that can lie in it.
    pub(super) fn is_before(&self, key: &Key) -> bool {
        key.table > self.table
            || match (&self.end, key.parts.first()) {
                (Bound::Included(bound) | Bound::Excluded(bound), Some(first)) => first > bound,
                _ => false,
            }
    }
}
