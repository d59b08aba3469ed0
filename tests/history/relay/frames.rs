//! Messages cut off a stream of bytes, and the two that the relay makes.

use golden::notation::Fields;
use golden::{Backend, Frontend};

/// What PostgreSQL's parser stumbles over, so that it fails the statement and the transaction.
const NONSENSE: &str = "reprise_strikes";

/// Cuts the first whole message off; in the startup phase messages have no tag.
pub(super) fn cut(buffer: &mut Vec<u8>, tagged: bool) -> Option<Vec<u8>> {
    let at = usize::from(tagged);
    let length = buffer.get(at..)?.first_chunk::<4>()?;
    let end = at + u32::from_be_bytes(*length) as usize;
    (end <= buffer.len()).then(|| buffer.drain(..end).collect())
}

/// The text of a Query; empty for every other message.
pub(super) fn query_text(frame: &[u8]) -> &str {
    match frame.first() {
        Some(b'Q') => std::str::from_utf8(&frame[5..frame.len() - 1]).unwrap_or_default(),
        _ => "",
    }
}

/// The message with which the server fails instead of carrying out this one, and nothing else happens: a named Parse
/// that fails leaves all statements as they are.
pub(super) fn failing(frame: &[u8]) -> Vec<u8> {
    if frame.first() == Some(&b'Q') {
        return Frontend::Query(NONSENSE.into()).encode();
    }
    let parse = Frontend::Parse { name: NONSENSE.into(), sql: NONSENSE.into(), types: Vec::new() };
    [&parse.encode(), frame].concat()
}

/// Whether an answer is the error that [`failing`] brought about.
pub(super) fn is_own_error(frame: &[u8]) -> bool {
    frame.first() == Some(&b'E') && frame.windows(NONSENSE.len()).any(|window| window == NONSENSE.as_bytes())
}

/// The same failure in the words of a server that met a conflict, or whose transaction had failed before.
pub(super) fn conflict(already_failed: bool) -> Vec<u8> {
    let (sqlstate, message) = match already_failed {
        false => ("40001", "could not serialize access due to an injected conflict"),
        true => ("25P02", "current transaction is aborted, commands ignored until end of transaction block"),
    };
    let fields = [('S', "ERROR"), ('V', "ERROR"), ('C', sqlstate), ('M', message)];
    Backend::ErrorResponse(Fields(fields.map(|(letter, text)| (letter, text.to_owned())).to_vec())).encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_off_whole() {
        let whole = Frontend::Query("SELECT 1".into()).encode();
        let mut buffer = whole[..4].to_vec();
        assert_eq!(cut(&mut buffer, true), None);
        buffer = [&whole[..], b"S"].concat();
        let frame = cut(&mut buffer, true).expect("a message");
        assert_eq!((query_text(&frame), &buffer[..]), ("SELECT 1", &b"S"[..]));
    }
}
