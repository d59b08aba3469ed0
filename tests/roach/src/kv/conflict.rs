//! Why a transaction must be tried again: every reason that CockroachDB gives, with its exact text.

use std::fmt::{self, Display, Formatter};

use super::clock::Timestamp;
use super::key::Key;
use crate::version::Version;

/// Why the storage layer aborted a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortReason {
    /// A writer of higher priority removed one of its intents.
    AbortSpan,
    /// The record was aborted before the transaction wrote it.
    AbortedRecordFound,
    /// It was chosen to end a deadlock, while it waited itself.
    PusherAborted,
    /// The client was refused.
    ClientReject,
    /// The lease of the record's range moved.
    NewLeasePreventsTxn,
    /// The record was forgotten.
    TimestampCacheRejected,
}

impl Display for AbortReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AbortSpan => "ABORT_REASON_ABORT_SPAN",
            Self::AbortedRecordFound => "ABORT_REASON_ABORTED_RECORD_FOUND",
            Self::PusherAborted => "ABORT_REASON_PUSHER_ABORTED",
            Self::ClientReject => "ABORT_REASON_CLIENT_REJECT",
            Self::NewLeasePreventsTxn => "ABORT_REASON_NEW_LEASE_PREVENTS_TXN",
            Self::TimestampCacheRejected => "ABORT_REASON_TIMESTAMP_CACHE_REJECTED",
        })
    }
}

/// What an error text tells about a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The identity; a text shows eight digits of it.
    pub id: u64,
    /// The first key it locked.
    pub anchor: Option<Key>,
    /// Its priority.
    pub priority: f64,
    /// How often it was restarted.
    pub epoch: u32,
    /// Where it writes.
    pub write: Timestamp,
    /// Where it began.
    pub start: Timestamp,
    /// How many writes it made.
    pub sequence: u32,
    /// Whether it was aborted.
    pub aborted: bool,
    /// Where it reads.
    pub read: Timestamp,
    /// Up to where a value is uncertain.
    pub limit: Timestamp,
}

impl Snapshot {
    fn text(&self, version: Version) -> String {
        let key = self.anchor.as_ref().map_or("/Min".into(), Key::to_string);
        let isolation = if version >= Version::V25_2 { "iso=Serializable " } else { "" };
        let (too_old, limit) = match version {
            Version::V20_2 => ("wto=false ", "max"),
            Version::V23_1 => ("wto=false ", "gul"),
            Version::V25_2 => ("", "gul"),
        };
        format!(
            "\"sql txn\" meta={{id={:08x} key={key} {isolation}pri={:.8} epo={} ts={} min={} seq={}}} \
             lock={} stat={} rts={} {too_old}{limit}={}",
            self.id & 0xffff_ffff,
            self.priority,
            self.epoch,
            self.write,
            self.start,
            self.sequence,
            self.anchor.is_some(),
            if self.aborted { "ABORTED" } else { "PENDING" },
            self.read,
            self.limit,
        )
    }
}

/// What stood in the way of moving a transaction's reads to a later moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Obstacle {
    /// The key that was read.
    pub key: Key,
    /// When it was written meanwhile.
    pub at: Timestamp,
    /// Whether that write is not committed yet.
    pub intent: bool,
}

/// Why a transaction must be tried again.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The names of the fields say what they are.
pub enum Conflict {
    /// A newer value stood where it wanted to write, and its reads could not be moved.
    WriteTooOld { key: Key, attempted: Timestamp, existing: Timestamp },
    /// Its writes were pushed to a later moment, where its reads do not hold any more.
    Serializable { obstacle: Option<Obstacle>, txn: Box<Snapshot> },
    /// A write sent ahead was lost.
    AsyncWriteFailure { txn: Box<Snapshot> },
    /// It would commit after its schema lease.
    CommitDeadlineExceeded { txn: Box<Snapshot> },
    /// No reason was given.
    Unknown { txn: Box<Snapshot> },
    /// It is over; only a new transaction can go on.
    Aborted { reason: AbortReason, txn: Box<Snapshot> },
    /// A value of another node may have been written before the transaction began, or after.
    Uncertain { read: Timestamp, found: Timestamp, limit: Timestamp },
    /// `crdb_internal.force_retry()` asked for it.
    Forced,
    /// The named session variable asked for it.
    Injected(&'static str),
    /// The savepoint belongs to an attempt that is over.
    RollbackAfterRestart,
    /// The savepoint belongs to an attempt that is over.
    ReleaseAfterRestart,
}

impl Conflict {
    /// The text of the error that the client sees.
    pub fn message(&self, version: Version) -> String {
        let forced = if *self == Self::Forced { "crdb_internal.force_retry(): " } else { "" };
        format!("restart transaction: {forced}TransactionRetryWithProtoRefreshError: {}", self.cause(version))
    }

