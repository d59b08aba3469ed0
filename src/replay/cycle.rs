//! A cycle that comes whole and runs one statement that reads or writes rows: most of what drivers send.
//!
//! Nothing in it is to be decided, so that its requests are kept in one go. What they leave behind is the same as if each was
//! told apart by `requests.rs`, which takes whatever else comes.

use std::time::Duration;

use super::deferred::Begin;
use super::engine::{Engine, Output};
use super::gate::Gate;
use super::journal::Effect;
use super::outstanding::REQUESTS_MAX;
use super::state::State;
use super::statement::{Class, Classes};
use super::unit::Release;
use crate::wire::frontend::{self, Bind, Parse, tag};
use crate::wire::{HEADER_BYTES, frames};

/// Requests in such a cycle, at most.
const REQUESTS: usize = 5;

/// A Query; or Bind, Execute and Sync with the unnamed portal, perhaps with a Parse before them, and a Describe among them.
struct Cycle<'a> {
    /// The text of the Query, or that of the Parse, which makes the unnamed statement.
    text: Option<&'a [u8]>,
    /// The name of the statement that is bound: empty if, and only if, it is made here. `None` for a Query.
    bound: Option<&'a [u8]>,
    /// Bytes of all its frames.
    bytes: usize,
}

impl Engine {
    /// Takes such a cycle at the start of the client's bytes. Returns how many they are, to be passed on as they are; `None` if
    /// something else is there, or something is to be decided.
    pub(super) fn take_cycle(&mut self, now: Duration, bytes: &[u8], out: &mut impl Output) -> Option<usize> {
        if !self.may_take_cycle(out) {
            return None;
        }
        let cycle = Cycle::at_start_of(bytes)?;
        let fits = self.journal.bytes_len() + cycle.bytes <= self.policy.journal_bytes;
        if !fits || !self.works_on_data(&cycle) {
            return None;
        }
        if matches!(self.state, State::Idle) {
            self.begin_unit(now);
        }
        self.room_for(cycle.bytes, out).ok()?;
        self.keep_cycle(&cycle, &bytes[..cycle.bytes]);
        Some(cycle.bytes)
    }

    /// Whether the client is where a cycle that works on data needs no look at each request.
    fn may_take_cycle(&self, out: &impl Output) -> bool {
        let begins = match self.state {
            State::Idle => self.outstanding.is_empty() && !out.governs(),
            State::Open => self.goes_on_calmly(out),
            _ => false,
        };
        begins
            && !self.discarding
            && !self.outstanding.is_skipping()
            && !self.outstanding.is_copying()
            && self.outstanding.len() + REQUESTS <= REQUESTS_MAX
            && !self.may_ignore_locks()
            && !out.watches()
    }

    /// Whether the next cycle of the client's own transaction begins, which is open, and nothing stands against a replay.
    fn goes_on_calmly(&self, out: &impl Output) -> bool {
        let unit = &self.unit;
        let passes = unit.gate == Gate::Passed || (unit.gate == Gate::Ahead && !out.governs());
        passes
            && unit.explicit
            && unit.at_cycle_start
            && unit.opening > 0
            && unit.begin == Begin::Sent
            && unit.release == Release::None
            && unit.obstacle(self.dialect).is_none()
    }

    fn works_on_data(&self, cycle: &Cycle<'_>) -> bool {
        let data = Classes::from(Class::Data);
        match (cycle.bound, cycle.text) {
            (None, sql) => sql.is_some_and(|sql| Classes::of(sql) == data),
            (Some(statement), sql) => {
                self.outstanding.prepared.surely_works_on_data(statement)
                    && sql.is_none_or(|sql| Self::classes_of_prepared(sql) == data)
            }
        }
    }

    fn keep_cycle(&mut self, cycle: &Cycle<'_>, bytes: &[u8]) {
        let data = Classes::from(Class::Data);
        if cycle.bound.is_some() {
            self.outstanding.prepared.bind_data();
            if cycle.text.is_some() {
                self.unit.names.parse(b"", data);
                self.fingerprints.unnamed = None;
            }
        }
        self.unit.names.end_cycle();
        self.unit.gate = Gate::Passed;
        let runs = if cycle.bound.is_some() { tag::EXECUTE } else { tag::QUERY };
        self.unit.count(runs, data);
        let [run, sync] = [runs, tag::SYNC].map(|tag| self.effect(tag, data));
        let effect = |tag| match tag {
            tag::QUERY | tag::EXECUTE => run,
            tag::SYNC => sync,
            _ => Effect::None,
        };
        let first = self.journal.push_cycle(bytes, effect);
        self.outstanding.push_cycle(frames(bytes).map(|frame| (frame[0], effect(frame[0]).ends())), first);
        self.unit.at_cycle_start = true;
        if !self.unit.explicit {
            self.state = State::Committing;
        }
    }
}

impl<'a> Cycle<'a> {
    fn at_start_of(bytes: &'a [u8]) -> Option<Self> {
        let (mut requests, mut taken) = (frames(bytes).peekable(), 0);
        let mut take = |tag| {
            let frame = requests.next_if(|frame| frame[0] == tag)?;
            taken += frame.len();
            Some(&frame[HEADER_BYTES..])
        };
        if let Some(query) = take(tag::QUERY) {
            return Some(Self { text: Some(frontend::query(query)?), bound: None, bytes: taken });
        }
        let parse = match take(tag::PARSE) {
            Some(body) => Some(Parse::view(body).filter(|parse| parse.statement.is_empty())?),
            None => None,
        };
        let bind = Bind::view(take(tag::BIND)?)?;
        let describes_portal = take(tag::DESCRIBE).is_none_or(|target| target == b"P\0");
        let portal = frontend::execute(take(tag::EXECUTE)?)?;
        take(tag::SYNC)?;
        let fits = bind.portal.is_empty()
            && portal.is_empty()
            && describes_portal
            && bind.statement.is_empty() == parse.is_some();
        let text = parse.map(|parse| parse.sql);
        fits.then_some(Self { text, bound: Some(bind.statement), bytes: taken })
    }
}
