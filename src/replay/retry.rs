//! A conflict and what follows: drain, pause, send the journal again, catch up.

use std::time::Duration;

use super::cause::Cause;
use super::cockroach;
use super::engine::{Engine, Output, Step};
use super::event::{Event, Phase};
use super::journal::{Effect, Entry};
use super::owner::{Control, Owner};
use super::policy::{Dialect, Mode};
use super::reason::Reason;
use super::scan::Scan;
use super::state::State;
use super::statement::{Class, begins_without_options};
use super::unit::{Release, Savepoint};
use crate::wire::backend::{ErrorFields, Status};
use crate::wire::frontend::{self, tag};
use crate::wire::{HEADER_BYTES, Header, SqlState, encode};

/// A portal that does not exist.
const NO_PORTAL: &str = "reprise_no_portal";

/// Begins the transaction anew: PostgreSQL 12 and later.
const CHAIN: &str = "ROLLBACK AND CHAIN";

impl Engine {
    /// Whether the transaction must be run again after this error.
    pub(super) fn is_conflict(&self, sqlstate: SqlState) -> bool {
        let deadlock = self.dialect == Dialect::Postgres && self.policy.deadlocks;
        sqlstate == SqlState::SERIALIZATION_FAILURE || (deadlock && sqlstate == SqlState::DEADLOCK_DETECTED)
    }

    /// Counts a conflict.
    pub(super) fn note_conflict(
        &mut self,
        now: Duration,
        sqlstate: SqlState,
        phase: Phase,
        number: usize,
        body: &[u8],
        out: &mut impl Output,
    ) {
        self.unit.conflicts += 1;
        self.unit.first_conflict.get_or_insert(now);
        let cause = Cause::of(ErrorFields::new(body));
        self.unit.cause.get_or_insert(cause);
        let wasted = now.saturating_sub(self.unit.attempt_began);
        out.report(Event::Conflict { sqlstate, phase, cause, wasted });
        self.show_conflict(phase, cause, number, body, out);
        // What is not retried does not wait either: with no place to win, its conflicts tell nothing about how many there may be.
        if self.policy.mode == Mode::Transparent
            && let Some(statement) = self.first_statement()
        {
            out.contends(statement);
        }
    }

    /// The answer to request `number` of the journal is a conflict.
    pub(super) fn conflict(
        &mut self,
        now: Duration,
        number: usize,
        sqlstate: SqlState,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let again = |state| {
            matches!(state, State::Replaying { .. } | State::BackingOff { .. } | State::Queued { .. })
        };
        let replaying = again(self.state);
        let phase = match () {
            () if self.commits(number) => Phase::Commit,
            () if replaying => Phase::Replay,
            () => Phase::Statement,
        };
        self.note_conflict(now, sqlstate, phase, number, scan.body(), out);
        self.replay_ended(now, out);
        self.keep_original(scan.body());
        (self.unit.conflict_at, self.unit.conflict_status) = (number, None);
        match self.refusal(number) {
            // What was committed in this attempt is told, and so is the conflict behind it, as the server answered them.
            Some(reason) if replaying && !self.unit.ended => {
                self.state = State::GivingUp { reason, drained: false };
                self.drop_conflict(number, scan, out);
            }
            Some(reason) => self.surface_now(reason, scan, out),
            None => {
                self.state = State::Draining;
                self.drop_conflict(number, scan, out);
                self.enclose_what_was_shown();
            }
        }
    }

    /// Keeps the first conflict of the transaction, to be surfaced if it cannot be hidden.
    pub(super) fn keep_original(&mut self, body: &[u8]) {
        if self.unit.original.is_empty() {
            self.unit.original = body.into();
        }
    }

    /// Keeps the conflict from the client, and notes how much of the answer it had been shown before: in a replay, what goes
    /// beyond that of earlier attempts. Less than that, or as much, is not compared yet and tells nothing.
    fn drop_conflict(&mut self, number: usize, scan: &mut Scan<'_>, out: &mut impl Output) {
        let digest = self.reading.digest.so_far(scan.before());
        scan.leave_out();
        scan.skip(out);
        if self.held.is_empty()
            && let Some(entry) = self.journal.entry_mut(number)
            && !entry.delivered.complete
            && self.reading.frames > entry.delivered.frames
        {
            entry.delivered.note_beginning(self.reading.frames, self.reading.rows, digest);
        }
        self.discard_held();
        self.reading.begin();
        self.unit.release = Release::None;
        self.outstanding.fail(|_| {});
        self.end_cycle(out);
    }

