//! The requests of one transaction, as they came, and what the client was shown of their answers.

use std::ops::Range;

use super::batch::{self, BATCH};
use super::digest::Unordered;
use crate::wire::frames;
use crate::wire::frontend::tag;

/// What the client has been shown of one request's answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Frames, those that are no results (notices and the like) left out.
    pub(super) frames: u64,
    /// DataRows among them.
    pub(super) rows: u64,
    /// The digest of these frames.
    pub(super) digest: u128,
    /// These rows whatever their order, only to tell how answers differ.
    pub(super) unordered: Unordered,
    /// Whether the answer is complete.
    pub(super) complete: bool,
    /// Whether it ends with an error.
    pub(super) failed: bool,
}

impl Delivered {
    /// The client has been shown the beginning of the answer, of so many frames.
    pub(super) const fn note_beginning(&mut self, frames: u64, rows: u64, digest: u128) {
        (self.frames, self.rows, self.digest) = (frames, rows, digest);
    }

    /// Whether the client was told that the request succeeded: not that it failed, nor, by an error before it, that it was
    /// passed over.
    pub(super) const fn succeeded(&self) -> bool {
        self.complete && !self.failed && self.frames > 0
    }
}

impl PartialEq for Delivered {
    fn eq(&self, other: &Self) -> bool {
        let compared = |it: &Self| (it.frames, it.rows, it.digest, it.complete);
        compared(self) == compared(other)
    }
}

/// What a request does to the transaction that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It runs inside.
    None,
    /// It may bring a failed transaction back to life: the client's own ROLLBACK TO.
    Revives,
    /// It is a plain COMMIT.
    Commits,
    /// It changes the schema, and CockroachDB may commit the transaction before it.
    Defines,
    /// It may end the transaction in some other way.
    MayEnd,
}

impl Effect {
    /// Whether the transaction may be over after it: in a replay it waits until all before it are verified.
    pub(super) const fn ends(self) -> bool {
        matches!(self, Self::Commits | Self::Defines | Self::MayEnd)
    }
}

/// One request of the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    start: usize,
    /// The type byte, or [`BATCH`]; a run of COPY data is one entry of type CopyData.
    pub(super) tag: u8,
    /// What it does to the transaction.
    pub(super) effect: Effect,
    /// A Parse that the server has taken in some attempt: its name may be taken now.
    pub(super) parsed: bool,
    /// Whether it runs a LOCK TABLE.
    pub(super) locks: bool,
    /// It uses the unnamed statement of an earlier cycle.
    pub(super) crosses: bool,
    /// Whether the server has answered it to the end, in the attempt at hand.
    pub(super) answered: bool,
    /// What the client has been shown.
    pub(super) delivered: Delivered,
}

impl Entry {
    fn new(start: usize, tag: u8, effect: Effect) -> Self {
        let (parsed, locks, crosses, answered) = (false, false, false, false);
        Self { start, tag, effect, parsed, locks, crosses, answered, delivered: Delivered::default() }
    }

    /// Whether the request is answered at all.
    pub(super) const fn is_answered(&self) -> bool {
        !matches!(self.tag, tag::FLUSH | tag::COPY_DATA)
    }

    /// Whether the request runs a statement, so that it counts where statements are counted.
    pub(super) const fn is_statement(&self) -> bool {
        batch::runs_statement(self.tag)
    }

    /// Whether a ReadyForQuery ends the answer.
    pub(super) const fn is_cycle_end(&self) -> bool {
        batch::ends_cycle(self.tag)
    }
}

/// The journal of a transaction: memory in proportion to its requests, never to its results.
#[derive(Debug, Default)]
pub(super) struct Journal {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// What a journal keeps of its memory from one transaction to the next.
const KEPT_BYTES: usize = 1024;
const KEPT_ENTRIES: usize = 16;

impl Journal {
    /// Appends a request and returns its number.
    #[inline]
    pub(super) fn push(&mut self, tag: u8, effect: Effect, frame: &[u8]) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        if self.entries.capacity() == 0 {
            // Many sessions never have more than one request at a time: a vector's own first room is for four.
            self.entries.reserve_exact(1);
        }
        self.entries.push(Entry::new(start, tag, effect));
        self.entries.len() - 1
    }

    /// The last request runs a LOCK TABLE.
    pub(super) fn mark_lock(&mut self) {
        self.entries.last_mut().into_iter().for_each(|last| last.locks = true);
    }

    /// Appends COPY data: to the entry of the data before it, if that is the last one.
    pub(super) fn push_copy_data(&mut self, bytes: &[u8]) {
        match self.entries.last() {
            Some(Entry { tag: tag::COPY_DATA, .. }) => self.bytes.extend_from_slice(bytes),
            _ => {
                self.push(tag::COPY_DATA, Effect::None, bytes);
            }
        }
    }

