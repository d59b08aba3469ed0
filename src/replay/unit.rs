//! One transaction from its first request to its end: what is known of it besides its journal.

use std::time::Duration;

use super::batch;
use super::deferred::Begin;
use super::event::{Outcome, TransactionEnd};
use super::fingerprint::Fingerprint;
use super::gate::Gate;
use super::journal::Effect;
use super::prepared::Names;
use super::statement::{Class, Classes};
use super::{Cause, Dialect, Reason};
use crate::wire::backend::{self, Status};

/// The savepoint of the cockroach dialect and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Savepoint {
    /// There is none.
    #[default]
    None,
    /// It went out before the second cycle, to go back to.
    Set,
    /// The client sets one of the same name: whether the server takes ours for it is not known yet.
    TakenOver,
    /// It went with the transaction that had it, and is set anew in the next one.
    Again,
    /// The server refused it, or to go back to it: the transaction is restarted whole.
    Unusable,
}

/// The `RELEASE SAVEPOINT cockroach_restart` that goes before a COMMIT, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Release {
    /// Not sent in this attempt.
    #[default]
    None,
    /// Sent in one string with the COMMIT, not answered.
    Sent,
    /// It succeeded: the data is committed.
    Done,
    /// It succeeded, and the COMMIT behind it failed: the status behind that tells what is true.
    Disputed,
    /// It was refused because the transaction had failed before.
    Refused,
    /// It failed: the session is in a failed transaction, where a failed COMMIT would have left none.
    Failed,
}

/// A transaction, or a statement in autocommit.
#[derive(Debug)]
pub(super) struct Unit {
    /// When its first request came.
    pub(super) started: Duration,
    /// Whether statements of it run outside a transaction block, which CockroachDB may commit one by one.
    pub(super) scattered: bool,
    /// Where its BEGIN is.
    pub(super) begin: Begin,
    /// Where it is on its way to its first statement.
    pub(super) gate: Gate,
    /// That statement, once its journal is gone.
    pub(super) statement: Option<Fingerprint>,
    /// How long it has waited for a place.
    pub(super) waited: Duration,
    /// Whether the client opened it with BEGIN.
    pub(super) explicit: bool,
    /// Whether Reprise runs it in a transaction block of its own.
    pub(super) enclosed: bool,
    /// What occurs in its texts.
    pub(super) classes: Classes,
    /// Whether a plain BEGIN is all that the first cycle is.
    pub(super) opened_plainly: bool,
    /// Requests of the first cycle, which opens it; zero until the second cycle begins.
    pub(super) opening: usize,
    /// Whether the cycle being sent may end it.
    pub(super) cycle_ends: bool,
    /// Whether the last request ended a cycle.
    pub(super) at_cycle_start: bool,
    /// The statements that it uses.
    pub(super) names: Names,
    /// Whether the session may have cursors that are from before it.
    pub(super) cursors_from_before: bool,
    /// Whether the session may have a SET, or a change to the schema, that was prepared by PREPARE.
    pub(super) effects_prepared: bool,
    /// Whether it may have one that takes or frees advisory locks.
    pub(super) locks_prepared: bool,
    /// The request at hand uses the unnamed statement of an earlier cycle.
    pub(super) crosses: bool,
    /// Statements run.
    pub(super) statements: u32,
    /// When the attempt at hand began.
    pub(super) attempt_began: Duration,
    /// Attempts, the first included.
    pub(super) attempts: u32,
    /// Conflicts met.
    pub(super) conflicts: u32,
    /// When the first conflict was met.
    pub(super) first_conflict: Option<Duration>,
    /// What the database named as its cause.
    pub(super) cause: Option<Cause>,
    /// The body of the first conflict's ErrorResponse.
    pub(super) original: Box<[u8]>,
    /// The savepoint.
    pub(super) savepoint: Savepoint,
    /// The release.
    pub(super) release: Release,
    /// Whether a portal was left with rows to come: CockroachDB takes nothing then but to read on, to close it, or COMMIT.
    pub(super) suspends: bool,
    /// Whether the client asked to cancel.
    pub(super) cancelled: bool,
    /// Whether the server, or Reprise for it, has said that a transaction is open.
    pub(super) opened: bool,
    /// Whether something in it failed, of which nothing else was noted.
    pub(super) failed: bool,
    /// Whether a statement has ended it, by the tag that the server gave.
    pub(super) ended: bool,
    /// The request that met the last conflict.
    pub(super) conflict_at: usize,
    /// How many of its requests the client had been shown the whole answers of when the last replay began.
    pub(super) shown: usize,
    /// Whether the attempt that cannot be hidden is rolled back.
    pub(super) left: bool,
    /// How often the session was brought to the status that a surfaced conflict is reported with.
    pub(super) restorations: u32,
    /// The status that the server was in behind it.
    pub(super) conflict_status: Option<Status>,
    /// How it ended, once that is known.
    pub(super) outcome: Option<Outcome>,
    /// Why it cannot be replayed.
    pub(super) not_replayable: Option<Reason>,
    /// The most bytes that its journal had.
    pub(super) journal_bytes: usize,
}

