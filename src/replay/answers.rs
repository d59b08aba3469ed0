//! What the server sends: paired with the requests, digested, and delivered, compared or dropped.

use std::time::Duration;

use super::batch::BATCH;
use super::deferred::Begin;
use super::engine::{Engine, Output, Setting};
use super::owner::{Control, Owner};
use super::policy::Mode;
use super::request::{Fit, Request};
use super::scan::Scan;
use super::state::State;
use super::unit::{Release, Savepoint};
use crate::wire::backend::{self, ErrorFields, Status, tag};
use crate::wire::{BadLength, Header, SqlState, encode, frontend};

/// Frames longer than this are passed on as they come, not assembled.
const ASSEMBLED_BYTES: usize = 32 << 10;
/// Frames of the types that are read are assembled up to this length.
const READ_BYTES_MAX: usize = 1 << 20;

impl Engine {
    /// Bytes from the server. Returns how many were taken: the rest, a part of a frame, is to be handed in again with more
    /// behind it.
    ///
    /// # Errors
    /// When a length is impossible: nothing behind it can be read, and the session must end.
    pub fn handle_backend(
        &mut self,
        now: Duration,
        bytes: &[u8],
        out: &mut impl Output,
    ) -> Result<usize, BadLength> {
        if self.policy.mode == Mode::Off {
            out.frontend(bytes);
            return Ok(bytes.len());
        }
        if matches!(self.state, State::Ended) {
            return Ok(bytes.len());
        }
        if self.take_calm_answers(now, bytes, out) {
            return Ok(bytes.len());
        }
        let mut scan = Scan::new(bytes);
        self.rest_of_long_frame(&mut scan, out);
        while let Some(header) = Header::parse(&bytes[scan.at..])? {
            scan.end = scan.at + header.frame_bytes;
            if scan.end > bytes.len() {
                if header.frame_bytes <= self.assembled_bytes(header.tag) {
                    break;
                }
                self.backend_rest = scan.end - bytes.len();
                scan.end = bytes.len();
            }
            self.answer(now, header.tag, &mut scan, out);
            if matches!(self.state, State::Ended) {
                return Ok(bytes.len());
            }
            self.take_rows_along(header.tag, &mut scan);
            self.reading.digesting = scan.undigested <= scan.at;
            self.reading.forwarding = scan.run <= scan.at;
            scan.at = scan.end;
        }
        scan.end = scan.at;
        scan.flush(out);
        if self.digests() {
            self.reading.digest.update(scan.before());
        }
        Ok(scan.at)
    }

    fn rest_of_long_frame(&mut self, scan: &mut Scan<'_>, out: &mut impl Output) {
        scan.end = self.backend_rest.min(scan.bytes.len());
        self.backend_rest -= scan.end;
        if !self.reading.forwarding {
            scan.skip(out);
        }
        if !self.reading.digesting {
            scan.leave_out();
        }
        scan.at = scan.end;
    }

    const fn assembled_bytes(&self, frame_tag: u8) -> usize {
        match frame_tag {
            tag::DATA_ROW | tag::COPY_DATA => ASSEMBLED_BYTES,
            _ => READ_BYTES_MAX,
        }
    }

    /// Whether answers are digested.
    pub(super) fn digests(&self) -> bool {
        self.policy.mode == Mode::Transparent && self.state.is_journalling()
    }

