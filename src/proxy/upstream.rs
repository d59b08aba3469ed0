//! The connection to the database.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};

use super::credentials::Credentials;
use super::sockets;
use super::tls::{Failure, Stream};
use crate::config::{HostPort, Upstream};

/// Where the database is, and how it is reached.
#[derive(Clone, Copy)]
pub(super) struct Database<'a> {
    /// Section `[upstream]`.
    pub(super) options: &'a Upstream,
    /// What TLS to it needs.
    pub(super) credentials: &'a Credentials,
}

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
    /// The connection could not be encrypted.
    #[error("no connection to {address}: {failure}")]
    Tls {
        /// Where to.
        address: HostPort,
        /// What stood in the way.
        failure: Failure,
    },
}

impl Database<'_> {
    /// Connects to the first of the host's addresses that takes the connection, and encrypts it as `upstream.tls` says.
    pub(super) async fn connect(self) -> Result<Stream, Unreachable> {
        self.in_time(self.encrypted()).await
    }

    /// Whether a connection may stay unencrypted.
    pub(super) fn takes_plain(self) -> bool {
        self.credentials.connector().is_none_or(|connector| connector.is_optional())
    }

    /// Connects without TLS: only where that [is allowed](Self::takes_plain).
    pub(super) async fn connect_plain(self) -> Result<Stream, Unreachable> {
        self.in_time(async { Ok(Stream::Tcp(self.socket().await?)) }).await
    }

    async fn in_time(
        self,
        attempt: impl Future<Output = Result<Stream, Unreachable>>,
    ) -> Result<Stream, Unreachable> {
        let (address, limit) = (&self.options.address, self.options.connect_timeout);
        let late = |_| Err(Unreachable::TimedOut { address: address.clone(), limit });
        tokio::time::timeout(limit, attempt).await.unwrap_or_else(late)
    }

    async fn encrypted(self) -> Result<Stream, Unreachable> {
        if let Some(path) = self.options.address.unix_socket() {
            return UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| self.refused(error));
        }
        let socket = self.socket().await?;
        let Some(connector) = self.credentials.connector() else { return Ok(Stream::Tcp(socket)) };
        match connector.encrypt(socket).await {
            Ok(stream) => Ok(stream),
            Err(failure) if connector.is_optional() => {
                tracing::debug!("the connection to the database is not encrypted: {failure}");
                Ok(Stream::Tcp(self.socket().await?))
            }
            Err(failure) => Err(Unreachable::Tls { address: self.options.address.clone(), failure }),
        }
    }

    async fn socket(self) -> Result<TcpStream, Unreachable> {
        let HostPort { host, port } = &self.options.address;
        let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| self.refused(error))?;
        sockets::tune(&socket, self.options.tcp_keepalive).map_err(|error| self.refused(error))?;
        Ok(socket)
    }

    fn refused(self, error: io::Error) -> Unreachable {
        Unreachable::Refused { address: self.options.address.clone(), error }
    }
}
