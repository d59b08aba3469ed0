//! The transaction of one connection of the model database, in both dialects.

mod data;

use golden::Backend;
use golden::notation::{Column, Fields};
use reprise::replay::Dialect;

use crate::faults::{CommitMishap, Faults, Mishap};
use crate::scenario::Traits;
use crate::sql::{Statement, Tagged};
use crate::store::{Changes, Store, Work};
use crate::story::Closing;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    None,
    /// A statement in autocommit, or several in one batch.
    Implicit,
    Explicit,
    Failed,
    /// After RELEASE of the restart savepoint.
    Released,
}

/// From where an attempt is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rewind {
    /// Behind its BEGIN.
    ToBegin,
    /// Behind so many steps.
    ToStep(usize),
}

/// How a statement fares, where the dice were rolled before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forced {
    Mishap(Option<Mishap>),
    Error(&'static str),
}

/// What a statement gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) frames: Vec<Backend>,
    /// The attempt is over with this statement.
    pub(crate) closing: Option<Closing>,
    /// The connection is over, without these frames or with them.
    pub(crate) hangs_up: bool,
}

impl Reply {
    pub(crate) fn failed(&self) -> bool {
        matches!(self.frames.last(), Some(Backend::ErrorResponse(_)))
    }

    fn error(code: &'static str) -> Self {
        Self { frames: vec![error("ERROR", code)], ..Self::default() }
    }

    fn tag(tag: impl Into<String>) -> Self {
        Self { frames: vec![Backend::CommandComplete(tag.into())], ..Self::default() }
    }

    const fn closing(mut self, closing: Closing) -> Self {
        self.closing = Some(closing);
        self
    }

    fn hang_up() -> Self {
        Self { hangs_up: true, ..Self::default() }
    }
}

/// An ErrorResponse.
pub(crate) fn error(severity: &str, code: &str) -> Backend {
    let text = format!("the model says {code}");
    Backend::ErrorResponse(Fields(vec![
        ('S', severity.into()),
        ('V', severity.into()),
        ('C', code.into()),
        ('M', text),
    ]))
}

/// A WARNING or NOTICE.
pub(crate) fn notice(text: &str) -> Backend {
    Backend::NoticeResponse(Fields(vec![
        ('S', "NOTICE".into()),
        ('C', "00000".into()),
        ('M', text.to_owned()),
    ]))
}

#[derive(Clone, Debug)]
struct Savepoint {
    name: String,
    changes: Changes,
    setting: String,
    /// Set before any data was touched: on CockroachDB it outlives a restart.
    initial: bool,
    /// Steps of the attempt before it.
    steps: usize,
}

/// The transaction of one connection.
#[derive(Debug)]
pub(crate) struct Transaction {
    traits: Traits,
    pub(crate) block: Block,
    work: Option<Work>,
    savepoints: Vec<Savepoint>,
    /// CockroachDB: a conflict was met, only an initial savepoint helps.
    doomed: bool,
    pub(crate) setting: String,
    setting_at_begin: String,
    local: Option<String>,
    /// The engine restarts the attempt.
    pub(crate) rewinds: Option<Rewind>,
    /// How the next statement fares, where that is known beforehand.
    pub(crate) forced: Option<Forced>,
}

impl Transaction {
    pub(crate) fn new(traits: Traits) -> Self {
        Self {
            traits,
            block: Block::None,
            work: None,
            savepoints: Vec::new(),
            doomed: false,
            setting: "start".into(),
            setting_at_begin: "start".into(),
            local: None,
            rewinds: None,
            forced: None,
        }
    }

    const fn is_cockroach(&self) -> bool {
        matches!(self.traits.dialect, Dialect::Cockroach)
    }

    pub(crate) const fn status(&self) -> char {
        match self.block {
            Block::None | Block::Implicit => 'I',
            Block::Explicit | Block::Released => 'T',
            Block::Failed => 'E',
        }
    }

    pub(crate) const fn savepoints_len(&self) -> usize {
        self.savepoints.len()
    }

    /// The value of the setting that is reported to the client.
    pub(crate) fn reported_setting(&self) -> &str {
        self.local.as_deref().unwrap_or(&self.setting)
    }