    /// One frame of the server, or the beginning of a long one.
    fn answer(&mut self, now: Duration, frame_tag: u8, scan: &mut Scan<'_>, out: &mut impl Output) {
        let mut ignored = Vec::new();
        match frame_tag {
            tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS => {
                return self.asynchronous(frame_tag, scan, out);
            }
            tag::READY_FOR_QUERY => {
                self.status = Status::parse(scan.body()).unwrap_or(self.status);
                self.ready_at = now;
            }
            tag::COPY_IN_RESPONSE => ignored = self.outstanding.begin_copy_in(),
            tag::PARSE_COMPLETE => self.note_parsed(),
            tag::PORTAL_SUSPENDED => self.unit.suspends = true,
            _ => {}
        }
        if self.reports {
            self.tell_of_replays(now, frame_tag, scan, out);
        }
        let front = self.outstanding.front();
        match self.state {
            State::Draining | State::GivingUp { .. } => self.drop_answer(now, frame_tag, scan, out),
            State::Idle | State::Passthrough(_) => self.relay_answer(now, frame_tag, scan, out),
            _ => match front.map(|front| (front, front.owner)) {
                Some((front, Owner::Journalled(number))) => {
                    self.journalled_answer(now, number, front, frame_tag, scan, out)
                }
                Some((front, Owner::Control(control))) => {
                    self.control_answer(now, control, front, frame_tag, scan, out)
                }
                Some((_, Owner::Unjournalled)) | None => self.relay_answer(now, frame_tag, scan, out),
            },
        }
        if frame_tag == tag::COPY_IN_RESPONSE {
            self.copy_begins(now, &ignored, scan, out);
        }
        if frame_tag == tag::READY_FOR_QUERY {
            self.note_cycle_over();
        }
        if self.outstanding.is_empty() {
            if self.state.is_retrying() {
                // What follows may write to the client itself.
                scan.flush_through(out);
            }
            self.settle(now, frame_tag == tag::READY_FOR_QUERY, out);
        }
    }

    /// A ReadyForQuery has come: what its status tells.
    pub(super) fn note_cycle_over(&mut self) {
        self.unit.opened |= self.status != Status::Idle;
        self.forget_release();
        self.note_taken_over();
    }

    /// Messages that may come at any time and are no results: the client gets them once, and they are never compared.
    fn asynchronous(&mut self, frame_tag: u8, scan: &mut Scan<'_>, out: &mut impl Output) {
        if self.digests() {
            self.reading.digest.update(scan.before());
        }
        scan.leave_out();
        let shown = match frame_tag {
            tag::NOTIFICATION_RESPONSE => true,
            tag::PARAMETER_STATUS => !self.state.is_retrying(),
            _ => !self.state.is_retrying() || self.is_live(),
        };
        let whole = self.backend_rest == 0;
        if shown && whole && frame_tag == tag::NOTICE_RESPONSE && !self.held.is_empty() {
            return self.hold_notice(scan, out);
        }
        if shown {
            scan.flush(out);
            if !self.held.has_uncommitted() {
                self.release_held(out);
            }
            return;
        }
        if frame_tag == tag::PARAMETER_STATUS
            && let Some((name, _)) = backend::parameter_status(scan.body())
        {
            self.settings.retain(|known| *known.name != *name);
            self.settings.push(Setting { name: name.into(), frame: scan.bytes[scan.at..scan.end].into() });
        }
        scan.skip(out);
    }

    /// Whether the next frame of the answer at hand is new to the client.
    pub(super) fn is_live(&self) -> bool {
        match (self.state, self.outstanding.front().map(|f| f.owner)) {
            (
                State::Replaying { .. } | State::BackingOff { .. } | State::Queued { .. },
                Some(Owner::Journalled(number)),
            ) => self.journal.entry(number).is_some_and(|e| self.reading.frames >= e.delivered.frames),
            _ => false,
        }
    }

