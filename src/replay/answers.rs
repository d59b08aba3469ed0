//! What the server sends: paired with the requests, digested, and delivered, compared or dropped.

use std::time::Duration;

use super::engine::{Engine, Output, Reading, Setting};
use super::event::Outcome;
use super::journal::{Delivered, Effect};
use super::outstanding::{Control, Owner, Request};
use super::policy::Mode;
use super::reason::Reason;
use super::state::State;
use super::unit::{Release, Savepoint};
use crate::wire::backend::{self, ErrorFields, Status, tag};
use crate::wire::{BadLength, HEADER_BYTES, Header, SqlState, frontend};

/// Frames longer than this are passed on as they come, not assembled.
const ASSEMBLED_BYTES: usize = 32 << 10;
/// Frames of the types that are read are assembled up to this length.
const READ_BYTES_MAX: usize = 1 << 20;

/// A walk over one read of the server's bytes.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    /// Start of the frame at hand.
    at: usize,
    /// Its end.
    end: usize,
    /// Start of what is to be forwarded and is not yet.
    run: usize,
    /// Start of what belongs to the answer at hand and is not digested yet.
    undigested: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn body(&self) -> &'a [u8] {
        &self.bytes[(self.at + HEADER_BYTES).min(self.end)..self.end]
    }

    /// Forwards everything before the frame at hand, so that something else can follow it.
    pub(super) fn flush(&mut self, out: &mut impl Output) {
        if self.run < self.at {
            out.frontend(&self.bytes[self.run..self.at]);
        }
        self.run = self.run.max(self.at);
    }

    /// Keeps the frame at hand from the client.
    pub(super) fn skip(&mut self, out: &mut impl Output) {
        self.flush(out);
        self.run = self.end;
    }

    /// What precedes the frame at hand and is to be digested.
    pub(super) fn before(&mut self) -> &'a [u8] {
        let bytes = &self.bytes[self.undigested.min(self.at)..self.at];
        self.undigested = self.at;
        bytes
    }

    /// The same, the frame at hand included.
    fn through(&mut self) -> &'a [u8] {
        let bytes = &self.bytes[self.undigested.min(self.end)..self.end];
        self.undigested = self.end;
        bytes
    }

    /// The frame at hand is no part of an answer.
    pub(super) fn leave_out(&mut self) {
        self.undigested = self.end;
    }
}

/// How a frame fits the request that is to be answered next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// It is a part of the answer.
    Continues,
    /// It is the end of the answer.
    Ends,
    /// It is no answer to that request.
    Foreign,
}

