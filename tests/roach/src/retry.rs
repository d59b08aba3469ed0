//! Automatic retries: the commands that the server keeps so that it can run an attempt again without the client's knowing.
//!
//! Every command has a position. The *rewind position* is where the current attempt began: at the statement of an
//! implicit transaction, behind BEGIN of an explicit one, behind ROLLBACK TO of an initial savepoint. Commands that need
//! not be repeated (SAVEPOINT, SET TRANSACTION, Parse, Bind, Describe, Close, Sync, Flush) push it forward as long as
//! nothing else has run. A conflict is retried if no answer to a command at or behind that position was sent yet: the
//! answers are taken back out of the buffer, and the commands run again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pgwire::messages::extendedquery;

use crate::errors::SqlError;
use crate::sql::statement::Parsed;

/// One step of the conversation.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Command {
    /// A statement of a Query message.
    Statement(Arc<Parsed>),
    /// A Query message without any statement.
    Empty,
    Parse(Arc<extendedquery::Parse>),
    Bind(Arc<extendedquery::Bind>),
    Describe(Arc<extendedquery::Describe>),
    Execute {
        portal: String,
        max_rows: usize,
    },
    Close(Arc<extendedquery::Close>),
    Flush,
    /// Sync, or the end of a Query message.
    Sync {
        ends_query: bool,
    },
    /// Something that failed before it could become a command.
    Fail {
        error: SqlError,
        in_query: bool,
    },
}

impl Command {
    /// Whether an attempt need not repeat it when nothing else has run before it.
    pub fn can_be_left_behind(&self) -> bool {
        !matches!(self, Self::Statement(_) | Self::Execute { .. } | Self::Empty)
    }
}

/// A command, its position, and when it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// The command.
    pub command: Command,
    /// Its position.
    pub position: u64,
    /// When its message came; a retry does not change that, which is why a statement timeout ends it.
    pub at: Instant,
}

/// The commands that are still to run, or may have to run again.
#[derive(Debug, Default)]
pub struct Commands {
    kept: VecDeque<Received>,
    next: u64,
    received: u64,
}

impl Commands {
    /// Adds a command behind all others.
    pub fn push(&mut self, command: Command, at: Instant) {
        self.kept.push_back(Received { command, position: self.received, at });
        self.received += 1;
    }

    /// The next command to run, if it has been received.
    pub fn take(&mut self) -> Option<Received> {
        let first = self.kept.front()?.position;
        let index = usize::try_from(self.next.checked_sub(first)?).ok()?;
        let found = self.kept.get(index)?.clone();
        self.next += 1;
        Some(found)
    }

    /// Goes back to a position.
    pub fn rewind(&mut self, position: u64) {
        self.next = position;
    }

    /// Forgets the commands before a position, and never one that is still to run.
    pub fn forget_before(&mut self, position: u64) {
        let position = position.min(self.next);
        while self.kept.front().is_some_and(|first| first.position < position) {
            self.kept.pop_front();
        }
    }

    /// The position of the command that runs next.
    pub fn next_position(&self) -> u64 {
        self.next
    }
}
