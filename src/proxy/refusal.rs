//! Why a connection does not become a session, and what the client is told: a FATAL error as the server would send it.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::ErrorResponse;
use thiserror::Error;

use super::auth::LoginFailure;
use super::parameters::BadParameter;
use super::upstream::Unreachable;
use crate::telemetry;
use crate::wire::startup::BadStartup;
use crate::wire::{BadLength, SqlState};

/// The reason why a session does not begin.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// The first packet is none.
    #[error("{0}")]
    Startup(#[from] BadStartup),
    /// A parameter of Reprise that there is not, or that has no such value.
    #[error("{0}")]
    Parameter(#[from] BadParameter),
    /// A protocol that is not spoken.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0")]
    Protocol {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A message during startup that does not belong there.
    #[error("{0}")]
    ClientFrame(BadLength),
    /// A message type that a client cannot send before it is authenticated.
    #[error("unexpected message of type 0x{0:02x} during startup")]
    ClientMessage(u8),
    /// Bytes behind a request for encryption that were sent before it was answered. Somebody in the middle may have put
    /// them there (CVE-2021-23214).
    #[error("received unencrypted data after a request for encryption")]
    Smuggled,
    /// It must use TLS, and does not.
    #[error("this server takes no connections without TLS")]
    TlsRequired,
    /// The handshake of TLS failed: who failed it was told why by TLS itself.
    #[error("the TLS handshake with the client failed: {0}")]
    TlsFailed(#[source] io::Error),
    /// The login would be bound to a TLS connection that does not reach to the database.
    #[error("SCRAM channel binding does not work through Reprise where both of its sides use TLS")]
    ChannelBinding,
    /// What it says is not SCRAM as it should be.
    #[error("malformed SCRAM message")]
    Sasl,
    /// The password is wrong, or there is no such user.
    #[error("password authentication failed")]
    Password,
    /// The client has logged in, and cannot be logged in to the database.
    #[error("could not log in to the database")]
    Login(#[source] LoginFailure),
    /// It comes from an address that is not served.
    #[error("connections from this address are not served")]
    NotAllowed,
    /// Its certificate is not that of the user that it wants to be.
    #[error("certificate authentication failed: the certificate is not for this user")]
    Certificate,
    /// Too many logins of its user from its address have failed.
    #[error("too many failed logins of this user from this address: try again in {} s", .0.as_secs_f64().ceil())]
    Backoff(Duration),
    /// The startup was not complete in time.
    #[error("canceling authentication due to timeout ({0:?})")]
    TimedOut(Duration),
    /// All of `proxy.max_connections` are taken.
    #[error("sorry, too many clients already")]
    TooMany,
    /// All of `proxy.max_connections_per_user` are taken.
    #[error("too many connections for this role")]
    TooManyOfUser,
    /// All of `proxy.max_connections_per_address` are taken.
    #[error("too many connections from this address")]
    TooManyFromAddress,
    /// The console is not open to where the client is.
    #[error("the console is not open to this address")]
    ConsoleClosed,
    /// The proxy ends.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// The database cannot be reached.
    #[error("could not connect to the database")]
    Unreachable(#[source] Unreachable),
    /// LOCK TABLE is to be ignored, and the database is one that has table locks.
    #[error("compat.lock_table is \"ignore\", and the database is not CockroachDB")]
    LockTable,
    /// The database closed the connection during startup, with nothing said.
    #[error("the database closed the connection during startup")]
    ServerClosed,
    /// The database sent what is no message.
    #[error("the database does not speak the PostgreSQL protocol")]
    ServerNonsense(#[source] BadLength),
    /// The client went away, or the session did not get beyond a request that ends it: nobody is there to be told.
    #[error("the client went away during startup")]
    ClientGone,
    /// The connection to the client failed.
    #[error("connection to the client: {0}")]
    Client(#[source] io::Error),
    /// The connection to the database failed.
    #[error("the connection to the database was lost during startup")]
    Server(#[source] io::Error),
}

impl Refusal {
    /// The SQLSTATE that the client is told; `None` if nobody is there to be told.
    const fn sqlstate(&self) -> Option<SqlState> {
        match self {
            Self::Startup(_)
            | Self::ClientFrame(_)
            | Self::ClientMessage(_)
            | Self::Smuggled
            | Self::Sasl => Some(SqlState::PROTOCOL_VIOLATION),
            Self::Parameter(bad) => Some(bad.sqlstate()),
            Self::TlsRequired
            | Self::ChannelBinding
            | Self::Login(_)
            | Self::NotAllowed
            | Self::Certificate
            | Self::Backoff(_)
            | Self::ConsoleClosed => Some(SqlState::INVALID_AUTHORIZATION),
            Self::Password => Some(SqlState::INVALID_PASSWORD),
            Self::Protocol { .. } | Self::LockTable => Some(SqlState::FEATURE_NOT_SUPPORTED),
            Self::TimedOut(_) => Some(SqlState::QUERY_CANCELED),
            Self::TooMany | Self::TooManyOfUser | Self::TooManyFromAddress => {
                Some(SqlState::TOO_MANY_CONNECTIONS)
            }
            Self::ShuttingDown => Some(SqlState::CANNOT_CONNECT_NOW),
            Self::Unreachable(_) => Some(SqlState::CONNECTION_REJECTED),
            Self::ServerClosed | Self::ServerNonsense(_) | Self::Server(_) => {
                Some(SqlState::CONNECTION_FAILURE)
            }
            Self::ClientGone | Self::Client(_) | Self::TlsFailed(_) => None,
        }
    }

    /// What the user can do about it, where the message does not say it.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Parameter(bad) => return Some(bad.hint()),
            Self::LockTable => "The operator of Reprise has to set compat.lock_table = \"forward\".",
            Self::TlsRequired => "Set sslmode=require, or a stricter one, in the client.",
            Self::ConsoleClosed => "The operator of Reprise has to add it to admin.networks.",
            Self::ChannelBinding => {
                "Set channel_binding=disable in the client, or auth.file in Reprise so that clients log in to it, or \
                 connect one side of Reprise without TLS (upstream.tls or tls.mode = \"disable\")."
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The cause under which it is counted; `None` if it is the client's own doing.
    pub(super) const fn cause(&self) -> Option<telemetry::Refusal> {
        match self {
            Self::Startup(_)
            | Self::Protocol { .. }
            | Self::ClientFrame(_)
            | Self::ClientMessage(_)
            | Self::Smuggled
            | Self::Sasl => Some(telemetry::Refusal::ProtocolViolation),
            Self::Parameter(_) => Some(telemetry::Refusal::BadParameter),
            Self::LockTable => Some(telemetry::Refusal::LockTable),
            Self::Password => Some(telemetry::Refusal::AuthenticationFailed),
            Self::NotAllowed => Some(telemetry::Refusal::AddressNotAllowed),
            Self::Certificate => Some(telemetry::Refusal::CertificateMismatch),
            Self::Backoff(_) => Some(telemetry::Refusal::LoginBackoff),
            Self::Login(_) => Some(telemetry::Refusal::UpstreamLoginFailed),
            Self::TlsRequired => Some(telemetry::Refusal::TlsRequired),
            Self::TlsFailed(_) => Some(telemetry::Refusal::TlsFailed),
            Self::ConsoleClosed => Some(telemetry::Refusal::ConsoleClosed),
            Self::ChannelBinding => Some(telemetry::Refusal::ChannelBinding),
            Self::TimedOut(_) => Some(telemetry::Refusal::StartupTimeout),
            Self::TooMany => Some(telemetry::Refusal::MaxConnections),
            Self::TooManyOfUser => Some(telemetry::Refusal::MaxConnectionsPerUser),
            Self::TooManyFromAddress => Some(telemetry::Refusal::MaxConnectionsPerAddress),
            Self::ShuttingDown => Some(telemetry::Refusal::ShuttingDown),
            Self::Unreachable(_) | Self::ServerClosed | Self::ServerNonsense(_) | Self::Server(_) => {
                Some(telemetry::Refusal::UpstreamUnreachable)
            }
            Self::ClientGone | Self::Client(_) => None,
        }
    }

    /// The error for the client.
    pub(super) fn message(&self) -> Option<Vec<u8>> {
        self.sqlstate().map(|sqlstate| fatal_with(sqlstate, &self.to_string(), self.hint()))
    }
}

/// An ErrorResponse that ends a connection.
pub(super) fn fatal(sqlstate: SqlState, message: &str) -> Vec<u8> {
    fatal_with(sqlstate, message, None)
}

fn fatal_with(sqlstate: SqlState, message: &str, hint: Option<String>) -> Vec<u8> {
    let field = |field: u8, text: &str| (field, text.to_owned());
    let fields =
        [field(b'S', "FATAL"), field(b'V', "FATAL"), field(b'C', sqlstate.as_str()), field(b'M', message)];
    let fields = fields.into_iter().chain(hint.map(|hint| (b'H', hint))).collect();
    let mut frame = BytesMut::new();
    ErrorResponse::new(fields).encode(&mut frame).expect("a short error can be written");
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::backend::ErrorFields;

    #[test]
    fn a_refusal_is_a_fatal_error_with_its_sqlstate() {
        let frame = Refusal::TooMany.message().unwrap();
        let fields = ErrorFields::new(&frame[5..]);
        assert_eq!(frame[0], b'E');
        assert_eq!(fields.get(b'S'), Some(&b"FATAL"[..]));
        assert_eq!(fields.sqlstate(), Some(SqlState::TOO_MANY_CONNECTIONS));
        assert!(Refusal::ClientGone.message().is_none());
    }
}
