//! The engine of one session: what happened goes in, what to do comes out.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::digest::{Digest, Unordered};
use super::encounter::{Encounter, Statement};
use super::event::{Event, Outcome};
use super::explain;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::gate::{Gate, Place};
use super::held::Held;
use super::intent::Intent;
use super::journal::Journal;
use super::lock_table::Locks;
use super::outstanding::Outstanding;
use super::policy::{Dialect, Mode, Policy};
use super::reason::Reason;
use super::state::State;
use super::unit::{Release, Unit};
use crate::wire::SqlState;
use crate::wire::backend::Status;

/// What the engine asks for, given to each call: the one thing that differs between the sockets of the proxy, a
/// recorded conversation and a simulator.
///
/// Bytes are borrowed for the call. Runs of them that pass through unchanged are parts of the very input at hand, so
/// that an implementation may write them on without a copy. The order of calls is the order on each wire.
pub trait Output {
    /// Bytes for the client.
    fn frontend(&mut self, bytes: &[u8]);
    /// Bytes for the server.
    fn backend(&mut self, bytes: &[u8]);
    /// Something worth counting.
    fn report(&mut self, event: Event);
    /// Asks to hold this many bytes in the journal from now on; replaces what was granted before. False if the journals of
    /// all sessions together would outgrow their limit.
    fn hold(&mut self, journal_bytes: usize) -> bool;
    /// Asks for the turn of a replay, in a transaction that began at `started`. False if it must wait for
    /// [`Engine::admitted`]; where nothing limits replays they never wait.
    fn admit(&mut self, started: Duration) -> bool {
        let _ = started;
        true
    }
    /// Whether transactions may have to wait for a place: what follows is asked only then.
    fn governs(&self) -> bool {
        false
    }
    /// A transaction that began at `since` asks for a place: for its first attempt, or for a replay.
    fn enter(&mut self, now: Duration, intent: Intent, since: Duration, replay: bool) -> Place {
        let _ = (now, intent, since, replay);
        Place::Free
    }
    /// A transaction that began with this statement has met a conflict.
    fn contends(&mut self, statement: Fingerprint) {
        let _ = statement;
    }
    /// A conflict in full, besides its [`Event::Conflict`]. Data may be in its texts.
    fn conflict(&mut self, met: &Encounter<'_>) {
        let _ = met;
    }
    /// A statement gave another result in a replay than the one that the client had seen.
    fn differed(&mut self, statement: Statement<'_>) {
        let _ = statement;
    }
    /// A statement that the client had seen the result of gave the same one in a replay.
    fn verified(&mut self, statement: Fingerprint) {
        let _ = statement;
    }
    /// Whether the statements of the transaction at hand are to be told by [`Self::runs`].
    fn watches(&self) -> bool {
        false
    }
    /// A statement is run, in a transaction that the client has opened or not.
    fn runs(&mut self, statement: Statement<'_>, in_transaction: bool) {
        let _ = (statement, in_transaction);
    }
    /// A statement is prepared, under a name or for a statement that is watched.
    fn prepared(&mut self, statement: Statement<'_>) {
        let _ = statement;
    }
    /// The session is over: send what is left for the client, then close both sides.
    fn close(&mut self);
}

/// What becomes of a frame of the client.
pub(super) enum Step {
    /// It goes to the server as it is.
    Forward,
    /// These bytes go to the server, then the frame.
    After(Vec<u8>),
    /// These bytes go to the server in its place.
    Instead(Vec<u8>),
    /// It is dropped.
    Drop,
}

impl Step {
    /// The same, with these bytes before everything else.
    pub(super) fn behind(self, mut bytes: Vec<u8>) -> Self {
        match self {
            Self::Forward => Self::After(bytes),
            Self::After(added) => {
                bytes.extend(added);
                Self::After(bytes)
            }
            Self::Instead(other) => {
                bytes.extend(other);
                Self::Instead(bytes)
            }
            Self::Drop => Self::Instead(bytes),
        }
    }

    /// The same, with other bytes in the place of the frame.
    pub(super) fn with(self, other: Vec<u8>) -> Self {
        match self {
            Self::Forward => Self::Instead(other),
            Self::After(mut added) => {
                added.extend(other);
                Self::Instead(added)
            }
            step => step,
        }
    }
}

