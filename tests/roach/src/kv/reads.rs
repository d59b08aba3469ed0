//! The timestamp cache: what was read when, so that nothing is written below it any more.

use super::clock::Timestamp;
use super::key::{Key, Span};

/// One remembered read.
#[derive(Debug)]
struct Read {
    span: Span,
    at: Timestamp,
    reader: u64,
}

/// The reads that could still matter to a transaction.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    reads: Vec<Read>,
}

impl ReadCache {
    /// Remembers a read.
    pub(super) fn add(&mut self, span: Span, at: Timestamp, reader: u64) {
        match self.reads.iter_mut().find(|read| read.reader == reader && read.span == span) {
            Some(read) => read.at = read.at.max(at),
            None => self.reads.push(Read { span, at, reader }),
        }
    }

    /// When a key was last read by somebody else.
    pub(super) fn latest(&self, key: &Key, writer: u64) -> Option<Timestamp> {
        let foreign = |read: &&Read| read.reader != writer && read.span.contains(key);
        self.reads.iter().filter(foreign).map(|read| read.at).max()
    }

    /// Forgets all reads.
    pub(super) fn forget_all(&mut self) {
        self.reads.clear();
    }

    /// Forgets the reads below which no transaction writes any more.
    pub(super) fn forget_before(&mut self, oldest: Timestamp) {
        self.reads.retain(|read| read.at >= oldest);
    }
}
