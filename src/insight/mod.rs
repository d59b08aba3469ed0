//! What is remembered for reports: who is connected, which transactions could be run again, and what they fight for.
//!
//! Everything here is bounded and off the way of calm transactions: a session counts for itself, and what is shared is locked
//! at conflicts only. Console, status page and metrics read the same [`Report`]s. No literal, parameter or row gets in, but for
//! the keys of conflicts where [`Options::show_keys`] allows it.

mod advice;
mod adviser;
mod conflicts;
mod coverage;
mod figures;
mod names;
mod place;
mod report;
mod session;
mod shape;
mod statements;
mod tags;
mod top;
mod transactions;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use names::TableNames;
pub(crate) use report::plain;
pub use report::{Column, Kind, Report, Value, count, number, text};
pub use session::{Activity, Session, Who};

use adviser::Adviser;
use conflicts::{Conflicts, Met};
use coverage::Coverage;
use names::Names;
use place::Place;
use session::Sessions;
use shape::{Outline, Shape};
use statements::Statements;
use transactions::Transactions;

use crate::replay::{Dialect, Encounter, Fingerprint, Outcome, Reason, Statement, TransactionEnd};

/// What may be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Rows of each table of conflicts, and of who is told apart.
    pub max_entries: usize,
    /// Tables and indexes that have series of their own in metrics.
    pub max_tables: usize,
    /// Whether statements are watched for patterns that lose data.
    pub adviser: bool,
    /// Whether keys of conflicts are shown: there is data in them.
    pub show_keys: bool,
    /// Whether the tags of sqlcommenter are shown that tell places in a program.
    pub show_tags: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_entries: 100, max_tables: 50, adviser: false, show_keys: false, show_tags: false }
    }
}

/// A part of what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Who is connected.
    Sessions,
    /// The transactions whose retries cost the most.
    Transactions,
    /// The tables, indexes and keys that are fought for.
    Conflicts,
    /// The statements that meet conflicts, or differ in replays.
    Statements,
    /// How much could be run again.
    Coverage,
    /// What to change.
    Advice,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 6] =
        [Self::Sessions, Self::Transactions, Self::Conflicts, Self::Statements, Self::Coverage, Self::Advice];

    /// The stable name, as in the console and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Transactions => "transactions",
            Self::Conflicts => "conflicts",
            Self::Statements => "statements",
            Self::Coverage => "coverage",
            Self::Advice => "advice",
        }
    }

    /// The columns of its report.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Sessions => session::COLUMNS,
            Self::Transactions => transactions::COLUMNS,
            Self::Conflicts => conflicts::OBJECTS,
            Self::Statements => conflicts::STATEMENTS,
            Self::Coverage => coverage::COLUMNS,
            Self::Advice => advice::COLUMNS,
        }
    }
}

/// Where a conflict was, in words for metrics and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contended {
    /// The database.
    pub database: String,
    /// The table: its name, or its number; empty if nobody has said.
    pub table: String,
    /// The index, likewise.
    pub index: String,
    /// What the key has behind the index, where that may be shown.
    pub key: Option<String>,
}

/// What is told in the log of a transaction that has met conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Where the last of them was.
    pub contended: Contended,
    /// The statement that met it, by its number; none for a COMMIT.
    pub statement: Option<String>,
    /// The statements of the transaction, by their numbers.
    pub statements: String,
    /// How long it took.
    pub took: Duration,
}

/// Everything that is remembered, for one proxy.
#[derive(Debug)]
pub struct Insight {
    options: Options,
    sessions: Sessions,
    coverage: Coverage,
    statements: Statements,
    conflicts: Conflicts,
    transactions: Transactions,
    names: Names,
    adviser: Option<Adviser>,
}