    /// Sends a Sync if the server would otherwise wait for one.
    pub(super) fn end_cycle(&mut self, out: &mut impl Output) {
        let mut bytes = Vec::new();
        if self.outstanding.is_copying() {
            encode::copy_fail(&mut bytes, "the transaction is not run again");
            out.backend(&bytes);
            self.outstanding.push(tag::COPY_FAIL, Owner::Control(Control::Sync));
        }
        if !self.outstanding.ends_cycle() {
            bytes.clear();
            if !self.unit.explicit {
                // The Sync would commit what the batch has done: it must fail before.
                encode::execute(&mut bytes, NO_PORTAL);
                self.outstanding.push(tag::EXECUTE, Owner::Control(Control::Sync));
            }
            encode::sync(&mut bytes);
            out.backend(&bytes);
            self.outstanding.push(tag::SYNC, Owner::Control(Control::Sync));
        }
    }

    /// Every request is answered: what was waiting for that goes on. `ready` tells whether a ReadyForQuery was the last answer.
    pub(super) fn settle(&mut self, now: Duration, ready: bool, out: &mut impl Output) {
        match self.state {
            State::Idle | State::Ended => {}
            State::Draining | State::GivingUp { .. } if !self.outstanding.ends_cycle() => self.end_cycle(out),
            State::Open | State::Committing | State::Passthrough(_)
                if ready && self.status == Status::Idle =>
            {
                self.end_unit(now, out);
            }
            // Behind the client's own RELEASE its COMMIT is still to come.
            State::Committing | State::Passthrough(_)
                if ready && self.unit.ended && !self.unit.classes.releases_restart() =>
            {
                self.begin_behind(now, true, out)
            }
            // Something that was not read as such has opened a transaction.
            State::Open | State::Committing if ready && !self.unit.explicit => {
                self.unit.explicit = true;
                self.pass_through(Reason::UnknownMessage, out);
            }
            State::Committing if ready => self.state = State::Open,
            State::Open | State::Committing | State::Passthrough(_) => {}
            State::Draining => self.back_off(now, out),
            State::BackingOff { until: Some(until), .. } if now >= until => self.ask_for_turn(now, out),
            State::BackingOff { .. } => {}
            State::Queued { .. } => self.take_turn(now, out),
            State::Replaying { .. } => self.go_on(now, ready, out),
            State::GivingUp { reason, drained } => self.go_on_giving_up(now, reason, drained, out),
        }
    }

    /// The failed attempt is drained: pauses, unless a limit is passed.
    fn back_off(&mut self, now: Duration, out: &mut impl Output) {
        if self.unit.cancelled {
            return self.give_up(now, Reason::Cancelled, out);
        }
        let attempt = self.unit.attempts + 1;
        let pause = self.backoff.pause(&self.policy, self.dialect, attempt);
        if attempt > self.policy.max_attempts {
            return self.give_up(now, Reason::AttemptsExhausted, out);
        }
        if now + pause > self.unit.started + self.unit.waited + self.policy.timeout {
            return self.give_up(now, Reason::RetryTimeout, out);
        }
        self.return_to_gate();
        let (pause, awaits) = self.pause_or_place(now, attempt, pause, out);
        self.state = State::BackingOff { until: (!awaits).then_some(now + pause), since: now };
        if !awaits {
            out.report(Event::BackedOff { attempt, pause });
        }
        self.reopen(awaits, out);
        if self.outstanding.is_empty() && pause.is_zero() && !awaits {
            self.ask_for_turn(now, out);
        }
    }

