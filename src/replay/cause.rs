//! Why the database refused a transaction, in its own words: read from the text of a conflict.

use std::fmt;

use memchr::memmem;

use crate::wire::SqlState;
use crate::wire::backend::ErrorFields;

/// What the database names as the cause of a conflict: one of a fixed set, so that it can be a label.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cause(usize);

/// The name of each cause, and the words that tell it. CockroachDB's are those of its `kvpb` errors
/// ([reference](https://www.cockroachlabs.com/docs/stable/transaction-retry-error-reference)) and keep their spelling;
/// PostgreSQL's are told by its messages in English, whatever else they say being [`Cause::OTHER`].
const CAUSES: [(&str, &str); 21] = [
    ("RETRY_SERIALIZABLE", "retry txn (RETRY_SERIALIZABLE"),
    ("RETRY_WRITE_TOO_OLD", "retry txn (RETRY_WRITE_TOO_OLD"),
    ("RETRY_ASYNC_WRITE_FAILURE", "retry txn (RETRY_ASYNC_WRITE_FAILURE"),
    ("RETRY_COMMIT_DEADLINE_EXCEEDED", "retry txn (RETRY_COMMIT_DEADLINE_EXCEEDED"),
    ("ABORT_REASON_ABORTED_RECORD_FOUND", "TransactionAbortedError(ABORT_REASON_ABORTED_RECORD_FOUND"),
    ("ABORT_REASON_CLIENT_REJECT", "TransactionAbortedError(ABORT_REASON_CLIENT_REJECT"),
    ("ABORT_REASON_PUSHER_ABORTED", "TransactionAbortedError(ABORT_REASON_PUSHER_ABORTED"),
    ("ABORT_REASON_ABORT_SPAN", "TransactionAbortedError(ABORT_REASON_ABORT_SPAN"),
    (
        "ABORT_REASON_RECORD_ALREADY_WRITTEN_POSSIBLE_REPLAY",
        "TransactionAbortedError(ABORT_REASON_RECORD_ALREADY_WRITTEN_POSSIBLE_REPLAY",
    ),
    (
        "ABORT_REASON_TIMESTAMP_CACHE_REJECTED",
        "TransactionAbortedError(ABORT_REASON_TIMESTAMP_CACHE_REJECTED",
    ),
    ("ABORT_REASON_NEW_LEASE_PREVENTS_TXN", "TransactionAbortedError(ABORT_REASON_NEW_LEASE_PREVENTS_TXN"),
    ("WriteTooOldError", "WriteTooOldError: "),
    ("ReadWithinUncertaintyIntervalError", "ReadWithinUncertaintyIntervalError: "),
    ("timestamp_pushed", "serializable transaction timestamp pushed"),
    ("read_committed_retry_limit", "read committed retry limit exceeded"),
    ("savepoint_after_restart", "savepoint after a transaction restart"),
    ("concurrent_update", "could not serialize access due to concurrent update"),
    ("concurrent_delete", "could not serialize access due to concurrent delete"),
    ("read_write_dependencies", "could not serialize access due to read/write dependencies"),
    ("deadlock", "deadlock detected"),
    ("other", ""),
];

impl Cause {
    /// None of those that have a name.
    pub const OTHER: Self = Self(CAUSES.len() - 1);
    const DEADLOCK: Self = Self(CAUSES.len() - 2);

    /// Every cause.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CAUSES.len()).map(Self)
    }

    /// The stable name, as in metrics.
    pub fn name(self) -> &'static str {
        CAUSES[self.0].0
    }

    /// Its place among all of them.
    pub const fn index(self) -> usize {
        self.0
    }

    /// Reads the cause of a conflict. What comes first in the text counts: behind it may stand a key, which is data.
    pub fn of(error: ErrorFields<'_>) -> Self {
        if error.sqlstate() == Some(SqlState::DEADLOCK_DETECTED) {
            return Self::DEADLOCK;
        }
        let message = error.get(b'M').unwrap_or_default();
        let told = Self::all().filter(|cause| *cause != Self::OTHER);
        let found =
            told.filter_map(|cause| Some((memmem::find(message, CAUSES[cause.0].1.as_bytes())?, cause)));
        found.min_by_key(|(at, _)| *at).map_or(Self::OTHER, |(_, cause)| cause)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sqlstate: &str, message: &str) -> &'static str {
        let body = format!("SERROR\0C{sqlstate}\0M{message}\0\0");
        Cause::of(ErrorFields::new(body.as_bytes())).name()
    }

    #[test]
    fn the_causes_of_cockroachdb_are_told() {
        let prefix = "restart transaction: TransactionRetryWithProtoRefreshError: ";
        for (text, name) in [
            (
                "TransactionRetryError: retry txn (RETRY_SERIALIZABLE - failed preemptive refresh due to encountered \
                 recently written committed value /Table/106/1/1/0 @1700512229.378453000,1)",
                "RETRY_SERIALIZABLE",
            ),
            ("TransactionRetryError: retry txn (RETRY_WRITE_TOO_OLD)", "RETRY_WRITE_TOO_OLD"),
            ("TransactionAbortedError(ABORT_REASON_PUSHER_ABORTED)", "ABORT_REASON_PUSHER_ABORTED"),
            ("TransactionAbortedError(ABORT_REASON_UNKNOWN)", "other"),
            ("WriteTooOldError: write for key /Table/106/1/1/0 at timestamp 1 too old", "WriteTooOldError"),
            (
                "ReadWithinUncertaintyIntervalError: read at time 1 encountered previous write",
                "ReadWithinUncertaintyIntervalError",
            ),
            ("forced by crdb_internal.force_retry()", "other"),
        ] {
            assert_eq!(of("40001", &format!("{prefix}{text}: \"sql txn\" meta={{id=1}}")), name, "{text}");
        }
    }

    #[test]
    fn the_causes_of_postgresql_are_told() {
        for (sqlstate, text, name) in [
            ("40001", "could not serialize access due to concurrent update", "concurrent_update"),
            ("40001", "could not serialize access due to concurrent delete", "concurrent_delete"),
            (
                "40001",
                "could not serialize access due to read/write dependencies among transactions",
                "read_write_dependencies",
            ),
            ("40001", "the words of another language", "other"),
            ("40P01", "the words of another language", "deadlock"),
        ] {
            assert_eq!(of(sqlstate, text), name, "{text}");
        }
    }

    #[test]
    fn data_in_a_key_is_not_taken_for_the_cause() {
        let text = "TransactionRetryError: retry txn (RETRY_WRITE_TOO_OLD - recently written committed value \
                    /Table/106/1/\"retry txn (RETRY_SERIALIZABLE\"/0)";
        assert_eq!(of("40001", text), "RETRY_WRITE_TOO_OLD");
    }
}