impl Request {
    fn fit(self, frame_tag: u8) -> Fit {
        use frontend::tag as request;
        match (self.tag, frame_tag) {
            (request::QUERY | request::SYNC | request::FUNCTION_CALL, tag::READY_FOR_QUERY) => Fit::Ends,
            (request::SYNC, _) => Fit::Foreign,
            (request::QUERY | request::FUNCTION_CALL, _) => Fit::Continues,
            (request::PARSE, tag::PARSE_COMPLETE)
            | (request::BIND, tag::BIND_COMPLETE)
            | (request::CLOSE, tag::CLOSE_COMPLETE)
            | (request::DESCRIBE, tag::ROW_DESCRIPTION | tag::NO_DATA)
            | (request::EXECUTE, tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED) => {
                Fit::Ends
            }
            (request::DESCRIBE, tag::PARAMETER_DESCRIPTION) => Fit::Continues,
            (request::EXECUTE, tag::DATA_ROW | tag::COPY_DATA | tag::COPY_DONE) => Fit::Continues,
            (request::EXECUTE, tag::COPY_IN_RESPONSE | tag::COPY_OUT_RESPONSE) => Fit::Continues,
            _ => Fit::Foreign,
        }
    }
}

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
        let mut scan = Scan { bytes, at: 0, end: 0, run: 0, undigested: 0 };
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
            self.reading.digesting = scan.undigested <= scan.at;
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
        self.reading.forwarding = true;
        match frame_tag {
            tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS => {
                return self.asynchronous(frame_tag, scan, out);
            }
            tag::READY_FOR_QUERY => self.status = Status::parse(scan.body()).unwrap_or(self.status),
            tag::COPY_IN_RESPONSE => self.copy_in_begins(),
            _ => {}
        }
        let front = self.outstanding.front();
        match (self.state, front.map(|f| f.owner)) {
            (State::Draining | State::GivingUp { .. }, _) => self.drop_answer(now, frame_tag, scan, out),
            (State::Idle | State::Passthrough(_), _) | (_, None | Some(Owner::Unjournalled)) => {
                self.relay_answer(now, frame_tag, scan, out);
            }
            (_, Some(Owner::Control(control))) => self.control_answer(now, control, frame_tag, scan, out),
            (_, Some(Owner::Journalled(number))) => self.journalled_answer(now, number, frame_tag, scan, out),
        }
        if self.outstanding.is_empty() {
            self.settle(now, frame_tag == tag::READY_FOR_QUERY, out);
        }
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
        if shown {
            return;
        }
        if frame_tag == tag::PARAMETER_STATUS
            && let Some((name, _)) = backend::parameter_status(scan.body())
        {
            self.settings.retain(|known| *known.name != *name);
            self.settings.push(Setting { name: name.into(), frame: scan.bytes[scan.at..scan.end].into() });
        }
        self.reading.forwarding = false;
        scan.skip(out);
    }

    /// Whether the next frame of the answer at hand is new to the client.
    fn is_live(&self) -> bool {
        match (self.state, self.outstanding.front().map(|f| f.owner)) {
            (State::Replaying { .. }, Some(Owner::Journalled(number))) => {
                self.journal.entry(number).is_some_and(|e| self.reading.frames >= e.delivered.frames)
            }
            _ => false,
        }
    }

    /// An answer in a transaction that is not journalled, or to nothing that was asked: the client gets it as it is.
    fn relay_answer(&mut self, now: Duration, frame_tag: u8, scan: &mut Scan<'_>, out: &mut impl Output) {
        scan.leave_out();
        let Some(front) = self.outstanding.front() else {
            if frame_tag == tag::ERROR_RESPONSE {
                self.note_farewell(ErrorFields::new(scan.body()));
            }
            return;
        };
        if matches!(front.owner, Owner::Control(control) if control != Control::EndFailedCommit || frame_tag != tag::READY_FOR_QUERY)
        {
            self.reading.forwarding = false;
            scan.skip(out);
        }
        if frame_tag == tag::ERROR_RESPONSE {
            let fields = ErrorFields::new(scan.body());
            self.note_farewell(fields);
            self.relay_error(now, fields, scan, out);
            return self.outstanding.fail(|_| {});
        }
        if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
            if frame_tag == tag::READY_FOR_QUERY
                && self.unit.release == Release::Failed
                && self.after_failed_release(0, self.status, out)
            {
                scan.skip(out);
            }
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
        let Some(front) = self.outstanding.front() else { return };
        self.note_acknowledgement(front, frame_tag);
        if frame_tag == tag::ERROR_RESPONSE {
            if self.note_farewell(ErrorFields::new(scan.body())) {
                return;
            }
            self.outstanding.fail(|_| {});
        } else if self.committed_behind_a_conflict(front, frame_tag, scan.body()) {
            scan.skip(out);
            return self.in_doubt(now, out);
        } else if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
        }
        self.reading.forwarding = false;
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

    /// Statements that the server has taken or closed, in whatever attempt: their names outlive it.
    fn note_acknowledgement(&mut self, front: Request, frame_tag: u8) {
        let Owner::Journalled(number) = front.owner else { return };
        match (front.tag, frame_tag) {
            (frontend::tag::PARSE, tag::PARSE_COMPLETE) => {
                if let Some(entry) = self.journal.entry_mut(number) {
                    entry.parsed = true;
                }
            }
            (frontend::tag::CLOSE, tag::CLOSE_COMPLETE) => {
                let body = &self.journal.frames(number..number + 1)[HEADER_BYTES..];
                if let Some(name) = frontend::close_statement(body) {
                    self.prepared.closed(name);
                }
            }
            _ => {}
        }
    }

    /// Whether the server says that it ends the session.
    fn note_farewell(&mut self, fields: ErrorFields<'_>) -> bool {
        let severity = fields.get(b'V').or_else(|| fields.get(b'S'));
        let fatal = matches!(severity, Some(b"FATAL" | b"PANIC"));
        self.farewell |= fatal || fields.sqlstate() == Some(SqlState::ADMIN_SHUTDOWN);
        self.farewell
    }

    /// An answer to a request that Reprise added: the client does not see it.
    fn control_answer(
        &mut self,
        now: Duration,
        control: Control,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let Some(front) = self.outstanding.front() else { return };
        if control == Control::EndFailedCommit && frame_tag == tag::READY_FOR_QUERY {
            scan.leave_out();
            self.outstanding.pop();
            return;
        }
        if frame_tag == tag::ERROR_RESPONSE {
            return self.control_error(now, control, scan, out);
        }
        scan.leave_out();
        scan.skip(out);
        if control == Control::Release && frame_tag == tag::COMMAND_COMPLETE {
            self.unit.release = Release::Done;
        }
        if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
            if control == Control::Savepoint
                && self.unit.savepoint == Savepoint::Unusable
                && self.status == Status::Failed
            {
                self.state = State::Draining;
            }
        }
    }

    /// A request that Reprise added has failed.
    fn control_error(&mut self, now: Duration, control: Control, scan: &mut Scan<'_>, out: &mut impl Output) {
        let fields = ErrorFields::new(scan.body());
        match control {
            Control::Release => {
                let number = self.outstanding.first_journalled().unwrap_or(self.journal.len());
                return self.error_answer(now, number, scan, out);
            }
            // The transaction has failed before the client's statement could run: it is begun again without a savepoint.
            Control::Savepoint => {
                self.unit.savepoint = Savepoint::Unusable;
                self.unit.cancelled |= fields.sqlstate() == Some(SqlState::QUERY_CANCELED);
                self.keep_original(scan.body());
            }
            Control::Restart => {
                self.unit.savepoint = Savepoint::Unusable;
                self.state = State::Draining;
            }
            _ => {}
        }
        let farewell = self.note_farewell(fields);
        scan.leave_out();
        if !farewell {
            scan.skip(out);
        }
        self.outstanding.fail(|_| {});
    }

    /// An answer to a request in the journal.
    fn journalled_answer(
        &mut self,
        now: Duration,
        number: usize,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let Some(front) = self.outstanding.front() else { return };
        match frame_tag {
            tag::ERROR_RESPONSE => return self.error_answer(now, number, scan, out),
            tag::COMMAND_COMPLETE if self.release_answered(front, number) => {
                scan.leave_out();
                return scan.skip(out);
            }
            tag::COMMAND_COMPLETE => self.note_end(number, scan.body()),
            tag::READY_FOR_QUERY if self.release_failed() => {
                scan.leave_out();
                scan.skip(out);
                self.outstanding.pop();
                self.after_failed_release(number, self.status, out);
                return;
            }
            tag::PARSE_COMPLETE | tag::CLOSE_COMPLETE => self.note_acknowledgement(front, frame_tag),
            _ => {}
        }
        match front.fit(frame_tag) {
            Fit::Foreign => {
                self.pass_through(Reason::UnknownMessage, out);
                self.relay_answer(now, frame_tag, scan, out);
            }
            fit => self.result(now, number, frame_tag, fit == Fit::Ends, scan, out),
        }
    }

    /// The first CommandComplete behind `RELEASE ...; COMMIT` is the answer to the RELEASE.
    fn release_answered(&mut self, front: Request, number: usize) -> bool {
        let answered =
            self.unit.release == Release::Sent && front.tag == frontend::tag::QUERY && self.commits(number);
        if answered {
            self.unit.release = Release::Done;
        }
        answered
    }

    fn release_failed(&self) -> bool {
        matches!(self.unit.release, Release::Refused | Release::Failed) && self.status != Status::Idle
    }

    /// Notes how the transaction ends, by the tag of the statement that may end it.
    fn note_end(&mut self, number: usize, body: &[u8]) {
        if self.unit.explicit && self.journal.entry(number).is_some_and(|e| e.effect.ends()) {
            match backend::command_tag(body) {
                Some(b"COMMIT") => self.unit.outcome = Some(Outcome::Committed),
                Some(b"ROLLBACK") => self.unit.outcome = Some(Outcome::RolledBack),
                _ => {}
            }
        }
    }

    /// Whether request `number` is a plain COMMIT.
    pub(super) fn commits(&self, number: usize) -> bool {
        self.journal.entry(number).is_some_and(|e| e.effect == Effect::Commits)
    }

    /// The server takes COPY data. A Sync that it ignores for that has no answer.
    fn copy_in_begins(&mut self) {
        if let Some(Request { owner: Owner::Journalled(sync), .. }) = self.outstanding.begin_copy_in()
            && let Some(entry) = self.journal.entry_mut(sync)
        {
            entry.delivered.complete = true;
        }
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
        let seen = self.journal.entry(number).map_or_else(Delivered::default, |e| e.delivered);
        self.reading.rows += u64::from(frame_tag == tag::DATA_ROW);
        let Some(live) = self.next_frame(&seen, scan) else {
            return self.differ(now, number, frame_tag, scan, out);
        };
        if ends {
            let digest = if self.digests() { self.reading.digest.finish(scan.through()) } else { 0 };
            scan.leave_out();
            let now_delivered =
                Delivered { frames: self.reading.frames, rows: self.reading.rows, digest, complete: true };
            if !live && now_delivered != seen {
                return self.differ(now, number, frame_tag, scan, out);
            }
            self.answered(number, now_delivered);
            self.outstanding.pop();
        }
        if !live {
            self.reading.forwarding = false;
            scan.skip(out);
        }
    }

    /// Counts a frame of the answer at hand. Whether it is new to the client; `None` if it shows that the answer differs from
    /// what the client has seen.
    fn next_frame(&mut self, seen: &Delivered, scan: &mut Scan<'_>) -> Option<bool> {
        let first_new = self.reading.frames == seen.frames && seen.frames > 0;
        self.reading.frames += 1;
        let live = self.reading.frames > seen.frames;
        let differs = live
            && (seen.complete || (first_new && self.reading.digest.so_far(scan.before()) != seen.digest));
        (!differs).then_some(live)
    }

    /// An answer is complete, and the client has been shown all of it.
    pub(super) fn answered(&mut self, number: usize, delivered: Delivered) {
        if let Some(entry) = self.journal.entry_mut(number) {
            entry.delivered = delivered;
        }
        self.reading.frames = 0;
        self.reading.rows = 0;
        self.reading.digest.reset();
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
        if let Some(sqlstate) = fields.sqlstate().filter(|s| self.is_conflict(*s)) {
            return self.conflict(now, number, sqlstate, scan, out);
        }
        self.note_farewell(fields);
        self.note_failure(number, fields);
        if self.unit.release != Release::None
            && self.commits(number)
            && !self.shows_commit_error(fields, scan, out)
        {
            return;
        }
        let Some(front) = self.outstanding.front() else { return };
        let ends = !front.is_cycle_end();
        if self.error_result(now, number, fields, ends, scan, out) && ends {
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
        let live = self.next_frame(&seen, scan);
        if self.digests() {
            self.reading.digest.update(scan.before());
            self.reading.digest.update_error(fields);
        }
        scan.leave_out();
        let Reading { frames, rows, .. } = self.reading;
        let digest = if ends { self.reading.digest.so_far(&[]) } else { 0 };
        let delivered = Delivered { frames, rows, digest, complete: true };
        if live.is_none() || (ends && live == Some(false) && delivered != seen) {
            self.differ(now, number, tag::ERROR_RESPONSE, scan, out);
            return false;
        }
        if ends {
            self.answered(number, delivered);
        }
        if live == Some(false) {
            scan.skip(out);
        }
        true
    }

    /// After an error in the extended protocol: what was sent behind it, up to Sync, has no answer.
    fn skip_to_sync(&mut self, now: Duration, number: usize, out: &mut impl Output) {
        let mut differs = false;
        let journal = &mut self.journal;
        self.outstanding.fail(|skipped| {
            if let Owner::Journalled(number) = skipped.owner
                && let Some(entry) = journal.entry_mut(number)
            {
                differs |= entry.delivered.frames > 0;
                entry.delivered.complete = true;
            }
        });
        if differs {
            self.give_up_on_difference(now, number, out);
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
        if self.commit_error(fields, out) {
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
            self.unit.outcome = Some(Outcome::RolledBack);
        }
    }
}