    /// An answer in a transaction that is not journalled, or to nothing that was asked: the client gets it as it is.
    pub(super) fn relay_answer(
        &mut self,
        now: Duration,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        scan.leave_out();
        let Some(front) = self.outstanding.front() else {
            // Nobody has asked. A client that waits would take it for its answer: what is sent next will find out.
            if frame_tag == tag::ERROR_RESPONSE
                && !self.note_farewell(ErrorFields::new(scan.body()))
                && (self.state.is_retrying() || self.is_held_at_gate())
            {
                scan.skip(out);
            }
            return;
        };
        if self.may_be_released(front) && self.released_answer(now, front, frame_tag, scan, out) {
            return;
        }
        if front.owner == Owner::Control(Control::EndFailedCommit) {
            return self.failed_commit_ends(front, frame_tag, scan, out);
        }
        if frame_tag == tag::COMMAND_COMPLETE && front.commits {
            self.unit.note_tag(backend::command_tag(scan.body()));
        }
        if frame_tag == tag::ERROR_RESPONSE {
            return self.relay_failure(now, front, scan, out);
        }
        if let Owner::Control(control) = front.owner {
            self.note_control(control, frame_tag, scan.body());
            scan.skip(out);
        }
        if front.locks && frame_tag == tag::EMPTY_QUERY_RESPONSE {
            self.show_lock(scan, out);
        }
        if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
            let failed = self.unit.release == Release::Failed && self.status != Status::Idle;
            if frame_tag == tag::READY_FOR_QUERY && failed && front.ends_commit() {
                scan.skip(out);
                self.end_failed_commit(front.owner, out);
            }
            let ended = frame_tag == tag::READY_FOR_QUERY && self.status == Status::Idle;
            if ended && !self.outstanding.is_empty() && matches!(self.state, State::Passthrough(_)) {
                self.begin_behind(now, false, out);
            }
        }
    }

    /// An error in a transaction that is not journalled. That of a request of ours takes the place of the client's, if it keeps
    /// that from being run.
    fn relay_failure(&mut self, now: Duration, front: Request, scan: &mut Scan<'_>, out: &mut impl Output) {
        let fields = ErrorFields::new(scan.body());
        let farewell = self.note_farewell(fields);
        match front.owner {
            _ if front.releases && !self.commit_error(fields) => scan.skip(out),
            Owner::Control(Control::Release | Control::Commit) => self.unit.release = Release::Failed,
            Owner::Control(Control::Begin) => self.unit.begin = Begin::Sent,
            Owner::Control(_) if !farewell => scan.skip(out),
            _ => {}
        }
        self.unit.failed = true;
        self.relay_error(now, fields, scan, out);
        self.outstanding.fail(|_| {});
        if matches!(front.owner, Owner::Control(Control::Begin)) && !self.outstanding.ends_cycle() {
            // The client's request is passed over; its ReadyForQuery comes with this.
            let mut sync = Vec::new();
            encode::sync(&mut sync);
            out.backend(&sync);
            self.outstanding.push(frontend::tag::SYNC, Owner::Unjournalled);
        }
    }

    /// An answer that neither client nor journal wants: only what it says about the session is noted.
    pub(super) fn drop_answer(
        &mut self,
        now: Duration,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        scan.leave_out();
        let Some(front) = self.outstanding.front() else {
            if frame_tag != tag::ERROR_RESPONSE || !self.note_farewell(ErrorFields::new(scan.body())) {
                scan.skip(out);
            }
            return;
        };
        if frame_tag == tag::ERROR_RESPONSE {
            if self.note_farewell(ErrorFields::new(scan.body())) {
                return;
            }
            self.outstanding.fail(|_| {});
        } else if frame_tag == tag::COPY_IN_RESPONSE {
            scan.skip(out);
            return self.end_cycle(out);
        } else if self.committed_behind_a_conflict(front, frame_tag, scan.body()) {
            scan.skip(out);
            return self.in_doubt(now, out);
        } else if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
            if frame_tag == tag::READY_FOR_QUERY {
                self.unit.conflict_status.get_or_insert(self.status);
                self.unit.left |= self.status == Status::Idle;
                if self.ended_before_its_last_statement(front) {
                    scan.skip(out);
                    return self.in_doubt(now, out);
                }
            }
        }
        scan.skip(out);
    }

    /// Whether a transaction in which a conflict was met was committed all the same. The rules of what is retried rule that
    /// out; should it happen, nothing may be run again.
    fn committed_behind_a_conflict(&self, front: Request, frame_tag: u8, body: &[u8]) -> bool {
        let Owner::Journalled(number) = front.owner else { return false };
        frame_tag == tag::COMMAND_COMPLETE
            && self.journal.entry(number).is_some_and(|e| e.effect.ends())
            && self.unit.explicit
            && backend::command_tag(body) == Some(b"COMMIT")
    }

    /// Whether the transaction is over although statements of it are still to be run: they run outside of it, each in one of its
    /// own. The rules of what is sent rule that out too. Behind a ROLLBACK of ours that is sent with what opens the transaction, it
    /// is about to be opened again.
    fn ended_before_its_last_statement(&self, front: Request) -> bool {
        let opens = |number| number < self.unit.opening;
        let reopens = || self.outstanding.first_journalled().is_some_and(opens);
        self.unit.explicit
            && self.status == Status::Idle
            && self.outstanding.has_journalled_statement()
            && !(front.owner == Owner::Control(Control::Restart) && reopens())
    }

    /// A statement that the server has taken, in whatever attempt: its name outlives it.
    fn note_parsed(&mut self) {
        self.outstanding.note_parsed();
        if let Some(Request { owner: Owner::Journalled(number), tag: frontend::tag::PARSE | BATCH, .. }) =
            self.outstanding.front()
            && let Some(entry) = self.journal.entry_mut(number)
        {
            entry.parsed = true;
        }
    }

    /// Whether the server says that it ends the session.
    pub(super) fn note_farewell(&mut self, fields: ErrorFields<'_>) -> bool {
        self.farewell |= is_fatal(fields) || fields.sqlstate() == Some(SqlState::ADMIN_SHUTDOWN);
        self.farewell
    }

    /// An answer to a request that Reprise added: the client does not see it.
    fn control_answer(
        &mut self,
        now: Duration,
        control: Control,
        front: Request,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        if control == Control::EndFailedCommit {
            return self.failed_commit_ends(front, frame_tag, scan, out);
        }
        if frame_tag == tag::ERROR_RESPONSE {
            return self.control_error(now, control, scan, out);
        }
        scan.leave_out();
        scan.skip(out);
        let block_ends = self.commits_block() && frame_tag == tag::COMMAND_COMPLETE;
        if block_ends && !self.note_block_committed(scan.body()) {
            return self.in_doubt(now, out);
        }
        self.note_control(control, frame_tag, scan.body());
        if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
            if control == Control::Savepoint
                && self.unit.savepoint == Savepoint::Unusable
                && self.status == Status::Failed
            {
                self.state = State::Draining;
                // The client may be in the middle of a batch: the server answers no more of it without a Sync.
                self.end_cycle(out);
            }
        }
    }

    /// A request that Reprise added is answered: what that means for the transaction.
    fn note_control(&mut self, control: Control, frame_tag: u8, body: &[u8]) {
        match (control, frame_tag) {
            (Control::Release, tag::COMMAND_COMPLETE) => self.note_released(body),
            (Control::Begin, tag::COMMAND_COMPLETE) => self.unit.begin = Begin::Sent,
            (Control::KeepAlive, _) => self.pass_gate(),
            _ => {}
        }
    }

    /// A request that Reprise added has failed.
    fn control_error(&mut self, now: Duration, control: Control, scan: &mut Scan<'_>, out: &mut impl Output) {
        let fields = ErrorFields::new(scan.body());
        match control {
            Control::Release | Control::Commit => {
                let number = self.outstanding.first_journalled().unwrap_or(self.journal.len());
                return self.error_answer(now, number, scan, out);
            }
            // The transaction has failed before the client's statement could run: it is begun again, without a savepoint if
            // that was what failed.
            Control::Begin | Control::Savepoint => {
                if control == Control::Savepoint {
                    self.unit.savepoint = Savepoint::Unusable;
                }
                self.unit.cancelled |= fields.sqlstate() == Some(SqlState::QUERY_CANCELED);
                self.keep_original(scan.body());
            }
            Control::Restart => {
                self.unit.savepoint = Savepoint::Unusable;
                self.chains = false;
                self.state = State::Draining;
            }
            _ => {}
        }
        let farewell = self.note_farewell(fields);
        scan.leave_out();
        if !farewell {
            scan.skip(out);
        }
        let in_batch = self.outstanding.front().is_some_and(|front| !front.is_cycle_end());
        self.outstanding.fail(|_| {});
        if in_batch && matches!(control, Control::Begin | Control::Savepoint) {
            self.unit.begin = Begin::Sent;
            self.state = State::Draining;
            self.end_cycle(out);
        }
    }
}

/// Whether an error ends the session, whatever its SQLSTATE: a standby ends some with 40001.
pub(super) fn is_fatal(fields: ErrorFields<'_>) -> bool {
    let severity = fields.get(b'V').or_else(|| fields.get(b'S'));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}