    /// Ends the failed transaction and opens it again with the client's own BEGIN, before the pause: no lock is held while
    /// Reprise waits, and the rest of the journal can go in one write. It must not go together with the BEGIN: if that failed,
    /// the rest would run outside a transaction. A BEGIN that has work behind it in its cycle would take locks: it waits too.
    ///
    /// With a savepoint to go back to, or a transaction to chain to, nothing is sent yet: the first keeps its locks and its
    /// place in the line, and the second has none. A transaction that waits for a place must keep no lock, so it goes back to
    /// no savepoint.
    fn reopen(&mut self, awaits_place: bool, out: &mut impl Output) {
        if (awaits_place || !self.restarts_at_savepoint()) && !self.restarts_by_chaining() {
            self.begin_anew(out);
        }
    }

    /// Ends the transaction, and opens it again where that takes no lock.
    pub(super) fn begin_anew(&mut self, out: &mut impl Output) {
        let mut bytes = Vec::new();
        if self.unit.enclosed {
            self.open_block(&mut bytes);
        } else if self.status != Status::Idle {
            encode::query(&mut bytes, cockroach::ROLLBACK);
            self.outstanding.push(tag::QUERY, Owner::Control(Control::Restart));
        }
        if self.unit.savepoint == Savepoint::Set {
            self.unit.savepoint = Savepoint::Again;
        }
        for number in 0..self.unit.reopened() {
            self.write_request(number, &mut bytes);
        }
        out.backend(&bytes);
    }

    /// Whether `ROLLBACK AND CHAIN` restarts the transaction: it goes with the journal in one write, for if it fails the
    /// transaction stays failed, and nothing behind it runs. In a failed transaction it gives the new one the defaults of the
    /// session, not the options of the old one: so it stands only for a BEGIN without options. PostgreSQL frees all locks
    /// of a failed transaction at its error, but not those from before a savepoint of the client's: then it is ended before
    /// the pause.
    fn restarts_by_chaining(&self) -> bool {
        self.chains
            && self.unit.opened_plainly
            && self.status == Status::Failed
            && self.began_without_options()
            && ![Class::Savepoint, Class::RestartSavepoint, Class::RollbackTo]
                .into_iter()
                .any(|class| self.unit.classes.has(class))
    }

    fn began_without_options(&self) -> bool {
        let begin =
            self.journal.entry(0).is_some_and(|entry| entry.tag == tag::QUERY && self.unit.opening == 1);
        let text = self.journal.frames(0..1).get(HEADER_BYTES..).and_then(frontend::query);
        begin && text.is_some_and(begins_without_options)
    }

    /// Whether the attempt goes back to our savepoint. That does not undo a SET TRANSACTION, which the statements before it must
    /// not meet: then the transaction is begun anew.
    pub(super) fn restarts_at_savepoint(&self) -> bool {
        self.unit.savepoint == Savepoint::Set
            && self.status != Status::Idle
            && !self.unit.classes.has(Class::TransactionMode)
    }

    /// The pause is over: the journal goes out.
    pub(super) fn replay(&mut self, now: Duration, out: &mut impl Output) {
        let mut bytes = Vec::new();
        let first = self.unit.reopened();
        match self.unit.savepoint {
            Savepoint::Set => {
                encode::query(&mut bytes, cockroach::RESTART);
                self.outstanding.push(tag::QUERY, Owner::Control(Control::Restart));
            }
            _ if self.restarts_by_chaining() => {
                encode::query(&mut bytes, CHAIN);
                self.outstanding.push(tag::QUERY, Owner::Control(Control::Restart));
            }
            Savepoint::Again => {
                encode::query(&mut bytes, cockroach::SAVEPOINT);
                self.outstanding.push(tag::QUERY, Owner::Control(Control::Savepoint));
                self.unit.savepoint = Savepoint::Set;
            }
            Savepoint::None | Savepoint::TakenOver | Savepoint::Unusable => {}
        }
        self.unit.shown = self.journal.first_incomplete();
        let sent = self.write_requests(first, &mut bytes);
        out.backend(&bytes);
        self.state = State::Replaying { sent, since: now };
        self.unit.next_attempt(now);
        out.report(Event::ReplayStarted {
            attempt: self.unit.attempts,
            journal_bytes: self.journal.bytes_len(),
            statements: self.journal.entries_from(0).iter().filter(|entry| entry.is_statement()).count(),
        });
        if self.outstanding.is_empty() {
            self.go_on(now, false, out);
        }
    }

