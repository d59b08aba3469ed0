//! A session: one client's conversation, command by command.
//!
//! `mod.rs` runs the loop; `intake` makes commands of messages; `control` begins, divides and ends transactions; `rows`
//! runs statements that read and write; `ddl` changes the schema; `extended` prepares and binds; `answers` shows and sets variables; `copy` takes
//! COPY data; `recovery` decides what an error means; `strike` makes errors on demand.

mod answers;
mod control;
mod copy;
mod ddl;
mod extended;
mod frames;
mod intake;
mod names;
mod recovery;
mod rows;
mod sequences;
mod settings;
mod strike;

pub use frames::{Frames, Wire};
pub use sequences::Sequences;
pub use settings::Settings;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::Change;
use crate::errors::{Gravity, SqlError};
use crate::kv::{Priority, Transaction};
use crate::output::Output;
use crate::retry::{Command, Commands, Received};
use crate::savepoints::Savepoints;
use crate::server::{Handle, Shared};
use crate::sql::statement::{Parsed, Statement};
use crate::sql::value::Datum;
use crate::transaction::{Event, State};
use crate::version::Version;
use names::Names;
use recovery::RewindPoint;

/// What is left of a transaction after an error that a restart does not heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Health {
    #[default]
    Sound,
    /// Every later statement is cancelled.
    Cancelled,
    /// No savepoint helps.
    Broken,
    /// It was rolled back behind the session's back.
    Finalized,
}

/// The transaction of a session.
#[derive(Debug)]
struct Txn {
    kv: Transaction,
    changes: Vec<Change>,
    /// What now() shows; no retry changes it.
    began: u64,
    /// Since when transaction_timeout counts.
    since: Instant,
    /// When its last statement began.
    statement_began: u64,
    read_only: bool,
    priority: Priority,
    health: Health,
    /// How many attempts came before this one.
    attempt: usize,
    /// How many errors the session's own variables have injected.
    injected: u8,
}

/// Why a command did not run to its end.
enum Stop {
    /// It failed.
    Error(SqlError),
    /// The connection is over.
    Io(io::Error),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Stop {
    /// The same as something that no retry heals.
    fn without_retry(self) -> Self {
        match self {
            Self::Error(error) => Self::Error(SqlError { gravity: Gravity::Ordinary, ..error }),
            other => other,
        }
    }
}

/// What a command came to.
type Flow = Result<(), Stop>;

/// What is being skipped after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    /// The rest of a Query, or of a batch.
    ToSync {
        extended: bool,
    },
    Nothing,
}

/// A statement and how it is to be answered.
struct Run<'a> {
    parsed: &'a Parsed,
    values: &'a [Datum],
    formats: &'a [i16],
    /// The portal that is executed; a Query describes its rows, a portal does not.
    portal: Option<&'a str>,
    max_rows: usize,
    /// The types that a prepared statement was described with.
    prepared: Option<&'a names::Prepared>,
    position: u64,
    received: Instant,
}

/// A session.
pub struct Session {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    frames: Frames,
    output: Output,
    commands: Commands,
    settings: Settings,
    sequences: Sequences,
    names: Names,
    state: State,
    txn: Option<Txn>,
    savepoints: Savepoints,
    /// What SET LOCAL had said when each savepoint was made, and when the transaction began.
    locals: Vec<(String, BTreeMap<String, String>)>,
    rewind: Option<RewindPoint>,
    skip: Skip,
}

impl Session {
    /// A session that has been greeted.
    pub fn new(shared: Arc<Shared>, handle: Arc<Handle>, frames: Frames, settings: Settings) -> Self {
        let limit = settings.get("results_buffer_size").ok().and_then(|size| size.parse().ok());
        Self {
            shared,
            handle,
            frames,
            output: Output::new(limit.unwrap_or(16 * 1024)),
            commands: Commands::default(),
            settings,
            sequences: Sequences::default(),
            names: Names::default(),
            state: State::NoTxn,
            txn: None,
            savepoints: Savepoints::default(),
            locals: Vec::new(),
            rewind: None,
            skip: Skip::Nothing,
        }
    }

    /// Converses until one side has had enough. An open transaction is rolled back.
    pub async fn run(mut self) {
        // A broken connection is an ordinary end; there is nobody left to tell.
        let _ = self.converse().await;
    }

    async fn converse(&mut self) -> io::Result<()> {
        while let Some(received) = self.next_command().await? {
            self.output.begin(received.position);
            if self.skips(&received.command) {
                if matches!(received.command, Command::Flush) {
                    self.flush().await?;
                }
                continue;
            }
            let is_sync = matches!(received.command, Command::Sync { .. });
            match self.step(&received).await {
                Ok(()) => self.move_window(&received),
                Err(Stop::Error(error)) => self.fail(error, &received.command).await,
                Err(Stop::Io(error)) => return Err(error),
            }
            let oldest = self.rewind.as_ref().map_or(self.commands.next_position(), |rewind| rewind.position);
            self.commands.forget_before(oldest);
            self.handle.set_state(self.state);
            if is_sync && self.state == State::NoTxn && self.shared.is_draining() {
                return self.say_goodbye().await;
            }
        }
        Ok(())
    }