/// Bytes of journal that every session may hold without asking: the limit on connections bounds them.
const UNASKED_BYTES: usize = 16 << 10;
/// Bytes of journal that are asked for at a time beyond that.
const ASKED_BYTES: usize = 64 << 10;

/// The replay engine of one session, from the ReadyForQuery that ends its startup to its end.
///
/// Every call takes the time since some fixed point and an [`Output`]. After each call, [`Self::deadline`] tells
/// when [`Self::timeout`] is due; a call too early is harmless.
pub struct Engine {
    pub(super) policy: Arc<Policy>,
    pub(super) dialect: Dialect,
    pub(super) state: State,
    /// What the server's last ReadyForQuery said.
    pub(super) status: Status,
    /// When it came.
    pub(super) ready_at: Duration,
    pub(super) unit: Unit,
    pub(super) journal: Journal,
    pub(super) outstanding: Outstanding,
    pub(super) fingerprints: Fingerprints,
    pub(super) backoff: Backoff,
    pub(super) reading: Reading,
    pub(super) held: Held,
    pub(super) locks: Locks,
    /// Settings that the server reported while the client waits for a retry, the last value of each.
    pub(super) settings: Vec<Setting>,
    /// Bytes of a long frame from the client that are still to come.
    pub(super) frontend_rest: usize,
    /// Whether they are dropped.
    pub(super) frontend_dropping: bool,
    /// Bytes of a long frame from the server that are still to come.
    pub(super) backend_rest: usize,
    /// After a surfaced conflict in a batch: the client's messages up to its Sync are dropped, as the server would.
    pub(super) discarding: bool,
    /// How the replay differed, for the DETAIL of the error.
    pub(super) difference: Option<explain::Difference>,
    /// The server knows `ROLLBACK AND CHAIN`, as far as is known.
    pub(super) chains: bool,
    /// The server has said that it ends the session.
    pub(super) farewell: bool,
    /// The client has said that it does.
    pub(super) leaves: bool,
    /// The client is told of transactions that were run again.
    pub(super) reports: bool,
    granted_bytes: usize,
    /// The session may have `force_savepoint_restart` on.
    pub(super) forces_restart: bool,
    /// The session has prepared a statement of a retry protocol of its own.
    pub(super) prepared_restart: bool,
}

/// A ParameterStatus that the client has not been given yet.
pub(super) struct Setting {
    pub(super) name: Box<[u8]>,
    pub(super) frame: Box<[u8]>,
}

/// The answer that is being read.
#[derive(Default)]
pub(super) struct Reading {
    /// Frames of it so far, in this attempt.
    pub(super) frames: u64,
    /// Whether there was an error in it, in this attempt.
    pub(super) failed: bool,
    /// Rows of it so far, in this attempt.
    pub(super) rows: u64,
    /// The digest of these frames.
    pub(super) digest: Digest,
    /// Its rows whatever their order.
    pub(super) unordered: Unordered,
    /// Whether the frame that is being streamed goes to the client.
    pub(super) forwarding: bool,
    /// Whether it is a part of the answer.
    pub(super) digesting: bool,
}

impl Reading {
    /// The next answer begins.
    pub(super) fn begin(&mut self) {
        self.frames = 0;
        self.rows = 0;
        self.failed = false;
        self.unordered = Unordered::default();
        self.digest.reset();
    }
}

impl Engine {
    /// The engine of a session that stands outside a transaction. The seed fixes its pauses.
    pub fn new(policy: Arc<Policy>, dialect: Dialect, seed: u64) -> Self {
        Self {
            policy,
            dialect,
            state: State::Idle,
            status: Status::Idle,
            ready_at: Duration::ZERO,
            unit: Unit::new(Duration::ZERO),
            journal: Journal::default(),
            outstanding: Outstanding::default(),
            fingerprints: Fingerprints::default(),
            backoff: Backoff::new(seed),
            reading: Reading::default(),
            held: Held::default(),
            locks: Locks::default(),
            settings: Vec::new(),
            frontend_rest: 0,
            frontend_dropping: false,
            backend_rest: 0,
            discarding: false,
            difference: None,
            chains: dialect == Dialect::Postgres,
            farewell: false,
            leaves: false,
            reports: false,
            granted_bytes: 0,
            forces_restart: false,
            prepared_restart: false,
        }
    }