impl Unit {
    pub(super) fn new(started: Duration) -> Self {
        Self {
            started,
            scattered: false,
            begin: Begin::Sent,
            gate: Gate::Ahead,
            statement: None,
            waited: Duration::ZERO,
            explicit: false,
            enclosed: false,
            classes: Classes::default(),
            opened_plainly: false,
            opening: 0,
            cycle_ends: false,
            at_cycle_start: true,
            names: Names::default(),
            cursors_from_before: false,
            effects_prepared: false,
            locks_prepared: false,
            crosses: false,
            statements: 0,
            attempt_began: started,
            attempts: 1,
            conflicts: 0,
            first_conflict: None,
            cause: None,
            original: Box::default(),
            savepoint: Savepoint::None,
            release: Release::None,
            suspends: false,
            cancelled: false,
            opened: false,
            failed: false,
            ended: false,
            conflict_at: 0,
            shown: 0,
            left: false,
            restorations: 0,
            conflict_status: None,
            outcome: None,
            not_replayable: None,
            journal_bytes: 0,
        }
    }

    /// The transaction behind this one.
    pub(super) fn behind(&self, started: Duration) -> Self {
        let cursors_from_before = self.cursors_from_before || self.classes.has(Class::HeldCursor);
        let effects_prepared = self.effects_prepared || self.classes.has(Class::PreparedEffect);
        let locks_prepared = self.locks_prepared || self.classes.has(Class::PreparedLock);
        Self { cursors_from_before, effects_prepared, locks_prepared, ..Self::new(started) }
    }

    /// What a Bind of a statement with a name may run, where a PREPARE has made one of those that EXECUTE is asked about.
    pub(super) fn prepared(&self) -> Classes {
        let made =
            [Class::PreparedEffect, Class::PreparedLock].into_iter().any(|class| self.classes.has(class));
        if made || self.effects_prepared || self.locks_prepared {
            Class::Execute.into()
        } else {
            Classes::default()
        }
    }

    /// A request came: what it runs counts, and a BEGIN makes the transaction an explicit one.
    pub(super) fn count(&mut self, tag: u8, classes: Classes) {
        let begins = classes.has(Class::Begin);
        let precedes = self.statements > 0 || (classes.is_several() && !classes.begins());
        self.scattered |= !self.explicit && ((begins && precedes) || (classes.is_several() && !begins));
        self.statements += u32::from(batch::runs_statement(tag));
        self.explicit |= classes.has(Class::Begin);
        self.classes = self.classes.union(classes);
    }

    /// The transaction is run again: how the failed attempt ended says nothing of this one.
    pub(super) const fn next_attempt(&mut self, now: Duration) {
        self.attempts += 1;
        self.attempt_began = now;
        (self.ended, self.outcome) = (false, None);
    }

    /// How many of its requests open it again before a replay may begin: none, if they do more than that.
    pub(super) const fn reopened(&self) -> usize {
        if self.opened_plainly { self.opening } else { 0 }
    }

