//! A conflict that cannot be hidden: the client gets the original error, on a session in the status that it expects.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::cockroach;
use super::engine::{Engine, Output};
use super::event::{Outcome, Phase};
use super::explain::{self, Difference};
use super::gate::Gate;
use super::journal::{Delivered, Effect, Entry};
use super::owner::{Control, Owner};
use super::policy::Mode;
use super::reason::Reason;
use super::scan::Scan;
use super::state::State;
use super::unit::Release;
use crate::wire::backend::{ErrorFields, Status, tag};
use crate::wire::frontend::Parse;
use crate::wire::{HEADER_BYTES, SqlState, encode, frontend};

/// Fails in every transaction, so that the session is in a failed transaction as the client is told. In one that is begun for
/// that there is none of the client's savepoints to go back to: a replay that differed must not be revived.
const FAIL: &str = "ROLLBACK TO SAVEPOINT reprise_surfaced";
/// How often the session is brought to its status: a late cancel may strike any of the requests that do it.
const RESTORATIONS_MAX: u32 = 3;

impl Engine {
    /// The conflict at hand goes to the client as it comes, with DETAIL and HINT: the server is in the very status that the
    /// client expects.
    pub(super) fn surface_now(&mut self, reason: Reason, scan: &mut Scan<'_>, out: &mut impl Output) {
        let outcome = Outcome::Surfaced(reason);
        scan.flush(out);
        self.deliver_settings(out);
        self.release_held(out);
        self.tell(reason, scan, out);
        scan.leave_out();
        let of_commit = self
            .outstanding
            .front()
            .is_some_and(|front| front.releases || front.owner == Owner::Control(Control::Release));
        if of_commit {
            self.unit.release = Release::Failed;
        }
        self.outstanding.fail(|_| {});
        self.pass_through(reason, out);
        self.unit.outcome = Some(outcome);
    }

    /// A conflict in a transaction that cannot be replayed.
    pub(super) fn relay_error(
        &mut self,
        now: Duration,
        fields: ErrorFields<'_>,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let State::Passthrough(reason) = self.state else { return };
        if let Some(sqlstate) = fields.sqlstate().filter(|s| self.is_conflict(*s)) {
            self.note_conflict(now, sqlstate, Phase::Statement, 0, scan.body(), out);
            self.unit.outcome = Some(Outcome::Surfaced(reason));
            self.tell(reason, scan, out);
        }
    }

    /// Tells the client why the conflict at hand is not hidden. In observe mode, and for a client that runs its own retry
    /// protocol, the wire stays as it is.
    fn tell(&self, reason: Reason, scan: &mut Scan<'_>, out: &mut impl Output) {
        if self.policy.mode == Mode::Transparent && reason != Reason::OwnRetryProtocol {
            let annotated = self.annotated(scan.body(), reason, Duration::ZERO);
            scan.skip(out);
            out.frontend(&annotated);
        }
    }

    fn annotated(&self, body: &[u8], reason: Reason, elapsed: Duration) -> Vec<u8> {
        let detail = explain::detail(reason, self.unit.attempts, elapsed, self.difference);
        let mut error = Vec::new();
        encode::annotated_error(&mut error, ErrorFields::new(body), &detail, explain::hint(reason));
        error
    }

    /// The frame at hand is not what the client has seen in its place.
    pub(super) fn differ(
        &mut self,
        now: Duration,
        number: usize,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let failed = frame_tag == tag::ERROR_RESPONSE || self.reading.failed;
        self.note_difference(now, number, failed, out);
        self.drop_answer(now, frame_tag, scan, out);
        self.end_cycle(out);
    }

    /// An answer that the client has seen will not come.
    pub(super) fn give_up_on_difference(&mut self, now: Duration, number: usize, out: &mut impl Output) {
        self.note_difference(now, number, true, out);
        self.end_cycle(out);
    }

    fn note_difference(&mut self, now: Duration, number: usize, failed: bool, out: &mut impl Output) {
        let (statement, statements) = self.journal.statement_number(self.unit.opening, number);
        let before = self.journal.entry(number).map_or_else(Delivered::default, |e| e.delivered);
        let (rows_before, rows_after) = (before.rows, self.reading.rows);
        let reordered = before.complete && self.reading.unordered.has_the_rows_of(&before.unordered);
        let rows = (rows_before, rows_after);
        self.show_difference(number, out);
        self.difference = Some(Difference { statement, statements, rows, reordered, failed });
        self.replay_ended(now, out);
        let reason = if self.unit.cancelled { Reason::Cancelled } else { Reason::ResultsDiffer };
        self.state = State::GivingUp { reason, drained: false };
    }

