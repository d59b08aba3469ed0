//! Hybrid logical time: wall time in nanoseconds, and a counter that keeps it strictly growing.

use std::fmt::{self, Display, Formatter};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of the store; no two calls of [`Clock::now`] return the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    wall: u64,
    logical: u32,
}

impl Timestamp {
    /// The smallest later moment.
    pub fn next(self) -> Self {
        Self { logical: self.logical + 1, ..self }
    }

    /// The moment so much later.
    pub fn after(self, delay: Duration) -> Self {
        Self { wall: self.wall.saturating_add(nanoseconds(delay)), logical: 0 }
    }

    /// The moment so much earlier.
    pub fn before(self, delay: Duration) -> Self {
        Self { wall: self.wall.saturating_sub(nanoseconds(delay)), logical: 0 }
    }

    /// Nanoseconds since 1970.
    pub fn nanoseconds(self) -> u64 {
        self.wall
    }

    /// As `cluster_logical_timestamp()` shows it.
    pub fn decimal(self) -> String {
        format!("{}.{:010}", self.wall, self.logical)
    }
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09},{}", self.wall / 1_000_000_000, self.wall % 1_000_000_000, self.logical)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a store.
#[derive(Debug, Default)]
pub struct Clock {
    last: Mutex<Timestamp>,
}

impl Clock {
    /// A moment later than all that were handed out or seen before.
    pub fn now(&self) -> Timestamp {
        let wall = nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last = if wall > last.wall { Timestamp { wall, logical: 0 } } else { last.next() };
        *last
    }

    /// Makes sure that `now` is later than a moment at which something was committed.
    pub fn forward(&self, seen: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last = seen.max(*last);
    }
}