    /// The anchor in the documentation that explains the reason; a write that is too old has none.
    pub fn anchor(&self) -> Option<String> {
        Some(match self {
            Self::Serializable { .. } => "retry_serializable".into(),
            Self::AsyncWriteFailure { .. } => "retry_async_write_failure".into(),
            Self::CommitDeadlineExceeded { .. } => "retry_commit_deadline_exceeded".into(),
            Self::Unknown { .. } => "retry_reason_unknown".into(),
            Self::Aborted { reason, .. } => reason.to_string().to_lowercase(),
            Self::Uncertain { .. } => "readwithinuncertaintyinterval".into(),
            _ => return None,
        })
    }

    fn cause(&self, version: Version) -> String {
        let retry = |reason: String, txn: &Snapshot| {
            format!("TransactionRetryError: retry txn ({reason}): {}", txn.text(version))
        };
        match self {
            Self::WriteTooOld { key, attempted, existing } if version >= Version::V23_1 => format!(
                "WriteTooOldError: write for key {key}/0 at timestamp {attempted} too old; \
                 must write at or above {}",
                existing.next()
            ),
            Self::WriteTooOld { attempted, existing, .. } => format!(
                "WriteTooOldError: write at timestamp {attempted} too old; wrote at {}",
                existing.next()
            ),
            Self::Serializable { obstacle, txn } => {
                retry(format!("RETRY_SERIALIZABLE{}", refresh_text(obstacle.as_ref(), version)), txn)
            }
            Self::AsyncWriteFailure { txn } => {
                retry("RETRY_ASYNC_WRITE_FAILURE - missing intent at seq 1".into(), txn)
            }
            Self::CommitDeadlineExceeded { txn } => retry(
                "RETRY_COMMIT_DEADLINE_EXCEEDED - txn timestamp pushed too much; transaction deadline exceeded".into(),
                txn,
            ),
            Self::Unknown { txn } => retry("RETRY_REASON_UNKNOWN - injected".into(), txn),
            Self::Aborted { reason, txn } => format!("TransactionAbortedError({reason}): {}", txn.text(version)),
            Self::Uncertain { read, found, limit } => uncertainty_text(*read, *found, *limit, version),
            Self::Forced => "forced by crdb_internal.force_retry()".into(),
            Self::Injected(variable) => format!("injected by `{variable}` session variable"),
            Self::RollbackAfterRestart => "cannot rollback to savepoint after a transaction restart".into(),
            Self::ReleaseAfterRestart => "cannot release savepoint after a transaction restart".into(),
        }
    }
}

/// Since 23.1 the text names the key that could not be read again.
fn refresh_text(obstacle: Option<&Obstacle>, version: Version) -> String {
    match obstacle {
        Some(Obstacle { key, at, intent }) if version >= Version::V23_1 => {
            let kind = if *intent { "intent" } else { "committed value" };
            format!(" - failed preemptive refresh due to encountered recently written {kind} {key}/0 @{at}")
        }
        _ => String::new(),
    }
}

fn uncertainty_text(read: Timestamp, found: Timestamp, limit: Timestamp, version: Version) -> String {
    let head = "ReadWithinUncertaintyIntervalError: read at time";
    let observed = format!("observed timestamps: [{{1 {read}}} {{2 {limit}}}]");
    if version >= Version::V23_1 {
        return format!(
            "{head} {read} encountered previous write with future timestamp {found} (local={found}) within \
             uncertainty interval `t <= (local={limit}, global={limit})`; {observed}"
        );
    }
    format!(
        "{head} {read} encountered previous write with future timestamp {found} within \
         uncertainty interval `t <= {limit}`; {observed}"
    )
}
