//! How long the proxy itself takes, from a read of one side to the end of what it makes it write, and how long the database takes to
//! begin an answer: of a turn now and then.

use std::time::Duration;

/// One turn in so many is measured: a look at the clock in every turn would cost more than it tells.
const EVERY: u32 = 64;

/// The turns of a session.
#[derive(Debug, Default)]
pub(super) struct Sample {
    turns: u32,
    read: Option<Duration>,
    asked: Option<Duration>,
}

impl Sample {
    /// Something was read, and is being handled.
    pub(super) fn begin(&mut self, now: Duration) {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(EVERY) {
            self.read = Some(now);
        }
    }

    /// The turn makes the proxy ask the database for something; `alone` if nothing else is under way.
    pub(super) fn asks(&mut self, now: Duration, alone: bool) {
        if self.read.is_some() && alone {
            self.asked = Some(now);
        }
    }

    /// The database has said something. How long that took, if it is measured.
    pub(super) fn hears(&mut self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.asked.take()?))
    }

    /// The turn has written what it could; `whole` if that is everything. How long it took, if it is measured: what a side that
    /// does not read keeps from being written is no time of the proxy's.
    pub(super) fn end(&mut self, whole: bool, now: impl FnOnce() -> Duration) -> Option<Duration> {
        let read = self.read.take().filter(|_| whole)?;
        Some(now().saturating_sub(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_in_many_is_measured_if_it_writes_everything() {
        let mut sample = Sample::default();
        let at = Duration::from_micros;
        let mut measured = 0;
        for turn in 0..u64::from(EVERY) * 3 {
            sample.begin(at(turn * 100));
            measured += u64::from(sample.end(true, || at(turn * 100 + 7)).is_some_and(|took| took == at(7)));
        }
        assert_eq!(measured, 3);
        for _ in 0..EVERY {
            sample.begin(at(0));
            assert_eq!(sample.end(false, || at(7)), None);
        }
    }

    #[test]
    fn an_answer_is_measured_if_its_request_is_alone() {
        let mut sample = Sample::default();
        let at = Duration::from_micros;
        let mut measured = Vec::new();
        for turn in 1..=EVERY * 2 {
            sample.begin(at(0));
            sample.asks(at(3), turn > EVERY);
            measured.extend(sample.hears(at(10)));
            assert_eq!(sample.hears(at(20)), None, "once");
            sample.end(true, || at(4));
        }
        assert_eq!(measured, [at(7)]);
    }
}
