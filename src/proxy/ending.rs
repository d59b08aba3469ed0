//! How a session ends, and whether anything went wrong.

use std::io;

use thiserror::Error;

use crate::telemetry::Breakage;
use crate::wire::BadLength;

/// How a session ended.
#[derive(Debug, Error)]
pub(super) enum Ending {
    /// The client closed its connection.
    #[error("the client left")]
    ClientLeft,
    /// The database closed its connection, as it had said or between two transactions.
    #[error("the database closed the connection")]
    ServerLeft,
    /// The database closed its connection in the middle of something.
    #[error("the database closed the connection in the middle of a transaction or an answer")]
    ServerLost,
    /// The session cannot go on.
    #[error("the session could not go on after a conflict")]
    Lost,
    /// The proxy shuts down.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// The client did nothing for too long.
    #[error("the client was idle for too long")]
    Idle,
    /// The client did nothing for too long, in a transaction.
    #[error("the client was idle in a transaction for too long")]
    IdleInTransaction,
    /// The client sent what is no message.
    #[error("the client broke the protocol: {0}")]
    ClientViolation(BadLength),
    /// The server sent what is no message.
    #[error("the database broke the protocol: {0}")]
    ServerViolation(BadLength),
    /// The connection to the client failed.
    #[error("connection to the client: {0}")]
    Client(io::Error),
    /// The connection to the database failed.
    #[error("connection to the database: {0}")]
    Server(io::Error),
}

impl Ending {
    /// Whether it is the server that has ended it, or cannot be spoken to any more.
    pub(super) const fn is_of_server(&self) -> bool {
        matches!(
            self,
            Self::ServerLeft | Self::ServerLost | Self::Lost | Self::ServerViolation(_) | Self::Server(_)
        )
    }

    /// What went wrong, if anything did.
    pub(super) const fn breakage(&self) -> Option<Breakage> {
        match self {
            Self::ClientViolation(_) => Some(Breakage::ClientViolation),
            Self::ServerViolation(_) => Some(Breakage::UpstreamViolation),
            Self::ServerLost | Self::Server(_) => Some(Breakage::UpstreamLost),
            Self::Lost => Some(Breakage::NotRecovered),
            Self::ClientLeft
            | Self::ServerLeft
            | Self::ShuttingDown
            | Self::Idle
            | Self::IdleInTransaction
            | Self::Client(_) => None,
        }
    }
}
