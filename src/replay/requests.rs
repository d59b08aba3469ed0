//! What the client sends: told apart, kept in the journal, and passed on.

use std::time::Duration;

use super::batch::{self, BATCH};
use super::deferred::Begin;
use super::engine::{Engine, Output, Step};
use super::gate::Gate;
use super::journal::Effect;
use super::outstanding::REQUESTS_MAX;
use super::owner::Owner;
use super::policy::{Dialect, Mode};
use super::reason::Reason;
use super::state::State;
use super::statement::{Class, Classes};
use super::unit::{Release, Savepoint};
use crate::wire::frontend::{self, tag};
use crate::wire::{BadLength, HEADER_BYTES, Header};

impl Engine {
    /// Bytes from the client. Returns how many were taken: the rest, a part of a frame or requests that must wait, is
    /// to be handed in again, with more behind it or after the next answer.
    ///
    /// # Errors
    /// When a length is impossible: nothing behind it can be read, and the session must end.
    pub fn handle_frontend(
        &mut self,
        now: Duration,
        bytes: &[u8],
        out: &mut impl Output,
    ) -> Result<usize, BadLength> {
        if self.policy.mode == Mode::Off {
            out.backend(bytes);
            return Ok(bytes.len());
        }
        if matches!(self.state, State::Ended) {
            return Ok(bytes.len());
        }
        let mut at = self.frontend_rest.min(bytes.len());
        let mut run = if self.frontend_dropping { at } else { 0 };
        self.frontend_rest -= at;
        while self.takes_requests() {
            if let Some(taken) = self.take_cycle(now, &bytes[at..], out) {
                at += taken;
                continue;
            }
            let Some(header) = Header::parse(&bytes[at..])? else { break };
            let available = bytes.len() - at;
            if header.frame_bytes > available {
                let kept = header.frame_bytes <= self.policy.journal_bytes && !self.streams(header.tag);
                // What a message names must be known, however long the rest of it is.
                let names_come = available <= self.policy.journal_bytes
                    && !frontend::has_names(header.tag, &bytes[at + HEADER_BYTES..]);
                if kept || names_come {
                    break;
                }
                self.frontend_dropping = self.discarding;
                if self.discarding {
                    out.backend(&bytes[run..at]);
                    run = bytes.len();
                } else {
                    self.long_request(now, header.tag, &bytes[at + HEADER_BYTES..], out);
                }
                self.frontend_rest = header.frame_bytes - available;
                at = bytes.len();
                break;
            }
            let frame = &bytes[at..at + header.frame_bytes];
            let behind = &bytes[at + header.frame_bytes..];
            if behind.is_empty() && self.commits_in_batch(header.tag, frame) {
                break;
            }
            if header.tag == tag::QUERY && self.must_wait(frame) {
                break;
            }
            let Some(step) = self.request(now, header.tag, frame, behind, out) else { break };
            match step {
                Step::Forward => {}
                Step::After(added) => {
                    out.backend(&bytes[run..at]);
                    out.backend(&added);
                    run = at;
                }
                Step::Instead(other) => {
                    out.backend(&bytes[run..at]);
                    out.backend(&other);
                    run = at + header.frame_bytes;
                }
                Step::Drop => {
                    out.backend(&bytes[run..at]);
                    run = at + header.frame_bytes;
                }
            }
            at += header.frame_bytes;
        }
        out.backend(&bytes[run..at]);
        Ok(at)
    }

    /// Whether requests are taken now. During a retry, and while a commit is unanswered, they wait: what the client sends
    /// behind a commit must not run before its outcome is known.
    #[inline]
    pub fn takes_requests(&self) -> bool {
        let unconfirmed = self.unit.begin == Begin::Unconfirmed && self.outstanding.ends_cycle();
        let waits = match self.state {
            State::Committing => self.unit.explicit,
            State::Open => unconfirmed || self.is_held_at_gate(),
            State::Passthrough(_) => unconfirmed || self.is_held_by_cancel(),
            state => state.is_retrying(),
        };
        // Behind a RELEASE a COMMIT or ROLLBACK may have to follow, before anything else.
        let releases = || self.unit.release != Release::None || self.outstanding.ends_failed_commit();
        let unanswered = !self.outstanding.is_empty();
        let waits = waits || (unanswered && self.outstanding.ends_cycle() && releases()) || self.lock_waits();
        let copies = !self.state.is_retrying() && self.outstanding.is_copying();
        (!waits || copies) && self.outstanding.len() < REQUESTS_MAX && self.frontend_rest == 0
    }

