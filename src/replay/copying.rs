//! COPY FROM STDIN: what it means for cycles and replays that the server asks for data.

use std::time::Duration;

use super::engine::{Engine, Output};
use super::journal::Entry;
use super::owner::Owner;
use super::request::Request;
use super::scan::Scan;
use super::state::State;
use crate::wire::backend::tag;

impl Engine {
    /// The server takes COPY data, and has ignored these for that, each a Sync that was sent before their end.
    pub(super) fn copy_begins(
        &mut self,
        now: Duration,
        ignored: &[Request],
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        if matches!(self.state, State::Draining | State::GivingUp { .. }) {
            // The client is not told of it.
            return;
        }
        for sync in ignored {
            if let Owner::Journalled(sync) = sync.owner {
                self.forget_cycle_end(sync);
            }
        }
        self.catch_up_with_copy(now, scan, out);
    }

    /// A Sync that was ignored is kept as the Flush that it came to: it ends no cycle.
    fn forget_cycle_end(&mut self, sync: usize) {
        self.journal.take_for_flush(sync);
        self.unit.at_cycle_start = self.journal.entries_from(0).last().is_some_and(Entry::is_cycle_end);
        if self.unit.opening > sync {
            self.unit.opening = self.journal.opening();
        }
    }

    /// In a replay that has got to the data that the client is still to send, the client goes on: the server answers no more
    /// before that. Everything that the client was shown is verified now, the beginning of this answer included.
    fn catch_up_with_copy(&mut self, now: Duration, scan: &mut Scan<'_>, out: &mut impl Output) {
        let State::Replaying { sent, .. } = self.state else { return };
        let Some(Request { owner: Owner::Journalled(number), .. }) = self.outstanding.front() else { return };
        if sent < self.journal.len() || !self.outstanding.only_copies() {
            return;
        }
        let Some(seen) = self.journal.entry(number).map(|entry| entry.delivered) else { return };
        let frames = self.reading.frames;
        let mut differs = || self.reading.digest.so_far(scan.through()) != seen.digest;
        if frames < seen.frames || (frames == seen.frames && differs()) {
            return self.differ(now, number, tag::COPY_IN_RESPONSE, scan, out);
        }
        scan.flush_through(out);
        self.go_on(now, false, out);
    }
}
