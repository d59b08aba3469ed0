//! Which tables and statements meet conflicts, and which statements differ in replays: the heaviest of each, in tables of
//! bounded size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::figures::micros;
use super::names::Names;
use super::place::{Place, Table};
use super::report::{Column, Report, Value, count, number, text};
use super::statements::{Statements, label};
use super::top::Top;
use crate::replay::{Cause, Fingerprint};

/// What is fought for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) database: Arc<str>,
    pub(super) table: Table,
    pub(super) key: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct ObjectFigures {
    conflicts: u64,
    surfaced: u64,
    cause: Option<Cause>,
    last: Option<Instant>,
}

/// What came of running a statement again whose result the client had seen.
#[derive(Clone, Copy, Debug, Default)]
struct Replays {
    compared: u64,
    differed: u64,
}

/// What a transaction has met so far.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub(super) object: Object,
    pub(super) statement: Option<Fingerprint>,
    /// Where in a program the transaction comes from, as it says itself.
    pub(super) tags: Option<Box<str>>,
}

/// A statement in a database; a COMMIT is none.
type OfStatement = (Arc<str>, Option<Fingerprint>);

/// The tables.
#[derive(Debug)]
pub(super) struct Conflicts(Mutex<Tables>);

#[derive(Debug)]
struct Tables {
    objects: Top<Object, ObjectFigures>,
    /// Conflicts by the statements that met them.
    statements: Top<OfStatement, u64>,
    replays: Top<OfStatement, Replays>,
}

impl Conflicts {
    /// Of so many rows at most in each.
    pub(super) fn new(entries: usize) -> Self {
        Self(Mutex::new(Tables {
            objects: Top::new(entries),
            statements: Top::new(entries),
            replays: Top::new(entries),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction has met a conflict.
    pub(super) fn met(&self, met: &Met, cause: Cause) {
        let mut tables = self.lock();
        let object = tables.objects.add(&met.object, 1);
        object.conflicts += 1;
        (object.cause, object.last) = (Some(cause), Some(Instant::now()));
        *tables.statements.add(&(Arc::clone(&met.object.database), met.statement), 1) += 1;
    }

    /// A statement gave the same result in a replay as before, or another one.
    pub(super) fn compared(&self, database: &Arc<str>, statement: Fingerprint, differed: bool) {
        let mut tables = self.lock();
        let replays = tables.replays.add(&(Arc::clone(database), Some(statement)), 1);
        replays.compared += 1;
        replays.differed += u64::from(differed);
    }

    /// A transaction whose last conflict was about this has ended, and its client was shown it.
    pub(super) fn surfaced(&self, met: &Met) {
        if let Some(object) = self.lock().objects.get_mut(&met.object) {
            object.surfaced += 1;
        }
    }

    /// The tables, indexes and keys that are fought for.
    pub(super) fn objects(&self, names: &Names) -> Report {
        let tables = self.lock();
        let row = |(object, figures): (&Object, &ObjectFigures)| {
            let (table, index) = object.table.display(&object.database, names);
            vec![
                (*object.database).into(),
                table.into(),
                index.into(),
                object.key.as_deref().into(),
                figures.cause.map(Cause::name).into(),
                figures.conflicts.into(),
                figures.surfaced.into(),
                figures.last.map_or(Value::None, |last| Value::seconds(micros(last.elapsed()))),
            ]
        };
        Report { columns: OBJECTS, rows: tables.objects.heaviest().into_iter().map(row).collect() }
    }

    /// The statements that meet conflicts, or give other results in replays: those that do so most often first.
    pub(super) fn statements(&self, texts: &Statements) -> Report {
        let tables = self.lock();
        let mut figures: HashMap<&OfStatement, (u64, Replays)> = HashMap::new();
        for (statement, conflicts) in tables.statements.heaviest() {
            figures.entry(statement).or_default().0 = *conflicts;
        }
        for (statement, replays) in tables.replays.heaviest() {
            if replays.differed > 0 || figures.contains_key(statement) {
                figures.entry(statement).or_default().1 = *replays;
            }
        }
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_by_key(|(statement, (conflicts, replays))| {
            (std::cmp::Reverse(conflicts + replays.differed), (&statement.0, statement.1.map(u64::from)))
        });
        let row = |((database, statement), (conflicts, replays)): (&OfStatement, (u64, Replays))| {
            vec![
                (**database).into(),
                statement.map(label).into(),
                statement.map_or_else(|| "COMMIT".to_owned(), |statement| texts.text(statement)).into(),
                conflicts.into(),
                replays.compared.into(),
                replays.differed.into(),
                Value::share(replays.differed, replays.compared),
            ]
        };
        Report { columns: STATEMENTS, rows: figures.into_iter().map(row).collect() }
    }
}

impl Table {
    /// The names of the table and of the index: numbers where no names are known.
    pub(super) fn display(&self, database: &Arc<str>, names: &Names) -> (Option<String>, Option<String>) {
        match self {
            Self::Unknown => (None, None),
            Self::Named(name) => (Some(name.to_string()), None),
            Self::Numbered { table, index } => match names.get(database, *table) {
                Some(known) => {
                    let index = known.indexes.get(index).cloned().unwrap_or_else(|| index.to_string());
                    (Some(known.table.clone()), Some(index))
                }
                None => (Some(table.to_string()), Some(index.to_string())),
            },
        }
    }
}

impl Place {
    /// The place in a database, without its data unless that may be shown. Where the database names no table, that of the
    /// statement is meant.
    pub(super) fn object(
        self,
        database: &Arc<str>,
        of_statement: Option<Box<str>>,
        show_keys: bool,
    ) -> Object {
        let table = match (self.table, of_statement) {
            (Table::Unknown, Some(name)) => Table::Named(name),
            (table, _) => table,
        };
        Object { database: Arc::clone(database), table, key: self.key.filter(|_| show_keys) }
    }
}

pub(super) const OBJECTS: &[Column] = &[
    text("database"),
    text("table"),
    text("index"),
    text("key"),
    text("last_cause"),
    count("conflicts"),
    count("surfaced"),
    number("since_last_s"),
];

pub(super) const STATEMENTS: &[Column] = &[
    text("database"),
    text("fingerprint"),
    text("statement"),
    count("conflicts"),
    count("compared"),
    count("differed"),
    number("differed_pct"),
];
