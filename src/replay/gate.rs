//! Where a transaction waits for a place: before its first statement, where it holds no lock and no snapshot, and before a
//! replay. Who may go is decided elsewhere: [`Output::enter`] asks, and [`Engine::place_granted`] answers those who had to wait.
//!
//! The BEGIN may have gone out before: it takes no snapshot and no lock. A transaction that is already at work is never
//! stopped. Where no class is contended, nothing of this is asked.

use std::time::Duration;

use super::deferred::Begin;
use super::engine::{Engine, Output, Step};
use super::event::Event;
use super::fingerprint::Fingerprint;
use super::intent::{Intent, Values};
use super::journal::Effect;
use super::owner::{Control, Owner};
use super::policy::Mode;
use super::reason::Reason;
use super::state::State;
use super::statement::Class;
use crate::wire::backend::Status;
use crate::wire::encode;
use crate::wire::frontend::tag;

/// Replays with a place that hardly pause.
const HURRIED: u32 = 3;

/// The answer to a transaction that asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It may go; there is no limit, so a replay is to pause of its own accord.
    Free,
    /// It may go: its like are held back.
    Granted,
    /// It must wait for [`Engine::place_granted`].
    Awaited,
}

/// Where a transaction is on its way to its first statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// Its first statement is still to come.
    #[default]
    Ahead,
    /// That is here, and waits.
    Waiting { since: Duration },
    /// It has a place, and is sent when what is unanswered of Reprise's own is answered.
    Granted,
    /// The client has cancelled it meanwhile.
    Cancelled,
    /// It is sent.
    Passed,
}

impl Engine {
    /// Whether a request, as it goes to the server, must wait: it is the first that works on data, and there is no place for the
    /// transaction. `behind` is what has come behind it, as far as it is here.
    pub(super) fn waits_at_gate(
        &mut self,
        now: Duration,
        tag: u8,
        frame: &[u8],
        behind: &[u8],
        out: &mut impl Output,
    ) -> bool {
        let idle = matches!(self.state, State::Idle);
        let ahead = idle || (matches!(self.state, State::Open) && self.unit.gate == Gate::Ahead);
        if !ahead
            || self.policy.mode != Mode::Transparent
            || !matches!(tag, tag::QUERY | tag::PARSE | tag::BIND | tag::EXECUTE | tag::FUNCTION_CALL)
            || self.outstanding.is_skipping()
            // In a transaction that has failed nothing is run.
            || (self.status == Status::Failed && self.outstanding.is_empty())
            // What is sent behind a COMMIT before its answer is not a part of what it ends.
            || self.outstanding.may_commit()
        {
            return false;
        }
        let classes = self.unit.classes;
        let works =
            [Class::Data, Class::Definition, Class::Execute].into_iter().any(|class| classes.has(class));
        let works = works || classes.is_several();
        if !idle && (works || !out.governs()) {
            // From here on it is at work.
            self.unit.gate = Gate::Passed;
            return false;
        }
        // Outside of a transaction block a Parse that no Bind follows only prepares.
        let prepares =
            tag == tag::PARSE && behind.first() != Some(&tag::BIND) && (idle || !self.unit.explicit);
        if prepares || !out.governs() {
            return false;
        }
        let Some(statement) = self.fingerprints.request(tag, frame, &self.journal) else {
            return false;
        };
        if idle {
            self.begin_unit(now);
        }
        let intent = Intent { statement, values: Values::of(tag, frame, behind) };
        match out.enter(now, intent, self.unit.started, false) {
            Place::Free | Place::Granted => self.unit.gate = Gate::Passed,
            Place::Awaited => self.unit.gate = Gate::Waiting { since: now },
        }
        self.unit.gate != Gate::Passed
    }

    /// What the transaction is about to do, as far as that is known.
    pub(super) fn first_statement(&self) -> Option<Fingerprint> {
        self.unit.statement.or_else(|| self.fingerprints.first(&self.journal))
    }

    /// The transaction will be run again. A request that waits for its first attempt's place is to ask anew, behind the replay.
    pub(super) fn return_to_gate(&mut self) {
        if matches!(self.unit.gate, Gate::Waiting { .. } | Gate::Granted) {
            self.unit.gate = Gate::Ahead;
        }
    }