    /// Forgets everything; keeps a little memory for the next transaction.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.entries.clear();
        self.entries.shrink_to(KEPT_ENTRIES);
    }

    /// Number of requests.
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of requests.
    pub(super) const fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are kept besides them: small requests take less than what is known of each.
    pub(super) const fn index_bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }

    /// One request.
    pub(super) fn entry(&self, number: usize) -> Option<&Entry> {
        self.entries.get(number)
    }

    /// What the client was shown of the answer to a request: nothing, as a rule.
    #[inline]
    pub(super) fn seen(&self, number: usize) -> Option<&Delivered> {
        let delivered = &self.entry(number)?.delivered;
        (delivered.frames > 0 || delivered.complete).then_some(delivered)
    }

    /// One request, to note what became of it.
    pub(super) fn entry_mut(&mut self, number: usize) -> Option<&mut Entry> {
        self.entries.get_mut(number)
    }

    /// The requests from `number` on.
    pub(super) fn entries_from(&self, number: usize) -> &[Entry] {
        self.entries.get(number..).unwrap_or_default()
    }

    /// The requests from `first` on are passed over by the server, up to a Sync. Returns how many.
    pub(super) fn complete_to_sync(&mut self, first: usize) -> usize {
        let batch =
            self.entries.iter_mut().skip(first).take_while(|entry| !matches!(entry.tag, tag::SYNC | BATCH));
        batch.map(|entry| entry.delivered.complete = true).count()
    }

    /// A Sync was ignored by the server: it is sent as a Flush from now on.
    pub(super) fn take_for_flush(&mut self, number: usize) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.tag = tag::FLUSH;
        if let Some(byte) = self.bytes.get_mut(entry.start) {
            *byte = tag::FLUSH;
        }
    }

    /// How many requests the first cycle has; zero if there is nothing behind it.
    pub(super) fn opening(&self) -> usize {
        let end = self.entries.iter().position(Entry::is_cycle_end).map_or(0, |at| at + 1);
        if end < self.entries.len() { end } else { 0 }
    }

    /// None of the requests ends the transaction any more: it runs in a block that is ended behind them.
    pub(super) fn enclose(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.effect = Effect::None);
    }

    /// Whether the client was shown an error in the cycle of request `number`, before it: that cycle has no other.
    pub(super) fn fails_before(&self, number: usize) -> bool {
        let before = self.entries.iter().take(number).rev();
        before.take_while(|entry| !entry.is_cycle_end()).any(|entry| entry.delivered.failed)
    }

    /// The frames of a range of requests.
    pub(super) fn frames(&self, numbers: Range<usize>) -> &[u8] {
        let end = self.entries.get(numbers.end).map_or(self.bytes.len(), |e| e.start);
        let start = self.entries.get(numbers.start).map_or(end, |e| e.start);
        &self.bytes[start..end]
    }

    /// The messages of one request: several only of a batch, and of COPY data.
    pub(super) fn messages(&self, number: usize) -> impl Iterator<Item = &[u8]> {
        frames(self.frames(number..number.saturating_add(1)))
    }

    /// The bytes of all requests.
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The first request whose answer the client has not been shown to its end.
    pub(super) fn first_incomplete(&self) -> usize {
        self.entries
            .iter()
            .position(|e| e.is_answered() && !e.delivered.complete)
            .unwrap_or(self.entries.len())
    }

    /// Which of the statements from `first` on request `number` is, and how many there are: both from one, for people.
    pub(super) fn statement_number(&self, first: usize, number: usize) -> (usize, usize) {
        let count = |entries: &[Entry]| entries.iter().filter(|e| e.is_statement()).count();
        let before = self.entries.get(first..number).map_or(0, count);
        (before + 1, count(self.entries_from(first)).max(before + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_kept_in_order() {
        let mut journal = Journal::default();
        journal.push(tag::QUERY, Effect::None, b"one");
        journal.push(tag::PARSE, Effect::None, b"two");
        journal.push_copy_data(b"a");
        journal.push_copy_data(b"b");
        assert_eq!(journal.len(), 3);
        assert_eq!(journal.frames(0..3), b"onetwoab");
        assert_eq!(journal.frames(1..2), b"two");
        assert_eq!(journal.frames(3..3), b"");
    }

    #[test]
    fn memory_is_given_back_after_a_large_transaction() {
        let mut journal = Journal::default();
        for _ in 0..1000 {
            journal.push(tag::QUERY, Effect::None, &[0; 1000]);
        }
        journal.clear();
        assert!(journal.bytes.capacity() <= KEPT_BYTES && journal.entries.capacity() <= KEPT_ENTRIES);
    }

    #[test]
    fn statements_are_counted_for_people() {
        let mut journal = Journal::default();
        for tag in [tag::QUERY, tag::PARSE, tag::BIND, tag::EXECUTE, tag::SYNC] {
            journal.push(tag, Effect::None, b"x");
        }
        assert_eq!(journal.statement_number(0, 0), (1, 2));
        assert_eq!(journal.statement_number(0, 3), (2, 2));
        assert_eq!(journal.statement_number(1, 3), (1, 1));
        assert_eq!(journal.first_incomplete(), 0);
    }
}
