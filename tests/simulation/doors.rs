//! A gate before all sessions, as the governor's, of a fixed width: the engine must stand every order in which its transactions
//! are let in.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use reprise::replay::Place;

/// The gate, shared by all sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    /// How many transactions are let in at a time; 0 for any number.
    width: usize,
    inside: BTreeSet<u32>,
    /// Replays first, then in the order of arrival.
    waiting: BTreeMap<(bool, u64), u32>,
    arrivals: u64,
}

impl Doors {
    pub(crate) fn new(width: usize) -> Self {
        Self(Rc::new(RefCell::new(State { width, ..State::default() })))
    }

    /// Whether anybody may have to wait.
    pub(crate) fn governs(&self) -> bool {
        self.0.borrow().width > 0
    }

    /// The transaction of a session asks for a place. It always waits, if only for the next move.
    pub(crate) fn enter(&self, session: u32, replay: bool) -> Place {
        self.leave(session);
        let mut state = self.0.borrow_mut();
        state.arrivals += 1;
        let ticket = (!replay, state.arrivals);
        state.waiting.insert(ticket, session);
        Place::Awaited
    }

    /// Whether it is this session's turn.
    pub(crate) fn calls(&self, session: u32) -> bool {
        let state = self.0.borrow();
        let first = state.waiting.first_key_value().map(|(_, first)| *first);
        first == Some(session) && state.inside.len() < state.width
    }

    /// It has its place.
    pub(crate) fn admit(&self, session: u32) {
        self.withdraw(session);
        self.0.borrow_mut().inside.insert(session);
    }

    /// Whether a session has a place.
    pub(crate) fn holds(&self, session: u32) -> bool {
        self.0.borrow().inside.contains(&session)
    }

    /// Its transaction is over, or has been idle for too long; or it waits no more.
    pub(crate) fn leave(&self, session: u32) {
        self.withdraw(session);
        self.0.borrow_mut().inside.remove(&session);
    }

    /// A session waits no more, if it has waited.
    pub(crate) fn withdraw(&self, session: u32) {
        self.0.borrow_mut().waiting.retain(|_, waiting| *waiting != session);
    }

    /// Nobody is inside or waits.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.0.borrow();
        state.inside.is_empty() && state.waiting.is_empty()
    }
}