impl Insight {
    /// Remembers nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            sessions: Sessions::default(),
            coverage: Coverage::new(options.max_entries),
            statements: Statements::default(),
            conflicts: Conflicts::new(options.max_entries),
            transactions: Transactions::new(options.max_entries),
            names: Names::default(),
            adviser: options.adviser.then(|| Adviser::new(options.max_entries)),
            options,
        }
    }

    /// A session begins; it ends when this is dropped.
    #[must_use]
    pub fn open(self: &Arc<Self>, mut session: Session) -> Opened {
        session.watch = self.adviser.as_ref().map(|_| Box::default());
        let session = Arc::new(session);
        self.sessions.insert(Arc::clone(&session));
        Opened { insight: Arc::clone(self), session }
    }

    /// What each session that is open does now, with its dialect.
    pub fn activities(&self) -> Vec<(Activity, &'static str)> {
        self.sessions.all().iter().map(|session| (session.activity(), session.dialect)).collect()
    }

    /// Bytes of answers that the open sessions keep from their clients.
    pub fn held_bytes(&self) -> u64 {
        self.sessions.all().iter().map(|session| session.held_bytes()).sum()
    }

    /// A session that is open.
    pub fn session(&self, id: u64) -> Option<Arc<Session>> {
        self.sessions.get(id)
    }

    /// A transaction has ended, so long after its session began. What is worth telling of it if it has met conflicts.
    pub fn ended(&self, session: &Session, end: &TransactionEnd, now: Duration) -> Option<Story> {
        let (sample, took) = (session.sample(), session.end_transaction(now));
        let outlined = session.is_outlined().then(|| std::mem::take(&mut *session.outline()));
        session.figures.count(end, took, 1);
        if let Some((adviser, mut watch)) = self.adviser.as_ref().zip(session.watch()) {
            let surfaced = matches!(end.outcome, Outcome::Surfaced(_));
            adviser.ended(&session.who.database, &mut watch, surfaced, Instant::now());
        }
        let shape = Shape::new(&session.who, outlined?);
        if let Some(stands_for) = sample.stands_for() {
            let known = end.not_replayable.filter(|reason| *reason != Reason::Mode);
            let late = if known.is_none() { self.late_obstacle(session, &shape.outline) } else { None };
            late.into_iter().for_each(|reason| session.figures.correct(reason, stands_for, took));
            let end = TransactionEnd { not_replayable: known.or(late), ..*end };
            self.transactions.sampled(&shape, &end, took, stands_for);
        }
        let met = session.take_met()?;
        if matches!(end.outcome, Outcome::Surfaced(_)) {
            self.conflicts.surfaced(&met);
        }
        self.transactions.retried(&shape, end, met.tags.as_deref());
        Some(Story {
            contended: self.contended(&met),
            statement: met.statement.map(statements::label),
            statements: shape.outline.labels(),
            took: Duration::from_micros(took),
        })
    }

    /// Why a transaction that ran these statements could not have been run again, if only a conflict would have told.
    fn late_obstacle(&self, session: &Session, outline: &Outline) -> Option<Reason> {
        let of_session =
            |reason: &Reason| *reason != Reason::SessionState || session.dialect == Dialect::Cockroach.name();
        let known =
            outline.statements().filter_map(|statement| self.statements.get(statement)?.late_obstacle);
        known.into_iter().find(of_session)
    }

    /// A transaction has met a conflict. Where that was.
    pub fn conflict(&self, session: &Session, encounter: &Encounter<'_>) -> Contended {
        let told = encounter.statements().inspect(|statement| self.statements.learn(*statement));
        let outline: Outline = told.map(|statement| statement.fingerprint).collect();
        let last = outline.last();
        session.outline().extend_to(outline);
        let statement = encounter.statement();
        statement.into_iter().for_each(|statement| self.statements.learn(statement));
        let statement = statement.map(|statement| statement.fingerprint);
        // A COMMIT works on what the statements before it worked on.
        let table = statement.or(last).and_then(|statement| self.statements.get(statement)?.table.clone());
        let place = Place::of(encounter.error);
        let object = place.object(&session.who.database, table, self.options.show_keys);
        let of_tags = |statement: Statement<'_>| tags::tags(statement.sql?);
        let tags = if self.options.show_tags { encounter.statements().find_map(of_tags) } else { None };
        let met = Met { object, statement, tags };
        self.conflicts.met(&met, encounter.cause);
        let contended = self.contended(&met);
        session.meet(met);
        contended
    }

    fn contended(&self, met: &Met) -> Contended {
        let (table, index) = met.object.table.display(&met.object.database, &self.names);
        Contended {
            database: plain(met.object.database.to_string()),
            table: plain(table.unwrap_or_default()),
            index: plain(index.unwrap_or_default()),
            key: met.object.key.as_deref().map(str::to_owned).map(plain),
        }
    }

    /// A statement gave another result in a replay than before.
    pub fn differed(&self, session: &Session, statement: Statement<'_>) {
        self.statements.learn(statement);
        self.conflicts.compared(&session.who.database, statement.fingerprint, true);
    }

    /// A statement gave the same result in a replay as before.
    pub fn verified(&self, session: &Session, statement: Fingerprint) {
        self.conflicts.compared(&session.who.database, statement, false);
    }

    /// A statement is prepared under a name.
    pub fn prepared(&self, statement: Statement<'_>) {
        self.statements.learn(statement);
    }

    /// A session that is watched runs a statement, in a transaction that it has opened or not.
    pub fn runs(&self, session: &Session, statement: Statement<'_>, in_transaction: bool) {
        self.statements.learn(statement);
        if session.is_outlined() {
            session.outline().push(statement.fingerprint);
        }
        let Some((adviser, mut watch)) = self.adviser.as_ref().zip(session.watch()) else { return };
        if let Some(text) = self.statements.get(statement.fingerprint) {
            let (known, moment) = ((statement.fingerprint, &*text), (in_transaction, Instant::now()));
            adviser.statement(&session.who.database, &mut watch, known, moment);
        }
    }

    /// The tables that conflicts named by numbers and whose names are not known, by their databases.
    pub fn nameless(&self) -> BTreeMap<Arc<str>, Vec<u32>> {
        self.names.wanted()
    }

    /// The names of a table that was looked up; `None` if it was not found.
    pub fn learn_names(&self, database: &Arc<str>, table: u32, names: Option<TableNames>) {
        self.names.learn(database, table, names);
    }

    /// What there is to tell.
    pub fn report(&self, topic: Topic) -> Report {
        let open = self.sessions.all();
        let groups = || self.coverage.groups(open.iter().map(|session| &**session));
        match topic {
            Topic::Sessions => self.sessions.report(),
            Topic::Transactions => self.transactions.costs(&self.statements),
            Topic::Conflicts => self.conflicts.objects(&self.names),
            Topic::Statements => self.conflicts.statements(&self.statements),
            Topic::Coverage => {
                let mut report = coverage::report(&groups());
                report.rows.extend(self.transactions.coverage(&self.statements));
                report
            }
            Topic::Advice => {
                let mut report = advice::report(&groups(), &self.conflicts.statements(&self.statements));
                let seen = self.adviser.as_ref().map(|adviser| adviser.rows(&self.statements));
                report.rows.extend(seen.unwrap_or_default());
                report
            }
        }
    }
}

/// A session that is remembered as open.
#[derive(Debug)]
pub struct Opened {
    insight: Arc<Insight>,
    session: Arc<Session>,
}

impl Opened {
    /// The session, to be kept elsewhere too.
    pub fn share(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }
}

impl Deref for Opened {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.insight.sessions.remove(self.session.id);
        self.insight.coverage.take(&self.session);
    }
}
