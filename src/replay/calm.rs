//! Answers that come whole, with nothing in them to decide: as long as nothing goes wrong, nearly all of them.
//!
//! A client waits for the answer to what it has sent, and most of the time that comes in one read, up to the ReadyForQuery that ends
//! it. Then nothing of it is held, for there is nothing to wait for, and it is digested at once; or not at all where the transaction
//! ends with it, for nothing is run again behind that.
//!
//! Whatever else comes (an error, a notice, a part of an answer, anything in a replay) is told apart frame by frame, in
//! `answers.rs`. Both ways come to the same.

use std::time::Duration;

use super::digest::{Digest, Unordered};
use super::engine::{Engine, Output};
use super::journal::Delivered;
use super::owner::Owner;
use super::request::Request;
use super::state::State;
use super::unit::Release;
use crate::wire::backend::{Status, tag};
use crate::wire::{HEADER_BYTES, frames, frontend};

/// A ReadyForQuery without its body, the status.
const READY: &[u8] = b"Z\0\0\0\x05";

impl Engine {
    /// Takes bytes from the server if they are the answers to all that is unanswered, no more and no less, and nothing is to be
    /// decided. False if not.
    pub(super) fn take_calm_answers(&mut self, now: Duration, bytes: &[u8], out: &mut impl Output) -> bool {
        let Some(status) = status_at_end(bytes) else { return false };
        if !self.is_calm() {
            return false;
        }
        let ends = status == Status::Idle;
        // Nothing is run again behind the end of a transaction; how one in a block ended is to be noted.
        let digests = !ends && self.digests();
        if !self.take_answer(bytes, digests) {
            return false;
        }
        out.frontend(bytes);
        self.outstanding.pop();
        self.status = status;
        self.ready_at = now;
        self.note_cycle_over();
        self.settle(now, true, out);
        true
    }

    /// Whether the next answer begins, and goes to the client as it is.
    fn is_calm(&self) -> bool {
        matches!(self.state, State::Open | State::Committing)
            && self.reading.frames == 0
            && self.backend_rest == 0
            && self.held.is_empty()
            && self.unit.release == Release::None
            && !self.reports
    }

    /// Takes the answer to the only request that is unanswered: one in the journal, and one of those that a ReadyForQuery ends. False
    /// if these bytes are not that, and no more.
    fn take_answer(&mut self, bytes: &[u8], digests: bool) -> bool {
        let Some(Request { owner: Owner::Journalled(number), locks: false, .. }) = self.outstanding.only()
        else {
            return false;
        };
        let Some(entry) = self.journal.entry_mut(*number).filter(|entry| entry.is_cycle_end()) else {
            return false;
        };
        let (mut rows, mut unordered, mut left) = (0, Unordered::default(), bytes.len());
        let (mut count, mut parsed, mut suspended, mut ends) = (0, false, false, false);
        for frame in frames(bytes) {
            count += 1;
            left -= frame.len();
            match frame[0] {
                tag::DATA_ROW => {
                    rows += 1;
                    if digests {
                        unordered.add(frame, true);
                    }
                }
                tag::READY_FOR_QUERY => {
                    ends = left == 0;
                    break;
                }
                tag::PARSE_COMPLETE => parsed = true,
                // These say nothing but what was asked for, and that all went well.
                tag::BIND_COMPLETE | tag::CLOSE_COMPLETE | tag::PARAMETER_DESCRIPTION => {}
                tag::ROW_DESCRIPTION | tag::NO_DATA => {}
                tag::PORTAL_SUSPENDED => suspended = true,
                tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE => {}
                _ => return false,
            }
        }
        if !ends || (entry.tag == frontend::tag::SYNC && count > 1) {
            return false;
        }
        if entry.effect.ends() {
            let tags = frames(bytes).filter(|frame| frame[0] == tag::COMMAND_COMPLETE);
            tags.for_each(|frame| self.unit.note_end(entry.effect, &frame[HEADER_BYTES..]));
        }
        let digest = if digests { Digest::of(bytes) } else { 0 };
        self.unit.suspends |= suspended;
        entry.parsed |= parsed;
        entry.answered = true;
        entry.delivered = Delivered { frames: count, rows, digest, unordered, complete: true, failed: false };
        true
    }
}