    /// A statement with this effect is answered with this body of a CommandComplete.
    #[inline]
    pub(super) fn note_end(&mut self, effect: Effect, body: &[u8]) {
        if self.explicit && effect.ends() {
            self.note_tag(backend::command_tag(body));
        }
    }

    /// A statement that may end the transaction is answered with this tag.
    pub(super) fn note_tag(&mut self, tag: Option<&[u8]>) {
        let outcome = match tag {
            Some(b"COMMIT") => Outcome::Committed,
            // CockroachDB commits to know it, and waits for the COMMIT.
            Some(tag) if tag.starts_with(b"SHOW COMMIT TIMESTAMP") => {
                self.outcome = Some(Outcome::Committed);
                return;
            }
            Some(b"ROLLBACK") => Outcome::RolledBack,
            _ => return,
        };
        // What is committed stays committed, whatever the rest of the string does.
        if self.explicit && !matches!(self.outcome, Some(Outcome::Surfaced(_) | Outcome::Committed)) {
            self.outcome = Some(outcome);
        }
        self.ended = true;
        (self.release, self.savepoint) = (Release::None, Savepoint::None);
    }

    /// Why what the texts of the transaction do rules a replay out. A transaction that is explicit runs as one whole;
    /// a statement in autocommit must be one that commits once, at its end.
    #[inline]
    pub(super) fn obstacle(&self, dialect: Dialect) -> Option<Reason> {
        let has = |class| self.classes.has(class);
        let prepared = self.cursors_from_before || self.effects_prepared || self.locks_prepared;
        if !(self.classes.may_hinder() || prepared || self.names.are_lost(true)) {
            return None;
        }
        if self.names.are_lost(self.explicit) {
            Some(Reason::StatementFromBefore)
        } else if self.classes.are_switched_off() {
            Some(Reason::SwitchedOff)
        } else if has(Class::Unclear) {
            Some(Reason::UnknownMessage)
        } else if has(Class::Chain) {
            Some(Reason::ChainedTransaction)
        } else if has(Class::TwoPhase) {
            Some(Reason::TwoPhaseCommit)
        } else if dialect == Dialect::Cockroach && has(Class::RestartSavepoint) {
            Some(Reason::OwnRetryProtocol)
        } else if has(Class::AdvisoryLock) || (self.locks_prepared && has(Class::Execute)) {
            Some(Reason::AdvisoryLock)
        } else {
            let sets = has(Class::Setting) || (self.effects_prepared && has(Class::Execute));
            let setting = dialect == Dialect::Cockroach && sets;
            let cursor = self.cursors_from_before && has(Class::Cursor);
            let prepares = [Class::SessionState, Class::PreparedEffect, Class::PreparedLock];
            let prepares = prepares.into_iter().any(has);
            (self.explicit && (prepares || setting || cursor)).then_some(Reason::SessionState)
        }
    }

    /// Why a statement in autocommit cannot be sent again: parts of it may have been committed.
    pub(super) fn autocommit_obstacle(&self, dialect: Dialect) -> Option<Reason> {
        let several = dialect == Dialect::Cockroach && (self.statements > 1 || self.scattered);
        (several || !self.classes.only_data()).then_some(Reason::CommittedInside)
    }

    /// The end, in figures.
    pub(super) fn end(&self, now: Duration) -> TransactionEnd {
        TransactionEnd {
            outcome: match self.outcome {
                Some(outcome) => outcome,
                None if self.failed => Outcome::RolledBack,
                None => Outcome::Committed,
            },
            // A BEGIN that was sent along may belong to what is behind.
            explicit: self.explicit && (self.opened || self.ended),
            attempts: self.attempts,
            conflicts: self.conflicts,
            retry_time: self.first_conflict.map_or(Duration::ZERO, |first| now.saturating_sub(first)),
            journal_bytes: self.journal_bytes,
            not_replayable: self.not_replayable,
        }
    }
}
