//! A limit on log lines of one kind: so many in a second, and how many were left out before the next one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Lines in a second at most.
const LINES_PER_SECOND: u64 = 20;

/// What was written in the second at hand. Two sessions that write at the same moment may both be counted as one: it is a
/// limit for the sake of the disk, not a promise.
#[derive(Debug)]
pub(super) struct Pace {
    epoch: Instant,
    second: AtomicU64,
    written: AtomicU64,
    left_out: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { epoch: Instant::now(), second: 0.into(), written: 0.into(), left_out: 0.into() }
    }
}

impl Pace {
    /// Whether a line may be written now, with how many were left out before it.
    pub(super) fn allows(&self) -> Option<u64> {
        self.allows_at(self.epoch.elapsed().as_secs())
    }

    fn allows_at(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Relaxed) != second {
            self.written.store(0, Relaxed);
        }
        if self.written.fetch_add(1, Relaxed) < LINES_PER_SECOND {
            Some(self.left_out.swap(0, Relaxed))
        } else {
            self.left_out.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_in_a_second_is_left_out_and_counted() {
        let pace = Pace::default();
        let written = (0..50).filter(|_| pace.allows_at(7).is_some()).count();
        assert_eq!(written as u64, LINES_PER_SECOND);
        assert_eq!((pace.allows_at(8), pace.allows_at(8)), (Some(30), Some(0)));
    }
}
