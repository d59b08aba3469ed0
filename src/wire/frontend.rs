//! Messages from the client: their type bytes, and views of the few that are read.

use super::frame::split_cstr;

/// Type bytes of frontend messages.
#[allow(missing_docs)]
pub mod tag {
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// Whether a message of this type runs a statement.
pub const fn runs_statement(tag: u8) -> bool {
    matches!(tag, tag::QUERY | tag::EXECUTE | tag::FUNCTION_CALL)
}

/// Whether a message of this type ends a cycle: a ReadyForQuery ends its answer.
pub const fn ends_cycle(tag: u8) -> bool {
    matches!(tag, tag::QUERY | tag::SYNC | tag::FUNCTION_CALL)
}

/// The name at the start of the body of a Parse, Bind or Execute message; `None` if it is cut.
pub fn name(body: &[u8]) -> Option<&[u8]> {
    split_cstr(body).map(|(name, _)| name)
}

/// Whether the names in a message of this type, if it has any, are whole in the beginning of its body.
pub fn has_names(tag: u8, beginning: &[u8]) -> bool {
    let names = match tag {
        tag::PARSE | tag::EXECUTE | tag::CLOSE | tag::DESCRIBE => 1,
        tag::BIND => 2,
        _ => 0,
    };
    memchr::memchr_iter(0, beginning).take(names).count() == names
}

/// The SQL text of a Query message, without its terminator; `None` if there is no terminator.
pub fn query(body: &[u8]) -> Option<&[u8]> {
    split_cstr(body).map(|(sql, _)| sql)
}

/// A Parse message: the parameter types are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the prepared statement; empty for the unnamed one.
    pub statement: &'a [u8],
    /// The SQL text.
    pub sql: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body of the message; `None` if it is cut.
    pub fn view(body: &'a [u8]) -> Option<Self> {
        let (statement, rest) = split_cstr(body)?;
        let (sql, _) = split_cstr(rest)?;
        Some(Self { statement, sql })
    }
}

/// The SQL text of a message of this type, if it has one in full.
pub fn text(tag: u8, body: &[u8]) -> Option<&[u8]> {
    match tag {
        tag::QUERY => query(body),
        tag::PARSE => Parse::view(body).map(|parse| parse.sql),
        _ => None,
    }
}

/// A Bind message: the values are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal to make; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Name of the prepared statement.
    pub statement: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the body of the message; `None` if it is cut.
    pub fn view(body: &'a [u8]) -> Option<Self> {
        let (portal, rest) = split_cstr(body)?;
        let (statement, _) = split_cstr(rest)?;
        Some(Self { portal, statement })
    }
}

/// The values of the parameters in a Bind message that are not NULL, up to where it is cut.
pub fn bind_values(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = split_cstr(body).and_then(|(_, rest)| split_cstr(rest)).map_or(&[][..], |(_, rest)| rest);
    let formats = take_count(&mut rest);
    rest = rest.get(2 * formats..).unwrap_or_default();
    let values = take_count(&mut rest);
    std::iter::repeat_with(move || {
        let (length, behind) = rest.split_first_chunk()?;
        let length = u32::from_be_bytes(*length);
        if length == u32::MAX {
            rest = behind;
            return Some(None);
        }
        let (value, behind) = behind.split_at_checked(length as usize)?;
        rest = behind;
        Some(Some(value))
    })
    .take(values)
    .map_while(|value| value)
    .flatten()
}

/// The number before a list; 0 if it is cut.
fn take_count(bytes: &mut &[u8]) -> usize {
    let Some((count, rest)) = bytes.split_first_chunk() else { return 0 };
    *bytes = rest;
    u16::from_be_bytes(*count).into()
}

/// The object ID of the function that a FunctionCall message calls.
pub fn function(body: &[u8]) -> Option<u32> {
    body.first_chunk().map(|oid| u32::from_be_bytes(*oid))
}

/// The name of the portal that an Execute message runs.
pub fn execute(body: &[u8]) -> Option<&[u8]> {
    name(body)
}

/// The name of the prepared statement that a Close or Describe message is about; `None` if it is about a portal.
pub fn statement_target(body: &[u8]) -> Option<&[u8]> {
    match body.split_first()? {
        (b'S', rest) => split_cstr(rest).map(|(name, _)| name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_read_names_and_text() {
        assert_eq!(query(b"SELECT 1\0"), Some(&b"SELECT 1"[..]));
        assert_eq!(text(tag::QUERY, b"SELECT 1\0"), Some(&b"SELECT 1"[..]));
        assert_eq!(text(tag::PARSE, b"s1\0BEGIN\0\0\0"), Some(&b"BEGIN"[..]));
        assert_eq!(text(tag::EXECUTE, b"p\0\0\0\0\0"), None);
        assert_eq!(Parse::view(b"s1\0BEGIN\0\0\0"), Some(Parse { statement: b"s1", sql: b"BEGIN" }));
        assert_eq!(Bind::view(b"\0s1\0\0\0\0\0"), Some(Bind { portal: b"", statement: b"s1" }));
        assert_eq!(execute(b"p\0\0\0\0\0"), Some(&b"p"[..]));
        assert_eq!(statement_target(b"Ss1\0"), Some(&b"s1"[..]));
        assert_eq!(statement_target(b"Ps1\0"), None);
    }

    #[test]
    fn the_values_of_a_bind_are_read_as_far_as_they_go() {
        let body = b"p\0s\0\0\x01\0\x01\0\x04\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\0\0\x01c\0\0";
        let values = |body| bind_values(body).collect::<Vec<_>>();
        assert_eq!(values(body), [&b"ab"[..], b"", b"c"]);
        for cut in 0..body.len() - 2 {
            assert!(values(&body[..cut]).len() < 3, "{cut}");
        }
        assert!(values(b"p\0s\0\0\0\0\x01\x7f\xff\xff\xffab").is_empty());
    }

    #[test]
    fn a_cut_body_is_no_message() {
        assert_eq!(query(b"SELECT 1"), None);
        assert_eq!(Parse::view(b"s1\0BEGIN"), None);
        assert_eq!(Bind::view(b"p\0s1"), None);
        assert_eq!(statement_target(b""), None);
    }
}