    /// Nothing of Reprise's own is unanswered any more.
    pub(super) fn pass_gate(&mut self) {
        if self.unit.gate == Gate::Granted {
            self.unit.gate = Gate::Passed;
        }
    }

    /// Asks for a place for a replay. Returns the pause before it, which is `pause` where there is no limit, and whether the
    /// place must be awaited instead.
    pub(super) fn pause_or_place(
        &mut self,
        now: Duration,
        attempt: u32,
        pause: Duration,
        out: &mut impl Output,
    ) -> (Duration, bool) {
        let statement = if out.governs() { self.first_statement() } else { None };
        let intent = statement.map(Intent::of);
        match intent.map_or(Place::Free, |intent| out.enter(now, intent, self.unit.started, true)) {
            Place::Free => (pause, false),
            // Those that it contends with are held back: only what goes on failing must be slowed down.
            Place::Granted => {
                (self.backoff.pause(&self.policy, self.dialect, attempt.saturating_sub(HURRIED)), false)
            }
            Place::Awaited => (Duration::ZERO, true),
        }
    }

    /// Whether the transaction waits for a place.
    pub fn awaits_place(&self) -> bool {
        matches!(
            (self.state, self.unit.gate),
            (State::Open, Gate::Waiting { .. }) | (State::BackingOff { until: None, .. }, _)
        )
    }

    /// The transaction has a place: what waited for it goes out. The client's requests are to be handed in again.
    pub fn place_granted(&mut self, now: Duration, out: &mut impl Output) {
        match (self.state, self.unit.gate) {
            (State::Open, Gate::Waiting { since }) => {
                self.unit.waited += now.saturating_sub(since);
                self.unit.gate = if self.is_kept_alive() { Gate::Granted } else { Gate::Passed };
            }
            (State::BackingOff { until: None, since }, _) => {
                let pause = now.saturating_sub(since);
                self.unit.waited += pause;
                out.report(Event::BackedOff { attempt: self.unit.attempts + 1, pause });
                self.state = State::BackingOff { until: Some(now), since };
                if self.outstanding.is_empty() {
                    self.ask_for_turn(now, out);
                }
            }
            _ => {}
        }
    }

    /// The client cancels what waits. Before it is told so it gets the answers to what it has sent before in the same batch: the
    /// server is asked for them, for the rest of the batch has to wait until they are here.
    pub(super) fn cancel_at_gate(&mut self, out: &mut impl Output) {
        self.unit.gate = Gate::Cancelled;
        if !self.outstanding.is_empty() && !self.outstanding.are_complete() {
            let mut flush = Vec::new();
            encode::flush(&mut flush);
            out.backend(&flush);
            self.outstanding.push(tag::FLUSH, Owner::Control(Control::Sync));
        }
    }

    /// Whether what the client sends must wait: for a place, or for answers that it is to get before it is told of its cancel.
    pub(super) fn is_held_at_gate(&self) -> bool {
        matches!(self.unit.gate, Gate::Waiting { .. } | Gate::Granted) || self.is_held_by_cancel()
    }

    /// Whether it must wait for the answers before a cancel is told, in a transaction that is journalled or not.
    pub(super) fn is_held_by_cancel(&self) -> bool {
        self.unit.gate == Gate::Cancelled && !self.outstanding.is_empty()
    }

    /// A request that the client has cancelled while it waited: it is answered as the server would, and not run. `None` if it
    /// goes its way all the same: what was sent before it has failed, and the server passes over it.
    pub(super) fn cancelled_request(
        &mut self,
        now: Duration,
        tag: u8,
        frame: &[u8],
        out: &mut impl Output,
    ) -> Option<Step> {
        self.unit.gate = Gate::Passed;
        if self.outstanding.is_skipping() {
            return None;
        }
        if self.unit.begin == Begin::Deferred {
            (self.unit.begin, self.status) = (Begin::Sent, Status::Idle);
        }
        self.journal.push(tag, Effect::None, frame);
        self.give_up(now, Reason::Cancelled, out);
        Some(Step::Drop)
    }
}
