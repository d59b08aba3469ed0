//! The limit of one class: how many of its transactions may run at a time. Found by trying, judged by what gets done.
//!
//! ```text
//!          much waste                    done in a while              better: twice as many, or half
//!   Open ----------------> Calibrating ------------------> Probing <------+
//!    ^  |                  (one at a time)              ^   |  |  |       |
//!    |  +-- some waste: half as many -------------------+   |  |  +-------+
//!    |                        ^                     worse:  |  |
//!    |   nobody is kept       | much more waste     back    v  |
//!    +------------------------|------------------- Steady <----+
//!                             +----------------------+   | now and then: one step up or down
//!                                                        +---------------------------> Probing
//! ```
//!
//! - **Open**: everyone is admitted. When most of the attempts are wasted, the class is calibrated. Where it is only a part, what
//!   gets done without a limit may be the best that there is: half as many as run are probed, and where that gets less done the
//!   waste is tolerated for a while, a longer one each time.
//! - **Calibrating**: one at a time. Alone in its class a transaction meets no conflict with it, so this is quick, and it
//!   tells what is to be beaten. Where one meets a conflict all the same, others are still at work from before, and it begins anew.
//!   From there the limit doubles for as long as that gets more done.
//! - **Probing**: another limit is tried against the rate of the one before it, for as long as it takes to tell the two apart:
//!   counts of independent events spread by their square root, so a clear difference shows after a few transactions. Where they
//!   vary more than that, as with a database that stands still for a second before it finds a deadlock, it takes longer.
//! - **Steady**: the limit stays. Neighbouring limits are probed after pauses that double each time a probe fails, and more
//!   so when it failed clearly: a limit that is right is left alone for most of the time, which is what keeps it from
//!   oscillating. When far more is wasted than when the limit was found, the class is calibrated again; when nobody has to wait,
//!   there is no limit any more.
//!
//! One that only observes stays open: it tells whether it would leave that phase, and no more, for nothing else can be tried.
//!
//! The rate alone would mislead several proxies before one database: each would get more done by taking from the others. What
//! all of them see is the waste. So a limit under which most attempts are wasted is never stepped up to, and is stepped down
//! from.

use std::time::Duration;

use super::queue::Waiting;
use super::window::{End, Sample, Window};

/// Waste from which on an open class is looked into: where a database waits before it looks for deadlocks, the few that it finds
/// have held up all others.
const SUSPECT: f64 = 0.05;
/// Waste of which a limit that keeps hardly anybody waiting is free.
const CONTENDED: f64 = 0.12;
/// Waste from which on a limit is too high, whatever gets done.
const DROWNING: f64 = 0.5;
/// Attempts by which waste is judged.
const ATTEMPTS: u32 = 16;
/// Attempts, and time, after which an open class is looked at anew.
const WATCHED: u32 = 200;
const WATCHED_MAX: Duration = Duration::from_secs(5);
/// How long a steady class is watched at a time.
const WATCH: Duration = Duration::from_secs(1);
/// Transactions by which the rate of one at a time is known: they run one behind the other, so it hardly spreads.
const CALIBRATED: u32 = 10;
/// As many will do where they take long.
const CALIBRATED_LATE: u32 = 3;
/// The longest that a probe, or a calibration, takes while something happens at all.
const TRIAL: Duration = Duration::from_secs(2);
/// After this long a limit is judged by what gets done under it, whether it is kept or not.
const KEPT_MAX: Duration = Duration::from_secs(30);
/// What is better must be so for this long: a database that looks for deadlocks after a second looks fine until then.
const TRIAL_MIN: Duration = Duration::from_secs(1);
/// Transactions expected after which a probe is decided.
const TRIED: f64 = 40.0;
/// Windows of a steady class that its figures are the mean of.
const WINDOWS: u32 = 4;
/// The unrest from which on a probe takes no longer: twice as long as in a class without. Longer ones are less often wrong, but cost
/// more than they bring.
const UNREST_MAX: f64 = 4.0;
/// What a higher limit must bring.
const GAIN: f64 = 1.05;
/// The shortest and the longest pause between two probes in one direction.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(40);
/// How long what is wasted without a limit is not looked into again: twice as long each time that this was in vain.
const TOLERATED: Duration = Duration::from_secs(16);
const TOLERATED_LONGEST: Duration = Duration::from_secs(64);
/// Waste that is never tolerated: others before the same database may be drowning in it.
const TOLERATED_MAX: f64 = 0.4;