    /// Whether a statement is refused for the state alone.
    pub(crate) fn refuses(&self, statement: &Statement) -> Option<&'static str> {
        let restarts = matches!(statement, Statement::Savepoint(name) if self.is_restart(name));
        match self.block {
            Block::Failed if !statement.leaves_failure() && !restarts => Some("25P02"),
            Block::Released if !matches!(statement, Statement::Commit | Statement::Rollback) => Some("25000"),
            _ => None,
        }
    }

    fn is_restart(&self, name: &str) -> bool {
        self.is_cockroach() && name.starts_with("cockroach_restart")
    }

    /// The columns of what a statement gives.
    pub(crate) fn columns(&self, statement: &Statement, store: &Store) -> Option<Backend> {
        let oid = self.work.as_ref().map_or(store.type_oid, |work| work.type_oid(store));
        let column = |name: &str, type_oid| Column { name: name.into(), type_oid, binary: false };
        let columns = match statement {
            Statement::SelectAll => vec![column("k", 20), column("v", oid)],
            Statement::SelectKey(_) => vec![column("v", oid)],
            statement if statement.has_rows() => vec![column("?column?", 20)],
            _ => return None,
        };
        Some(Backend::RowDescription(columns))
    }

    /// Runs one statement; `steps` are in the attempt so far.
    pub(crate) fn run(
        &mut self,
        tagged: &Tagged,
        steps: usize,
        store: &mut Store,
        faults: &mut Faults,
    ) -> Reply {
        let statement = &tagged.statement;
        if let Some(code) = self.refuses(statement) {
            return Reply::error(code);
        }
        let reply = match statement {
            Statement::Begin => self.begin(),
            Statement::Commit => self.commit(store, faults),
            Statement::Rollback => self.rollback(),
            Statement::Chain => self.chain(),
            Statement::Savepoint(name) => self.savepoint(name, steps),
            Statement::RollbackTo(name) => self.rollback_to(name, tagged.tag.is_none()),
            Statement::Release(name) => self.release(name, tagged.tag.is_none(), store, faults),
            Statement::Empty => Reply { frames: vec![Backend::EmptyQueryResponse], ..Reply::default() },
            other => self.data(other, store, faults),
        };
        if reply.failed() && matches!(self.block, Block::Explicit) {
            self.block = Block::Failed;
        }
        reply
    }

    fn begin(&mut self) -> Reply {
        match self.block {
            Block::None | Block::Implicit => {
                self.block = Block::Explicit;
                Reply::tag("BEGIN")
            }
            _ if self.is_cockroach() => Reply::error("25001"),
            _ => Reply {
                frames: vec![
                    notice("there is already a transaction"),
                    Backend::CommandComplete("BEGIN".into()),
                ],
                ..Reply::default()
            },
        }
    }

    fn commit(&mut self, store: &mut Store, faults: &mut Faults) -> Reply {
        match self.block {
            Block::None | Block::Implicit if self.is_cockroach() => Reply::error("25P01"),
            Block::Failed => {
                self.close(false);
                Reply::tag("ROLLBACK").closing(Closing::Aborted)
            }
            Block::Released => {
                self.close(true);
                Reply::tag("COMMIT").closing(Closing::Committed)
            }
            _ => self.commit_work(Backend::CommandComplete("COMMIT".into()), store, faults),
        }
    }

    /// Commits what was done, and answers `done`.
    pub(crate) fn commit_work(&mut self, done: Backend, store: &mut Store, faults: &mut Faults) -> Reply {
        let work = self.work.take();
        let mishap = work.is_some().then(|| faults.at_commit()).flatten();
        let valid = work.as_ref().is_none_or(|work| work.is_valid(store));
        let (frames, committed, hangs_up) = match mishap {
            _ if !valid => (vec![error("ERROR", "40001")], false, false),
            None => (vec![done], true, false),
            Some(CommitMishap::Error(code)) => (vec![error("ERROR", code)], false, false),
            Some(CommitMishap::Ambiguous { committed }) => (vec![error("ERROR", "40003")], committed, false),
            Some(CommitMishap::Loss { committed }) => (Vec::new(), committed, true),
        };
        if let Some(work) = work.filter(|_| committed) {
            work.commit(store);
        }
        self.close(committed);
        let closing = if committed { Closing::Committed } else { Closing::Aborted };
        Reply { frames, closing: Some(closing), hangs_up }
    }

    fn rollback(&mut self) -> Reply {
        match self.block {
            Block::None | Block::Implicit if self.is_cockroach() => Reply::error("25P01"),
            Block::None => Reply::tag("ROLLBACK"),
            Block::Released => {
                self.close(true);
                Reply::tag("COMMIT").closing(Closing::Committed)
            }
            _ => {
                self.close(false);
                Reply::tag("ROLLBACK").closing(Closing::Aborted)
            }
        }
    }

    /// Undoes everything, and goes on in a transaction that began as this one did.
    fn chain(&mut self) -> Reply {
        if !matches!(self.block, Block::Explicit | Block::Failed) || self.is_cockroach() {
            return Reply::error("25P01");
        }
        self.close(false);
        self.block = Block::Explicit;
        self.rewinds = Some(Rewind::ToBegin);
        Reply::tag("ROLLBACK")
    }

    /// The transaction is over.
    pub(crate) fn close(&mut self, committed: bool) {
        self.block = Block::None;
        self.work = None;
        self.savepoints.clear();
        self.doomed = false;
        self.local = None;
        if committed || self.is_cockroach() {
            self.setting_at_begin.clone_from(&self.setting);
        } else {
            self.setting.clone_from(&self.setting_at_begin);
        }
    }

    fn savepoint(&mut self, name: &str, steps: usize) -> Reply {
        if matches!(self.block, Block::None | Block::Implicit) {
            return Reply::error("25P01");
        }
        if self.is_restart(name) {
            match (self.block, &self.savepoints[..], &self.work) {
                (Block::Failed, ..) => return self.rollback_to(name, false),
                (_, [], None) => {}
                (_, [only], None) if self.is_restart(&only.name) => return Reply::tag("SAVEPOINT"),
                _ => return Reply::error("42601"),
            }
        }
        let changes = self.work.as_ref().map(|work| work.changes.clone()).unwrap_or_default();
        let (name, setting, initial) = (name.to_owned(), self.setting.clone(), self.work.is_none());
        self.savepoints.push(Savepoint { name, changes, setting, initial, steps });
        Reply::tag("SAVEPOINT")
    }

    fn rollback_to(&mut self, name: &str, by_engine: bool) -> Reply {
        if matches!(self.block, Block::None | Block::Implicit) {
            return Reply::error("25P01");
        }
        let Some(at) = self.savepoints.iter().rposition(|savepoint| savepoint.name == name) else {
            return Reply::error("3B001");
        };
        self.savepoints.truncate(at + 1);
        let savepoint = self.savepoints[at].clone();
        if self.doomed && !savepoint.initial {
            return Reply::error("40001");
        }
        if self.doomed {
            self.work = None;
        } else if let Some(work) = &mut self.work {
            work.changes = savepoint.changes;
        }
        if !self.is_cockroach() {
            self.setting = savepoint.setting;
            self.local = None;
        }
        self.doomed = false;
        self.block = Block::Explicit;
        if by_engine && self.is_restart(name) {
            self.rewinds = Some(Rewind::ToStep(savepoint.steps));
        }
        Reply::tag("ROLLBACK")
    }

    fn release(&mut self, name: &str, by_engine: bool, store: &mut Store, faults: &mut Faults) -> Reply {
        if matches!(self.block, Block::None | Block::Implicit) {
            return Reply::error("25P01");
        }
        let Some(at) = self.savepoints.iter().rposition(|savepoint| savepoint.name == name) else {
            return Reply::error("3B001");
        };
        if !self.is_restart(name) {
            self.savepoints.truncate(at);
            return Reply::tag("RELEASE");
        }
        let (work, savepoints) = (self.work.clone(), self.savepoints.clone());
        let mut reply = self.commit_work(Backend::CommandComplete("COMMIT".into()), store, faults);
        match reply.closing {
            Some(Closing::Committed) if !reply.failed() => {
                self.block = Block::Released;
                if by_engine {
                    reply.closing = Some(Closing::Released);
                }
            }
            // Ambiguous: only ROLLBACK helps, whatever became of it.
            Some(Closing::Committed) => self.block = Block::Failed,
            _ => {
                self.block = Block::Failed;
                reply.closing = None;
                if reply.frames.first().and_then(crate::story::sqlstate) == Some("40001") {
                    (self.work, self.savepoints, self.doomed) = (work, savepoints, true);
                }
            }
        }
        reply
    }

    /// The statement is cancelled.
    pub(crate) fn cancel(&mut self) -> Reply {
        match self.block {
            Block::Explicit => self.block = Block::Failed,
            Block::None => self.block = Block::Implicit,
            _ => {}
        }
        Reply::error("57014")
    }
}
