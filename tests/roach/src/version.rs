//! Which CockroachDB the double pretends to be, and every behaviour that depends on it.

use std::str::FromStr;

/// A release whose behaviour the double knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// The release of the recordings.
    #[default]
    V20_2,
    /// Batches are one implicit transaction; extended-protocol errors skip Query messages too.
    V23_1,
    /// DDL commits the open transaction first; an error without a savepoint frees the locks.
    V25_2,
}

impl Version {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V20_2 => "20.2",
            Self::V23_1 => "23.1",
            Self::V25_2 => "25.2",
        }
    }

    /// As the server reports it in `crdb_version`.
    pub fn banner(self) -> String {
        format!("CockroachDB OSS v{}.0 (in-process double)", self.name())
    }

    /// A conflict carries a hint that leads to the documentation of its reason.
    pub(crate) fn hints_conflicts(self) -> bool {
        self >= Self::V23_1
    }

    /// Connections get a BackendKeyData, and a CancelRequest with it works.
    pub(crate) fn has_cancel_keys(self) -> bool {
        self >= Self::V23_1
    }

    /// A multi-statement Query, and a batch up to Sync, is one implicit transaction.
    pub(crate) fn batches_are_transactions(self) -> bool {
        self >= Self::V23_1
    }

    /// After an error in the extended protocol a Query before Sync is dropped without a ReadyForQuery.
    pub(crate) fn skips_queries(self) -> bool {
        self >= Self::V23_1
    }

    /// Parse, Bind and Describe of ordinary statements are refused in an aborted transaction.
    pub(crate) fn refuses_parse_when_aborted(self) -> bool {
        self >= Self::V23_1
    }

    /// SHOW TRANSACTION STATUS and its like leave the window of automatic retries open.
    pub(crate) fn observers_keep_window(self) -> bool {
        self >= Self::V23_1
    }

    /// An automatic retry also restores what plain SET had changed.
    pub(crate) fn retries_restore_settings(self) -> bool {
        self >= Self::V23_1
    }

    /// SET LOCAL exists.
    pub(crate) fn has_set_local(self) -> bool {
        self >= Self::V23_1
    }

    /// COMMIT is allowed while a portal is suspended.
    pub(crate) fn commits_suspended_portals(self) -> bool {
        self >= Self::V23_1
    }

    /// A completed portal executed again answers with zero rows instead of running again.
    pub(crate) fn portals_run_once(self) -> bool {
        self >= Self::V23_1
    }

    /// SHOW COMMIT TIMESTAMP exists.
    pub(crate) fn shows_commit_timestamp(self) -> bool {
        self >= Self::V23_1
    }

    /// ROLLBACK TO SAVEPOINT helps after a cancelled statement.
    pub(crate) fn recovers_from_cancellation(self) -> bool {
        self >= Self::V23_1
    }

    /// An ordinary error with no savepoint open rolls the storage transaction back at once.
    pub(crate) fn frees_locks_on_error(self) -> bool {
        self >= Self::V25_2
    }

    /// `there is no transaction in progress` has a code of its own.
    pub(crate) fn no_transaction_code(self) -> &'static str {
        if self >= Self::V25_2 { "25P01" } else { "XXUUU" }
    }

    /// `there is already a transaction in progress` has a code of its own.
    pub(crate) fn in_transaction_code(self) -> &'static str {
        if self >= Self::V25_2 { "25001" } else { "XXUUU" }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::V20_2, Self::V23_1, Self::V25_2]
            .into_iter()
            .find(|version| version.name() == text)
            .ok_or_else(|| format!("{text}: one of 20.2, 23.1, 25.2 is expected"))
    }
}
