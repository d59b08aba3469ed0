//! One client, its engine and its connection of the database, with the bytes on the way between them.

use std::sync::Arc;
use std::time::Duration;

use golden::Backend;
use reprise::replay::{Engine, Event, Intent, Output, Place};

use crate::client::Client;
use crate::doors::Doors;
use crate::faults::Faults;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::store::Store;
use crate::trace::Trace;

/// What the engine has written and reported.
#[derive(Default)]
pub(crate) struct Wires {
    pub(crate) to_server: Vec<u8>,
    pub(crate) to_client: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) held_bytes: usize,
    grants: bool,
    /// Whether replays wait for their turn, and whether one does.
    turns_wait: bool,
    queued: bool,
    /// Where transactions are let in, and whose they are.
    doors: Doors,
    number: u32,
    closed: bool,
    trace: Trace,
}

impl Output for Wires {
    fn frontend(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
        self.trace.shown(bytes);
    }
    fn backend(&mut self, bytes: &[u8]) {
        self.to_server.extend_from_slice(bytes);
        self.trace.asked(bytes);
    }
    fn report(&mut self, event: Event) {
        self.trace.note(format!("= {event:?}"));
        if matches!(event, Event::TransactionEnded(_)) {
            self.doors.leave(self.number);
        }
        self.events.push(event);
    }
    fn hold(&mut self, journal_bytes: usize) -> bool {
        let granted = self.grants || journal_bytes <= self.held_bytes;
        if granted {
            self.held_bytes = journal_bytes;
        }
        granted
    }
    fn admit(&mut self, _: Duration) -> bool {
        self.queued = self.turns_wait;
        !self.queued
    }
    fn governs(&self) -> bool {
        self.doors.governs()
    }
    fn enter(&mut self, _: Duration, _: Intent, _: Duration, replay: bool) -> Place {
        self.doors.enter(self.number, replay)
    }
    fn close(&mut self) {
        self.trace.note("closed".into());
        self.closed = true;
    }
}

/// What stands between client and server.
enum Middle {
    Engine(Box<Engine>),
    /// Nothing: bytes pass.
    Wire,
}

/// What can happen next in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Send,
    Requests,
    ToServer,
    Serve,
    Answers,
    ToClient,
    Timer,
    /// The turn of a replay comes.
    Admit,
    /// The transaction is let in, or lets others in because it is idle.
    Enter,
    StepAside,
    ServerLeft,
    /// The server learns that nobody is there any more.
    EndOfRequests,
    Reconnect,
}

/// The session.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) server: Server,
    middle: Middle,
    pub(crate) wires: Wires,
    /// On the way from the client.
    requests: Vec<u8>,
    /// At the engine, not taken yet.
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    /// On the way to the client, and cut into messages there.
    at_client: Vec<u8>,
    /// Everything that reached the client.
    pub(crate) heard: Vec<u8>,
    /// The session is over: the engine has closed it, or one of the sides is gone.
    over: bool,
    /// The client has closed its connection: nothing more reaches it.
    deaf: bool,
    /// The deadline for which the timer has rung: it rings once for each.
    rung: Option<Duration>,
    /// Every turn comes before the replay gives up waiting for it.
    turns_come: bool,
    reconnects_left: u32,
    number: u32,
}

impl Session {
    pub(crate) fn new(
        number: u32,
        seed: u64,
        scenario: &Scenario,
        doors: Doors,
        bare: bool,
        trace: bool,
    ) -> Self {
        let middle = if bare { Middle::Wire } else { engine(scenario) };
        let (grants, turns_wait) = (scenario.grants_journals, scenario.turns_wait);
        Self {
            client: Client::new(number, seed, scenario),
            server: Server::new(number, 0, scenario.traits),
            middle,
            wires: Wires {
                grants,
                turns_wait,
                doors,
                number,
                trace: Trace::new(trace, scenario),
                ..Wires::default()
            },
            requests: Vec::new(),
            from_client: Vec::new(),
            from_server: Vec::new(),
            at_client: Vec::new(),
            heard: Vec::new(),
            over: false,
            deaf: false,
            rung: None,
            turns_come: scenario.alone,
            reconnects_left: 2,
            number,
        }
    }

    /// The conversation so far, if it is traced.
    pub(crate) fn conversation(&self) -> &[String] {
        self.wires.trace.lines()
    }

    fn takes_requests(&self) -> bool {
        match &self.middle {
            Middle::Engine(engine) => engine.takes_requests(),
            Middle::Wire => true,
        }
    }

    fn deadline(&self) -> Option<Duration> {
        match &self.middle {
            Middle::Engine(engine) => engine.deadline(),
            Middle::Wire => None,
        }
    }

