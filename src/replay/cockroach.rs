//! The cockroach dialect on the wire: a savepoint that every attempt goes back to, and a COMMIT that can be retried.
//!
//! `RELEASE SAVEPOINT cockroach_restart` commits the data and may still fail with a conflict; the COMMIT behind it only ends
//! the transaction. Both travel together, so that a RELEASE that fails skips the COMMIT.

use std::time::Duration;

use super::deferred::Begin;
use super::engine::{Engine, Output, Step};
use super::event::Outcome;
use super::owner::{Control, Owner};
use super::policy::{Dialect, Mode};
use super::request::{Fit, Request};
use super::savepoint::{restart_savepoints, sets_restart_savepoint};
use super::scan::Scan;
use super::statement::{Class, Classes, ends_in_cockroach, names};
use super::unit::{Release, Savepoint};
use crate::wire::backend::{ErrorFields, Status, command_tag, tag as answer};
use crate::wire::frontend::{Parse, query, tag};
use crate::wire::{HEADER_BYTES, SqlState, encode};

/// Sets the savepoint that every attempt goes back to.
pub(super) const SAVEPOINT: &str = "SAVEPOINT cockroach_restart";
/// Goes back to it.
pub(super) const RESTART: &str = "ROLLBACK TO SAVEPOINT cockroach_restart";
const RELEASE: &str = "RELEASE SAVEPOINT cockroach_restart";
const RELEASE_AND_COMMIT: &str = "RELEASE SAVEPOINT cockroach_restart; COMMIT";
/// Opens a transaction.
pub(super) const BEGIN: &str = "BEGIN";
/// Ends a transaction without a commit.
pub(super) const ROLLBACK: &str = "ROLLBACK";
/// The name under which a RELEASE is prepared inside a batch of the client.
const RELEASE_NAME: &str = "reprise_release";
/// Ends a transaction.
pub(super) const COMMIT: &str = "COMMIT";
/// The name under which the COMMIT behind it is.
const COMMIT_NAME: &str = "reprise_commit";
/// A statement that does not exist.
const NO_STATEMENT: &str = "reprise_no_statement";
/// The name under which the savepoint is prepared behind a deferred BEGIN.
const SAVEPOINT_NAME: &str = "reprise_savepoint";

/// The setting under which savepoints of any name are those that transactions restart at.
const FORCES_RESTART: &[u8] = b"force_savepoint_restart";

/// Whether a text, or a startup packet, names `force_savepoint_restart`.
pub fn forces_restart(text: &[u8]) -> bool {
    names(text, &[FORCES_RESTART])
}

/// Whether a text may name a savepoint that transactions restart at.
pub(super) fn names_restart(text: &[u8]) -> bool {
    names(text, &[b"cockroach_restart"])
}

impl Engine {
    /// The session may begin with `force_savepoint_restart` on: transactions that set a savepoint are left to the client.
    pub fn expect_forced_restarts(&mut self) {
        self.forces_restart = self.dialect == Dialect::Cockroach;
    }

    /// Whether a RELEASE may commit, though nothing says so: savepoints of any name may be restart points by a default of the user.
    /// Behind our savepoint the server takes no other for one.
    pub(super) fn may_be_forced(&self) -> bool {
        self.dialect == Dialect::Cockroach && self.unit.savepoint != Savepoint::Set
    }

    /// `SAVEPOINT cockroach_restart`, in the same write as the first statement after BEGIN. It is set only between cycles:
    /// a client that sends BEGIN and statements in one batch is restarted whole instead.
    pub(super) fn savepoint_before(&mut self, tag: u8, classes: Classes) -> Option<Vec<u8>> {
        let adds = self.policy.mode == Mode::Transparent && self.dialect == Dialect::Cockroach;
        // What was prepared may be run by a name, or by a portal, in which nothing of a savepoint can be seen.
        let own = self.forces_restart || self.prepared_restart;
        if !adds || own || self.status == Status::Failed || classes.may_end() || tag == tag::SYNC {
            return None;
        }
        let mut savepoint = Vec::new();
        let owner = Owner::Control(Control::Savepoint);
        if self.unit.begin == Begin::Unconfirmed {
            encode::run_named(&mut savepoint, SAVEPOINT_NAME, SAVEPOINT.as_bytes());
            self.outstanding.push_named(owner);
        } else {
            encode::query(&mut savepoint, SAVEPOINT);
            self.outstanding.push(tag::QUERY, owner);
        }
        self.unit.savepoint = Savepoint::Set;
        Some(savepoint)
    }

