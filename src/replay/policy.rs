//! What the operator allows the engine: modes, limits and the backoff.

use std::time::Duration;

/// What Reprise does about conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Conflicts are retried and hidden wherever that is truthful.
    Transparent,
    /// The wire is left as it is; what would have been retried is counted.
    Observe,
    /// Bytes are relayed; nothing is journalled.
    Off,
}

impl Mode {
    /// Every mode, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::Transparent, Self::Observe, Self::Off];

    /// The stable name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transparent => "transparent",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// How a transaction is run again on the server at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `ROLLBACK TO SAVEPOINT cockroach_restart`: keeps locks and the place in the line.
    Cockroach,
    /// `ROLLBACK AND CHAIN`, or `ROLLBACK` and the client's own `BEGIN`: only a new transaction gets a new snapshot.
    Postgres,
}

impl Dialect {
    /// The stable name, as in the configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cockroach => "cockroach",
            Self::Postgres => "postgres",
        }
    }
}

/// When the BEGIN of a transaction goes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    /// Deferred in the cockroach dialect, immediate in the postgres dialect.
    Auto,
    /// A plain BEGIN is answered by Reprise, and sent in the same write as the first statement.
    Deferred,
    /// As the client sends it.
    Immediate,
}

impl Begin {
    /// Every choice, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Deferred, Self::Immediate];

    /// The stable name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Deferred => "deferred",
            Self::Immediate => "immediate",
        }
    }

    /// Whether a plain BEGIN is deferred on this kind of server.
    pub const fn defers(self, dialect: Dialect) -> bool {
        match self {
            Self::Auto => matches!(dialect, Dialect::Cockroach),
            Self::Deferred => true,
            Self::Immediate => false,
        }
    }
}

/// What is done with LOCK TABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockTable {
    /// It goes to the server.
    Forward,
    /// In the cockroach dialect and under SERIALIZABLE it is answered by Reprise, and nothing is locked.
    Ignore,
}

impl LockTable {
    /// Every choice, in the order in which they are documented.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Ignore];

    /// The stable name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Ignore => "ignore",
        }
    }
}

/// The limits within which transactions are run again. Passing one of them surfaces the original error
/// (attempts, time) or makes the transaction not replayable (bytes); it never fails what would have worked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What to do about conflicts.
    pub mode: Mode,
    /// Runs of one transaction in all, the first included.
    pub max_attempts: u32,
    /// The bound of the first pause; it doubles with each further one. On CockroachDB the first replay goes without one.
    pub initial_backoff: Duration,
    /// The longest pause between two attempts.
    pub max_backoff: Duration,
    /// Time after the start of the first attempt in which a new attempt may begin.
    pub timeout: Duration,
    /// Bytes of requests kept for one transaction.
    pub journal_bytes: usize,
    /// When a plain BEGIN is sent.
    pub begin: Begin,
    /// Bytes of answers kept from the client while later requests of the same batch are unanswered.
    pub hold_bytes: usize,
    /// How long they are kept at most.
    pub hold_time: Duration,
    /// Whether 40P01 (deadlock_detected) counts as a conflict in the postgres dialect.
    pub deadlocks: bool,
    /// What to do with LOCK TABLE. [`LockTable::Ignore`] is only for sessions whose isolation level is SERIALIZABLE as they
    /// begin; the engine notices where that may change.
    pub lock_table: LockTable,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Transparent,
            max_attempts: 50,
            initial_backoff: Duration::from_millis(2),
            max_backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            journal_bytes: 4 << 20,
            begin: Begin::Auto,
            hold_bytes: 16 << 10,
            hold_time: Duration::from_millis(5),
            deadlocks: true,
            lock_table: LockTable::Forward,
        }
    }
}
