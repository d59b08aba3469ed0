//! The connection to the database.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;

use crate::config::HostPort;

/// Why the database could not be reached.
#[derive(Debug, Error)]
pub(super) enum Unreachable {
    /// No answer in time.
    #[error("no connection to {address} within {limit:?}")]
    TimedOut {
        /// Where to.
        address: HostPort,
        /// `upstream.connect_timeout`.
        limit: Duration,
    },
    /// The name could not be resolved, or the connection was refused.
    #[error("no connection to {address}: {error}")]
    Refused {
        /// Where to.
        address: HostPort,
        /// What the operating system says.
        error: io::Error,
    },
}

/// Connects to the first of the host's addresses that takes the connection.
pub(super) async fn connect(address: &HostPort, limit: Duration) -> Result<TcpStream, Unreachable> {
    let attempt = TcpStream::connect((address.host.as_str(), address.port));
    let stream = match tokio::time::timeout(limit, attempt).await {
        Ok(connected) => connected,
        Err(_) => return Err(Unreachable::TimedOut { address: address.clone(), limit }),
    };
    let refused = |error| Unreachable::Refused { address: address.clone(), error };
    let stream = stream.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    Ok(stream)
}
