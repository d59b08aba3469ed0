//! Framing: every message after startup is a type byte, a length that counts itself, and a body.
//!
//! Source: [Message Formats](https://www.postgresql.org/docs/current/protocol-message-formats.html).

use thiserror::Error;

/// Bytes of a type byte and a length field.
pub const HEADER_BYTES: usize = 5;

/// The longest message that PostgreSQL sends or takes (`MaxAllocSize`, 1 GiB - 1), without the type byte.
pub const MESSAGE_BYTES_MAX: u32 = 0x3fff_ffff;

/// A length field that no message can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("message of type 0x{tag:02x} has the impossible length {length}")]
pub struct BadLength {
    /// The type byte before the length.
    pub tag: u8,
    /// The length field as it came.
    pub length: u32,
}

/// The first five bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub tag: u8,
    /// Length of the whole frame, type byte and length field included.
    pub frame_bytes: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while fewer than five are there.
    ///
    /// # Errors
    /// When the length is smaller than itself or larger than [`MESSAGE_BYTES_MAX`]. Nothing may be allocated
    /// for a length before this check.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, BadLength> {
        let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(BadLength { tag, length });
        }
        Ok(Some(Self { tag, frame_bytes: length as usize + 1 }))
    }
}

/// The whole frames at the start of `bytes`, up to the first one that is cut or has an impossible length.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = Header::parse(rest).ok()??;
        let (frame, behind) = rest.split_at_checked(header.frame_bytes)?;
        rest = behind;
        Some(frame)
    })
}

/// Splits a zero-terminated string off the front of `bytes`.
pub(super) fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Most names are the empty one, which needs no search.
    let end = if bytes.first() == Some(&0) { 0 } else { memchr::memchr(0, bytes)? };
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(Header::parse(b"Z\0\0\0"), Ok(None));
        assert_eq!(Header::parse(b"Z\0\0\0\x05I"), Ok(Some(Header { tag: b'Z', frame_bytes: 6 })));
    }

    #[test]
    fn frames_end_where_one_is_not_whole() {
        let bytes = b"1\0\0\0\x04Z\0\0\0\x05I";
        let of = |bytes| frames(bytes).collect::<Vec<_>>();
        assert_eq!(of(bytes), [&b"1\0\0\0\x04"[..], b"Z\0\0\0\x05I"]);
        assert_eq!(of(&bytes[..10]), [&b"1\0\0\0\x04"[..]]);
        assert_eq!(of(b"1\0\0\0\x04Z\0\0\0\0I"), [&b"1\0\0\0\x04"[..]]);
    }

    #[test]
    fn a_length_is_not_trusted() {
        for length in [0u32, 3, MESSAGE_BYTES_MAX + 1, u32::MAX] {
            let mut frame = vec![b'Q'];
            frame.extend(length.to_be_bytes());
            assert_eq!(Header::parse(&frame), Err(BadLength { tag: b'Q', length }));
        }
        let mut frame = vec![b'D'];
        frame.extend(MESSAGE_BYTES_MAX.to_be_bytes());
        assert!(Header::parse(&frame).is_ok());
    }
}