    /// Everything sent so far is verified: what waited for that goes out, or the client has caught up.
    pub(super) fn go_on(&mut self, now: Duration, ready: bool, out: &mut impl Output) {
        let State::Replaying { sent, since } = self.state else { return };
        if sent < self.journal.len() {
            let runs = self.journal.entries_from(sent).iter().any(Entry::is_statement);
            if self.unit.cancelled && runs && !self.journal.fails_before(sent) {
                return self.give_up(now, Reason::Cancelled, out);
            }
            if ready && self.unit.explicit && self.status == Status::Idle {
                return self.in_doubt(now, out);
            }
            let mut bytes = Vec::new();
            let sent = self.write_requests(sent, &mut bytes);
            out.backend(&bytes);
            self.state = State::Replaying { sent, since };
            return;
        }
        self.replay_ended(now, out);
        self.deliver_settings(out);
        // What the client asked to cancel is answered.
        self.unit.cancelled = false;
        let ended = self.unit.at_cycle_start
            && !self.outstanding.is_skipping()
            && self.journal.entries_from(0).iter().any(|e| e.effect.ends());
        self.state = if ended { State::Committing } else { State::Open };
        if ready {
            self.settle(now, true, out);
        }
    }

    /// Reports the end of a replay, if one is under way.
    pub(super) fn replay_ended(&mut self, now: Duration, out: &mut impl Output) {
        if let State::Replaying { since, sent } = self.state {
            self.show_verified(sent, out);
            out.report(Event::ReplayEnded { elapsed: now.saturating_sub(since) });
        }
    }

    /// Settings that changed while the client waited: it gets the last value of each.
    pub(super) fn deliver_settings(&mut self, out: &mut impl Output) {
        for setting in std::mem::take(&mut self.settings) {
            out.frontend(&setting.frame);
        }
    }

    /// Writes the requests from `first` on, up to where the verification of those before must be awaited. Returns the number
    /// of the first one that is not written. What opens the transaction goes alone: if it failed, the rest would run outside of it.
    fn write_requests(&mut self, first: usize, bytes: &mut Vec<u8>) -> usize {
        let until = if first < self.unit.opening { self.unit.opening } else { self.journal.len() };
        let requests = self.journal.entries_from(first).get(..until - first).unwrap_or_default();
        let end = first + written_at_once(requests, self.unit.names.unnamed_controls());
        for number in first..end {
            self.write_request(number, bytes);
        }
        let flushes = end > first && self.journal.entry(end - 1).is_some_and(|last| last.tag == tag::FLUSH);
        if !self.outstanding.ends_cycle() && !flushes {
            encode::flush(bytes);
        }
        end
    }

    /// Closes the statements that earlier attempts have prepared in the cycle that begins here, behind its first request, and that the
    /// client was not told of: no rollback undoes a Parse. Where a request before the Parse fails this time, what is behind it is passed
    /// over, the Close there too, and the client is not to meet a statement that it does not know.
    fn close_untold_behind(&mut self, first: usize, bytes: &mut Vec<u8>) {
        let end = self.journal.entries_from(first).iter().position(Entry::is_cycle_end);
        for number in first + 1..end.map_or(self.journal.len(), |end| first + end) {
            if !self.is_told(number) {
                self.close_statement(number, bytes);
            }
        }
    }

    /// Closes what a request has prepared in an earlier attempt, if it has.
    fn close_statement(&mut self, number: usize, bytes: &mut Vec<u8>) {
        if let Some(name) = self.prepared_name(number) {
            encode::close_statement(bytes, name);
            self.outstanding.push(tag::CLOSE, Owner::Control(Control::CloseStatement));
        }
    }

    /// The name under which a request of the journal has prepared a statement in an earlier attempt.
    fn prepared_name(&self, number: usize) -> Option<&[u8]> {
        self.journal.entry(number).filter(|entry| entry.parsed && entry.tag == tag::PARSE)?;
        let parse = frontend::Parse::view(self.journal.frames(number..number + 1).get(HEADER_BYTES..)?)?;
        Some(parse.statement).filter(|name| !name.is_empty())
    }

    /// Whether the client was told that a request succeeded.
    fn is_told(&self, number: usize) -> bool {
        self.journal.entry(number).is_some_and(|entry| entry.delivered.succeeded())
    }

