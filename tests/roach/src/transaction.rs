//! The states of a session's transaction, and the legal moves between them, in one table.
//!
//! ```text
//!              BEGIN                       RELEASE cockroach_restart
//!    NoTxn -------------> Open (explicit) ---------------------------> CommitWait
//!      ^  ^                |    ^                                          |
//!      |  |  COMMIT,       |    |  ROLLBACK TO SAVEPOINT                   |
//!      |  |  ROLLBACK      |    |                                          |
//!      |  +----------------+    |                                          |
//!      |               error    |                                          |
//!      |           +------------+                                          |
//!      |           v            |                                          |
//!      +------- Aborted --------+                                          |
//!      |  COMMIT, ROLLBACK (both tagged ROLLBACK)                          |
//!      +-------------------------------------------------------------------+
//!                         COMMIT, ROLLBACK (both tagged COMMIT)
//! ```

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// In no transaction.
    #[default]
    NoTxn,
    /// In a transaction that the server began for one statement or one batch.
    Implicit,
    /// In a transaction that the client began.
    Open,
    /// In a transaction that failed; it waits for ROLLBACK, or for ROLLBACK TO SAVEPOINT.
    Aborted,
    /// In a transaction that RELEASE of a restart savepoint has committed; it waits for COMMIT.
    CommitWait,
}

/// What happens to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A statement outside a transaction begins one of its own.
    StartImplicit,
    /// BEGIN.
    StartExplicit,
    /// It was committed, and is over.
    Committed,
    /// RELEASE of a restart savepoint has committed it.
    Released,
    /// It was rolled back, and is over.
    RolledBack,
    /// ROLLBACK TO SAVEPOINT took it back to a place where it was sound.
    RolledBackTo,
    /// A statement failed in a way that a restart does not heal, or that the server cannot heal by itself any more.
    Failed,
    /// A statement met a conflict, and nothing of the attempt has been shown yet: the server begins it anew.
    Rewound,
    /// The commit itself failed.
    CommitFailed,
}

impl State {
    /// The byte of ReadyForQuery. Nothing tells an open transaction from one that waits for its COMMIT.
    pub fn status(self) -> u8 {
        match self {
            Self::NoTxn => b'I',
            Self::Implicit | Self::Open | Self::CommitWait => b'T',
            Self::Aborted => b'E',
        }
    }

    /// What SHOW TRANSACTION STATUS answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoTxn => "NoTxn",
            Self::Implicit | Self::Open => "Open",
            Self::Aborted => "Aborted",
            Self::CommitWait => "CommitWait",
        }
    }

    /// The state after an event.
    ///
    /// # Panics
    ///
    /// If the event cannot happen in this state.
    pub fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::NoTxn, Event::StartImplicit) => Self::Implicit,
            (Self::NoTxn | Self::Implicit, Event::StartExplicit) => Self::Open,
            (Self::Open, Event::Released) => Self::CommitWait,
            (Self::Open | Self::Aborted, Event::RolledBackTo) => Self::Open,
            (Self::Implicit | Self::Open | Self::CommitWait, Event::Committed) => Self::NoTxn,
            (Self::Implicit | Self::Open, Event::CommitFailed) => Self::NoTxn,
            (Self::Open | Self::Aborted, Event::RolledBack) => Self::NoTxn,
            (Self::Implicit, Event::Failed) => Self::NoTxn,
            (Self::Open, Event::Failed) => Self::Aborted,
            // Errors change nothing where there is nothing left to fail.
            (state @ (Self::NoTxn | Self::Aborted | Self::CommitWait), Event::Failed) => state,
            (state @ (Self::Implicit | Self::Open), Event::Rewound) => state,
            (state, event) => panic!("{event:?} cannot happen in {state:?}"),
        }
    }
}
