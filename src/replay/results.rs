//! Answers to requests in the journal: delivered where they are new to the client, compared where it has seen them.

use std::time::Duration;

use super::answers::is_fatal;
use super::engine::{Engine, Output, Reading};
use super::event::Outcome;
use super::journal::{Delivered, Effect};
use super::owner::Owner;
use super::reason::Reason;
use super::request::{Fit, Request};
use super::scan::Scan;
use super::state::State;
use super::unit::Release;
use crate::wire::SqlState;
use crate::wire::backend::{ErrorFields, Status, tag};

impl Engine {
    /// An answer to a request in the journal.
    pub(super) fn journalled_answer(
        &mut self,
        now: Duration,
        number: usize,
        front: Request,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        if self.may_be_released(front) && self.released_answer(now, front, frame_tag, scan, out) {
            return;
        }
        if self.unit.enclosed && self.enclosed_answer(now, number, front, frame_tag, scan, out) {
            return;
        }
        match frame_tag {
            tag::ERROR_RESPONSE => return self.error_answer(now, number, scan, out),
            tag::COMMAND_COMPLETE => self.note_end(number, scan.body()),
            tag::READY_FOR_QUERY if self.unit.release == Release::Failed && self.status != Status::Idle => {
                scan.leave_out();
                scan.skip(out);
                self.outstanding.pop();
                return self.end_failed_commit(front.owner, out);
            }
            _ => {}
        }
        match front.fit(frame_tag) {
            // Of what the client was shown, and of what is committed, nothing is certain any more.
            Fit::Foreign if self.commits_block() => self.in_doubt(now, out),
            Fit::Foreign if self.state.is_retrying() => self.differ(now, number, frame_tag, scan, out),
            Fit::Foreign => {
                self.pass_through(Reason::UnknownMessage, out);
                self.relay_answer(now, frame_tag, scan, out);
            }
            fit => self.result(now, number, frame_tag, fit == Fit::Ends, scan, out),
        }
        let ended = frame_tag == tag::READY_FOR_QUERY && self.status == Status::Idle;
        if ended && !self.outstanding.is_empty() && matches!(self.state, State::Open | State::Committing) {
            // No transaction is open: what was sent behind is not part of one, or of another.
            self.pass_through(Reason::PipelinedPastEnd, out);
        }
    }

    /// Notes how the transaction ends, by the tag of the statement that may end it.
    pub(super) fn note_end(&mut self, number: usize, body: &[u8]) {
        if let Some(entry) = self.journal.entry(number) {
            self.unit.note_end(entry.effect, body);
        }
    }

    /// Whether request `number` is a plain COMMIT.
    pub(super) fn commits(&self, number: usize) -> bool {
        self.journal.entry(number).is_some_and(|e| e.effect == Effect::Commits)
    }

    /// One frame of a result: new to the client, or one that it has seen in an earlier attempt.
    fn result(
        &mut self,
        now: Duration,
        number: usize,
        frame_tag: u8,
        ends: bool,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let digests = self.digests();
        if frame_tag == tag::DATA_ROW {
            self.reading.rows += 1;
            if digests {
                self.reading.unordered.add(scan.frame(), self.backend_rest == 0);
            }
        }
        let seen = self.journal.seen(number);
        let live = match seen {
            None => {
                self.reading.frames += 1;
                true
            }
            Some(seen) => match self.reading.next_frame(seen, scan) {
                Some(live) => live,
                None => return self.differ(now, number, frame_tag, scan, out),
            },
        };
        let mut complete = None;
        if ends {
            let digest = if digests { self.reading.digest.finish(scan.through()) } else { 0 };
            scan.leave_out();
            let Reading { frames, rows, unordered, failed, .. } = self.reading;
            let now_delivered = Delivered { frames, rows, digest, unordered, complete: true, failed };
            if !live && seen.is_some_and(|seen| *seen != now_delivered) {
                return self.differ(now, number, frame_tag, scan, out);
            }
            complete = Some(now_delivered);
        }
        if !live {
            scan.skip(out);
        } else if frame_tag == tag::EMPTY_QUERY_RESPONSE && self.answers_lock() {
            self.show_lock(scan, out);
        } else {
            self.deliver(now, scan, out);
        }
        if let Some(delivered) = complete {
            self.answered(number, delivered);
            self.outstanding.pop();
        }
    }

    /// Whether the answer at hand is that of the empty statement in the place of a LOCK TABLE.
    fn answers_lock(&self) -> bool {
        self.outstanding.front().is_some_and(|front| front.locks)
    }