    /// Nothing is outstanding, and the conflict must be surfaced.
    pub(super) fn give_up(&mut self, now: Duration, reason: Reason, out: &mut impl Output) {
        self.replay_ended(now, out);
        self.state = State::GivingUp { reason, drained: false };
        if !self.outstanding.is_empty() {
            return;
        }
        if self.outstanding.ends_cycle() {
            self.go_on_giving_up(now, reason, false, out);
        } else {
            // In the middle of a batch it is not known yet whether a transaction is open.
            self.end_cycle(out);
        }
    }

    /// What was outstanding is answered: the session is brought to its status, then the client is told.
    pub(super) fn go_on_giving_up(
        &mut self,
        now: Duration,
        reason: Reason,
        drained: bool,
        out: &mut impl Output,
    ) {
        let status = self.surfaced_status();
        let restored = drained && self.status == status && self.unit.left;
        if !restored {
            self.unit.restorations += 1;
            if self.unit.restorations > RESTORATIONS_MAX {
                return self.lose_session(now, out);
            }
            let stands = self.is_as_told(reason) && status == Status::Failed;
            self.unit.left = stands || self.status == Status::Idle;
            self.state = State::GivingUp { reason, drained: true };
            let mut bytes = Vec::new();
            if !stands {
                self.leave_attempt(status, &mut bytes);
            }
            if status == Status::Failed {
                self.restore_by(FAIL, &mut bytes);
            }
            out.backend(&bytes);
            if !self.outstanding.is_empty() {
                return;
            }
        }
        self.surface(now, reason, status, out);
    }

    /// Whether the client has cancelled what was not sent: there was no conflict.
    fn is_cancelled_unsent(&self, reason: Reason) -> bool {
        reason == Reason::Cancelled && self.unit.conflicts == 0
    }

    /// Whether the transaction on the server is the one that the client was told of, with its savepoints.
    fn is_as_told(&self, reason: Reason) -> bool {
        self.is_cancelled_unsent(reason) && self.status == Status::Open && self.unit.attempts == 1
    }

    /// Ends the transaction of the attempt, with what no rollback undoes, and begins one that is to fail where that is wanted.
    fn leave_attempt(&mut self, wanted: Status, bytes: &mut Vec<u8>) {
        if self.status != Status::Idle {
            self.restore_by(cockroach::ROLLBACK, bytes);
        }
        self.close_unknown_statements(bytes);
        if wanted == Status::Failed {
            self.restore_by(cockroach::BEGIN, bytes);
        }
    }

    fn restore_by(&mut self, sql: &str, bytes: &mut Vec<u8>) {
        encode::query(bytes, sql);
        self.outstanding.push(frontend::tag::QUERY, Owner::Control(Control::Fail));
    }

    /// Closes the statements that an attempt has prepared and that are not there as far as the client knows: it was not told
    /// of them, or has closed them. No rollback undoes a Parse, and the client may take the names for others. The unnamed one
    /// is closed whatever it is told: it may be another one than the client thinks.
    fn close_unknown_statements(&mut self, bytes: &mut Vec<u8>) {
        let (mut known, mut made) = (HashSet::new(), BTreeSet::new());
        for number in 0..self.journal.len() {
            let Some(entry) = self.journal.entry(number) else { break };
            let told = entry.delivered.succeeded();
            for frame in self.journal.messages(number) {
                let body = &frame[HEADER_BYTES..];
                match frame[0] {
                    frontend::tag::PARSE => {
                        let name = Parse::view(body).map(|parse| parse.statement).unwrap_or_default();
                        made.extend(entry.parsed.then_some(name));
                        if told && !name.is_empty() {
                            known.insert(name);
                        }
                    }
                    frontend::tag::CLOSE if told => {
                        if let Some(name) = frontend::statement_target(body) {
                            known.remove(name);
                        }
                    }
                    _ => {}
                }
            }
        }
        made.retain(|name| !known.contains(name));
        if made.is_empty() {
            return;
        }
        let closes = made.len();
        made.into_iter().for_each(|name| encode::close_statement(bytes, name));
        encode::sync(bytes);
        for _ in 0..closes {
            self.outstanding.push(frontend::tag::CLOSE, Owner::Control(Control::Fail));
        }
        self.outstanding.push(frontend::tag::SYNC, Owner::Control(Control::Fail));
    }