    /// Frames that are passed on as they come, not assembled: nothing in them is read.
    const fn streams(&self, tag: u8) -> bool {
        matches!(self.state, State::Passthrough(_)) && matches!(tag, tag::COPY_DATA | tag::FUNCTION_CALL)
    }

    /// A frame that is longer than a journal may be, or of which nothing is read: only its beginning is here.
    fn long_request(&mut self, now: Duration, tag: u8, beginning: &[u8], out: &mut impl Output) {
        let tag = self.known(tag);
        if self.is_unasked(tag) {
            return;
        }
        if matches!(self.state, State::Idle) {
            self.begin_unit(now);
        }
        let classes = self.classes(tag, beginning);
        self.unit.count(tag, classes);
        if self.unit.begin == Begin::Deferred {
            let begin = self.deferred_begin();
            out.backend(&begin);
        }
        if self.state.is_journalling() {
            self.pass_through(Reason::JournalLimit, out);
        }
        self.push_unjournalled(tag, classes);
    }

    /// A request goes out that is not kept.
    fn push_unjournalled(&mut self, tag: u8, classes: Classes) {
        let is_cockroach = self.dialect == Dialect::Cockroach;
        let commits = classes.may_end()
            || (is_cockroach && (classes.releases_restart() || self.may_define(classes)))
            || (frontend::runs_statement(tag) && !self.unit.explicit);
        if self.outstanding.push(tag, Owner::Unjournalled) {
            if commits {
                self.outstanding.mark_commit();
            }
            if tag == tag::EXECUTE && classes.is(Class::Lock) {
                self.outstanding.mark_lock();
            }
        }
    }

    /// Whether an Execute runs a COMMIT: what is sent before it depends on what follows it, and without a Sync or a
    /// Flush behind it there is no answer to wait for.
    fn commits_in_batch(&self, tag: u8, frame: &[u8]) -> bool {
        let portal = || frontend::execute(&frame[HEADER_BYTES..]);
        tag == tag::EXECUTE
            && self.unit.savepoint == Savepoint::Set
            && portal().is_some_and(|portal| self.outstanding.prepared.execute(portal).is(Class::Commit))
    }

    /// One frame of the client, and what has come behind it. `None` if it must wait for a place, to be handed in again.
    pub(super) fn request(
        &mut self,
        now: Duration,
        tag: u8,
        frame: &[u8],
        behind: &[u8],
        out: &mut impl Output,
    ) -> Option<Step> {
        let tag = self.known(tag);
        if tag == tag::TERMINATE {
            // The server closes the connection without a word, and so does the proxy.
            self.leaves = true;
            return Some(Step::Forward);
        }
        if self.discarding {
            if tag != tag::SYNC {
                return Some(Step::Drop);
            }
            self.discarding = false;
        }
        if tag == tag::QUERY && self.answer_here(frame, out) {
            return Some(Step::Drop);
        }
        let other = if self.may_ignore_locks() { self.without_lock(tag, frame) } else { None };
        let sent = other.as_deref().unwrap_or(frame);
        if self.waits_at_gate(now, tag, sent, behind, out) {
            return None;
        }
        let step = self.transaction_request(now, tag, sent, behind.first().copied(), out);
        Some(match other {
            Some(other) => step.with(other),
            None => step,
        })
    }

    /// The type of a message, as far as the server knows it: CockroachDB has no FunctionCall, and answers it with an error alone.
    const fn known(&self, tag: u8) -> u8 {
        const UNKNOWN: u8 = 0xff;
        let is_known = tag != tag::FUNCTION_CALL || matches!(self.dialect, Dialect::Postgres);
        if is_known { tag } else { UNKNOWN }
    }

