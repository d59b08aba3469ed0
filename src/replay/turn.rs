//! The turn of a replay among those of all sessions: asked for when its pause is over, and awaited if need be.
//!
//! The engine knows of no other session. It asks by [`Output::admit`], and whoever drives it answers: go on, or wait for
//! [`Engine::admitted`]. The turn is over when [`Engine::uses_turn`] says so.

use std::time::Duration;

use super::engine::{Engine, Output};
use super::event::Event;
use super::reason::Reason;
use super::state::State;

impl Engine {
    /// The pause is over, and nothing is outstanding: the replay begins, or waits for its turn.
    ///
    /// While it waits it holds no locks, whatever the dialect: those whose turn it is may be waiting for them.
    pub(super) fn ask_for_turn(&mut self, now: Duration, out: &mut impl Output) {
        if out.admit(self.unit.started) {
            return self.replay(now, out);
        }
        self.state = State::Queued { since: now, admitted: false };
        if self.restarts_at_savepoint() {
            self.begin_anew(out);
        }
    }

    /// The turn has come that [`Output::admit`] could not give at once. Too late, it changes nothing.
    pub fn admitted(&mut self, now: Duration, out: &mut impl Output) {
        let State::Queued { since, admitted: false } = self.state else { return };
        out.report(Event::Admitted { waited: now.saturating_sub(since) });
        self.state = State::Queued { since, admitted: true };
        self.take_turn(now, out);
    }

    /// The replay begins, if its turn has come and nothing is outstanding any more.
    pub(super) fn take_turn(&mut self, now: Duration, out: &mut impl Output) {
        if matches!(self.state, State::Queued { admitted: true, .. }) && self.outstanding.is_empty() {
            self.replay(now, out);
        }
    }

    /// Whether a turn that was asked for is still of use: while the replay waits for it, and while it runs.
    pub const fn uses_turn(&self) -> bool {
        matches!(self.state, State::Queued { .. } | State::Replaying { .. })
    }

    /// When a replay gives up waiting for its turn.
    pub(super) fn patience_ends(&self) -> Option<Duration> {
        match self.state {
            State::Queued { admitted: false, .. } => {
                Some(self.unit.started + self.unit.waited + self.policy.timeout)
            }
            _ => None,
        }
    }

    /// The turn may not have come in time.
    pub(super) fn end_patience(&mut self, now: Duration, out: &mut impl Output) {
        if self.patience_ends().is_some_and(|end| now >= end) {
            self.give_up(now, Reason::RetryTimeout, out);
        }
    }
}