    /// When [`Self::timeout`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let due = match self.state {
            State::BackingOff { until: Some(until), .. } if self.outstanding.is_empty() => Some(until),
            State::Queued { .. } => self.patience_ends(),
            _ => self.held_until(),
        };
        match self.silence_ends() {
            Some(end) => Some(due.map_or(end, |due| due.min(end))),
            None => due,
        }
    }

    /// Whether the server is at work for this session, or a transaction is open.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle | State::Ended) || !self.outstanding.is_empty()
    }

    /// Whether a transaction is being run again.
    pub const fn is_retrying(&self) -> bool {
        self.state.is_retrying()
    }

    /// When the transaction at hand began, or the last one.
    pub const fn began(&self) -> Duration {
        self.unit.started
    }

    /// Bytes of answers that are kept from the client for the moment.
    pub const fn held_bytes(&self) -> usize {
        self.held.bytes_len()
    }

    /// Whether the server owes an answer.
    pub fn awaits_answer(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Whether the server can do nothing before the client sends more data of a COPY.
    pub fn awaits_copy_data(&self) -> bool {
        self.outstanding.only_copies()
    }

    /// Whether a client that will say no more is owed answers, or their end by the server. What it has begun and cannot end,
    /// a message, a batch or a transaction, is of no more use.
    pub fn owes_last_answers(&self) -> bool {
        let awaits = self.awaits_answer() && self.outstanding.are_complete();
        self.only_relays() || (self.frontend_rest == 0 && (awaits || !self.takes_requests()))
    }

    /// Whether the client has said that it ends the session.
    pub const fn is_left(&self) -> bool {
        self.leaves
    }

    /// Whether nothing is followed: bytes are relayed.
    pub fn only_relays(&self) -> bool {
        self.policy.mode == Mode::Off
    }

    /// Whether a commit is sent and not answered: nobody knows its outcome if the session ends here.
    pub fn is_committing(&self) -> bool {
        // A COPY whose data has not come to its end commits nothing.
        self.unit.statements > 0 && self.outstanding.may_commit() && !self.outstanding.is_copying()
    }

    /// Whether the client may have the beginning of a message without its end: then nothing else can be told it.
    pub fn is_within_message(&self) -> bool {
        self.policy.mode == Mode::Off || (self.backend_rest > 0 && self.reading.forwarding)
    }

    /// The pause before the next attempt, the wait for its turn, or the time for which answers are held, may be over.
    pub fn timeout(&mut self, now: Duration, out: &mut impl Output) {
        if self.held_until().is_some_and(|until| now >= until) {
            self.release_held(out);
        }
        if let State::BackingOff { until: Some(until), .. } = self.state
            && now >= until
            && self.outstanding.is_empty()
        {
            self.ask_for_turn(now, out);
        }
        self.end_patience(now, out);
        self.end_silence(now, out);
    }

    /// The client asked to cancel what runs. True if the request must also go to the server.
    pub fn cancel(&mut self, now: Duration, out: &mut impl Output) -> bool {
        self.unit.cancelled |= self.state.is_retrying();
        match self.state {
            State::Open if matches!(self.unit.gate, Gate::Waiting { .. } | Gate::Granted) => {
                self.cancel_at_gate(out);
                false
            }
            State::BackingOff { .. } | State::Queued { .. } => {
                self.give_up(now, Reason::Cancelled, out);
                false
            }
            // Statements of the client's may be at work, and wait for a lock. A request of Reprise's own must not be struck.
            State::Draining | State::GivingUp { .. } => self.outstanding.has_only_clients(),
            // The client's own request is answered: there is nothing of it left to cancel.
            _ => !self.outstanding.ends_failed_commit(),
        }
    }

    /// The client is gone.
    pub fn frontend_closed(&mut self, now: Duration, out: &mut impl Output) {
        self.end_session(now, Outcome::Abandoned, out);
    }

    /// The server is gone. Tells the client what that means for what it waits for, unless the server has said so itself.
    pub fn backend_closed(&mut self, now: Duration, out: &mut impl Output) {
        if self.unit.outcome != Some(Outcome::Committed) {
            self.held.drop_uncommitted();
        }
        self.release_held(out);
        let committing = self.is_committing() || self.unit.outcome == Some(Outcome::InDoubt);
        if matches!(self.unit.release, Release::Done | Release::Disputed) {
            self.acknowledge_commit(out);
        }
        let committed = self.unit.outcome == Some(Outcome::Committed);
        if self.policy.mode != Mode::Transparent || self.is_within_message() {
            // The end of the connection says it.
        } else if committed || self.farewell || self.leaves {
            // The client knows: a second final error would confuse it.
        } else if committing {
            out.frontend(&explain::fatal(
                SqlState::RESOLUTION_UNKNOWN,
                "the connection to the database was lost while the transaction was being committed",
                "Whether it was committed is unknown: look before you run it again.",
            ));
        } else if self.is_busy() {
            out.frontend(&explain::fatal(
                SqlState::CONNECTION_FAILURE,
                "the connection to the database was lost",
                "Connect again. A transaction that was open is rolled back.",
            ));
        }
        let outcome = match () {
            () if committed => Outcome::Committed,
            () if committing => Outcome::InDoubt,
            () => Outcome::Abandoned,
        };
        self.end_session(now, outcome, out);
        out.close();
    }

    pub(super) fn end_session(&mut self, now: Duration, outcome: Outcome, out: &mut impl Output) {
        if self.is_busy() && self.policy.mode != Mode::Off {
            if !matches!(self.unit.outcome, Some(Outcome::Surfaced(_))) {
                self.unit.outcome = Some(outcome);
            }
            out.report(Event::TransactionEnded(self.unit.end(now)));
        }
        self.forget_journal(out);
        self.state = State::Ended;
        self.outstanding = Outstanding::default();
    }

    /// A first request: a transaction begins, of one statement or of many.
    pub(super) fn begin_unit(&mut self, now: Duration) {
        self.unit = self.unit.behind(now);
        self.state = State::Open;
    }

    /// The server says that no transaction is open, and nothing is outstanding.
    pub(super) fn end_unit(&mut self, now: Duration, out: &mut impl Output) {
        if self.unit.statements > 0 {
            out.report(Event::TransactionEnded(self.unit.end(now)));
        }
        self.forget_journal(out);
        self.outstanding.prepared.transaction_ended();
        self.locks.transaction_in_doubt = false;
        self.state = State::Idle;
    }

    /// A transaction has ended, and what was sent behind it is one of its own: in a transaction block that is `open`, or not.
    pub(super) fn begin_behind(&mut self, now: Duration, open: bool, out: &mut impl Output) {
        let reason = match self.state {
            State::Passthrough(reason @ Reason::ChainedTransaction) => reason,
            _ => Reason::PipelinedPastEnd,
        };
        self.end_unit(now, out);
        self.begin_unit(now);
        self.unit.explicit = open;
        // Its BEGIN, and what that says of the isolation level, was sent before the end of the last one.
        self.locks.transaction_in_doubt = true;
        self.unit.statements = 1;
        self.pass_through(reason, out);
    }

    /// The transaction cannot be replayed from here on.
    pub(super) fn pass_through(&mut self, reason: Reason, out: &mut impl Output) {
        self.unit.not_replayable.get_or_insert(reason);
        self.unit.statement = self.first_statement();
        self.deliver_settings(out);
        self.release_held(out);
        self.forget_journal(out);
        self.outstanding.forget_journal();
        self.state = State::Passthrough(reason);
    }

    fn forget_journal(&mut self, out: &mut impl Output) {
        self.journal.clear();
        self.discard_held();
        self.reading.begin();
        if self.granted_bytes > 0 {
            self.granted_bytes = 0;
            out.hold(0);
        }
    }

    /// Whether the journal may grow by `bytes`; if not, why.
    #[inline]
    pub(super) fn room_for(&mut self, bytes: usize, out: &mut impl Output) -> Result<(), Reason> {
        let wanted = self.journal.bytes_len() + bytes;
        if wanted > self.policy.journal_bytes {
            return Err(Reason::JournalLimit);
        }
        let memory = wanted + self.journal.index_bytes();
        if memory > UNASKED_BYTES && memory > self.granted_bytes {
            let asked = memory.next_multiple_of(ASKED_BYTES);
            if !out.hold(asked) {
                return Err(Reason::JournalTotal);
            }
            self.granted_bytes = asked;
        }
        self.unit.journal_bytes = self.unit.journal_bytes.max(wanted);
        Ok(())
    }
}
