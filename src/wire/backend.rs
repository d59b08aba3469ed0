//! Messages from the server: their type bytes, and views of the few that are read.

use super::SqlState;
use super::frame::split_cstr;

/// Type bytes of backend messages.
#[allow(missing_docs)]
pub mod tag {
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The transaction status of a session, as ReadyForQuery tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block.
    Failed,
}

impl Status {
    /// Reads the body of ReadyForQuery.
    pub fn parse(body: &[u8]) -> Option<Self> {
        match body {
            b"I" => Some(Self::Idle),
            b"T" => Some(Self::Open),
            b"E" => Some(Self::Failed),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The fields of an ErrorResponse or NoticeResponse.
///
/// Source: [Error and Notice Message Fields](https://www.postgresql.org/docs/current/protocol-error-fields.html).
#[derive(Clone, Copy, Debug)]
pub struct ErrorFields<'a>(&'a [u8]);

impl<'a> ErrorFields<'a> {
    /// Views the body of the message.
    pub const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The fields in wire order; ends early where the body is malformed.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (&field, after) = rest.split_first()?;
            if field == 0 {
                return None;
            }
            let (value, after) = split_cstr(after)?;
            rest = after;
            Some((field, value))
        })
    }

    /// The value of one field.
    pub fn get(self, field: u8) -> Option<&'a [u8]> {
        self.iter().find(|(f, _)| *f == field).map(|(_, value)| value)
    }

    /// Field `C`.
    pub fn sqlstate(self) -> Option<SqlState> {
        self.get(b'C').and_then(SqlState::parse)
    }
}

/// The first value of a DataRow; `None` if it is NULL, or there is none.
pub fn first_value(body: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(*body.get(2..)?.first_chunk::<4>()?);
    body.get(6..)?.get(..length as usize)
}

/// The tag of a CommandComplete message.
pub fn command_tag(body: &[u8]) -> Option<&[u8]> {
    split_cstr(body).map(|(tag, _)| tag)
}

/// Name and value of a ParameterStatus message.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = split_cstr(body)?;
    let (value, _) = split_cstr(rest)?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_fields_are_found() {
        let fields = ErrorFields::new(b"SERROR\0C40001\0Mtoo bad\0\0");
        assert_eq!(fields.sqlstate(), Some(SqlState::SERIALIZATION_FAILURE));
        assert_eq!(fields.get(b'M'), Some(&b"too bad"[..]));
        assert_eq!(fields.get(b'D'), None);
    }

    #[test]
    fn malformed_fields_end_the_list() {
        assert_eq!(ErrorFields::new(b"SERROR\0C400").iter().count(), 1);
        assert_eq!(ErrorFields::new(b"").iter().count(), 0);
    }

    #[test]
    fn small_messages_are_read() {
        assert_eq!(command_tag(b"UPDATE 1\0"), Some(&b"UPDATE 1"[..]));
        assert_eq!(parameter_status(b"TimeZone\0UTC\0"), Some((&b"TimeZone"[..], &b"UTC"[..])));
        assert_eq!(Status::parse(b"T"), Some(Status::Open));
        assert_eq!(Status::parse(b"X"), None);
    }
}
