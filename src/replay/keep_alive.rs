//! A transaction that waits for its place, for its turn or for the end of a pause is kept alive.
//!
//! PostgreSQL sees a session that is idle in a transaction meanwhile, and may end it for that, though its client is not idle
//! (`idle_in_transaction_session_timeout`). A Sync with nothing before it begins that time anew, and changes nothing.
//! CockroachDB counts from one statement to the next, whatever comes between them.

use std::time::Duration;

use super::deferred::Begin;
use super::engine::{Engine, Output};
use super::gate::Gate;
use super::owner::{Control, Owner};
use super::policy::Dialect;
use super::state::State;
use crate::wire::backend::Status;
use crate::wire::encode;
use crate::wire::frontend::tag;

/// How long the server hears nothing of a transaction that waits: shorter than a timeout that anybody sets.
const SILENCE_MAX: Duration = Duration::from_millis(500);

impl Engine {
    /// When the server is to hear of the session again, if it is idle in a transaction and the client is not.
    pub(super) fn silence_ends(&self) -> Option<Duration> {
        let waits = match self.state {
            State::Open => matches!(self.unit.gate, Gate::Waiting { .. }),
            state => matches!(state, State::BackingOff { .. } | State::Queued { .. }),
        };
        // In the middle of a batch the server is not idle, and of a BEGIN that is deferred it knows nothing.
        let idles = || self.outstanding.is_empty() && self.outstanding.ends_cycle();
        let within = self.status != Status::Idle && self.unit.begin != Begin::Deferred;
        let counts = self.dialect == Dialect::Postgres;
        (waits && within && counts && idles()).then(|| self.ready_at + SILENCE_MAX)
    }

    /// The server may have heard nothing for too long.
    pub(super) fn end_silence(&mut self, now: Duration, out: &mut impl Output) {
        if self.silence_ends().is_some_and(|end| now >= end) {
            let mut sync = Vec::new();
            encode::sync(&mut sync);
            out.backend(&sync);
            self.outstanding.push(tag::SYNC, Owner::Control(Control::KeepAlive));
        }
    }

    /// Whether all that the server owes is the answer to such a Sync: neither it nor the client is at work.
    pub fn is_kept_alive(&self) -> bool {
        self.outstanding.front().is_some_and(|front| front.owner == Owner::Control(Control::KeepAlive))
    }
}
