//! A plain BEGIN that waits for the first statement: Reprise answers it, and sends it in the same write as that statement.
//!
//! That saves a round trip, an empty transaction costs the server nothing, and no snapshot ages while the client thinks. What
//! changes for the client: now() is the time of the first statement, and other sessions see no transaction before it.
//!
//! The BEGIN goes out in the extended protocol, with no Sync before the client's own request: should it fail, the server
//! passes over everything up to the next Sync, so that nothing runs outside a transaction. Until it has succeeded nothing is
//! taken from the client beyond the first cycle.

use std::time::Duration;

use super::engine::{Engine, Output, Step};
use super::event::Outcome;
use super::journal::{Delivered, Effect};
use super::owner::{Control, Owner};
use super::policy::{Dialect, Mode};
use super::state::State;
use super::statement::{Class, Classes, begins_plainly};
use crate::wire::backend::Status;
use crate::wire::frontend::{self, tag};
use crate::wire::{HEADER_BYTES, encode};

/// Where the BEGIN of a transaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Begin {
    /// It went out as the client sent it, or is confirmed.
    #[default]
    Sent,
    /// The client was told that it succeeded; the server has not seen it.
    Deferred,
    /// It is sent, and not answered yet.
    Unconfirmed,
}

/// The name under which a deferred BEGIN is prepared.
const BEGIN_NAME: &str = "reprise_begin";

impl Engine {
    /// Whether this request is a BEGIN that can wait: a plain one, with no transaction open, nothing unanswered before it, and
    /// nothing sent behind it.
    pub(super) fn can_defer(&self, tag: u8, classes: Classes, frame: &[u8], last: bool) -> bool {
        last && tag == tag::QUERY
            && classes.is(Class::Begin)
            && self.policy.mode == Mode::Transparent
            && self.policy.begin.defers(self.dialect)
            && matches!(self.state, State::Open)
            && self.status == Status::Idle
            && self.journal.len() == 0
            && self.outstanding.is_empty()
            && frontend::query(&frame[HEADER_BYTES..]).is_some_and(begins_plainly)
    }

    /// Answers the BEGIN as the server would, and notes the answer as one that the client has been shown.
    pub(super) fn defer_begin(&mut self, frame: &[u8], out: &mut impl Output) -> Step {
        let starts = frontend::query(&frame[HEADER_BYTES..]).is_some_and(|sql| {
            sql.trim_ascii_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"START"))
        });
        let tag = if starts && self.dialect == Dialect::Postgres { "START TRANSACTION" } else { "BEGIN" };
        let answer = self.answer_ourselves(tag, Status::Open, out);
        let number = self.journal.push(tag::QUERY, Effect::None, frame);
        let digest = self.reading.digest.finish(&answer);
        if let Some(entry) = self.journal.entry_mut(number) {
            entry.delivered = Delivered { frames: 2, digest, complete: true, ..Delivered::default() };
        }
        self.unit.begin = Begin::Deferred;
        self.unit.at_cycle_start = true;
        Step::Drop
    }

    /// The transaction ends before the server has heard of it.
    pub(super) fn end_deferred(&mut self, now: Duration, classes: Classes, out: &mut impl Output) -> Step {
        let (tag, outcome) = match classes.is(Class::Commit) {
            true => ("COMMIT", Outcome::Committed),
            false => ("ROLLBACK", Outcome::RolledBack),
        };
        self.answer_ourselves(tag, Status::Idle, out);
        self.unit.outcome = Some(outcome);
        self.end_unit(now, out);
        Step::Drop
    }

    fn answer_ourselves(&mut self, tag: &str, status: Status, out: &mut impl Output) -> Vec<u8> {
        let mut answer = Vec::new();
        encode::command_complete(&mut answer, tag);
        encode::ready_for_query(&mut answer, status);
        out.frontend(&answer);
        self.status = status;
        self.unit.opened |= status != Status::Idle;
        answer
    }

    /// The deferred BEGIN, to be sent now.
    pub(super) fn deferred_begin(&mut self) -> Vec<u8> {
        let frame = self.journal.frames(0..1);
        let sql = frontend::query(frame.get(HEADER_BYTES..).unwrap_or_default()).unwrap_or_default();
        let mut bytes = Vec::new();
        encode::run_named(&mut bytes, BEGIN_NAME, sql);
        self.outstanding.push_named(Owner::Control(Control::Begin));
        self.unit.begin = Begin::Unconfirmed;
        bytes
    }
}
