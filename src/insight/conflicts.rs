//! Which tables, statements and transactions meet conflicts: the heaviest of each, in tables of bounded size.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::figures::micros;
use super::names::Names;
use super::place::{Place, Table};
use super::report::{Column, Report, Value, count, number, text};
use super::session::Who;
use super::statements::{Statements, label};
use super::top::Top;
use crate::replay::{Cause, Fingerprint, Outcome, TransactionEnd};

/// Statements of a transaction that are kept at most.
pub(super) const STATEMENTS_MAX: usize = 12;

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

#[derive(Debug, Default)]
struct StatementFigures {
    conflicts: u64,
    differed: u64,
}

/// The transactions of an application that run the same statements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    who: Who,
    statements: Box<[Fingerprint]>,
}

#[derive(Debug, Default)]
struct ShapeFigures {
    transactions: u64,
    conflicts: u64,
    surfaced: u64,
    attempts_max: u64,
    retry_micros: u64,
    retry_micros_max: u64,
}

/// What a transaction has met so far.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub(super) object: Object,
    pub(super) statement: Option<Fingerprint>,
    pub(super) statements: Box<[Fingerprint]>,
}

type ByStatement = Top<(Arc<str>, Option<Fingerprint>), StatementFigures>;

/// The tables.
#[derive(Debug)]
pub(super) struct Conflicts(Mutex<Tables>);

#[derive(Debug)]
struct Tables {
    objects: Top<Object, ObjectFigures>,
    statements: ByStatement,
    shapes: Top<Shape, ShapeFigures>,
}

impl Conflicts {
    /// Of so many rows at most in each.
    pub(super) fn new(entries: usize) -> Self {
        Self(Mutex::new(Tables {
            objects: Top::new(entries),
            statements: Top::new(entries),
            shapes: Top::new(entries),
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
        tables.statements.add(&(Arc::clone(&met.object.database), met.statement), 1).conflicts += 1;
    }

    /// A statement gave another result in a replay.
    pub(super) fn differed(&self, database: &Arc<str>, statement: Fingerprint) {
        self.lock().statements.add(&(Arc::clone(database), Some(statement)), 1).differed += 1;
    }

    /// A transaction that had met conflicts has ended.
    pub(super) fn ended(&self, who: &Who, met: &Met, end: &TransactionEnd) {
        let surfaced = u64::from(matches!(end.outcome, Outcome::Surfaced(_)));
        let retry = micros(end.retry_time);
        let mut tables = self.lock();
        if let Some(object) = tables.objects.get_mut(&met.object) {
            object.surfaced += surfaced;
        }
        let shape = Shape { who: who.clone(), statements: met.statements.clone() };
        let figures = tables.shapes.add(&shape, retry.max(1));
        figures.transactions += 1;
        figures.conflicts += u64::from(end.conflicts);
        figures.surfaced += surfaced;
        figures.attempts_max = figures.attempts_max.max(end.attempts.into());
        figures.retry_micros += retry;
        figures.retry_micros_max = figures.retry_micros_max.max(retry);
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

    /// The statements that meet conflicts, or give other results in replays.
    pub(super) fn statements(&self, texts: &Statements) -> Report {
        let tables = self.lock();
        let row =
            |((database, statement), figures): (&(Arc<str>, Option<Fingerprint>), &StatementFigures)| {
                vec![
                    (**database).into(),
                    statement.map(label).into(),
                    statement.map_or_else(|| "COMMIT".to_owned(), |statement| texts.text(statement)).into(),
                    figures.conflicts.into(),
                    figures.differed.into(),
                ]
            };
        Report { columns: STATEMENTS, rows: tables.statements.heaviest().into_iter().map(row).collect() }
    }

    /// The transactions whose retries cost the most.
    pub(super) fn transactions(&self, texts: &Statements) -> Report {
        let tables = self.lock();
        let row = |(shape, figures): (&Shape, &ShapeFigures)| {
            let statements: Vec<_> =
                shape.statements.iter().map(|statement| texts.text(*statement)).collect();
            vec![
                (*shape.who.database).into(),
                (*shape.who.application).into(),
                figures.transactions.into(),
                figures.conflicts.into(),
                figures.surfaced.into(),
                figures.attempts_max.into(),
                Value::seconds(figures.retry_micros),
                Value::seconds(figures.retry_micros_max),
                statements.join("; ").into(),
            ]
        };
        Report { columns: TRANSACTIONS, rows: tables.shapes.heaviest().into_iter().map(row).collect() }
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

pub(super) const STATEMENTS: &[Column] =
    &[text("database"), text("fingerprint"), text("statement"), count("conflicts"), count("differed")];

pub(super) const TRANSACTIONS: &[Column] = &[
    text("database"),
    text("application"),
    count("transactions"),
    count("conflicts"),
    count("surfaced"),
    count("max_attempts"),
    number("retry_s"),
    number("longest_retry_s"),
    text("statements"),
];
