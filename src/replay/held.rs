//! Answers kept from the client while it cannot act on them: what was not delivered may change between attempts.
//!
//! An answer is held only while a later request of the same pipeline, already received, is unanswered, or while the string
//! of statements that it belongs to is not at its end: until then the client waits anyway. Holding is bounded in bytes and
//! in time, and never reaches past a Flush, which asks for the answers before it, or past a request for COPY data.

use std::ops::Range;
use std::time::Duration;

use super::engine::{Engine, Output};
use super::journal::{Delivered, Effect};
use super::owner::Owner;
use super::policy::Mode;
use super::request::Request;
use super::scan::Scan;
use crate::wire::backend::tag;
use crate::wire::frontend;

/// The answers held.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// The requests whose answers are complete in there.
    answered: Vec<(usize, Delivered)>,
    /// When the first of them came.
    since: Duration,
    /// Where in there the tag of a statement is whose commit is not known yet.
    uncommitted: Option<Range<usize>>,
}

/// What is kept of the memory from one pipeline to the next.
const KEPT_BYTES: usize = 1024;
const KEPT_ANSWERS: usize = 4;

impl Held {
    /// Whether nothing is held.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes held.
    pub(super) const fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Holds nothing but the tag of a statement until its commit is known, however long that takes.
    pub(super) fn hold_uncommitted(&mut self, tag: &[u8]) {
        self.bytes.extend_from_slice(tag);
        self.uncommitted = Some(0..tag.len());
    }

    /// Whether the tag of a statement waits for its commit.
    pub(super) const fn has_uncommitted(&self) -> bool {
        self.uncommitted.is_some()
    }

    /// The commit has failed: an error takes the place of the tag.
    pub(super) fn drop_uncommitted(&mut self) {
        if let Some(tag) = self.uncommitted.take() {
            self.bytes.drain(tag);
        }
    }

    fn clear(&mut self) {
        self.uncommitted = None;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.answered.clear();
    }
}

impl Engine {
    /// When what is held must go to the client, whatever is unanswered.
    pub(super) fn held_until(&self) -> Option<Duration> {
        let waits = !self.held.is_empty() && !self.held.has_uncommitted();
        waits.then(|| self.held.since + self.policy.hold_time)
    }

    /// Whether a frame that is new to the client is held: as a part of what is held already, or as the beginning of an answer.
    fn holds(&self, frame_tag: u8, frame_bytes: usize) -> bool {
        (self.reading.frames == 1 || !self.held.is_empty())
            && self.policy.mode == Mode::Transparent
            && self.backend_rest == 0
            && self.held.bytes.len() + frame_bytes <= self.policy.hold_bytes
            && frame_tag != tag::COPY_IN_RESPONSE
            && (self.outstanding.is_awaited_behind(frame_tag) || self.commits_behind(frame_tag))
    }

    /// Whether the answer at hand is that of one string that commits what it does: its end is still to come.
    fn commits_behind(&self, frame_tag: u8) -> bool {
        let Some(Request { tag: frontend::tag::QUERY, owner: Owner::Journalled(number), .. }) =
            self.outstanding.front()
        else {
            return false;
        };
        let effect = self.journal.entry(number).map(|entry| entry.effect);
        frame_tag != tag::READY_FOR_QUERY && effect == Some(Effect::MayEnd)
    }

    /// A frame that is new to the client: held, or forwarded behind what was held.
    pub(super) fn deliver(&mut self, now: Duration, scan: &mut Scan<'_>, out: &mut impl Output) {
        let frame = scan.frame();
        if self.unit.enclosed && self.holds_tag(scan, out) {
            // Its commit is still to come.
        } else if frame.first().is_some_and(|tag| self.holds(*tag, frame.len())) {
            if self.held.is_empty() {
                self.held.since = now;
            }
            scan.skip(out);
            self.held.bytes.extend_from_slice(frame);
        } else if !self.held.is_empty() {
            scan.flush(out);
            self.release_held(out);
        }
        if frame.first() == Some(&tag::READY_FOR_QUERY) && !self.settings.is_empty() {
            // Settings are told before the end of the cycle that changes them.
            scan.flush(out);
            self.deliver_settings(out);
        }
    }

    /// An answer of Reprise's own, behind what is held.
    pub(super) fn deliver_own(&mut self, bytes: &[u8], out: &mut impl Output) {
        if self.held.is_empty() {
            out.frontend(bytes);
        } else {
            self.held.bytes.extend_from_slice(bytes);
        }
    }

    /// A notice in the middle of what is held keeps its place there.
    pub(super) fn hold_notice(&mut self, scan: &mut Scan<'_>, out: &mut impl Output) {
        scan.skip(out);
        self.held.bytes.extend_from_slice(scan.frame());
    }

    /// The answer to a request is complete. It is delivered with what is held.
    #[inline]
    pub(super) fn answered(&mut self, number: usize, delivered: Delivered) {
        if let Some(entry) = self.journal.entry_mut(number) {
            entry.answered = true;
        }
        if self.held.is_empty() {
            self.note_delivered(number, delivered);
        } else {
            self.held.answered.push((number, delivered));
        }
        self.reading.begin();
    }

    fn note_delivered(&mut self, number: usize, delivered: Delivered) {
        if let Some(entry) = self.journal.entry_mut(number) {
            entry.delivered = delivered;
        }
    }

    /// The client gets what was held.
    pub(super) fn release_held(&mut self, out: &mut impl Output) {
        if self.held.is_empty() {
            return;
        }
        out.frontend(&self.held.bytes);
        // Its memory is of use for the next one.
        let mut answered = std::mem::take(&mut self.held.answered);
        for (number, delivered) in answered.drain(..) {
            self.note_delivered(number, delivered);
        }
        answered.shrink_to(KEPT_ANSWERS);
        self.held.answered = answered;
        self.held.clear();
    }

    /// What was held is void: the next attempt answers anew.
    pub(super) fn discard_held(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::batch::BATCH;
    use crate::replay::client::{Client, bind, execute, frame, parse, query, sync};
    use crate::replay::{Dialect, Policy};

    #[test]
    fn what_has_come_of_the_answer_to_a_batch_is_held_to_its_end() {
        let (mut engine, mut client) =
            (Engine::new(Arc::new(Policy::default()), Dialect::Postgres, 1), Client::default());
        let now = Duration::ZERO;
        let batch = [parse("", "SELECT 1"), bind("", ""), execute(""), sync()].concat();
        let begun = [frame(b'C', b"BEGIN\0"), frame(b'Z', b"T")].concat();
        let answer = [(b'1', &b""[..]), (b'2', b""), (b'D', b"\0\0"), (b'C', b"SELECT 1\0"), (b'Z', b"T")];
        let whole = answer.map(|(tag, body)| frame(tag, body)).concat();
        // What the unnamed statement is, is known from the second one on.
        for (requests, answer) in [(query("BEGIN"), &begun), (batch.clone(), &whole), (batch, &Vec::new())] {
            assert_eq!(engine.handle_frontend(now, &requests, &mut client), Ok(requests.len()));
            assert_eq!(engine.handle_backend(now, answer, &mut client), Ok(answer.len()));
        }
        assert!(engine.outstanding.only().is_some_and(|request| request.tag == BATCH));
        client.0.clear();
        for (tag, body) in answer {
            assert!(client.0.is_empty(), "the next one may be a conflict");
            let frame = frame(tag, body);
            assert_eq!(engine.handle_backend(now, &frame, &mut client), Ok(frame.len()));
        }
        assert_eq!(client.0, whole);
    }
}