    /// The status that the client finds the session in: a failed COMMIT, or statement in autocommit, leaves none open.
    fn surfaced_status(&self) -> Status {
        let waiting = self.journal.entries_from(self.journal.first_incomplete());
        let awaited = waiting.iter().position(|entry| entry.is_statement() || entry.is_cycle_end());
        // The client may have cancelled the BEGIN in the cycle before, and then what waits behind it.
        let began_in_vain = self.unit.opening > 0 && !self.unit.opened;
        let is_open = self.unit.explicit && !began_in_vain;
        let Some(at) = awaited.filter(|_| is_open) else {
            return if is_open { Status::Failed } else { Status::Idle };
        };
        let met_there = self.unit.conflict_at == self.journal.first_incomplete() + at;
        match (waiting[at].effect, self.unit.conflict_status) {
            (Effect::Commits, _) => Status::Idle,
            // A string that may end the transaction: it is where the conflict left it.
            (effect, Some(status @ (Status::Idle | Status::Failed))) if effect.ends() && met_there => status,
            _ => Status::Failed,
        }
    }

    /// The original error for the request that the client waits for, and the status behind it.
    fn surface(&mut self, now: Duration, reason: Reason, status: Status, out: &mut impl Output) {
        let elapsed = now.saturating_sub(self.unit.first_conflict.unwrap_or(now));
        let original = std::mem::take(&mut self.unit.original);
        let error = match reason {
            Reason::Cancelled if ErrorFields::new(&original).sqlstate() != Some(SqlState::QUERY_CANCELED) => {
                let of_conflict = || explain::detail(reason, self.unit.attempts, elapsed, self.difference);
                let detail = (self.unit.conflicts > 0).then(of_conflict);
                explain::cancelled(detail.as_deref().unwrap_or(explain::WAITED))
            }
            _ => self.annotated(&original, reason, elapsed),
        };
        self.deliver_settings(out);
        out.frontend(&error);
        self.difference = None;
        self.unit.release = Release::None;
        // Who is told this is not told besides that what waited behind it was cancelled.
        self.unit.gate = Gate::Passed;
        let waiting = self.journal.first_incomplete();
        let cycle_end = self.journal.entries_from(waiting).iter().position(Entry::is_cycle_end);
        let behind = cycle_end.map_or(self.journal.len(), |at| waiting + at + 1);
        if cycle_end.is_some() {
            let mut ready = Vec::new();
            encode::ready_for_query(&mut ready, status);
            out.frontend(&ready);
        } else {
            self.discarding = true;
        }
        self.send_behind(behind, out);
        self.pass_through(reason, out);
        if self.is_cancelled_unsent(reason) {
            // The client may bring the transaction back to life, and commit it.
            self.unit.failed = true;
        } else {
            self.unit.outcome = Some(Outcome::Surfaced(reason));
        }
        if self.outstanding.is_empty() {
            self.settle(now, cycle_end.is_some(), out);
        }
    }

    /// What the client had sent behind the request that failed is executed as the server would, in a failed transaction.
    fn send_behind(&mut self, first: usize, out: &mut impl Output) {
        for number in first..self.journal.len() {
            let Some(&entry) = self.journal.entry(number) else { break };
            self.announce_name(number);
            if self.outstanding.push(entry.tag, Owner::Unjournalled) && entry.locks {
                self.outstanding.mark_lock();
            }
        }
        out.backend(self.journal.frames(first..self.journal.len()));
    }

    /// The session cannot be brought to a status that is true.
    fn lose_session(&mut self, now: Duration, out: &mut impl Output) {
        out.frontend(&explain::fatal(
            SqlState::CONNECTION_FAILURE,
            "the transaction met a conflict, and the database did not take the session back to a known state",
            "Connect again and run the transaction again.",
        ));
        self.end_session(now, Outcome::Abandoned, out);
        out.close();
    }

    /// The database has said both that the transaction is committed and that it is not: nothing is run again.
    pub(super) fn in_doubt(&mut self, now: Duration, out: &mut impl Output) {
        out.frontend(&explain::fatal(
            SqlState::RESOLUTION_UNKNOWN,
            "whether the transaction was committed is unknown: what the database answered contradicts itself",
            "Look at the data before you run it again.",
        ));
        self.end_session(now, Outcome::InDoubt, out);
        out.close();
    }
}
