//! The words in which a conflict is surfaced: what was tried, what stood in the way, and what to change.

use std::fmt;
use std::time::Duration;

use super::reason::Reason;
use crate::wire::{SqlState, encode};

/// How a replay differed from what the client had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which statement, from one.
    pub(super) statement: usize,
    /// Of how many.
    pub(super) statements: usize,
    /// Rows that the client had been shown, and those that the replay gave, or at least this many.
    pub(super) rows: (u64, u64),
    /// Whether they are the same rows in another order.
    pub(super) reordered: bool,
    /// Whether the replay gave an error there.
    pub(super) failed: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statement, statements, rows: (rows_before, rows_after), reordered, failed } = self;
        write!(f, "statement {statement} of {statements} ")?;
        if *failed {
            write!(f, "gave another error than before, or one where there was none")
        } else if *reordered {
            write!(f, "gave the same rows as before, in another order ({rows_before} rows)")
        } else if *rows_before == 0 && *rows_after == 0 {
            write!(f, "gave another tag than before, or other columns")
        } else if rows_before == rows_after {
            write!(f, "gave another result than before, with as many rows ({rows_before})")
        } else {
            write!(f, "gave another result than before ({rows_before} rows, now {rows_after})")
        }
    }
}

/// The DETAIL of a surfaced conflict.
pub(super) fn detail(
    reason: Reason,
    attempts: u32,
    elapsed: Duration,
    difference: Option<Difference>,
) -> String {
    let tried = match attempts {
        1 => "the transaction was not run again".to_owned(),
        n => format!("{n} attempts in {} ms", elapsed.as_millis()),
    };
    let what = match difference {
        Some(difference) if reason == Reason::ResultsDiffer => difference.to_string(),
        _ => why(reason).to_owned(),
    };
    format!("Reprise could not hide this conflict ({reason}): {tried}; {what}.")
}

/// What stood in the way.
const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Mode => "the mode is not transparent",
        Reason::SwitchedOff => "a comment in it says reprise:off",
        Reason::JournalLimit => "its requests are longer than retry.journal_bytes",
        Reason::JournalTotal => {
            "the requests of all open transactions are longer than retry.journal_bytes_total"
        }
        Reason::OwnRetryProtocol => "the client sets a cockroach_restart savepoint itself",
        Reason::SessionState => "it changes state of the session that a rollback does not restore",
        Reason::StatementFromBefore => "a prepared statement that it uses or closes may not be there again",
        Reason::AdvisoryLock => "it uses session-level advisory locks, which a rollback does not free",
        Reason::ChainedTransaction => "it is chained to another transaction",
        Reason::TwoPhaseCommit => "it takes part in a two-phase commit",
        Reason::PipelinedPastEnd => "requests were sent behind its end before its outcome was known",
        Reason::CommittedInside => "a part of it may have been committed already",
        Reason::PartlyDelivered => {
            "a part of the answer to the request that commits it was delivered already"
        }
        Reason::UnknownMessage => "it has a message or a text that Reprise cannot read",
        Reason::ResultsDiffer => "a statement gave another result than before",
        Reason::AttemptsExhausted => "retry.max_attempts is reached",
        Reason::RetryTimeout => "retry.timeout is over",
        Reason::Cancelled => "the client cancelled it",
    }
}

/// The HINT of a surfaced conflict: what the application, or the operator, can change.
pub(super) const fn hint(reason: Reason) -> &'static str {
    match reason {
        Reason::Mode => "Run the transaction again, or set retry.mode = \"transparent\".",
        Reason::SwitchedOff => "Run the transaction again, or take the comment out.",
        Reason::JournalLimit | Reason::JournalTotal => {
            "Run the transaction again, make it smaller, or raise the limit."
        }
        Reason::OwnRetryProtocol => "ROLLBACK TO SAVEPOINT cockroach_restart and run the statements again.",
        Reason::SessionState => {
            "Run the transaction again; change session state outside of it, or with SET LOCAL."
        }
        Reason::StatementFromBefore => {
            "Run the transaction again; prepare the unnamed statement inside of it, and close statements outside."
        }
        Reason::AdvisoryLock => "Run the transaction again; use pg_advisory_xact_lock instead.",
        Reason::PipelinedPastEnd => "Run the transaction again; await its end before you send the next one.",
        Reason::CommittedInside | Reason::PartlyDelivered => {
            "Run it again; send BEGIN, the statements and COMMIT as requests of their own."
        }
        Reason::ResultsDiffer => {
            "Run the transaction again; lock what it reads with SELECT ... FOR UPDATE, or compute in the UPDATE itself."
        }
        Reason::AttemptsExhausted | Reason::RetryTimeout => {
            "Run the transaction again; make it shorter, or spread its hot rows."
        }
        Reason::Cancelled => "Run the transaction again if you still want it.",
        Reason::ChainedTransaction | Reason::TwoPhaseCommit | Reason::UnknownMessage => {
            "Run the transaction again."
        }
    }
}

/// The error that ends a session.
pub(super) fn fatal(sqlstate: SqlState, message: &str, hint: &str) -> Vec<u8> {
    error(b"FATAL", sqlstate, message, Some((b'H', hint)))
}

/// The error of a statement that is answered here and cannot be run.
pub(super) fn refused(sqlstate: SqlState, message: &str) -> Vec<u8> {
    error(b"ERROR", sqlstate, message, None)
}

/// The error of a statement in a transaction that has failed, in PostgreSQL's words.
pub(super) fn in_failed_transaction() -> Vec<u8> {
    refused(
        SqlState::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// Why a cancelled statement did not run that has met no conflict.
pub(super) const WAITED: &str =
    "Reprise had it wait for a place among transactions that contend with it; it was not run.";

/// The error of a statement that the client has cancelled while it waited, or while it was being retried.
pub(super) fn cancelled(detail: &str) -> Vec<u8> {
    error(b"ERROR", SqlState::QUERY_CANCELED, "canceling statement due to user request", Some((b'D', detail)))
}

fn error(severity: &[u8], sqlstate: SqlState, message: &str, more: Option<(u8, &str)>) -> Vec<u8> {
    let mut out = Vec::new();
    let code = sqlstate.as_str().as_bytes();
    let fields = [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message.as_bytes())];
    let more = more.map(|(field, text)| (field, text.as_bytes()));
    encode::error_response(&mut out, fields.into_iter().chain(more));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_the_statement_and_its_rows() {
        let difference =
            Difference { statement: 2, statements: 5, rows: (3, 4), reordered: false, failed: false };
        let detail = detail(Reason::ResultsDiffer, 3, Duration::from_millis(41), Some(difference));
        assert_eq!(
            detail,
            "Reprise could not hide this conflict (results_differ): 3 attempts in 41 ms; \
             statement 2 of 5 gave another result than before (3 rows, now 4)."
        );
    }

    #[test]
    fn every_reason_has_its_words() {
        for reason in Reason::ALL {
            let detail = detail(reason, 1, Duration::ZERO, None);
            assert!(detail.contains(reason.name()) && !why(reason).is_empty() && hint(reason).ends_with('.'));
        }
    }
}
