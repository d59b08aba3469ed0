//! Rows behind a row: they go the same way, so that they are only framed.
//!
//! A large answer is rows for the most part. What is decided of each frame (whose it is, whether it is held, whether the client
//! has seen it) comes out the same for a row and the next one, while nothing is held and nothing is compared.

use super::engine::Engine;
use super::owner::Owner;
use super::scan::Scan;
use super::state::State;
use crate::wire::backend::tag;
use crate::wire::frames;

impl Engine {
    /// Takes the whole rows that follow the one at hand, which the client gets, along with it.
    pub(super) fn take_rows_along(&mut self, frame_tag: u8, scan: &mut Scan<'_>) {
        if !matches!(frame_tag, tag::DATA_ROW | tag::COPY_DATA)
            || self.backend_rest > 0
            || !self.held.is_empty()
        {
            return;
        }
        match (self.state, self.outstanding.front().map(|front| front.owner)) {
            (State::Idle | State::Passthrough(_), Some(Owner::Journalled(_) | Owner::Unjournalled)) => {
                scan.take_along(frame_tag);
                scan.leave_out();
            }
            (State::Open | State::Committing, Some(Owner::Journalled(number)))
                if self.rows_are_new(number) =>
            {
                let frames = scan.take_along(frame_tag);
                self.reading.frames += frames;
                self.reading.rows += if frame_tag == tag::DATA_ROW { frames } else { 0 };
            }
            _ => {}
        }
    }

    /// Whether the client has seen nothing of what is still to come of an answer, and nobody looks at each frame of it.
    fn rows_are_new(&self, number: usize) -> bool {
        let new = |seen: super::journal::Delivered| !seen.complete && self.reading.frames > seen.frames;
        self.journal.entry(number).is_some_and(|entry| new(entry.delivered))
            && (self.reading.unordered.is_lost() || !self.digests())
    }
}

impl Scan<'_> {
    /// Goes on to the end of the whole frames of this type that follow the one at hand. Returns how many they are.
    fn take_along(&mut self, frame_tag: u8) -> u64 {
        let mut count = 0;
        // A length that is impossible is told of when it is the turn of its frame.
        for frame in frames(&self.bytes[self.end..]).take_while(|frame| frame[0] == frame_tag) {
            self.end += frame.len();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::replay::client::{Client, frame};
    use crate::replay::{Dialect, Mode, Policy};

    /// Frames, rows and digest of an answer that comes in such pieces, and what the client got of it.
    fn read<'a>(
        mode: Mode,
        journal_bytes: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> (u64, u64, u128, Vec<u8>) {
        let policy = Arc::new(Policy { mode, journal_bytes, ..Policy::default() });
        let (mut engine, mut client) = (Engine::new(policy, Dialect::Postgres, 1), Client::default());
        let now = Duration::ZERO;
        engine.handle_frontend(now, &frame(b'Q', b"SELECT 1\0"), &mut client).expect("frames");
        let mut rest = Vec::new();
        for piece in pieces {
            rest.extend_from_slice(piece);
            let taken = engine.handle_backend(now, &rest, &mut client).expect("frames");
            rest.drain(..taken);
        }
        assert!(rest.is_empty());
        let reading = &mut engine.reading;
        (reading.frames, reading.rows, reading.digest.so_far(&[]), client.0)
    }

    #[test]
    fn rows_count_the_same_one_by_one_and_in_runs() {
        let mut answer = frame(b'T', b"\0\0");
        for row in 0..300_u32 {
            answer.extend(frame(b'D', &row.to_be_bytes()));
            if row % 90 == 0 {
                answer.extend(frame(b'N', b"SNOTICE\0\0"));
            }
        }
        answer.extend(frame(b'D', &[7; 300]).repeat(50));
        for mode in [Mode::Transparent, Mode::Observe] {
            for (journal_bytes, rows) in [(1000, 350), (0, 0)] {
                let at_once = read(mode, journal_bytes, [&answer[..]].into_iter());
                assert_eq!((at_once.1, &at_once.3), (rows, &answer), "{mode:?}");
                for cut in [1, 7, 100, 4099] {
                    assert_eq!(
                        read(mode, journal_bytes, answer.chunks(cut)),
                        at_once,
                        "{mode:?}, pieces of {cut}"
                    );
                }
            }
        }
    }
}