    /// When the engine wants to be called, not before `now`.
    pub(crate) fn deadline_or(&self, now: Duration) -> Duration {
        self.deadline().unwrap_or(now)
    }

    /// Whether the engine thinks that something is going on.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(&self.middle, Middle::Engine(engine) if engine.is_busy()) && !self.over
    }

    /// Whether the connections are up.
    pub(crate) const fn is_connected(&self) -> bool {
        !self.over
    }

    /// Whether the client waits for an answer.
    pub(crate) fn waits(&self) -> bool {
        !self.over && self.client.reader.waits()
    }

    /// Everything that can happen next.
    pub(crate) fn moves(&self, moves: &mut Vec<(usize, Move)>) {
        let mut add = |possible: bool, next: Move| {
            if possible {
                moves.push((self.number as usize, next));
            }
        };
        let live = !self.over;
        add(live && self.client.is_ready(), Move::Send);
        let room = self.from_client.is_empty() || self.takes_requests();
        add(live && room && !self.requests.is_empty(), Move::Requests);
        add(!self.wires.to_server.is_empty(), Move::ToServer);
        add(self.server.has_work(), Move::Serve);
        add(!self.server.outbox.is_empty(), Move::Answers);
        add(!self.wires.to_client.is_empty(), Move::ToClient);
        let ringing = self.deadline().is_some() && self.deadline() != self.rung;
        add(live && ringing && !(self.wires.queued && self.turns_come), Move::Timer);
        add(live && self.wires.queued, Move::Admit);
        add(live && self.wires.doors.calls(self.number), Move::Enter);
        add(live && self.wires.doors.holds(self.number) && self.is_idle(), Move::StepAside);
        add(live && self.server.closed && self.server.outbox.is_empty(), Move::ServerLeft);
        let served = self.wires.to_server.is_empty() && !self.server.has_work();
        add(self.over && served && !self.server.closed, Move::EndOfRequests);
        let quiet = self.server.closed && self.wires.to_client.is_empty() && self.server.outbox.is_empty();
        let wants = !self.client.is_done() && self.reconnects_left > 0;
        add(self.over && quiet && wants, Move::Reconnect);
    }

    fn is_idle(&self) -> bool {
        matches!(&self.middle, Middle::Engine(engine) if !engine.awaits_answer())
    }

    /// The client closes its connection.
    pub(crate) fn hang_up(&mut self, now: Duration, cut: usize) {
        self.wires.trace.note("hang up".into());
        if let Middle::Engine(engine) = &mut self.middle {
            engine.frontend_closed(now, &mut self.wires);
        }
        self.wires.to_server.truncate(cut.min(self.wires.to_server.len()));
        self.deaf = true;
        self.over = true;
        self.wires.doors.leave(self.number);
    }

    /// The client asks to cancel.
    pub(crate) fn cancel(&mut self, now: Duration) -> Result<(), String> {
        let forwarded = match &mut self.middle {
            Middle::Engine(engine) => engine.cancel(now, &mut self.wires),
            Middle::Wire => true,
        };
        self.wires.trace.note(if forwarded { "cancel forwarded" } else { "cancel" }.into());
        self.wires.trace.settle();
        if forwarded {
            self.server.cancel();
        }
        self.after_engine(now)
    }

    /// Makes one move; `cut` says how many bytes at most.
    pub(crate) fn make(
        &mut self,
        next: Move,
        now: Duration,
        cut: usize,
        store: &mut Store,
        faults: &mut Faults,
    ) -> Result<(), String> {
        match next {
            Move::Send => {
                for message in self.client.volley() {
                    self.requests.extend(message.encode());
                }
                Ok(())
            }
            Move::Requests => {
                let bytes = taken(&mut self.requests, cut);
                self.wires.trace.requested(&bytes);
                self.from_client.extend(bytes);
                self.offer_requests(now)?;
                self.wires.trace.settle();
                self.after_engine(now)
            }
            Move::ToServer => {
                let bytes = taken(&mut self.wires.to_server, cut);
                self.server.receive(&bytes);
                Ok(())
            }
            Move::Serve => {
                self.server.work(store, faults);
                Ok(())
            }
            Move::Answers => self.answers(now, cut),
            Move::ToClient => self.hear(cut),
            Move::Timer => {
                self.wires.trace.note("wait".into());
                self.rung = self.deadline();
                if let Middle::Engine(engine) = &mut self.middle {
                    engine.timeout(now, &mut self.wires);
                }
                self.wires.trace.settle();
                self.after_engine(now)
            }
            Move::Admit => {
                self.wires.trace.note("admit".into());
                self.wires.queued = false;
                if let Middle::Engine(engine) = &mut self.middle {
                    engine.admitted(now, &mut self.wires);
                }
                self.wires.trace.settle();
                self.after_engine(now)
            }
            Move::Enter => {
                self.wires.trace.note("enter".into());
                self.wires.doors.admit(self.number);
                if let Middle::Engine(engine) = &mut self.middle {
                    engine.place_granted(now, &mut self.wires);
                }
                self.offer_requests(now)?;
                self.wires.trace.settle();
                self.after_engine(now)
            }
            Move::StepAside => {
                self.wires.doors.leave(self.number);
                Ok(())
            }
            Move::ServerLeft => {
                self.wires.trace.note("crash".into());
                if let Middle::Engine(engine) = &mut self.middle {
                    engine.backend_closed(now, &mut self.wires);
                }
                self.wires.trace.settle();
                self.over = true;
                self.wires.doors.leave(self.number);
                Ok(())
            }
            Move::EndOfRequests => {
                self.server.hang_up(store);
                self.server.outbox.clear();
                Ok(())
            }
            Move::Reconnect => {
                self.reconnects_left -= 1;
                Ok(())
            }
        }
    }

    fn answers(&mut self, now: Duration, cut: usize) -> Result<(), String> {
        let bytes = taken(&mut self.server.outbox, cut);
        if self.over {
            return Ok(());
        }
        self.wires.trace.answered(&bytes);
        self.from_server.extend(bytes);
        match &mut self.middle {
            Middle::Engine(engine) => {
                let done = engine
                    .handle_backend(now, &self.from_server, &mut self.wires)
                    .map_err(|error| format!("the engine refuses the server's bytes: {error}"))?;
                self.from_server.drain(..done);
            }
            Middle::Wire => self.wires.to_client.append(&mut self.from_server),
        }
        self.wires.trace.settle();
        self.after_engine(now)
    }

    fn hear(&mut self, cut: usize) -> Result<(), String> {
        let bytes = taken(&mut self.wires.to_client, cut);
        if self.deaf {
            return Ok(());
        }
        self.heard.extend_from_slice(&bytes);
        self.at_client.extend(bytes);
        while let Some(frame) = Backend::read(&mut self.at_client) {
            self.client.reader.read(frame)?;
        }
        Ok(())
    }

    fn offer_requests(&mut self, now: Duration) -> Result<(), String> {
        match &mut self.middle {
            Middle::Engine(engine) => {
                let done = engine
                    .handle_frontend(now, &self.from_client, &mut self.wires)
                    .map_err(|error| format!("the engine refuses the client's bytes: {error}"))?;
                self.from_client.drain(..done);
            }
            Middle::Wire => self.wires.to_server.append(&mut self.from_client),
        }
        Ok(())
    }

    /// What the shell does after every call: the session is closed if the engine says so, and requests that had to wait
    /// are offered again.
    fn after_engine(&mut self, now: Duration) -> Result<(), String> {
        if let Middle::Engine(engine) = &self.middle {
            self.wires.queued &= engine.uses_turn();
            if !engine.awaits_place() {
                self.wires.doors.withdraw(self.number);
            }
        }
        if !self.wires.closed && !self.from_client.is_empty() {
            self.offer_requests(now)?;
            self.wires.trace.settle();
        }
        self.over |= self.wires.closed;
        if self.over {
            self.wires.doors.leave(self.number);
        }
        Ok(())
    }

    /// Begins anew with a connection of its own.
    pub(crate) fn reconnect(&mut self, scenario: &Scenario) {
        self.client.reconnect();
        self.server = Server::new(self.number, self.client.reader.connection, scenario.traits);
        if matches!(self.middle, Middle::Engine(_)) {
            self.middle = engine(scenario);
        }
        self.requests.clear();
        self.from_client.clear();
        self.from_server.clear();
        self.at_client.clear();
        self.wires.to_client.clear();
        self.wires.to_server.clear();
        (self.wires.closed, self.over, self.deaf, self.rung) = (false, false, false, None);
        (self.wires.held_bytes, self.wires.queued) = (0, false);
        self.wires.trace.begin_anew(scenario);
    }
}

fn engine(scenario: &Scenario) -> Middle {
    let policy = Arc::new(scenario.policy.clone());
    Middle::Engine(Box::new(Engine::new(policy, scenario.traits.dialect, 1)))
}

fn taken(bytes: &mut Vec<u8>, count: usize) -> Vec<u8> {
    let rest = bytes.split_off(count.min(bytes.len()));
    std::mem::replace(bytes, rest)
}