/// What the ReadyForQuery says that seems to end these bytes.
fn status_at_end(bytes: &[u8]) -> Option<Status> {
    let (before, status) = bytes.split_at_checked(bytes.len().checked_sub(1)?)?;
    before.ends_with(READY).then(|| Status::parse(status))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::client::{Client, bind, describe, execute, frame, parse, query, sync};
    use crate::replay::{Begin, Dialect, LockTable, Mode, Policy};

    const DONE: &[u8] = b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05T";

    /// An engine at the end of the first cycle of a transaction.
    fn begun(policy: Policy, dialect: Dialect) -> (Engine, Client) {
        let (mut engine, mut client) = (Engine::new(Arc::new(policy), dialect, 1), Client::default());
        asked_and_opened(&mut engine, &mut client);
        client.0.clear();
        (engine, client)
    }

    fn asked_and_opened(engine: &mut Engine, client: &mut Client) {
        asked(engine, client, "BEGIN");
        answered(engine, client, b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T");
    }

    fn asked(engine: &mut Engine, client: &mut Client, sql: &str) {
        let query = query(sql);
        assert_eq!(engine.handle_frontend(Duration::ZERO, &query, client), Ok(query.len()));
    }

    fn answered(engine: &mut Engine, client: &mut Client, bytes: &[u8]) {
        assert_eq!(engine.handle_backend(Duration::from_secs(1), bytes, client), Ok(bytes.len()));
    }

    /// All that answers change, and what the client got.
    fn left_behind(engine: &Engine, client: &Client) -> String {
        let Engine { state, status, unit, journal, outstanding, .. } = engine;
        format!("{state:?} {status:?} {unit:?} {journal:?} {outstanding:?} {:?}", client.0)
    }

    #[test]
    fn answers_come_to_the_same_whole_and_frame_by_frame() {
        let batch = [parse("", "SELECT v"), bind("", ""), describe("P"), execute(""), sync()].concat();
        let rows = [frame(b'T', b"\0\0"), frame(b'D', b"\0\x01one"), frame(b'D', b"\0\x01two")].concat();
        let of_batch =
            [frame(b'1', b""), frame(b'2', b""), rows.clone(), frame(b'C', b"SELECT 2\0")].concat();
        let of_query = [rows, frame(b'C', b"SELECT 2\0"), frame(b'I', b"")].concat();
        for (mode, opens) in Mode::ALL.into_iter().flat_map(|mode| [(mode, true), (mode, false)]) {
            let asked = [
                (batch.clone(), of_batch.clone(), [b'T', b'I']),
                (query("SELECT v"), of_query.clone(), [b'T', b'I']),
                (query("SELECT v; COMMIT"), [&of_query[..], b"C\0\0\0\x0bCOMMIT\0"].concat(), [b'I', b'I']),
                ([query("SELECT v"), batch.clone()].concat(), of_query.clone(), [b'T', b'I']),
            ];
            for (requests, answers, statuses) in asked {
                let ready = frame(b'Z', &statuses[usize::from(!opens)..][..1]);
                let answers = [answers, ready].concat();
                let play = |pieces: &mut dyn Iterator<Item = &[u8]>| {
                    let policy = Arc::new(Policy { mode, ..Policy::default() });
                    let (mut engine, mut client) =
                        (Engine::new(policy, Dialect::Postgres, 1), Client::default());
                    if opens {
                        asked_and_opened(&mut engine, &mut client);
                    }
                    engine.handle_frontend(Duration::ZERO, &requests, &mut client).expect("frames");
                    pieces.for_each(|piece| answered(&mut engine, &mut client, piece));
                    left_behind(&engine, &client)
                };
                assert_eq!(play(&mut std::iter::once(&answers[..])), play(&mut frames(&answers)));
            }
        }
    }

    #[test]
    fn the_end_of_something_long_is_not_taken_for_an_answer() {
        let (mut engine, mut client) = begun(Policy::default(), Dialect::Postgres);
        asked(&mut engine, &mut client, "SELECT 1");
        let mut notice = frame(b'N', &vec![b'x'; 2 << 20]);
        notice.truncate(notice.len() - DONE.len());
        answered(&mut engine, &mut client, &notice);
        answered(&mut engine, &mut client, DONE);
        assert!(engine.awaits_answer(), "that was the end of the notice");
    }

    #[test]
    fn what_only_ends_like_a_ready_for_query_is_none() {
        let (mut engine, mut client) = begun(Policy::default(), Dialect::Postgres);
        let flushed = [describe("P"), frame(b'H', b"")].concat();
        assert_eq!(engine.handle_frontend(Duration::ZERO, &flushed, &mut client), Ok(flushed.len()));
        answered(&mut engine, &mut client, &frame(b'T', b"\0\x01vZ\0\0\0\x05I"));
        assert!(engine.is_busy(), "it was a RowDescription");
    }

    #[test]
    fn what_was_not_asked_for_is_no_answer() {
        let (mut engine, mut client) = begun(Policy::default(), Dialect::Postgres);
        asked(&mut engine, &mut client, "SELECT 1");
        let twice = [&DONE[..12], b"Z\0\0\0\x05I", DONE].concat();
        answered(&mut engine, &mut client, &twice);
        assert!(!engine.is_busy(), "the first ReadyForQuery says that there is no transaction");
    }

    #[test]
    fn the_time_of_the_answer_is_noted() {
        let (mut engine, mut client) = begun(Policy::default(), Dialect::Postgres);
        assert_eq!(engine.ready_at, Duration::from_secs(1));
        engine.ready_at = Duration::ZERO;
        asked(&mut engine, &mut client, "SELECT 1");
        answered(&mut engine, &mut client, DONE);
        assert_eq!(engine.ready_at, Duration::from_secs(1));
    }

    #[test]
    fn a_lock_that_is_ignored_is_told_as_one() {
        let policy = Policy { lock_table: LockTable::Ignore, begin: Begin::Immediate, ..Policy::default() };
        let (mut engine, mut client) = begun(policy, Dialect::Cockroach);
        for sql in ["SELECT 1", "LOCK TABLE t"] {
            let batch = [parse("", sql), bind("", ""), execute(""), sync()].concat();
            assert_eq!(engine.handle_frontend(Duration::ZERO, &batch, &mut client), Ok(batch.len()));
            if sql == "SELECT 1" {
                answered(&mut engine, &mut client, b"C\0\0\0\x0eSAVEPOINT\0Z\0\0\0\x05T");
            }
            client.0.clear();
            answered(&mut engine, &mut client, b"1\0\0\0\x042\0\0\0\x04I\0\0\0\x04Z\0\0\0\x05T");
        }
        assert!(memchr::memmem::find(&client.0, b"LOCK TABLE\0").is_some(), "{}", client.0.escape_ascii());
    }
}