    /// Whether a Query is one that is answered here, and must wait until everything before it is answered.
    fn must_wait(&mut self, frame: &[u8]) -> bool {
        self.lock_must_wait(frame) || self.setting_must_wait(frame)
    }

    /// Answers a Query of which the server hears nothing. False if it is none.
    fn answer_here(&mut self, frame: &[u8], out: &mut impl Output) -> bool {
        self.answer_lock(frame, out) || self.answer_setting(frame, out)
    }

    /// A request that is a part of a transaction, or begins one.
    fn transaction_request(
        &mut self,
        now: Duration,
        tag: u8,
        frame: &[u8],
        next: Option<u8>,
        out: &mut impl Output,
    ) -> Step {
        if self.is_unasked(tag) {
            return Step::Forward;
        }
        match self.state {
            State::Idle => self.begin_unit(now),
            // A statement in autocommit is over with its answer; what is sent before that cannot be undone with it.
            State::Committing if !is_copy(tag) => self.pass_through(Reason::PipelinedPastEnd, out),
            // What runs behind a COMMIT in its batch runs whatever becomes of the transaction.
            state if state.is_journalling() && self.unit.cycle_ends && frontend::runs_statement(tag) => {
                self.pass_through(Reason::PipelinedPastEnd, out);
            }
            _ => {}
        }
        let opened = !is_copy(tag) && self.second_cycle_begins();
        let classes = self.classes(tag, &frame[HEADER_BYTES..]);
        self.unit.count(tag, classes);
        self.show_request(tag, frame, out);
        if self.unit.gate == Gate::Cancelled
            && let Some(step) = self.cancelled_request(now, tag, frame, out)
        {
            return step;
        }
        if self.can_defer(tag, classes, frame, next.is_none()) {
            return self.defer_begin(frame, out);
        }
        let begin = match self.unit.begin {
            Begin::Sent | Begin::Unconfirmed => None,
            Begin::Deferred
                if tag == tag::QUERY
                    && (classes.is(Class::Commit) || classes.is(Class::Rollback))
                    && !self.is_foreign_end(tag, frame) =>
            {
                return self.end_deferred(now, classes, out);
            }
            Begin::Deferred => Some(self.deferred_begin()),
        };
        let step = self.opened_request(tag, classes, frame, opened, next, out);
        match begin {
            Some(begin) => step.behind(begin),
            None => step,
        }
    }

    /// A request in a transaction whose BEGIN is sent, or goes along.
    #[inline]
    fn opened_request(
        &mut self,
        tag: u8,
        classes: Classes,
        frame: &[u8],
        opened: bool,
        next: Option<u8>,
        out: &mut impl Output,
    ) -> Step {
        if !matches!(self.state, State::Passthrough(_))
            && let Err(reason) = self.replayable(tag, classes, frame, out)
        {
            self.pass_through(reason, out);
        }
        if let State::Passthrough(_) = self.state {
            let other = self.own_savepoint(tag, classes, frame);
            self.push_unjournalled(tag, classes);
            return other.map_or(Step::Forward, Step::Instead);
        }
        self.journalled_request(tag, classes, frame, opened, next)
    }

    /// Whether this is what the server passes over without an answer: a Flush with nothing before it, or the rest of the data
    /// of a COPY that has failed.
    fn is_unasked(&self, tag: u8) -> bool {
        matches!(self.state, State::Idle) && (is_copy(tag) || tag == tag::FLUSH)
    }

    /// Whether this is the first request after a BEGIN that stood alone in the first cycle. The data of a COPY is a part of that.
    pub(super) fn second_cycle_begins(&mut self) -> bool {
        let unit = &mut self.unit;
        if !unit.at_cycle_start || unit.opening > 0 || self.journal.len() == 0 || !unit.explicit {
            return false;
        }
        unit.opening = self.journal.len();
        unit.opened_plainly = unit.classes.is(Class::Begin) && unit.statements == 1;
        unit.opened_plainly
    }

