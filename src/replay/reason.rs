//! Why a transaction could not be replayed, or a conflict could not be hidden: one stable name each,
//! the same in DETAIL, in metrics and in logs.

use std::fmt;

use super::explain;

/// A reason not to run a transaction again, or not to hide that it had to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The mode is `observe` or `off`.
    Mode,
    /// A comment of the transaction switches retries off.
    SwitchedOff,
    /// The requests of the transaction outgrew `journal_bytes`.
    JournalLimit,
    /// The journals of all sessions together outgrew `journal_bytes_total`.
    JournalTotal,
    /// The client sets a `cockroach_restart` savepoint: it runs its own retry protocol.
    OwnRetryProtocol,
    /// A statement changes state of the session that a rollback does not restore (`SET`, `PREPARE`, `DISCARD`).
    SessionState,
    /// It uses or closes a prepared statement from before it that a replay may not find again.
    StatementFromBefore,
    /// A statement takes or frees session-level advisory locks.
    AdvisoryLock,
    /// `COMMIT AND CHAIN` or `ROLLBACK AND CHAIN`.
    ChainedTransaction,
    /// `PREPARE TRANSACTION` or another statement of two-phase commit.
    TwoPhaseCommit,
    /// Requests were sent behind the end of the transaction before its outcome was known.
    PipelinedPastEnd,
    /// A part of the request was committed before the conflict.
    CommittedInside,
    /// The request commits by itself and a part of its answer had reached the client, where it cannot be compared before that.
    PartlyDelivered,
    /// A message that Reprise does not know, or an answer that fits no request.
    UnknownMessage,
    /// The replay gave a result other than the one that the client had seen.
    ResultsDiffer,
    /// `max_attempts` runs all met conflicts.
    AttemptsExhausted,
    /// `timeout` was over.
    RetryTimeout,
    /// The client cancelled the statement.
    Cancelled,
}

impl Reason {
    /// What the application, or the operator, can change: the HINT of a conflict that was surfaced for it.
    pub const fn hint(self) -> &'static str {
        explain::hint(self)
    }

    /// Every reason, in the order in which the README lists them.
    pub const ALL: [Self; 18] = [
        Self::Mode,
        Self::SwitchedOff,
        Self::JournalLimit,
        Self::JournalTotal,
        Self::OwnRetryProtocol,
        Self::SessionState,
        Self::StatementFromBefore,
        Self::AdvisoryLock,
        Self::ChainedTransaction,
        Self::TwoPhaseCommit,
        Self::PipelinedPastEnd,
        Self::CommittedInside,
        Self::PartlyDelivered,
        Self::UnknownMessage,
        Self::ResultsDiffer,
        Self::AttemptsExhausted,
        Self::RetryTimeout,
        Self::Cancelled,
    ];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::SwitchedOff => "switched_off",
            Self::JournalLimit => "journal_limit",
            Self::JournalTotal => "journal_total",
            Self::OwnRetryProtocol => "own_retry_protocol",
            Self::SessionState => "session_state",
            Self::StatementFromBefore => "statement_from_before",
            Self::AdvisoryLock => "advisory_lock",
            Self::ChainedTransaction => "chained_transaction",
            Self::TwoPhaseCommit => "two_phase_commit",
            Self::PipelinedPastEnd => "pipelined_past_end",
            Self::CommittedInside => "committed_inside",
            Self::PartlyDelivered => "partly_delivered",
            Self::UnknownMessage => "unknown_message",
            Self::ResultsDiffer => "results_differ",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::RetryTimeout => "retry_timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
