//! Whose a request is: the client's, or one that Reprise adds.

/// Whose request it is, and so what becomes of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A request of the client, with its number in the journal.
    Journalled(usize),
    /// A request of the client in a transaction that is not journalled.
    Unjournalled,
    /// Ours; its answer never reaches the client.
    Control(Control),
}

impl Owner {
    /// Whether it is in the journal.
    pub(super) const fn is_journalled(self) -> bool {
        matches!(self, Self::Journalled(_))
    }
}

/// The requests that Reprise adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// A BEGIN that was deferred.
    Begin,
    /// `SAVEPOINT cockroach_restart`.
    Savepoint,
    /// Brings the transaction back to its beginning.
    Restart,
    /// Closes a statement that an earlier attempt has prepared.
    CloseStatement,
    /// Ends a batch that the client has not ended.
    Sync,
    /// Keeps a transaction that waits from being taken for an idle one.
    KeepAlive,
    /// `RELEASE SAVEPOINT cockroach_restart` in the client's batch, before its COMMIT.
    Release,
    /// The COMMIT behind it, up to its Execute, which is the client's.
    Commit,
    /// `ROLLBACK` after a commit that failed, so that the session is where a failed COMMIT leaves it.
    EndFailedCommit,
    /// Brings the session to the status that a surfaced conflict is reported with.
    Fail,
}
