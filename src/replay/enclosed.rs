//! A statement in autocommit of which the client was shown a part: it is run again inside a transaction block of Reprise's own.
//!
//! What runs outside a block commits with its end, before it can be compared with what was shown. So BEGIN goes before it, the
//! answers are verified as a prefix, and only then COMMIT follows, whose ReadyForQuery is the one that the client awaits.

use std::time::Duration;

use super::cockroach;
use super::engine::{Engine, Output};
use super::event::Outcome;
use super::journal::Entry;
use super::owner::{Control, Owner};
use super::reason::Reason;
use super::request::Request;
use super::scan::Scan;
use crate::wire::backend::{Status, command_tag, tag};
use crate::wire::{encode, frontend};

/// The name under which what opens and ends the block is prepared.
const BLOCK_NAME: &str = "reprise_block";

impl Engine {
    /// From the next attempt on, what the client runs in autocommit runs in a block, if anything of its results was shown.
    pub(super) fn enclose_what_was_shown(&mut self) {
        if !self.unit.explicit && self.shows_results() {
            self.unit.enclosed = true;
            self.journal.enclose();
        }
    }

    /// Why what the client runs in autocommit cannot be run in a block: its end is still to come.
    pub(super) fn enclosing_obstacle(&self) -> Option<Reason> {
        let ended = self.journal.entries_from(0).last().is_some_and(Entry::is_cycle_end);
        (!ended).then_some(Reason::PartlyDelivered)
    }

    /// Opens the block, behind the end of one that has failed.
    pub(super) fn open_block(&mut self, bytes: &mut Vec<u8>) {
        let owner = Owner::Control(Control::Restart);
        if self.status != Status::Idle {
            self.run_beside(cockroach::ROLLBACK, owner, owner, bytes);
        }
        self.run_beside(cockroach::BEGIN, owner, owner, bytes);
    }

    /// A statement of ours in a cycle of its own. It goes under a name: PostgreSQL drops the client's unnamed statement at a simple
    /// query, and where no block is to be seen the client may use it again.
    pub(super) fn run_beside(&mut self, sql: &str, owner: Owner, end: Owner, bytes: &mut Vec<u8>) {
        encode::run_named(bytes, BLOCK_NAME, sql.as_bytes());
        encode::sync(bytes);
        self.outstanding.push_named(owner);
        self.outstanding.push(frontend::tag::SYNC, end);
    }

    /// Whether the client was shown a part of the results of a statement.
    pub(super) fn shows_results(&self) -> bool {
        self.journal.entries_from(0).iter().any(|entry| entry.is_statement() && entry.delivered.frames > 0)
    }

    /// Keeps the tag of the client's string until the block is committed, if this is one: PostgreSQL sends it behind the commit, and
    /// an error in its place. What was before it is shown.
    pub(super) fn holds_tag(&mut self, scan: &mut Scan<'_>, out: &mut impl Output) -> bool {
        let Some(Request { tag: frontend::tag::QUERY, owner: Owner::Journalled(number), .. }) =
            self.outstanding.front()
        else {
            return false;
        };
        if scan.frame().first() != Some(&tag::COMMAND_COMPLETE) {
            return false;
        }
        scan.flush(out);
        self.release_held(out);
        let digest = self.reading.digest.so_far(scan.before());
        if let Some(entry) = self.journal.entry_mut(number) {
            entry.delivered.note_beginning(self.reading.frames - 1, self.reading.rows, digest);
        }
        self.held.hold_uncommitted(scan.frame());
        scan.skip(out);
        true
    }

    /// A frame that ends the client's request, or the block behind it. True if it is dealt with.
    pub(super) fn enclosed_answer(
        &mut self,
        now: Duration,
        number: usize,
        front: Request,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) -> bool {
        // Of a transaction's requests only the COMMIT that ends the block may commit.
        let ends_block = front.commits;
        if frame_tag != tag::READY_FOR_QUERY || self.status == Status::Idle {
            return false;
        }
        if !ends_block && !self.matches_so_far(number, scan) {
            self.differ(now, number, frame_tag, scan, out);
            return true;
        }
        self.outstanding.pop();
        self.end_block(number, out);
        if self.digests() {
            self.reading.digest.update(scan.before());
        }
        scan.leave_out();
        scan.skip(out);
        true
    }

    /// Whether what has come of the answer at hand begins with what the client has been shown of it.
    fn matches_so_far(&mut self, number: usize, scan: &mut Scan<'_>) -> bool {
        let Some(seen) = self.journal.entry(number).map(|entry| entry.delivered) else { return true };
        let frames = self.reading.frames;
        frames > seen.frames
            || (frames == seen.frames
                && (frames == 0 || self.reading.digest.so_far(scan.before()) == seen.digest))
    }

    /// Everything inside the block is verified, or has failed as the client is told.
    fn end_block(&mut self, number: usize, out: &mut impl Output) {
        if self.status == Status::Failed {
            return self.end_failed_commit(Owner::Journalled(number), out);
        }
        let mut bytes = Vec::new();
        let (owner, end) = (Owner::Control(Control::Commit), Owner::Journalled(number));
        self.run_beside(cockroach::COMMIT, owner, end, &mut bytes);
        self.outstanding.mark_commit();
        out.backend(&bytes);
    }

    /// Whether the answer at hand is that of the COMMIT that ends the block.
    pub(super) fn commits_block(&self) -> bool {
        let front = self.outstanding.front();
        self.unit.enclosed
            && front.is_some_and(|front| front.commits || front.owner == Owner::Control(Control::Commit))
    }

    /// The COMMIT that ends the block is answered with this tag. False if it was not what its success is told by.
    pub(super) fn note_block_committed(&mut self, body: &[u8]) -> bool {
        let committed = command_tag(body) == Some(cockroach::COMMIT.as_bytes());
        if committed {
            self.unit.outcome = Some(Outcome::Committed);
        }
        committed
    }
}
