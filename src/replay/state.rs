//! Where a session stands: one enum, and beside it the moves that are legal.

use std::time::Duration;

use super::Reason;

/// The state of a session.
///
/// ```text
///            first request              it may end here
///   Idle ---------------------> Open ---------------------> Committing
///    ^  ^                       | ^ \                       /   |
///    |  |    cannot be replayed | |  \ conflict   conflict /    | ReadyForQuery I
///    |  |                       v |   v                   v     |
///    |  +----------- Passthrough  |  Draining <-----------      |
///    |  over               ^      |     |         ^  conflict   |
///    |                     |      |     v         | again       |
///    |                     |      |  BackingOff   |             |
///    |                     |      |     |         |             |
///    |                     |      |   Queued      |             |
///    |                     |      |     |         |             |
///    |                     |      |     v         |             |
///    |                     |      +- Replaying ---+             |
///    |                     |            | limits passed,        |
///    |                     |            v or results differ     |
///    |                     +------- GivingUp                    |
///    +----------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No transaction, no request outstanding.
    Idle,
    /// A transaction that can be replayed: requests go out at once, answers come back at once.
    Open,
    /// The request that may end the transaction is sent; nothing more is taken from the client until its answer.
    Committing,
    /// A conflict was met: the answers to what was sent behind it are awaited and dropped.
    Draining,
    /// The pause before the next attempt; meanwhile the transaction is opened again where that is needed.
    BackingOff {
        /// When the pause is over; `None` while a place is awaited.
        until: Option<Duration>,
        /// When it began.
        since: Duration,
    },
    /// The pause is over, and others are being replayed: it waits for its turn.
    Queued {
        /// Since when.
        since: Duration,
        /// Whether its turn has come, and only the transaction is still being opened.
        admitted: bool,
    },
    /// The journal is sent again, and the answers are compared with what the client has been shown.
    Replaying {
        /// Requests before this one are sent; it waits until they are verified.
        sent: usize,
        /// When the journal was sent.
        since: Duration,
    },
    /// The conflict will be surfaced: the session is brought to the status that it is reported with.
    GivingUp {
        /// Why.
        reason: Reason,
        /// Whether what was outstanding is answered, and only our own requests are still awaited.
        drained: bool,
    },
    /// The session is over; nothing more goes to either side.
    Ended,
    /// The transaction is relayed and cannot be replayed.
    Passthrough(Reason),
}

impl State {
    /// Whether the client waits for a retry.
    pub(super) const fn is_retrying(self) -> bool {
        matches!(
            self,
            Self::Draining
                | Self::BackingOff { .. }
                | Self::Queued { .. }
                | Self::Replaying { .. }
                | Self::GivingUp { .. }
        )
    }

    /// Whether requests are kept and answers are digested.
    pub(super) const fn is_journalling(self) -> bool {
        !matches!(self, Self::Idle | Self::Ended | Self::Passthrough(_))
    }
}