    /// Ends an idle connection because the server shuts down.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        self.output.error(&SqlError::shutting_down(), self.version());
        self.output.flush(&mut self.frames.stream).await
    }

    fn version(&self) -> Version {
        self.settings.version()
    }

    /// Whether a command is passed over because of an error before it.
    fn skips(&mut self, command: &Command) -> bool {
        let Skip::ToSync { extended } = self.skip else {
            return false;
        };
        let ends = match command {
            // Up to 22.2 the end of any Query ends the skipping, although the Query itself was skipped.
            Command::Sync { ends_query: true } => !(extended && self.version().skips_queries()),
            Command::Sync { ends_query: false } => true,
            _ => false,
        };
        if ends {
            self.skip = Skip::Nothing;
        }
        !ends
    }

    async fn step(&mut self, received: &Received) -> Flow {
        self.check_suspended(&received.command)?;
        match &received.command {
            Command::Statement(parsed) => {
                let run = Run {
                    parsed,
                    values: &[],
                    formats: &[],
                    portal: None,
                    max_rows: 0,
                    prepared: None,
                    position: received.position,
                    received: received.at,
                };
                self.statement(&run).await
            }
            Command::Empty => {
                self.output.message(&pgwire::messages::response::EmptyQueryResponse::new());
                Ok(())
            }
            Command::Parse(parse) => self.parse(parse),
            Command::Bind(bind) => self.bind(bind),
            Command::Describe(describe) => self.describe(describe),
            Command::Execute { portal, max_rows } => self.execute(portal, *max_rows, received).await,
            Command::Close(close) => self.close(close),
            Command::Flush => Ok(self.flush().await?),
            Command::Sync { .. } => self.sync().await,
            Command::Fail { error, .. } => Err(error.clone().into()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.output.flush(&mut self.frames.stream).await
    }

    /// Ends a batch: the transaction that was begun for it is committed, and everything is sent.
    async fn sync(&mut self) -> Flow {
        if self.state == State::Implicit {
            self.commit_implicit().await?;
        }
        self.output.ready(self.state.status());
        Ok(self.flush().await?)
    }

    /// While a portal is suspended, little else is allowed.
    fn check_suspended(&mut self, command: &Command) -> Result<(), SqlError> {
        let allows_many = self.settings.is_on("multiple_active_portals_enabled");
        let Some(suspended) = self.names.suspended().filter(|_| !allows_many) else {
            return Ok(());
        };
        let commits = |parsed: &Parsed| {
            parsed.statement == Statement::Commit && self.version().commits_suspended_portals()
        };
        let allowed = match command {
            Command::Execute { portal, .. } => portal == suspended,
            Command::Close(close) => close.name.as_deref().unwrap_or_default() == suspended,
            Command::Statement(parsed) => commits(parsed),
            Command::Sync { .. } | Command::Flush | Command::Fail { .. } => true,
            _ => false,
        };
        if allowed { Ok(()) } else { Err(SqlError::active_portals(self.version())) }
    }

    /// Whether a statement shares the transaction that the server began with the rest of its batch. The variable that
    /// turns this off is about Query messages only.
    fn batches_are_transactions(&self, run: &Run<'_>) -> bool {
        let is_off =
            run.portal.is_none() && !self.settings.is_on("enable_implicit_transaction_for_batch_statements");
        self.version().batches_are_transactions() && !is_off
    }

    /// Runs a statement, whatever the state.
    async fn statement(&mut self, run: &Run<'_>) -> Flow {
        let statement = &run.parsed.statement;
        if *statement == Statement::Nothing {
            self.output.message(&pgwire::messages::response::EmptyQueryResponse::new());
            return Ok(());
        }
        if statement.is_observer() {
            return self.observe(run);
        }
        match self.state {
            State::Aborted => return self.in_aborted(run),
            State::CommitWait => return self.in_commit_wait(statement),
            State::NoTxn => {
                if self.outside(run)? {
                    return Ok(());
                }
                self.begin_implicit(run.position);
            }
            State::Implicit | State::Open => {}
        }
        self.in_transaction(run).await?;
        if self.state == State::Implicit && !self.batches_are_transactions(run) {
            self.commit_implicit().await?;
        }
        Ok(())
    }

    /// Moves to the next state, and lets go of what it does not need.
    fn apply(&mut self, event: Event) {
        let before = self.state;
        self.state = before.after(event);
        match self.state {
            State::NoTxn if before != State::NoTxn => self.end(),
            State::Aborted => {
                self.rewind = None;
                let frees = self.version().frees_locks_on_error() && self.savepoints.is_empty();
                if let (true, Some(txn)) = (frees, &mut self.txn) {
                    txn.kv.rollback();
                }
            }
            _ => {}
        }
    }

    /// Forgets the transaction.
    fn end(&mut self) {
        self.txn = None;
        self.rewind = None;
        self.savepoints.clear();
        self.names.close_portals();
        let outer = std::mem::take(&mut self.locals).into_iter().next();
        self.restore_locals(outer.map(|(_, locals)| locals).unwrap_or_default());
    }

    /// Takes back what SET LOCAL has said, and tells the client what that changes.
    fn restore_locals(&mut self, locals: BTreeMap<String, String>) {
        let before = self.settings.all_reported();
        self.settings.restore_locals(locals);
        for ((name, old), (_, new)) in before.into_iter().zip(self.settings.all_reported()) {
            if old != new {
                self.output.parameter(name, &new);
            }
        }
    }
}
