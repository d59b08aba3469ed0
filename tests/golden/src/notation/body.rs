//! Reading and writing the bodies of messages.

use std::str;

/// The unread rest of a message; every read is `None` when the bytes end too early.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A count of 16 bits, which is never negative in a well-formed message.
    pub(super) fn count(&mut self) -> Option<usize> {
        self.i16().and_then(|count| usize::try_from(count).ok())
    }

    /// Text up to a zero byte.
    pub(super) fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.byte()?;
        Some(text)
    }

    /// A value behind its length, where the length -1 means NULL.
    pub(super) fn value(&mut self) -> Option<Option<Vec<u8>>> {
        match usize::try_from(self.i32()?) {
            Ok(length) => Some(Some(self.take(length)?.to_vec())),
            Err(_) => Some(None),
        }
    }

    /// A counted list of 16-bit numbers.
    pub(super) fn i16s(&mut self) -> Option<Vec<i16>> {
        let count = self.count()?;
        (0..count).map(|_| self.i16()).collect()
    }
}

/// Writes one message: its tag, its length, and what `write` appends.
pub(super) fn framed(tag: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(untagged(write));
    bytes
}

/// Writes a message of the startup phase, which has a length but no tag.
pub(super) fn untagged(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    write(&mut bytes);
    let length = i32::try_from(bytes.len()).expect("no recorded message is longer than 2 GiB");
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

pub(super) fn put_i16(bytes: &mut Vec<u8>, number: i16) {
    bytes.extend(number.to_be_bytes());
}

pub(super) fn put_i32(bytes: &mut Vec<u8>, number: i32) {
    bytes.extend(number.to_be_bytes());
}

pub(super) fn put_count(bytes: &mut Vec<u8>, count: usize) {
    put_i16(bytes, i16::try_from(count).expect("no recorded message has more than 32767 parts"));
}

pub(super) fn put_i16s(bytes: &mut Vec<u8>, numbers: &[i16]) {
    put_count(bytes, numbers.len());
    numbers.iter().for_each(|number| put_i16(bytes, *number));
}

pub(super) fn put_value(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_i32(bytes, -1),
        Some(value) => {
            put_i32(bytes, i32::try_from(value.len()).expect("no recorded value is longer than 2 GiB"));
            bytes.extend(value);
        }
    }
}

/// Cuts the first whole tagged message off a buffer: its tag and its body.
pub(super) fn cut_message(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let length = message_length(buffer.get(1..5)?)? + 1;
    if buffer.len() < length {
        return None;
    }
    let mut message: Vec<u8> = buffer.drain(..length).collect();
    let body = message.split_off(5);
    Some((message[0], body))
}

/// Cuts the first whole message without a tag off a buffer: its body.
pub(super) fn cut_untagged(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = message_length(buffer.get(..4)?)?;
    (buffer.len() >= length).then(|| buffer.drain(..length).skip(4).collect())
}

/// The length word of a message, which counts itself; a smaller one is taken for 4, so that reading goes on.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.try_into().ok()?);
    usize::try_from(length).ok().map(|length| length.max(4))
}