/// Where the search stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Open,
    Calibrating,
    /// `from` is the limit that gave `base`; `doubling` while the limit is still looked for, by twice as many or half.
    Probing {
        from: u32,
        base: Sample,
        doubling: bool,
    },
    /// `base` is the mean of so many windows.
    Steady {
        base: Sample,
        windows: u32,
    },
}

/// The pauses between probes in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Probes {
    next: Duration,
    pause: Duration,
}

impl Probes {
    const fn soon(now: Duration) -> Self {
        Self { next: now.saturating_add(PAUSE), pause: PAUSE }
    }

    /// A probe has failed: the next one is further away.
    fn put_off(&mut self, now: Duration, clearly: bool) {
        self.pause = (self.pause * if clearly { 4 } else { 2 }).min(PAUSE_MAX);
        self.next = now + self.pause;
    }
}

/// The search for the limit of one class.
#[derive(Debug)]
pub(super) struct Limit {
    limit: Option<u32>,
    phase: Phase,
    window: Window,
    /// Whether no more run than the limit allows, since it was set, and what it judges is what it will be judged by.
    in_force: bool,
    /// Before this the window does not open.
    opens: Duration,
    /// How long a transaction kept its place lately.
    hold: Duration,
    up: Probes,
    down: Probes,
    /// Transactions done per second before there was a limit.
    unlimited: f64,
    /// How much more than independent events the transactions done in a while vary: the ratio of the variances.
    unrest: f64,
    /// Until when so much waste is tolerated in an open class: limits were tried, and got less done.
    tolerated: (Duration, f64),
    /// How long that will be the next time.
    tolerance: Duration,
    /// Whether it stays open whatever happens: without anybody held back nothing can be tried.
    observes: bool,
    /// Whether it is open only because it observes.
    missed: bool,
}