    /// Writes one request as the client sent it, with what makes it repeatable.
    fn write_request(&mut self, number: usize, bytes: &mut Vec<u8>) {
        let Some(&entry) = self.journal.entry(number) else { return };
        let frame = self.journal.frames(number..number + 1);
        if entry.tag == tag::COPY_DATA {
            bytes.extend_from_slice(frame);
            // What the client is still to send of the data follows when the server asks for it.
            for _ in 0..copies_ended(frame) {
                self.outstanding.push(tag::COPY_DONE, Owner::Journalled(number));
            }
            return;
        }
        let begins = |before: &Entry| before.is_cycle_end() || before.tag == tag::COPY_DATA;
        if number == 0 || self.journal.entry(number - 1).is_some_and(begins) {
            self.close_untold_behind(number, bytes);
        }
        // What the client was told of it counts on, whatever becomes of the transaction: it is left alone.
        if self.is_told(number) && self.unit.names.are_kept() && self.prepared_name(number).is_some() {
            return;
        }
        self.close_statement(number, bytes);
        let step = match entry.effect {
            Effect::Commits => {
                let next = self.journal.entry(number + 1).map(|next| next.tag);
                self.commit_request(entry.tag, next)
            }
            _ => Step::Forward,
        };
        let releases = entry.tag == tag::QUERY && matches!(step, Step::Instead(_));
        let frame = self.journal.frames(number..number + 1);
        match step {
            Step::Instead(other) => bytes.extend(other),
            Step::After(added) => {
                bytes.extend(added);
                bytes.extend_from_slice(frame);
            }
            Step::Forward | Step::Drop => bytes.extend_from_slice(frame),
        }
        self.announce_name(number);
        let answers = self.outstanding.push(entry.tag, Owner::Journalled(number));
        if answers && entry.effect.ends() {
            self.outstanding.mark_commit();
        }
        if answers && entry.locks {
            self.outstanding.mark_lock();
        }
        if answers && releases {
            self.outstanding.mark_release();
        }
        if let Some(entry) = self.journal.entry_mut(number) {
            entry.answered = false;
            entry.delivered.complete |= !answers;
        }
    }

    /// A Parse or Close of the journal is about to be sent once more: alone, or a Parse at the start of a batch.
    pub(super) fn announce_name(&mut self, number: usize) {
        let Some(frame) = self.journal.messages(number).next() else { return };
        let (tag, body) = (frame[0], &frame[HEADER_BYTES..]);
        let prepared = &mut self.outstanding.prepared;
        if tag == tag::PARSE
            && let Some(parse) = frontend::Parse::view(body)
        {
            prepared.parse(parse.statement, Self::classes_of_prepared(parse.sql));
        } else if tag == tag::CLOSE
            && let Some(name) = frontend::statement_target(body)
        {
            prepared.close(name);
        }
    }
}

/// How many COPYs these frames of their data end.
fn copies_ended(mut frames: &[u8]) -> usize {
    let mut ended = 0;
    while let Ok(Some(header)) = Header::parse(frames) {
        ended += usize::from(matches!(header.tag, tag::COPY_DONE | tag::COPY_FAIL));
        frames = frames.get(header.frame_bytes..).unwrap_or_default();
    }
    ended
}

/// How many of these requests may go out together in a replay: what may end the transaction waits until all that the client
/// was shown before it is verified, and what is behind it until it is known that the transaction goes on. The data of a COPY are
/// a part of its cycle: the server answers no more before it has them. Where the unnamed statement `controls` transactions at
/// times, what uses it waits until it is known which one it is: an earlier attempt may have left a ROLLBACK there.
fn written_at_once(requests: &[Entry], controls: bool) -> usize {
    let (mut shown, mut ends, mut cycle_ended) = (false, false, false);
    for (at, entry) in requests.iter().enumerate().filter(|(_, entry)| entry.tag != tag::COPY_DATA) {
        let cycle_begins = std::mem::replace(&mut cycle_ended, entry.is_cycle_end());
        if at > 0 && ((shown && entry.effect.ends()) || (ends && cycle_begins) || (controls && entry.crosses))
        {
            return at;
        }
        shown |= entry.delivered.frames > 0;
        ends |= entry.effect.ends();
    }
    requests.len()
}
