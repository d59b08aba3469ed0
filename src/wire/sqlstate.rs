//! SQLSTATE codes: five bytes that name an error, and the few of them that Reprise knows by name.
//!
//! Source: [PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html).

use std::fmt;

/// A five-character SQLSTATE code, as in field `C` of an ErrorResponse.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The connection to the database failed.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// The database refused the connection, or could not be reached.
    pub const CONNECTION_REJECTED: Self = Self(*b"08004");
    /// A message that the protocol does not allow.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// Who the client is, or how it comes, does not suffice.
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// The password is wrong.
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// The outcome of a commit is unknown because the connection was lost.
    pub const RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// A feature that is not there.
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// A parameter cannot have this value.
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// A parameter, or another object, that there is not.
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// A transaction was idle for too long.
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    /// The transaction is aborted; commands are ignored until its end.
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    /// The transaction conflicts with another one and must be run again.
    pub const SERIALIZATION_FAILURE: Self = Self(*b"40001");
    /// Whether the statement, a commit included, took effect is unknown.
    pub const STATEMENT_COMPLETION_UNKNOWN: Self = Self(*b"40003");
    /// Two transactions wait for each other; this one was chosen to end.
    pub const DEADLOCK_DETECTED: Self = Self(*b"40P01");
    /// No more connections are taken.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// The user cancelled the statement, or a time limit did.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// The server takes no connections at the moment.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// A session was idle for too long.
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// The server, or an administrator, ends the session.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");

    /// Reads a code; `None` unless it is five upper-case letters and digits.
    pub fn parse(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()).then_some(Self(code))
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?????")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_five_upper_case_letters_and_digits() {
        assert_eq!(SqlState::parse(b"40001"), Some(SqlState::SERIALIZATION_FAILURE));
        assert_eq!(SqlState::parse(b"4000"), None);
        assert_eq!(SqlState::parse(b"400011"), None);
        assert_eq!(SqlState::parse(b"4000a"), None);
        assert_eq!(SqlState::DEADLOCK_DETECTED.to_string(), "40P01");
    }
}