    /// A statement of the client's own retry protocol is about to go out in a transaction that has our savepoint, which goes by
    /// the same name. What to send in its place, if anything.
    ///
    /// A SAVEPOINT may take ours over: CockroachDB accepts it as long as the transaction has not read or written. Without one,
    /// there is nothing of the client's to go back to, and nothing to release; in our place it would undo or commit what the
    /// client has not asked for. Then the name is altered, so that the server says what it would have said without us.
    pub(super) fn own_savepoint(&mut self, tag: u8, classes: Classes, frame: &[u8]) -> Option<Vec<u8>> {
        if self.unit.savepoint != Savepoint::Set || !classes.has(Class::RestartSavepoint) {
            return None;
        }
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        let text = match tag {
            tag::QUERY => query(body).map(|sql| (HEADER_BYTES, sql)),
            tag::PARSE => {
                Parse::view(body).map(|parse| (HEADER_BYTES + parse.statement.len() + 1, parse.sql))
            }
            _ => None,
        };
        // Should a cycle that is unanswered fail, a SAVEPOINT would go back to ours. What fails in its own batch skips it.
        let open = self.status == Status::Open && !self.outstanding.has_unanswered_cycle();
        let names = tag == tag::PARSE && body.first() != Some(&0);
        let sets = !classes.has(Class::Release) && !classes.has(Class::RollbackTo);
        match text {
            // What has a name outlasts the transaction: there it is to be what the client has made it.
            Some(_) if names && !(open && sets) => None,
            Some((start, sql)) if !(open && sets_restart_savepoint(sql)) => {
                let mut frame = frame.to_vec();
                restart_savepoints(sql).for_each(|at| frame[start + at] = b'x');
                Some(frame)
            }
            None if tag == tag::BIND && !(open && sets) => {
                let mut bind = Vec::new();
                encode::bind(&mut bind, NO_STATEMENT);
                Some(bind)
            }
            Some(_) | None => {
                self.unit.savepoint = Savepoint::TakenOver;
                None
            }
        }
    }

    /// A ReadyForQuery tells whether the server took the client's SAVEPOINT for ours.
    pub(super) const fn note_taken_over(&mut self) {
        if matches!(self.unit.savepoint, Savepoint::TakenOver) {
            let taken = !matches!(self.status, Status::Failed);
            self.unit.savepoint = if taken { Savepoint::None } else { Savepoint::Set };
        }
    }

    /// Whether this is a Query with a COMMIT or ROLLBACK that CockroachDB does not know, such as COMMIT WORK: it is to refuse it.
    pub(super) fn is_foreign_end(&self, tag: u8, frame: &[u8]) -> bool {
        self.dialect == Dialect::Cockroach
            && tag == tag::QUERY
            && !query(&frame[HEADER_BYTES..]).is_some_and(ends_in_cockroach)
    }

    /// A plain COMMIT is about to go out.
    ///
    /// In a transaction that is known to have failed it goes out as it is. In a batch, the RELEASE goes before it only
    /// while nothing else is unanswered, and if the batch ends there: otherwise the plain COMMIT is the safe one, and a
    /// conflict restarts the transaction whole. `next` is the type of the request behind it.
    pub(super) fn commit_request(&mut self, tag: u8, next: Option<u8>) -> Step {
        let settled = self.status == Status::Open
            && !self.outstanding.has_unanswered_statement()
            && !self.outstanding.is_skipping();
        let failed = self.status == Status::Failed && self.outstanding.is_empty();
        // A RELEASE would be refused behind these, where a COMMIT is not.
        let only_commits = self.unit.suspends || self.unit.classes.has(Class::CommitTimestamp);
        if self.unit.savepoint != Savepoint::Set || failed || only_commits {
            return Step::Forward;
        }
        let mut bytes = Vec::new();
        match tag {
            tag::QUERY => {
                encode::query(&mut bytes, RELEASE_AND_COMMIT);
                self.unit.release = Release::Sent;
                Step::Instead(bytes)
            }
            tag::EXECUTE if settled && next == Some(tag::SYNC) => {
                encode::run_named(&mut bytes, RELEASE_NAME, RELEASE.as_bytes());
                self.outstanding.push_named(Owner::Control(Control::Release));
                self.outstanding.mark_commit();
                // The commit may have closed the client's portal: the COMMIT is bound anew behind it.
                encode::bind_named(&mut bytes, COMMIT_NAME, COMMIT.as_bytes());
                self.outstanding.push_bound(Owner::Control(Control::Commit));
                encode::execute(&mut bytes, COMMIT_NAME);
                self.unit.release = Release::Sent;
                Step::Instead(bytes)
            }
            _ => Step::Forward,
        }
    }