    /// Whether the transaction can still be replayed with this request in it; if not, why.
    #[inline]
    fn replayable(
        &mut self,
        tag: u8,
        classes: Classes,
        frame: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Reason> {
        // Should what is unanswered fail, the rest of the string behind its COMMIT would run all the same.
        if classes.is_several() && classes.may_end() && !self.outstanding.is_empty() {
            return Err(Reason::PipelinedPastEnd);
        }
        match tag {
            tag::QUERY | tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FLUSH => {}
            tag::SYNC | tag::FUNCTION_CALL | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
            _ => return Err(Reason::UnknownMessage),
        }
        match self.unit.obstacle(self.dialect) {
            Some(reason) => Err(reason),
            None => self.room_for(frame.len(), out),
        }
    }

    /// Keeps a request and passes it on, with what the dialect adds.
    #[inline]
    fn journalled_request(
        &mut self,
        tag: u8,
        classes: Classes,
        frame: &[u8],
        opened: bool,
        next: Option<u8>,
    ) -> Step {
        if is_copy(tag) {
            self.outstanding.push(tag, Owner::Unjournalled);
            self.journal.push_copy_data(frame);
            return Step::Forward;
        }
        let added = if opened { self.savepoint_before(tag, classes) } else { None };
        let effect = match self.effect(tag, classes) {
            Effect::Commits if self.is_foreign_end(tag, frame) => Effect::MayEnd,
            effect => effect,
        };
        let number = self.journal.push(tag, effect, frame);
        if let Some(entry) = self.journal.entry_mut(number).filter(|_| std::mem::take(&mut self.unit.crosses))
        {
            entry.crosses = true;
        }
        let step = match added {
            Some(savepoint) => Step::After(savepoint),
            None if effect == Effect::Commits => self.commit_request(tag, next),
            None => Step::Forward,
        };
        let is_run = self.outstanding.push(tag, Owner::Journalled(number));
        if is_run {
            if effect.ends() {
                self.outstanding.mark_commit();
            }
            if tag == tag::QUERY && matches!(step, Step::Instead(_)) {
                self.outstanding.mark_release();
            }
            if tag == tag::EXECUTE && classes.is(Class::Lock) {
                self.outstanding.mark_lock();
                self.journal.mark_lock();
            }
        } else if let Some(entry) = self.journal.entry_mut(number) {
            // The server passes over it: there is no answer to wait for.
            entry.delivered.complete = true;
        }
        self.cycle_position(tag, if is_run { effect } else { Effect::None });
        step
    }

    /// What a request does to the transaction. In autocommit, whatever runs a statement ends it as well.
    #[inline]
    pub(super) fn effect(&self, tag: u8, classes: Classes) -> Effect {
        let runs = batch::runs_statement(tag);
        let defines = self.dialect == Dialect::Cockroach && self.may_define(classes);
        let alone = !self.unit.explicit;
        match tag {
            _ if runs && self.unit.explicit && classes.is(Class::Commit) => Effect::Commits,
            _ if runs && classes.may_end() => Effect::MayEnd,
            // It commits if a default of the user makes every savepoint one that transactions restart at.
            _ if runs && !alone && classes.has(Class::Release) && self.may_be_forced() => Effect::MayEnd,
            _ if runs && defines && !alone => Effect::Defines,
            tag::QUERY | BATCH | tag::FUNCTION_CALL | tag::SYNC if alone => Effect::MayEnd,
            tag::EXECUTE if alone && self.dialect == Dialect::Cockroach => Effect::MayEnd,
            _ if runs && classes.has(Class::RollbackTo) => Effect::Revives,
            _ => Effect::None,
        }
    }

    /// Notes where in a cycle the client is, and whether the cycle that it has ended may end the transaction.
    #[inline]
    pub(super) fn cycle_position(&mut self, tag: u8, effect: Effect) {
        self.unit.cycle_ends |= effect.ends();
        self.unit.at_cycle_start = batch::ends_cycle(tag);
        if self.unit.at_cycle_start {
            self.unit.names.end_cycle();
        }
        if self.unit.at_cycle_start && std::mem::take(&mut self.unit.cycle_ends) {
            self.state = State::Committing;
        }
    }
}

/// Whether a message belongs to the data of a COPY.
const fn is_copy(tag: u8) -> bool {
    matches!(tag, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL)
}
