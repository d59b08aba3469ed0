//! A stretch of time in which a class is watched: what came of its attempts, and how many ran at a time.

use std::time::Duration;

/// How an attempt ended, as far as contention goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did what the client wanted: a commit, or a rollback that the client asked for.
    Done,
    /// It met a conflict: what it did was in vain.
    Wasted,
    /// It tells nothing: a connection was lost.
    Unknown,
}

/// For so long nobody came: that says nothing of what is done when somebody comes, and does not count.
const PAUSE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// From here on it counts, less the pauses.
    start: Duration,
    /// Up to here time has been accounted for.
    last: Duration,
    done: u32,
    wasted: u32,
    /// Attempts under way, integrated over time.
    running: f64,
    /// Seconds in which somebody had to wait.
    waits: f64,
}

/// What a window has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Transactions done per second.
    pub(super) rate: f64,
    /// The share of the attempts that was wasted.
    pub(super) waste: f64,
    /// Attempts under way on average.
    pub(super) running: f64,
    /// The share of the time in which somebody had to wait.
    pub(super) waits: f64,
}

impl Sample {
    /// Both, the later one by this share.
    pub(super) fn blend(self, later: Self, share: f64) -> Self {
        let mean = |before: f64, later: f64| before + share * (later - before);
        Self {
            rate: mean(self.rate, later.rate),
            waste: mean(self.waste, later.waste),
            running: mean(self.running, later.running),
            waits: mean(self.waits, later.waits),
        }
    }
}

impl Window {
    /// A window that opens at `start`, which may be ahead.
    pub(super) const fn new(start: Duration) -> Self {
        Self { start, last: start, done: 0, wasted: 0, running: 0.0, waits: 0.0 }
    }

    /// Time has passed, with so many attempts under way.
    pub(super) fn pass(&mut self, now: Duration, running: u32, waits: bool) {
        let passed = now.saturating_sub(self.last);
        if running == 0 && !waits && passed >= PAUSE && self.last >= self.start {
            self.start += passed;
        }
        let passed = passed.as_secs_f64();
        self.running += passed * f64::from(running);
        self.waits += if waits { passed } else { 0.0 };
        self.last = self.last.max(now);
    }

    /// An attempt has ended.
    pub(super) fn count(&mut self, now: Duration, end: End) {
        if now >= self.start {
            self.done += u32::from(end == End::Done);
            self.wasted += u32::from(end == End::Wasted);
        }
    }

    pub(super) const fn done(&self) -> u32 {
        self.done
    }

    pub(super) const fn wasted(&self) -> u32 {
        self.wasted
    }

    pub(super) const fn attempts(&self) -> u32 {
        self.done + self.wasted
    }

    /// For how long it has been open.
    pub(super) const fn elapsed(&self) -> Duration {
        self.last.saturating_sub(self.start)
    }

    /// What it has shown so far.
    pub(super) fn sample(&self) -> Sample {
        let seconds = self.elapsed().as_secs_f64().max(1e-6);
        Sample {
            rate: f64::from(self.done) / seconds,
            waste: f64::from(self.wasted) / f64::from(self.attempts().max(1)),
            running: self.running / seconds,
            waits: self.waits / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_before_it_opens_does_not_count() {
        let at = Duration::from_secs;
        let mut window = Window::new(at(10));
        window.pass(at(5), 7, true);
        window.count(at(5), End::Done);
        window.pass(at(12), 4, true);
        window.count(at(12), End::Done);
        window.count(at(12), End::Unknown);
        window.pass(at(14), 2, false);
        window.count(at(14), End::Wasted);
        let sample = Sample { rate: 0.25, waste: 0.5, running: 3.0, waits: 0.5 };
        assert_eq!((window.sample(), window.attempts(), window.elapsed()), (sample, 2, at(4)));
    }

    #[test]
    fn a_pause_does_not_count() {
        let at = Duration::from_secs;
        let mut window = Window::new(at(0));
        window.pass(at(2), 3, true);
        window.count(at(2), End::Done);
        window.pass(at(100), 0, false);
        window.pass(at(102), 1, false);
        window.count(at(102), End::Done);
        let sample = Sample { rate: 0.5, waste: 0.0, running: 2.0, waits: 0.5 };
        assert_eq!((window.sample(), window.elapsed()), (sample, at(4)));
        // Who waits while nobody is at work is there, and so is who is there again at once.
        window.pass(at(104), 0, true);
        window.pass(at(104) + PAUSE / 2, 0, false);
        assert_eq!(window.elapsed(), at(6) + PAUSE / 2);
    }
}
