//! Injected faults: what goes wrong where, by a script or by a seed.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::kv::{AbortReason, Conflict, Timestamp, Transaction};

/// Where in a transaction something can go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// At a statement whose text contains this; an empty text is contained in every statement.
    Statement(String),
    /// At RELEASE of a restart savepoint.
    Release,
    /// At COMMIT, and at the end of a transaction that the server began itself.
    Commit,
}

/// Which attempts of a transaction are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attempts {
    /// Every attempt.
    #[default]
    All,
    /// Those after ROLLBACK TO a restart savepoint.
    Replays,
}

/// Why the server asks for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reason {
    WriteTooOld,
    Serializable,
    AsyncWriteFailure,
    CommitDeadlineExceeded,
    Unknown,
    Uncertain,
    Aborted(AbortReason),
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::WriteTooOld,
        Self::Serializable,
        Self::AsyncWriteFailure,
        Self::CommitDeadlineExceeded,
        Self::Unknown,
        Self::Uncertain,
        Self::Aborted(AbortReason::AbortedRecordFound),
        Self::Aborted(AbortReason::PusherAborted),
    ];

    /// The conflict that would have arisen in a transaction.
    pub(crate) fn conflict(self, txn: &mut Transaction) -> Conflict {
        let snapshot = txn.snapshot();
        let (read, later): (Timestamp, Timestamp) = (snapshot.read, snapshot.read.next());
        match self {
            Self::Serializable => Conflict::Serializable { obstacle: None, txn: snapshot },
            Self::AsyncWriteFailure => Conflict::AsyncWriteFailure { txn: snapshot },
            Self::CommitDeadlineExceeded => Conflict::CommitDeadlineExceeded { txn: snapshot },
            Self::Unknown => Conflict::Unknown { txn: snapshot },
            Self::Uncertain => Conflict::Uncertain { read, found: later, limit: later.next() },
            Self::WriteTooOld => match snapshot.anchor {
                Some(key) => Conflict::WriteTooOld { key, attempted: read, existing: later },
                // Nothing was written that could be too old.
                None => Conflict::Serializable { obstacle: None, txn: snapshot },
            },
            Self::Aborted(reason) => {
                txn.abort(reason);
                Conflict::Aborted { reason, txn: snapshot }
            }
        }
    }
}

/// Whether the transaction is committed before the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Outcome {
    Committed,
    Lost,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// SQLSTATE 40001, which the server retries by itself if it can.
    Retry(Reason),
    /// SQLSTATE 40003: the client is not told whether its commit took effect.
    Ambiguous(Outcome),
    /// The connection breaks without an answer.
    Disconnect(Outcome),
    /// The answer takes longer.
    Delay(Duration),
    /// The connection breaks after so many more bytes of answers.
    Cut(usize),
    /// SQLSTATE 57P01, and the connection is closed.
    ShutDown,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it strikes.
    pub point: Point,
    /// In which attempts.
    pub attempts: Attempts,
    /// How many opportunities it lets pass.
    pub skip: usize,
    /// How often it strikes.
    pub times: usize,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// A fault that strikes once, at the first opportunity.
    pub fn once(point: Point, effect: Effect) -> Self {
        Self { point, attempts: Attempts::All, skip: 0, times: 1, effect }
    }

    /// The same, so many times.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// The same, after so many opportunities.
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// The same, in replays only.
    pub fn in_replays(self) -> Self {
        Self { attempts: Attempts::Replays, ..self }
    }

    fn fits(&self, at: &Opportunity<'_>) -> bool {
        let point = match (&self.point, at.point) {
            (Point::Statement(part), Point::Statement(text)) => text.contains(part.as_str()),
            (own, other) => own == other,
        };
        point && (self.attempts == Attempts::All || at.is_replay)
    }
}

/// A moment at which something could go wrong.
pub(crate) struct Opportunity<'a> {
    pub(crate) point: &'a Point,
    pub(crate) is_replay: bool,
}

/// Faults that come by chance.
#[derive(Debug)]
struct Chance {
    random: StdRng,
    probability: f64,
    effects: Vec<Effect>,
}

/// The faults of a server; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    plan: Arc<Mutex<FaultPlan>>,
}

#[derive(Debug, Default)]
struct FaultPlan {
    script: Vec<Fault>,
    chance: Option<Chance>,
    struck: usize,
}

impl Faults {
    /// Adds a fault. Of several that fit, the one added first strikes.
    pub fn add(&self, fault: Fault) {
        self.plan().script.push(fault);
    }

    /// Lets effects strike by chance: the same seed gives the same faults to the same sequence of opportunities.
    pub fn add_chance(&self, seed: u64, probability: f64, effects: Vec<Effect>) {
        self.plan().chance = Some(Chance { random: StdRng::seed_from_u64(seed), probability, effects });
    }

    /// Removes all faults.
    pub fn clear(&self) {
        *self.plan() = FaultPlan { struck: self.struck(), ..FaultPlan::default() };
    }

    /// How many faults have struck.
    pub fn struck(&self) -> usize {
        self.plan().struck
    }

    /// What goes wrong at this moment.
    pub(crate) fn strike(&self, at: &Opportunity<'_>) -> Option<Effect> {
        let mut plan = self.plan();
        let effect = plan.scripted(at).or_else(|| plan.by_chance(at));
        plan.struck += usize::from(effect.is_some());
        effect
    }

    fn plan(&self) -> MutexGuard<'_, FaultPlan> {
        self.plan.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl FaultPlan {
    fn scripted(&mut self, at: &Opportunity<'_>) -> Option<Effect> {
        let fault = self.script.iter_mut().find(|fault| fault.times > 0 && fault.fits(at))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.effect.clone())
    }

    /// A commit may have taken effect or be in doubt; any other statement may only be retried, slowed down or cut off.
    fn by_chance(&mut self, at: &Opportunity<'_>) -> Option<Effect> {
        let chance = self.chance.as_mut()?;
        if !chance.random.random_bool(chance.probability) {
            return None;
        }
        let ends = !matches!(at.point, Point::Statement(_));
        let commits =
            |effect: &Effect| matches!(effect, Effect::Ambiguous(_) | Effect::Disconnect(Outcome::Committed));
        let fits = |effect: &&Effect| ends || !commits(effect);
        let fitting: Vec<&Effect> = chance.effects.iter().filter(fits).collect();
        let index = chance.random.random_range(0..fitting.len().max(1));
        fitting.get(index).map(|effect| (*effect).clone())
    }
}
