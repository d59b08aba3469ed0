//! Whether a conflict may be hidden at all, told when it is met: what may have been committed is not run again.

use super::batch::BATCH;
use super::engine::Engine;
use super::event::Outcome;
use super::journal::{Effect, Entry};
use super::policy::{Dialect, Mode};
use super::reason::Reason;
use super::state::State;
use super::statement::{Classes, Functions};
use crate::wire::HEADER_BYTES;
use crate::wire::frontend::{self, tag};

impl Engine {
    /// Why the conflict at request `number` may not be hidden; `None` if it may.
    pub(super) fn refusal(&self, number: usize) -> Option<Reason> {
        if self.policy.mode != Mode::Transparent {
            return Some(Reason::Mode);
        }
        if self.policy.max_attempts == 1 {
            return Some(Reason::AttemptsExhausted);
        }
        let entries = self.journal.entries_from(0);
        let (before, from) = entries.split_at(number.min(entries.len()));
        let failed = from.first();
        let now_shown = if self.held.is_empty() { self.reading.frames } else { 0 };
        let shown = |entry: &Entry| entry.delivered.frames.max(now_shown) > 0;
        // A batch that meets a conflict where it commits has told no more than that its statement is bound.
        let has_told_its_end = |entry: &Entry| entry.effect.ends() && entry.tag != BATCH && shown(entry);
        // Behind a ROLLBACK in the middle of a string, CockroachDB may commit the next statement by itself.
        let left = self.unit.ended && self.dialect == Dialect::Cockroach;
        let committed = left || self.unit.outcome == Some(Outcome::Committed) || committed_inside(before);
        let functions = Functions::named(self.journal.all());
        let sent = self.sent(from, number);
        if committed || failed.is_some_and(|e| e.effect == Effect::Defines || self.defines(number, e)) {
            Some(Reason::CommittedInside)
        } else if self.unit.explicit && failed.is_some_and(has_told_its_end) {
            Some(Reason::PartlyDelivered)
        } else if may_have_been_revived(sent) || opens_in_doubt(before, sent) {
            Some(Reason::PipelinedPastEnd)
        } else if functions.lock {
            Some(Reason::AdvisoryLock)
        } else if self.dialect == Dialect::Cockroach && functions.set {
            Some(Reason::SessionState)
        } else if self.unit.explicit {
            let scattered = self.unit.scattered && self.dialect == Dialect::Cockroach;
            scattered.then_some(Reason::CommittedInside)
        } else {
            let results = self.shows_results() || failed.is_some_and(|e| e.is_statement() && shown(e));
            let obstacle = if results { self.enclosing_obstacle() } else { None };
            self.unit.autocommit_obstacle(self.dialect).or(obstacle)
        }
    }

    /// Whether a string has a change of the schema somewhere: CockroachDB may have committed what was before it, and the change.
    fn defines(&self, number: usize, entry: &Entry) -> bool {
        let frame = self.journal.frames(number..number + 1);
        let text = || frame.get(HEADER_BYTES..).and_then(frontend::query).unwrap_or_default();
        self.dialect == Dialect::Cockroach && entry.tag == tag::QUERY && self.may_define(Classes::of(text()))
    }

    /// Those of the requests from `number` on that went out in the attempt at hand.
    fn sent<'a>(&self, from: &'a [Entry], number: usize) -> &'a [Entry] {
        let sent = match self.state {
            State::Replaying { sent, .. } => sent,
            // The transaction is being opened again.
            State::BackingOff { .. } | State::Queued { .. } => self.unit.reopened(),
            _ => return from,
        };
        &from[..sent.saturating_sub(number).min(from.len())]
    }
}

/// Whether something that was answered may have committed a part of the transaction. A change of the schema has not if the
/// ReadyForQuery behind it left the transaction open, as it did where there is something behind it. One that failed may commit
/// when it is run again: CockroachDB commits before a change of the schema, not when it has failed.
fn committed_inside(answered: &[Entry]) -> bool {
    answered.iter().enumerate().any(|(at, entry)| match entry.effect {
        Effect::Commits | Effect::MayEnd => entry.answered,
        Effect::Defines => entry.delivered.failed || !answered[at..].iter().any(Entry::is_cycle_end),
        Effect::None | Effect::Revives => false,
    })
}

/// Whether requests behind the one that failed, sent already, bring the transaction back to life and then end it: whether
/// they commit cannot be known before they are answered.
fn may_have_been_revived(failed: &[Entry]) -> bool {
    let revived = failed.iter().position(|e| e.effect == Effect::Revives);
    revived.is_some_and(|at| failed[at..].iter().any(|e| e.effect.ends()))
}

/// Whether requests were sent behind a first cycle that did not get to its end: whether they run in a transaction is not known.
/// The data of a COPY is a part of it.
fn opens_in_doubt(before: &[Entry], from: &[Entry]) -> bool {
    let behind = from.iter().position(Entry::is_cycle_end).map_or(&[][..], |end| &from[end + 1..]);
    !before.iter().any(Entry::is_cycle_end) && behind.iter().any(|entry| entry.tag != tag::COPY_DATA)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::replay::client::{Client, bind, describe, execute, frame, parse, query, sync};
    use crate::replay::{Dialect, Engine, Policy};

    #[test]
    fn a_prepared_commit_has_told_nothing_but_that_it_is_bound() {
        let (mut engine, mut client) =
            (Engine::new(Arc::new(Policy::default()), Dialect::Postgres, 1), Client::default());
        let (mut now, ready) = (Duration::ZERO, |status| frame(b'Z', status));
        let [begun, updated] =
            [&b"BEGIN\0"[..], b"UPDATE 1\0"].map(|it| [frame(b'C', it), ready(b"T")].concat());
        let bound = [frame(b'2', b""), frame(b'n', b"")].concat();
        let conflict = [frame(b'E', b"SERROR\0VERROR\0C40001\0\0"), ready(b"I")].concat();
        for (requests, answer) in [
            ([parse("c", "COMMIT"), sync()].concat(), [frame(b'1', b""), ready(b"I")].concat()),
            (query("BEGIN"), begun.clone()),
            (query("UPDATE t SET n = 1"), updated.clone()),
            ([bind("", "c"), describe("P"), execute(""), sync()].concat(), bound.clone()),
        ] {
            client.0.clear();
            assert_eq!(engine.handle_frontend(now, &requests, &mut client), Ok(requests.len()));
            assert_eq!(engine.handle_backend(now, &answer, &mut client), Ok(answer.len()));
        }
        now = engine.deadline().expect("what is held is told after a while");
        engine.timeout(now, &mut client);
        assert_eq!(client.0, bound);
        let committed = [frame(b'C', b"COMMIT\0"), ready(b"I")].concat();
        for answer in [conflict, begun] {
            assert_eq!(engine.handle_backend(now, &answer, &mut client), Ok(answer.len()));
        }
        assert!(engine.is_retrying(), "{}", client.0.escape_ascii());
        now = engine.deadline().expect("the pause ends");
        engine.timeout(now, &mut client);
        for answer in [updated, [&bound[..], &committed].concat()] {
            assert_eq!(engine.handle_backend(now, &answer, &mut client), Ok(answer.len()));
        }
        assert_eq!(client.0, [bound, committed].concat(), "what it had been told is not told again");
    }
}
