//! A walk over one read of the server's bytes: what of them goes to the client, and what of them is digested.

use super::engine::Output;
use crate::wire::HEADER_BYTES;

/// A walk over one read of the server's bytes.
pub(super) struct Scan<'a> {
    pub(super) bytes: &'a [u8],
    /// Start of the frame at hand.
    pub(super) at: usize,
    /// Its end.
    pub(super) end: usize,
    /// Start of what is to be forwarded and is not yet.
    pub(super) run: usize,
    /// Start of what belongs to the answer at hand and is not digested yet.
    pub(super) undigested: usize,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, end: 0, run: 0, undigested: 0 }
    }

    /// The body of the frame at hand, as far as it is here.
    #[inline]
    pub(super) fn body(&self) -> &'a [u8] {
        &self.bytes[(self.at + HEADER_BYTES).min(self.end)..self.end]
    }

    /// The frame at hand, as far as it is here.
    #[inline]
    pub(super) fn frame(&self) -> &'a [u8] {
        &self.bytes[self.at..self.end]
    }

    /// Forwards everything before the frame at hand, so that something else can follow it.
    #[inline]
    pub(super) fn flush(&mut self, out: &mut impl Output) {
        if self.run < self.at {
            out.frontend(&self.bytes[self.run..self.at]);
        }
        self.run = self.run.max(self.at);
    }

    /// Forwards everything up to the end of the frame at hand.
    pub(super) fn flush_through(&mut self, out: &mut impl Output) {
        if self.run < self.end {
            out.frontend(&self.bytes[self.run..self.end]);
        }
        self.run = self.run.max(self.end);
    }

    /// Keeps the frame at hand from the client.
    #[inline]
    pub(super) fn skip(&mut self, out: &mut impl Output) {
        self.flush(out);
        self.run = self.end;
    }

    /// What precedes the frame at hand and is to be digested.
    #[inline]
    pub(super) fn before(&mut self) -> &'a [u8] {
        let bytes = &self.bytes[self.undigested.min(self.at)..self.at];
        self.undigested = self.at;
        bytes
    }

    /// The same, the frame at hand included.
    #[inline]
    pub(super) fn through(&mut self) -> &'a [u8] {
        let bytes = &self.bytes[self.undigested.min(self.end)..self.end];
        self.undigested = self.end;
        bytes
    }

    /// The frame at hand is no part of an answer.
    #[inline]
    pub(super) fn leave_out(&mut self) {
        self.undigested = self.end;
    }
}
