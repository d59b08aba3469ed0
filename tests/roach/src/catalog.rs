//! Tables and sequences: those that everybody sees, and the changes that a transaction has not committed yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sqlparser::ast;

use crate::errors::SqlError;
use crate::sql::value::Type;

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub ty: Type,
    /// The place of its value in a row; dropped columns leave theirs behind.
    pub slot: usize,
    /// What it gets when nothing is given.
    pub default: Option<ast::Expr>,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Whether `*` leaves it out, as it does the key that a table without a primary key gets.
    pub hidden: bool,
    /// The table in which its values must be primary keys.
    pub references: Option<String>,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// The number that keys and error texts show.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// How often it was altered.
    pub version: u32,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The slots of the columns of its primary key.
    pub primary: Vec<usize>,
    /// How many slots its rows have.
    pub slots: usize,
}

impl Table {
    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns that `*` stands for.
    pub fn visible(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.hidden)
    }

    /// The names of its primary key's columns, as error texts list them.
    pub fn primary_names(&self) -> String {
        let name = |slot: &usize| {
            self.columns.iter().find(|column| column.slot == *slot).map(|column| column.name.as_str())
        };
        self.primary.iter().filter_map(name).collect::<Vec<_>>().join(",")
    }
}

/// A sequence: the last value that it gave. It is not part of any transaction.
#[derive(Debug, Default)]
pub struct Sequence {
    last: AtomicI64,
}

impl Sequence {
    /// The next value.
    pub fn advance(&self) -> i64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A change of the schema.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The names of the fields say what they are.
pub enum Change {
    /// A table was made.
    CreateTable(Arc<Table>),
    /// A table was removed.
    DropTable(String),
    /// A table is to look otherwise; nobody sees that before the change is committed.
    AlterTable(Arc<Table>),
    /// No two rows are to have the same value in these slots; checked after the commit.
    CreateUniqueIndex { table: String, name: String, column: String },
    /// A sequence was made.
    CreateSequence(String, Arc<Sequence>),
    /// A sequence was removed.
    DropSequence(String),
}

/// What everybody sees.
#[derive(Debug, Default)]
pub struct Catalog {
    contents: RwLock<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    tables: HashMap<String, Arc<Table>>,
    sequences: HashMap<String, Arc<Sequence>>,
    tables_made: u32,
}

/// The number of the first table that a client makes.
const FIRST_ID: u32 = 52;

impl Catalog {
    /// A number for a new table.
    pub fn next_id(&self) -> u32 {
        let mut contents = self.write();
        contents.tables_made += 1;
        FIRST_ID + contents.tables_made - 1
    }

    /// Makes the changes of a transaction visible to all.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut contents = self.write();
        for change in changes {
            match change {
                Change::CreateTable(table) | Change::AlterTable(table) => {
                    contents.tables.insert(table.name.clone(), table);
                }
                Change::DropTable(name) => drop(contents.tables.remove(&name)),
                Change::CreateSequence(name, sequence) => drop(contents.sequences.insert(name, sequence)),
                Change::DropSequence(name) => drop(contents.sequences.remove(&name)),
                Change::CreateUniqueIndex { .. } => {}
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The schema as one transaction sees it.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    /// What everybody sees.
    pub catalog: &'a Catalog,
    /// What the transaction has changed.
    pub changes: &'a [Change],
}

impl Schema<'_> {
    /// The table of a name.
    pub fn find_table(&self, name: &str) -> Option<Arc<Table>> {
        for change in self.changes.iter().rev() {
            match change {
                Change::CreateTable(table) if table.name == name => return Some(table.clone()),
                Change::DropTable(dropped) if dropped == name => return None,
                _ => {}
            }
        }
        self.catalog.read().tables.get(name).cloned()
    }

    /// The table of a name, or the error that says that there is none.
    pub fn table(&self, name: &str) -> Result<Arc<Table>, SqlError> {
        self.find_table(name).ok_or_else(|| SqlError::unknown_table(name))
    }

    /// The names of the tables in a schema, as everybody sees them.
    pub fn tables_within(&self, schema: &str) -> Vec<String> {
        let prefix = format!("{schema}.");
        self.catalog.read().tables.keys().filter(|name| name.starts_with(&prefix)).cloned().collect()
    }

    /// The sequence of a name.
    pub fn find_sequence(&self, name: &str) -> Option<Arc<Sequence>> {
        for change in self.changes.iter().rev() {
            match change {
                Change::CreateSequence(made, sequence) if made == name => return Some(sequence.clone()),
                Change::DropSequence(dropped) if dropped == name => return None,
                _ => {}
            }
        }
        self.catalog.read().sequences.get(name).cloned()
    }
}
