//! What one seed is about: who takes part, on what server, with which faults, under which policy.

use std::time::Duration;

use fastrand::Rng;
use reprise::replay::{Begin, Dialect, Policy};

/// Probabilities, in thousandths, of what goes wrong in the database.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// A conflict out of nowhere at a statement.
    pub(crate) statement_conflict: u32,
    /// The same at a commit.
    pub(crate) commit_conflict: u32,
    /// Some other error of a statement.
    pub(crate) error: u32,
    /// A commit with an unknown outcome, 40003.
    pub(crate) ambiguous: u32,
    /// The connection is lost at a statement or a commit.
    pub(crate) loss: u32,
    /// 57P01, then the connection is closed.
    pub(crate) shutdown: u32,
    /// The client hangs up.
    pub(crate) hang_up: u32,
    /// The client cancels.
    pub(crate) cancel: u32,
}

/// How the server at hand behaves where servers and their versions differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub(crate) dialect: Dialect,
    /// A change of the schema commits what is open (CockroachDB since 25.1).
    pub(crate) definition_commits: bool,
    /// Each Execute in autocommit is a transaction of its own (CockroachDB before 22.2).
    pub(crate) execute_commits: bool,
    /// An error is sent at once, not with the next Sync or Flush.
    pub(crate) error_flushes: bool,
    /// Answers are sent as they are made, not only when asked for.
    pub(crate) always_flushes: bool,
}

/// One seed, spelled out.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) traits: Traits,
    pub(crate) rates: Rates,
    pub(crate) policy: Policy,
    pub(crate) clients: u32,
    pub(crate) keys: i64,
    /// Transactions, or statements in autocommit, of each client.
    pub(crate) transactions: u32,
    /// What clients do beyond the plain.
    pub(crate) habits: Habits,
    /// Whether journals beyond what is always granted are refused.
    pub(crate) grants_journals: bool,
    /// Whether every replay waits for its turn.
    pub(crate) turns_wait: bool,
    /// How many transactions are let in at a time; 0 for any number.
    pub(crate) doors: usize,
    /// One client has the database for itself and meets nothing but conflicts, under a policy with hardly a limit.
    pub(crate) alone: bool,
}

/// What clients do, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// A statement is sent in the extended protocol.
    pub(crate) extended: u32,
    /// Another cycle is sent before the answer to the last one.
    pub(crate) pipelined: u32,
    /// A Query has another statement behind the last one.
    pub(crate) several: u32,
    /// A savepoint is set, gone back to or released.
    pub(crate) savepoint: u32,
    /// A statement that fails.
    pub(crate) failing: u32,
    /// A value from the sequence.
    pub(crate) sequence: u32,
    /// SET or SET LOCAL.
    pub(crate) setting: u32,
    /// A change of the schema.
    pub(crate) definition: u32,
    /// The client runs the retry protocol itself.
    pub(crate) own_retry: u32,
    /// The client sends Flush and waits before it goes on with its batch.
    pub(crate) flush: u32,
    /// COPY.
    pub(crate) copy: u32,
}

impl Scenario {
    /// The scenario of a seed. One in three has a single client and conflicts as its only fault: there every conflict
    /// must be hidden, and the client's story must be that of a run without conflicts.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let alone = seed.is_multiple_of(3);
        let traits = traits(&mut rng);
        let rates = if alone { conflicts_only(&mut rng) } else { rates(&mut rng) };
        let policy = if alone { patient(&mut rng) } else { policy(&mut rng) };
        Self {
            traits,
            rates,
            policy,
            clients: if alone { 1 } else { rng.u32(1..=4) },
            keys: rng.i64(2..=6),
            transactions: rng.u32(2..=6),
            habits: habits(&mut rng, alone),
            grants_journals: alone || rng.u32(0..10) > 0,
            turns_wait: seed.is_multiple_of(4),
            doors: if seed.is_multiple_of(2) { 0 } else { rng.usize(0..=2) },
            alone,
        }
    }

    /// The same without any conflict.
    pub(crate) fn calm(&self) -> Self {
        Self { rates: Rates::default(), ..self.clone() }
    }
}

fn traits(rng: &mut Rng) -> Traits {
    let dialect = if rng.bool() { Dialect::Postgres } else { Dialect::Cockroach };
    let cockroach = dialect == Dialect::Cockroach;
    Traits {
        dialect,
        definition_commits: cockroach && rng.bool(),
        execute_commits: cockroach && rng.bool(),
        error_flushes: !cockroach || rng.bool(),
        always_flushes: rng.bool(),
    }
}

/// A rate that is often zero.
fn often_zero(rng: &mut Rng, most: u32) -> u32 {
    if rng.bool() { 0 } else { rng.u32(0..=most) }
}

fn conflicts_only(rng: &mut Rng) -> Rates {
    let (statement_conflict, commit_conflict) = (often_zero(rng, 200), often_zero(rng, 400));
    Rates { statement_conflict, commit_conflict, ..Rates::default() }
}

fn rates(rng: &mut Rng) -> Rates {
    Rates {
        statement_conflict: often_zero(rng, 200),
        commit_conflict: often_zero(rng, 400),
        error: often_zero(rng, 60),
        ambiguous: often_zero(rng, 200),
        loss: often_zero(rng, 30),
        shutdown: often_zero(rng, 10),
        hang_up: often_zero(rng, 4),
        cancel: often_zero(rng, 30),
    }
}

fn patient(rng: &mut Rng) -> Policy {
    let hold_bytes = *rng.choice(&[0, 100, 16 << 10]).expect("there are some");
    let begin = *rng.choice(&Begin::ALL).expect("there are some");
    Policy { hold_bytes, begin, max_attempts: 1000, timeout: Duration::from_secs(3600), ..Policy::default() }
}

fn policy(rng: &mut Rng) -> Policy {
    let journal_bytes = if rng.u32(0..8) == 0 { rng.usize(60..600) } else { 4 << 20 };
    let timeout = if rng.u32(0..8) == 0 { Duration::from_millis(3) } else { Duration::from_secs(15) };
    let max_attempts = *rng.choice(&[1, 2, 3, 50, 50, 50]).expect("there are some");
    let hold_bytes = *rng.choice(&[0, 100, 16 << 10]).expect("there are some");
    let begin = *rng.choice(&Begin::ALL).expect("there are some");
    let deadlocks = rng.u32(0..4) > 0;
    Policy { max_attempts, timeout, journal_bytes, hold_bytes, begin, deadlocks, ..Policy::default() }
}

fn habits(rng: &mut Rng, alone: bool) -> Habits {
    Habits {
        extended: *rng.choice(&[0, 500, 1000]).expect("there are some"),
        pipelined: *rng.choice(&[0, 200, 700]).expect("there are some"),
        several: often_zero(rng, 300),
        savepoint: often_zero(rng, 400),
        failing: often_zero(rng, 150),
        sequence: if alone { 0 } else { often_zero(rng, 100) },
        setting: often_zero(rng, 100),
        definition: often_zero(rng, 60),
        own_retry: if alone { 0 } else { often_zero(rng, 300) },
        flush: often_zero(rng, 300),
        copy: often_zero(rng, 1000),
    }
}
