//! The simulated world: dice choose what happens next, until nothing can.

use std::time::Duration;

use fastrand::Rng;

use crate::doors::Doors;
use crate::faults::Faults;
use crate::scenario::Scenario;
use crate::session::{Move, Session};
use crate::store::Store;

/// What went wrong, and in which session.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) session: Option<u32>,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(session: impl Into<Option<u32>>, text: impl Into<String>) -> Self {
        Self { session: session.into(), text: text.into() }
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) store: Store,
    pub(crate) sessions: Vec<Session>,
    doors: Doors,
    faults: Faults,
    rng: Rng,
    now: Duration,
}

/// No world takes more moves than this, unless something goes round in circles.
const MOVES_MAX: usize = 200_000;

impl World {
    /// `bare` is a world without the engine.
    pub(crate) fn new(seed: u64, scenario: Scenario, bare: bool, trace: bool) -> Self {
        let doors = Doors::new(scenario.doors);
        let session = |number| Session::new(number, seed, &scenario, doors.clone(), bare, trace);
        let sessions = (0..scenario.clients).map(session).collect();
        Self {
            store: Store::new(scenario.keys),
            sessions,
            doors,
            faults: Faults::new(seed, scenario.rates, scenario.traits.dialect),
            rng: Rng::with_seed(seed ^ 0x3071d),
            now: Duration::ZERO,
            scenario,
        }
    }

    /// Lets it run until nothing can happen any more.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        let mut moves = Vec::new();
        for _ in 0..MOVES_MAX {
            moves.clear();
            self.sessions.iter().for_each(|session| session.moves(&mut moves));
            let Some(&(number, next)) = self.rng.choice(&moves) else { return self.at_rest() };
            self.make(number, next).map_err(|text| Failure::new(number as u32, text))?;
            self.disturb().map_err(|text| Failure::new(number as u32, text))?;
            if let Some(complaint) = self.store.complaints.first() {
                return Err(Failure::new(number as u32, complaint.clone()));
            }
        }
        Err(Failure::new(None, "it does not come to rest"))
    }

    fn make(&mut self, number: usize, next: Move) -> Result<(), String> {
        let session = &mut self.sessions[number];
        if next == Move::Timer {
            self.now = self.now.max(session.deadline_or(self.now));
        }
        let cut = if self.rng.bool() { usize::MAX } else { self.rng.usize(1..200) };
        session.make(next, self.now, cut, &mut self.store, &mut self.faults)?;
        if next == Move::Reconnect {
            session.reconnect(&self.scenario);
        }
        Ok(())
    }

    /// Clients that lose their patience.
    fn disturb(&mut self) -> Result<(), String> {
        let rates = self.scenario.rates;
        let session = &mut self.sessions[self.rng.usize(0..self.scenario.clients as usize)];
        if rates.cancel > 0 && session.waits() && self.rng.u32(0..1000) < rates.cancel {
            session.cancel(self.now)?;
        }
        if rates.hang_up > 0 && session.is_connected() && self.rng.u32(0..1000) < rates.hang_up {
            let cut = if self.rng.bool() { usize::MAX } else { self.rng.usize(0..200) };
            session.hang_up(self.now, cut);
        }
        Ok(())
    }

    /// Nothing can happen any more: everyone must have got through.
    fn at_rest(&self) -> Result<(), Failure> {
        for (session, number) in self.sessions.iter().zip(0..) {
            let fail = |text: &str| Err(Failure::new(number, text));
            if session.waits() {
                return Err(Failure::new(
                    number,
                    format!(
                        "the client waits, and nothing can move: {} {:?}",
                        session.server.describe(),
                        self.doors
                    ),
                ));
            }
            if session.is_connected() && !session.client.is_done() {
                return fail("the client is not through, and nothing can move");
            }
            if session.is_busy() {
                return fail("the engine is busy, although the client has got everything");
            }
            if session.is_connected() && session.wires.held_bytes > 0 {
                return fail("journal bytes are held outside a transaction");
            }
        }
        if !self.doors.is_empty() {
            return Err(Failure::new(None, "a place is taken outside a transaction"));
        }
        Ok(())
    }
}