    /// The RELEASE has succeeded. CockroachDB tags it COMMIT, for that is what it was; on a server that does not, the COMMIT
    /// behind it is what commits.
    pub(super) fn note_released(&mut self, body: &[u8]) {
        let commits = command_tag(body) == Some(COMMIT.as_bytes());
        self.unit.release = if commits { Release::Done } else { Release::None };
    }

    /// A cycle is over: a RELEASE that has no answer to come any more, perhaps because it was passed over, is forgotten.
    pub(super) fn forget_release(&mut self) {
        if self.unit.release != Release::None && !self.outstanding.has_release() {
            self.unit.release = Release::None;
        }
    }

    /// An error, no conflict, that the RELEASE or the COMMIT behind it gave. True if the client is to see it.
    pub(super) fn commit_error(&mut self, fields: ErrorFields<'_>) -> bool {
        match self.unit.release {
            Release::Done => {
                self.unit.release = Release::Disputed;
                false
            }
            _ if fields.sqlstate() == Some(SqlState::IN_FAILED_TRANSACTION) => {
                self.unit.release = Release::Refused;
                false
            }
            _ => {
                self.unit.release = Release::Failed;
                true
            }
        }
    }

    /// The data is committed, whatever happens to the COMMIT that follows: the client is told so.
    pub(super) fn acknowledge_commit(&mut self, out: &mut impl Output) {
        let mut tag = Vec::new();
        encode::command_complete(&mut tag, "COMMIT");
        out.frontend(&tag);
        self.unit.outcome = Some(Outcome::Committed);
        self.unit.release = Release::Failed;
    }

    /// Whether what answers this request may be a frame for [`Self::released_answer`].
    pub(super) fn may_be_released(&self, front: Request) -> bool {
        front.releases || self.unit.release == Release::Disputed
    }

    /// A frame of the answer to `RELEASE ...; COMMIT`. True if it is dealt with: the client gets the answer to one COMMIT.
    pub(super) fn released_answer(
        &mut self,
        now: Duration,
        front: Request,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) -> bool {
        let disputed_batch = front.tag == tag::SYNC && self.unit.release == Release::Disputed;
        if !(front.releases || disputed_batch) {
            return false;
        }
        match (frame_tag, self.unit.release) {
            (answer::COMMAND_COMPLETE, Release::Sent) => self.note_released(scan.body()),
            (answer::READY_FOR_QUERY, Release::Disputed) if self.status == Status::Idle => {
                self.in_doubt(now, out);
            }
            (answer::READY_FOR_QUERY, Release::Disputed) => {
                scan.flush(out);
                self.acknowledge_commit(out);
                self.outstanding.pop();
                self.end_failed_commit(front.owner, out);
            }
            (answer::READY_FOR_QUERY, Release::Refused | Release::Failed) if self.status != Status::Idle => {
                self.outstanding.pop();
                self.end_failed_commit(front.owner, out);
            }
            _ => return false,
        }
        scan.leave_out();
        scan.skip(out);
        true
    }

    /// A frame of the answer to the ROLLBACK behind a COMMIT that has failed: the client gets its ReadyForQuery. Should a late cancel
    /// have struck it, it is sent again.
    pub(super) fn failed_commit_ends(
        &mut self,
        front: Request,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        scan.leave_out();
        if frame_tag == answer::ERROR_RESPONSE {
            self.outstanding.fail(|_| {});
        } else if front.fit(frame_tag) == Fit::Ends {
            self.outstanding.pop();
        }
        if frame_tag != answer::READY_FOR_QUERY {
            return scan.skip(out);
        }
        if self.status != Status::Idle {
            scan.skip(out);
            self.end_failed_commit(front.owner, out);
        }
    }

    /// A COMMIT has failed, and the session is still in a transaction: that is ended, and the client gets the
    /// ReadyForQuery of its end.
    pub(super) fn end_failed_commit(&mut self, owner: Owner, out: &mut impl Output) {
        let mut bytes = Vec::new();
        match std::mem::take(&mut self.unit.release) {
            // The transaction had failed before: a plain COMMIT rolls it back, and says so.
            Release::Refused => {
                encode::query(&mut bytes, COMMIT);
                self.outstanding.push(tag::QUERY, owner);
            }
            _ => {
                let ours = Owner::Control(Control::EndFailedCommit);
                if self.unit.enclosed {
                    self.run_beside(ROLLBACK, ours, ours, &mut bytes);
                } else {
                    encode::query(&mut bytes, ROLLBACK);
                    self.outstanding.push(tag::QUERY, ours);
                }
            }
        }
        out.backend(&bytes);
    }
}