    /// An ErrorResponse to a request in the journal.
    pub(super) fn error_answer(
        &mut self,
        now: Duration,
        number: usize,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let fields = ErrorFields::new(scan.body());
        // Behind a RELEASE that has committed nothing is run again.
        let may_conflict = self.unit.release != Release::Done && !is_fatal(fields);
        if let Some(sqlstate) = fields.sqlstate().filter(|s| may_conflict && self.is_conflict(*s)) {
            return self.conflict(now, number, sqlstate, scan, out);
        }
        self.note_farewell(fields);
        self.note_failure(number, fields);
        if self.commits_block() {
            self.held.drop_uncommitted();
        }
        if self.unit.release != Release::None
            && self.commits(number)
            && !self.shows_commit_error(fields, scan, out)
        {
            return;
        }
        let Some(front) = self.outstanding.front() else { return };
        let in_batch = !front.is_cycle_end();
        // Behind an error of the block's COMMIT comes the ReadyForQuery of what the block is around.
        let ends = in_batch && !self.commits_block();
        if self.error_result(now, number, fields, ends, scan, out) && in_batch {
            self.skip_to_sync(now, number, out);
        }
    }

    /// The error as a frame of a result. False if the client had seen something else.
    fn error_result(
        &mut self,
        now: Duration,
        number: usize,
        fields: ErrorFields<'_>,
        ends: bool,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) -> bool {
        let seen = self.journal.entry(number).map_or_else(Delivered::default, |e| e.delivered);
        let live = self.reading.next_frame(&seen, scan);
        self.reading.failed = true;
        if self.digests() {
            self.reading.digest.update(scan.before());
            self.reading.digest.update_error(fields);
        }
        scan.leave_out();
        let Reading { frames, rows, unordered, .. } = self.reading;
        let digest = if ends { self.reading.digest.so_far(&[]) } else { 0 };
        let delivered = Delivered { frames, rows, digest, unordered, complete: true, failed: true };
        if live.is_none() || (ends && live == Some(false) && delivered != seen) {
            self.differ(now, number, tag::ERROR_RESPONSE, scan, out);
            return false;
        }
        scan.flush(out);
        self.release_held(out);
        if ends {
            self.answered(number, delivered);
        }
        if live == Some(false) && !self.farewell {
            scan.skip(out);
        }
        true
    }

    /// After an error in the extended protocol: what was sent behind it, up to Sync, has no answer.
    fn skip_to_sync(&mut self, now: Duration, number: usize, out: &mut impl Output) {
        let retrying = self.state.is_retrying();
        let mut differs = false;
        let journal = &mut self.journal;
        self.outstanding.fail(|skipped| {
            if let Owner::Journalled(behind) = skipped.owner
                && behind != number
                && let Some(entry) = journal.entry_mut(behind)
            {
                differs |= retrying && entry.delivered.frames > 0;
                entry.delivered.complete = true;
            }
        });
        if differs {
            return self.give_up_on_difference(now, number, out);
        }
        if self.outstanding.is_skipping() && matches!(self.state, State::Committing) {
            // What might have ended the transaction is passed over: the client's Sync is still to come.
            self.state = State::Open;
        }
        if let State::Replaying { sent, since } = self.state
            && self.outstanding.is_skipping()
        {
            // What is still to be sent of the batch would be passed over as well.
            let skipped = self.journal.complete_to_sync(sent);
            self.state = State::Replaying { sent: sent + skipped, since };
        }
    }

    /// An error behind a RELEASE. False if the client is not to see it.
    fn shows_commit_error(
        &mut self,
        fields: ErrorFields<'_>,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) -> bool {
        scan.flush(out);
        if self.commit_error(fields) {
            return true;
        }
        scan.leave_out();
        scan.skip(out);
        self.outstanding.fail(|_| {});
        false
    }

    fn note_failure(&mut self, number: usize, fields: ErrorFields<'_>) {
        let ends = self.journal.entry(number).is_none_or(|e| e.effect.ends());
        if fields.sqlstate() == Some(SqlState::STATEMENT_COMPLETION_UNKNOWN) {
            self.unit.outcome = Some(Outcome::InDoubt);
        } else if ends || !self.unit.explicit {
            self.unit.outcome.get_or_insert(Outcome::RolledBack);
        }
    }
}

impl Reading {
    /// Counts a frame of the answer at hand. Whether it is new to the client; `None` if it shows that the answer differs from
    /// what the client has seen.
    fn next_frame(&mut self, seen: &Delivered, scan: &mut Scan<'_>) -> Option<bool> {
        let first_new = self.frames == seen.frames && seen.frames > 0;
        self.frames += 1;
        let live = self.frames > seen.frames;
        let differs =
            live && (seen.complete || (first_new && self.digest.so_far(scan.before()) != seen.digest));
        (!differs).then_some(live)
    }
}
