//! What the operator allows the governor.

use std::time::Duration;

/// Whether transactions wait for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Transactions of a contended class wait until they are admitted.
    On,
    /// Nothing waits; what might have waited is counted.
    Observe,
    /// There are no classes.
    Off,
}

impl Mode {
    /// Every mode, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::On, Self::Observe, Self::Off];

    /// The stable name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// The limits within which transactions are made to wait. None of them refuses a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether transactions wait.
    pub mode: Mode,
    /// The longest wait for a place; after it the transaction is admitted whatever the limit is. Where nothing moves it
    /// is a sixth of that, see [`Self::patience`].
    pub max_wait: Duration,
    /// How long a transaction may keep its place while the database is not at work for it.
    pub idle: Duration,
    /// A class without a conflict, and without a wait, for this long is forgotten.
    pub calm: Duration,
    /// Classes at a time; the conflicts of further ones are left to their transactions' own pauses.
    pub max_classes: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::On,
            max_wait: Duration::from_secs(60),
            idle: Duration::from_millis(50),
            calm: Duration::from_secs(10),
            max_classes: 64,
        }
    }
}

impl Policy {
    /// How long a transaction waits before it asks whether its queue moves at all.
    pub fn patience(&self) -> Duration {
        self.max_wait / 6
    }
}
