//! How much of what the applications do could be run again: transactions and their time, by application, user and database.
//! Rows by what the transactions run stand behind those.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::figures::Sums;
use super::report::{Column, Report, Value, count, number, text};
use super::session::{Session, Who};

/// The name that those have together for whom there is no room.
pub(super) const OTHERS: &str = "(others)";

/// The figures of sessions that have ended, by who they belonged to.
#[derive(Debug)]
pub(super) struct Coverage {
    entries_max: usize,
    groups: Mutex<BTreeMap<Who, Sums>>,
}

impl Coverage {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries_max, groups: Mutex::default() }
    }

    /// Takes over the figures of a session that ends.
    pub(super) fn take(&self, session: &Session) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut groups, session, self.entries_max);
    }

    /// The figures of everybody, of open sessions too.
    pub(super) fn groups<'a>(&self, open: impl IntoIterator<Item = &'a Session>) -> BTreeMap<Who, Sums> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.into_iter().for_each(|session| add(&mut groups, session, self.entries_max));
        groups
    }
}

fn add(groups: &mut BTreeMap<Who, Sums>, session: &Session, entries_max: usize) {
    let sums = session.figures.sums();
    if sums.transactions == 0 {
        return;
    }
    let mut who = session.who.clone();
    if !groups.contains_key(&who) && groups.len() >= entries_max {
        who = Who { application: OTHERS.into(), user: OTHERS.into(), database: OTHERS.into() };
    }
    groups.entry(who).or_default().add(&sums);
}

pub(super) const COLUMNS: &[Column] = &[
    text("by"),
    text("application"),
    text("user"),
    text("database"),
    count("transactions"),
    number("replayable_pct"),
    number("transaction_s"),
    number("replayable_time_pct"),
    count("conflicts"),
    count("hidden"),
    count("surfaced"),
    text("top_reason"),
    number("top_reason_pct"),
    text("what_to_change"),
    text("statements"),
];

/// One row for each of them, those with the most time in transactions first.
pub(super) fn report(groups: &BTreeMap<Who, Sums>) -> Report {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.micros));
    let row_of_client = |(who, sums): (&Who, &Sums)| {
        let names = ["client", &who.application, &who.user, &who.database];
        let conflicts = [sums.conflicts, sums.hidden, sums.surfaced].map(Value::from);
        row(names.map(Value::from), sums, conflicts, Value::None)
    };
    Report { columns: COLUMNS, rows: groups.into_iter().map(row_of_client).collect() }
}

/// One row for the transactions of an application in a database that run the same statements. Their conflicts are told
/// elsewhere: there they are all counted, and here a sample is.
pub(super) fn row_of_shape([application, database, statements]: [&str; 3], sums: &Sums) -> Vec<Value> {
    let names = ["transaction".into(), application.into(), Value::None, database.into()];
    row(names, sums, [Value::None, Value::None, Value::None], statements.into())
}

fn row(names: [Value; 4], sums: &Sums, conflicts: [Value; 3], statements: Value) -> Vec<Value> {
    let top = sums.obstacles().first().copied();
    let coverage = [
        sums.transactions.into(),
        Value::share(sums.replayable, sums.transactions),
        Value::seconds(sums.micros),
        Value::share(sums.replayable_micros, sums.micros),
    ];
    let obstacle = [
        top.map(|(reason, _)| reason.name()).into(),
        top.map_or(Value::None, |(_, count)| Value::share(count, sums.transactions)),
        top.map(|(reason, _)| reason.hint()).into(),
    ];
    names.into_iter().chain(coverage).chain(conflicts).chain(obstacle).chain([statements]).collect()
}