impl Limit {
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            limit: None,
            phase: Phase::Open,
            window: Window::new(now),
            in_force: true,
            opens: now,
            hold: Duration::ZERO,
            up: Probes::soon(now),
            down: Probes::soon(now),
            unlimited: 0.0,
            unrest: 1.0,
            tolerated: (Duration::ZERO, 0.0),
            tolerance: TOLERATED,
            observes: false,
            missed: false,
        }
    }

    /// One that is never set: see [`Self::is_missed`].
    pub(super) const fn observing(now: Duration) -> Self {
        let mut limit = Self::new(now);
        limit.observes = true;
        limit
    }

    /// A new one of the same kind.
    pub(super) const fn anew(&self, now: Duration) -> Self {
        if self.observes { Self::observing(now) } else { Self::new(now) }
    }

    /// Whether a limit would be looked for, were it not only observed. Which one it would be, only trying could tell.
    pub(super) const fn is_missed(&self) -> bool {
        self.missed
    }

    /// How many may run at a time; `None` for any number.
    pub(super) const fn get(&self) -> Option<u32> {
        self.limit
    }

    /// How many more transactions are done per second than before there was a limit: an estimate, for the load may have changed
    /// since. Zero where there is none.
    pub(super) fn gained(&self) -> f64 {
        match self.phase {
            Phase::Open | Phase::Calibrating => 0.0,
            Phase::Probing { base, .. } | Phase::Steady { base, .. } => base.rate - self.unlimited,
        }
    }

    /// Whether one more may run.
    pub(super) fn admits(&self, running: u32) -> bool {
        self.limit.is_none_or(|limit| running < limit)
    }

    /// Time has passed, with so many attempts under way, and these in the queue: to be called before that changes.
    pub(super) fn pass(&mut self, now: Duration, running: u32, waiting: Waiting) {
        if !self.in_force {
            // Those from before the limit was lowered may still be at work. And a replay takes a part of the round trips of a first
            // attempt: the rate of those that were left over says nothing about what one at a time gets done.
            let left_over =
                self.phase == Phase::Calibrating && waiting == Waiting::Replays && now < self.opens + TRIAL;
            let many = self.limit.is_some_and(|limit| running > limit);
            // Those who are let in whatever the limit is may keep it from ever being kept.
            self.in_force = !(many || left_over) || now >= self.opens + KEPT_MAX;
            self.window = Window::new(now.max(self.opens));
        }
        self.window.pass(now, running, waiting != Waiting::Nobody);
    }

    /// An attempt has ended. May move the limit.
    pub(super) fn ended(&mut self, now: Duration, end: End) {
        self.window.count(now, end);
        match self.phase {
            Phase::Open => self.watch_open(now),
            Phase::Calibrating => self.calibrate(now),
            Phase::Probing { from, base, doubling } => self.probe(now, from, base, doubling),
            Phase::Steady { base, windows } => self.watch_steady(now, base, windows),
        }
    }

    fn watch_open(&mut self, now: Duration) {
        let (wasted, attempts) = (f64::from(self.window.wasted()), f64::from(self.window.attempts()));
        // So much for certain, and so much at most: a few conflicts may be an accident.
        let [waste, most] = [-1.5, 1.5].map(|spread| (wasted + spread * wasted.sqrt()) / attempts);
        let tolerated = if now < self.tolerated.0 { self.tolerated.1 } else { 0.0 };
        let sample = self.window.sample();
        let contended = waste >= SUSPECT.max(tolerated) && sample.running > 1.2;
        let is_known = self.window.elapsed() >= TRIAL_MIN || f64::from(self.window.done()) >= TRIED;
        let drowning = if is_known { most } else { waste } >= DROWNING;
        let needed = contended && (is_known || drowning);
        let judged = self.window.attempts() >= WATCHED || self.window.elapsed() >= WATCHED_MAX;
        if self.observes {
            if needed || judged {
                self.missed = needed;
                self.enter(now, Phase::Open, None);
            }
        } else if needed {
            self.unlimited = sample.rate;
            if drowning {
                self.enter(now, Phase::Calibrating, Some(1));
            } else {
                let running = sample.running.ceil() as u32;
                self.try_limit(now, running, running / 2, sample, true);
            }
        } else if judged {
            self.enter(now, Phase::Open, None);
        }
    }

    fn calibrate(&mut self, now: Duration) {
        let (done, wasted) = (self.window.done(), self.window.wasted());
        // One at a time meets no conflict with its like: others from before the class are still at work, or some of another class.
        if wasted > done || (wasted > 0 && now < self.opens + KEPT_MAX) {
            self.window = Window::new(now);
            return;
        }
        if done >= CALIBRATED || (done >= CALIBRATED_LATE && self.window.elapsed() >= TRIAL) {
            let base = self.window.sample();
            self.learn(now, base);
            self.try_limit(now, 1, 2, base, true);
        }
    }

    /// This is what gets done under the limit at hand.
    fn learn(&mut self, now: Duration, sample: Sample) {
        self.hold = Duration::from_secs_f64((sample.running / sample.rate).min(1.0));
        (self.up, self.down) = (Probes::soon(now), Probes::soon(now));
    }

    fn probe(&mut self, now: Duration, from: u32, base: Sample, doubling: bool) {
        let (limit, sample, elapsed) =
            (self.limit.unwrap_or(u32::MAX), self.window.sample(), self.window.elapsed());
        let (done, expected) = (f64::from(self.window.done()), base.rate * elapsed.as_secs_f64());
        let spread = 2.0 * (expected * self.unrest).sqrt();
        let upwards = limit > from;
        let drowning = upwards && self.is_judged() && sample.waste >= DROWNING.max(base.waste);
        // Transactions that were admitted together end together: one such heap more or less tells nothing.
        let clearly_worse = done + f64::from(from) < expected - spread;
        let clearly_better = done > GAIN * expected + spread + f64::from(from);
        let harmless = doubling && self.is_judged() && sample.waste < CONTENDED / 2.0;
        let tried = elapsed >= TRIAL_MIN || (harmless && elapsed >= 4 * self.hold);
        let long = elapsed >= TRIAL.mul_f64(self.unrest.sqrt());
        let decided = long || (elapsed >= TRIAL_MIN && expected >= TRIED * self.unrest);
        if drowning || clearly_worse {
            self.go_back(now, from, base, drowning || done < expected / 2.0);
        } else if decided && upwards && sample.waits < 0.5 && sample.waste < CONTENDED {
            // So many do not even come, and hardly anything is wasted.
            self.enter(now, Phase::Open, None);
        } else if (tried && clearly_better)
            || (decided && done >= expected * if upwards { GAIN } else { 1.0 })
        {
            self.accept(now, limit, sample, upwards, doubling);
        } else if decided {
            self.go_back(now, from, base, false);
        }
    }

    /// Whether there were attempts enough to tell the waste.
    const fn is_judged(&self) -> bool {
        self.window.attempts() >= ATTEMPTS
    }

    fn accept(&mut self, now: Duration, limit: u32, sample: Sample, upwards: bool, doubling: bool) {
        self.learn(now, sample);
        self.tolerance = TOLERATED;
        if upwards {
            // Where it came from is known to be worse.
            self.down.put_off(now, true);
            let doubling = doubling || sample.waste < CONTENDED / 2.0;
            let next = if doubling { limit.saturating_mul(2) } else { step_up(limit) };
            self.try_limit(now, limit, next, sample, doubling);
        } else if doubling && limit > 1 {
            self.up.put_off(now, true);
            self.try_limit(now, limit, limit / 2, sample, true);
        } else {
            self.up.put_off(now, true);
            self.enter(now, Phase::Steady { base: sample, windows: 1 }, Some(limit));
        }
    }

    /// A probe has failed.
    fn go_back(&mut self, now: Duration, from: u32, base: Sample, clearly: bool) {
        let upwards = self.limit.is_some_and(|limit| limit > from);
        let probes = if upwards { &mut self.up } else { &mut self.down };
        probes.put_off(now, clearly);
        if !upwards && base.waits < 0.5 {
            // Nobody had to wait before, and got more done: what is wasted without a limit is tolerated for a while, and half as much
            // again.
            let waste = (1.5 * base.waste).clamp(2.0 * CONTENDED, TOLERATED_MAX);
            self.tolerated = (now + self.tolerance, waste);
            self.tolerance = (2 * self.tolerance).min(TOLERATED_LONGEST);
            self.enter(now, Phase::Open, None);
        } else {
            self.enter(now, Phase::Steady { base, windows: WINDOWS / 2 }, Some(from));
        }
    }

    fn watch_steady(&mut self, now: Duration, base: Sample, windows: u32) {
        if self.window.elapsed() < WATCH {
            return;
        }
        let (limit, sample) = (self.limit.unwrap_or(1), self.window.sample());
        let far_worse = sample.waste > 0.25 + 1.5 * base.waste.min(0.4);
        let expected = (base.rate * self.window.elapsed().as_secs_f64()).max(1.0);
        let unrest = (f64::from(self.window.done()) - expected).powi(2) / expected;
        self.unrest = (self.unrest + (unrest - self.unrest) / f64::from(WINDOWS)).clamp(1.0, UNREST_MAX);
        let windows = (windows + 1).min(WINDOWS);
        let base = base.blend(sample, 1.0 / f64::from(windows));
        let reached = sample.waits >= 0.5;
        // Where so many do not come, fewer is fewer than those that do.
        let limit = if reached { limit } else { limit.min(sample.running.ceil() as u32).max(1) };
        if !reached && sample.waste < DROWNING {
            self.enter(now, Phase::Open, None);
        } else if limit > 1 && self.is_judged() && far_worse {
            self.enter(now, Phase::Calibrating, Some(1));
        } else if limit > 1 && self.is_judged() && base.waste >= DROWNING {
            self.up.put_off(now, true);
            self.enter(now, Phase::Steady { base, windows: 1 }, Some(step_down(limit)));
        } else if reached && now >= self.up.next && base.waste < DROWNING {
            self.try_limit(now, limit, step_up(limit), base, false);
        } else if now >= self.down.next && limit > 1 {
            self.try_limit(now, limit, step_down(limit), base, false);
        } else {
            self.enter(now, Phase::Steady { base, windows }, self.limit);
        }
    }

    fn try_limit(&mut self, now: Duration, from: u32, limit: u32, base: Sample, doubling: bool) {
        self.enter(now, Phase::Probing { from, base, doubling }, Some(limit));
    }

    /// A new window, which opens when the transactions at work are those of the limit.
    fn enter(&mut self, now: Duration, phase: Phase, limit: Option<u32>) {
        let changed = self.limit != limit;
        self.opens = if changed { now + self.hold } else { now };
        self.window = Window::new(self.opens);
        self.in_force &= !changed;
        (self.phase, self.limit) = (phase, limit);
    }
}

/// The next limit: about half as much again.
const fn step_up(limit: u32) -> u32 {
    limit.saturating_add(if limit < 4 { 1 } else { limit / 2 })
}

const fn step_down(limit: u32) -> u32 {
    let limit = if limit <= 4 { limit.saturating_sub(1) } else { limit - limit / 3 };
    if limit == 0 { 1 } else { limit }
}

#[cfg(test)]
mod tests;
