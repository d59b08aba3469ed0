//! What the engine reports: values, for whoever counts and logs them. No SQL and no data are in them.

use std::time::Duration;

use super::{Cause, Reason};
use crate::wire::SqlState;

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The database answered with a conflict.
    Conflict {
        /// 40001, or 40P01 where that is retried.
        sqlstate: SqlState,
        /// When it was met.
        phase: Phase,
        /// What the database names as the cause.
        cause: Cause,
        /// Time from the beginning of the attempt that it ended, that of the client included.
        wasted: Duration,
    },
    /// Another attempt will be made, after a pause.
    BackedOff {
        /// Number of that attempt; the first replay is 2.
        attempt: u32,
        /// The pause before it.
        pause: Duration,
    },
    /// A replay that had to wait for its turn has it.
    Admitted {
        /// How long it waited.
        waited: Duration,
    },
    /// An attempt after the first went to the database.
    ReplayStarted {
        /// Number of this attempt.
        attempt: u32,
        /// Bytes of requests sent again.
        journal_bytes: usize,
        /// Statements among them.
        statements: usize,
    },
    /// An attempt after the first reached the point where the client waits, or failed on the way.
    ReplayEnded {
        /// From the write of the journal to its last answer.
        elapsed: Duration,
    },
    /// A transaction, explicit or a single statement, came to its end.
    TransactionEnded(TransactionEnd),
}

/// Where in a transaction a conflict was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A statement of the first attempt.
    Statement,
    /// The commit of any attempt.
    Commit,
    /// A statement of a replay.
    Replay,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 3] = [Self::Statement, Self::Commit, Self::Replay];

    /// The stable name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Commit => "commit",
            Self::Replay => "replay",
        }
    }
}

/// The end of a transaction, in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the client had opened it with `BEGIN`; otherwise it is a statement in autocommit.
    pub explicit: bool,
    /// Runs, the first included.
    pub attempts: u32,
    /// Conflicts that the database answered.
    pub conflicts: u32,
    /// From the first conflict to the end; zero without a conflict.
    pub retry_time: Duration,
    /// Bytes of requests that were journalled.
    pub journal_bytes: usize,
    /// Why it could not be replayed from some point on, conflict or not.
    pub not_replayable: Option<Reason>,
}

#[cfg(test)]
impl TransactionEnd {
    /// One that met no conflict, for tests to alter.
    pub(crate) const CALM: Self = Self {
        outcome: Outcome::Committed,
        explicit: true,
        attempts: 1,
        conflicts: 0,
        retry_time: Duration::ZERO,
        journal_bytes: 100,
        not_replayable: None,
    };
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was committed.
    Committed,
    /// The client, or an error that is no conflict, rolled it back.
    RolledBack,
    /// The client was shown a conflict.
    Surfaced(Reason),
    /// The connection was lost, or 40003 was answered, while its commit was under way.
    InDoubt,
    /// The client or the database went away in the middle.
    Abandoned,
}

impl Outcome {
    /// The stable name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Surfaced(_) => "surfaced",
            Self::InDoubt => "in_doubt",
            Self::Abandoned => "abandoned",
        }
    }
}
