//! Clients, gates and the database, event by event: every client runs transactions of a few updates, one behind the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use reprise::governor::{End, Policy, STUCK, Ticket};

use crate::database::{Database, Kind, Lock};
use crate::gate::Gate;

/// What is played.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) clients: usize,
    /// Seconds in which only so many of them begin transactions.
    pub(crate) pause: (Range<u64>, usize),
    /// Rows that the transactions fight for, from some second on.
    pub(crate) hot: Vec<(u64, usize)>,
    pub(crate) updates: usize,
    /// A round trip between the gate and the database.
    pub(crate) network: Duration,
    /// What the clients do between two statements.
    pub(crate) think: Duration,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

impl Scenario {
    pub(crate) fn new(kind: Kind, network_ms: u64, rows: usize) -> Self {
        Self {
            kind,
            clients: 16,
            pause: (0..0, 0),
            hot: vec![(0, rows)],
            updates: 5,
            network: Duration::from_millis(network_ms),
            think: Duration::ZERO,
            length: Duration::from_secs(36),
            seed: 1,
        }
    }
}

/// What a client is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It begins a transaction.
    Arrive,
    /// Its next statement, or COMMIT, reaches the database.
    Request,
    /// It has waited so long for a lock that a deadlock is looked for.
    LookForDeadlock(u64),
    /// The proxy learns that its attempt met a conflict.
    Failed,
    /// The proxy learns that it is committed.
    Committed,
    /// Its pause before a replay is over.
    Retry,
    /// It has waited long enough for a place.
    WaitOver(u64),
    /// It has had no request under way for a while.
    Idle(u64),
}

#[derive(Debug)]
struct Client {
    rows: Vec<usize>,
    /// Updates done in this attempt, and those that the client has asked for.
    at: usize,
    asked: usize,
    since: Duration,
    attempts: u32,
    queued: Option<(Option<Ticket>, Duration)>,
    has_place: bool,
    /// Whether there was a class when its attempt began.
    is_member: bool,
    /// Counts what the client does, so that an event that is late is known.
    step: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Commits in each second.
    pub(crate) seconds: Vec<u32>,
    /// Commits of each client.
    pub(crate) clients: Vec<u32>,
    pub(crate) wasted: u32,
    pub(crate) longest_wait: Duration,
    /// Waits that ended at the bound.
    pub(crate) overdue: u32,
    /// The limit of the first gate in each second.
    pub(crate) limits: Vec<Option<u32>>,
    /// From the arrival of each transaction to its commit.
    pub(crate) latencies: Vec<Duration>,
}

impl Tally {
    /// Commits per second from `first` on.
    pub(crate) fn rate(&self, first: usize) -> f64 {
        let seconds = &self.seconds[first..];
        f64::from(seconds.iter().sum::<u32>()) / seconds.len() as f64
    }
}

/// The world.
pub(crate) struct World {
    scenario: Scenario,
    gates: Vec<Gate>,
    database: Database,
    clients: Vec<Client>,
    events: BinaryHeap<Reverse<(Duration, u64, usize, Event)>>,
    number: u64,
    rng: Rng,
    pub(crate) tally: Tally,
}

/// How long a place is kept without a request under way.
const IDLE: Duration = Duration::from_millis(50);
/// What a statement costs the database.
const WORK: Duration = Duration::from_micros(200);

impl World {
    pub(crate) fn new(scenario: Scenario, gates: Vec<Gate>) -> Self {
        let rows = scenario.hot.iter().map(|(_, rows)| *rows).max().unwrap_or(1);
        let mut world = Self {
            gates,
            database: Database::new(scenario.kind, rows, scenario.clients),
            clients: Vec::new(),
            events: BinaryHeap::new(),
            number: 0,
            rng: Rng::with_seed(scenario.seed),
            tally: Tally { clients: vec![0; scenario.clients], ..Tally::default() },
            scenario,
        };
        for client in 0..world.scenario.clients {
            world.clients.push(Client {
                rows: Vec::new(),
                at: 0,
                asked: 0,
                since: Duration::ZERO,
                attempts: 0,
                queued: None,
                has_place: false,
                is_member: false,
                step: 0,
            });
            let start = Duration::from_micros(world.rng.u64(0..20_000));
            world.plan(start, client, Event::Arrive);
        }
        world
    }

    fn plan(&mut self, at: Duration, client: usize, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, client, event)));
    }

    /// Plays to the end; no client may be left behind.
    pub(crate) fn run(mut self) -> Tally {
        let end = self.scenario.length;
        while let Some(Reverse((now, _, client, event))) = self.events.pop() {
            if now >= end {
                break;
            }
            while self.tally.seconds.len() <= now.as_secs() as usize {
                self.tally.seconds.push(0);
                let limit = self.gates[0].class().and_then(|class| class.limit());
                self.tally.limits.push(limit);
            }
            self.happen(now, client, event);
            self.check(client);
        }
        assert!(self.number > 0 && self.tally.seconds.len() as u64 == end.as_secs(), "the world stood still");
        self.tally
    }

    /// Nobody is forgotten: while there is a free place nobody waits.
    fn check(&mut self, number: usize) {
        if let Some(class) = self.gate(number).class() {
            let full = class.limit().is_some_and(|limit| class.running() >= limit);
            assert!(class.waiting() == 0 || full, "a lost wake-up: {class:?}");
        }
    }

    fn gate(&mut self, client: usize) -> &mut Gate {
        let gates = self.gates.len();
        &mut self.gates[client % gates]
    }

    fn happen(&mut self, now: Duration, number: usize, event: Event) {
        match event {
            Event::Arrive if self.pauses(now, number) => {
                self.plan(now + Duration::from_millis(100), number, Event::Arrive);
            }
            Event::Arrive => {
                let rows = self.scenario.hot.iter().rev().find(|(from, _)| now.as_secs() >= *from);
                let rows = rows.map_or(1, |(_, rows)| *rows);
                let chosen = self.rng.choose_multiple(0..rows, self.scenario.updates.min(rows));
                let mut chosen = chosen;
                self.rng.shuffle(&mut chosen);
                let client = &mut self.clients[number];
                (client.rows, client.at, client.asked) = (chosen, 0, 0);
                (client.since, client.attempts) = (now, 0);
                self.enter(now, number, false);
            }
            Event::Retry => self.begin(now, number),
            Event::Request => self.request(now, number),
            Event::Committed => self.committed(now, number),
            Event::Failed => {
                self.step_back(now, number, End::Wasted);
                self.enter(now, number, true);
                self.wake(now, number);
            }
            Event::LookForDeadlock(step) => {
                let waits = self.clients[number].step == step && self.database.is_waiting(number);
                if waits && self.database.is_deadlocked(number) {
                    self.conflict(now, number);
                } else if waits {
                    let again = now + self.scenario.kind.deadlock_check();
                    self.plan(again, number, Event::LookForDeadlock(step));
                }
            }
            Event::WaitOver(step) => self.wait_over(now, number, step),
            Event::Idle(step) => {
                let client = &mut self.clients[number];
                if client.step == step && client.is_member && client.has_place {
                    client.has_place = false;
                    if let Some(class) = self.gate(number).class() {
                        class.idle(now);
                    }
                    self.wake(now, number);
                }
            }
        }
    }

    fn pauses(&self, now: Duration, number: usize) -> bool {
        let (seconds, present) = &self.scenario.pause;
        seconds.contains(&now.as_secs()) && number >= *present
    }

    fn enter(&mut self, now: Duration, number: usize, replay: bool) {
        let since = self.clients[number].since;
        self.clients[number].is_member = self.gate(number).class().is_some();
        match self.gate(number).enter(now, number, since, replay) {
            None => {
                self.clients[number].has_place = true;
                self.admitted(now, number);
            }
            Some(ticket) => {
                let client = &mut self.clients[number];
                client.step += 1;
                client.queued = Some((ticket, now));
                let step = client.step;
                self.plan(now + Policy::default().patience(), number, Event::WaitOver(step));
            }
        }
    }

    fn wait_over(&mut self, now: Duration, number: usize, step: u64) {
        if self.clients[number].step != step {
            return;
        }
        if let Some((Some(ticket), since)) = self.clients[number].queued
            && let Some(class) = self.gate(number).class()
        {
            let bound = since + Policy::default().max_wait;
            if class.admit_anyway(now, ticket, now >= bound) {
                self.tally.overdue += 1;
                self.clients[number].has_place = true;
                self.admitted(now, number);
            } else {
                self.plan(bound.min(now + STUCK), number, Event::WaitOver(step));
            }
        }
    }

    /// It may go: at once, or after the pause of one whom nobody governs.
    fn admitted(&mut self, now: Duration, number: usize) {
        let client = &mut self.clients[number];
        client.step += 1;
        if let Some((_, from)) = client.queued.take() {
            self.tally.longest_wait = self.tally.longest_wait.max(now - from);
        }
        let governed = matches!(self.gate(number), Gate::Governed(_));
        let attempts = self.clients[number].attempts;
        if governed || attempts == 0 {
            return self.begin(now, number);
        }
        let bound = Duration::from_millis(2 << (attempts - 1).min(9)).min(Duration::from_secs(1));
        let pause = bound.mul_f64(self.rng.f64());
        self.plan(now + pause, number, Event::Retry);
    }

    fn begin(&mut self, now: Duration, number: usize) {
        self.clients[number].attempts += 1;
        self.clients[number].at = 0;
        self.plan(now + self.scenario.network / 2 + WORK, number, Event::Request);
    }

    /// A statement, or COMMIT, is at the database.
    fn request(&mut self, now: Duration, number: usize) {
        let client = &mut self.clients[number];
        client.step += 1;
        if client.at == 0 {
            self.database.begin(now, number);
        }
        if !std::mem::replace(&mut self.clients[number].has_place, true)
            && self.clients[number].is_member
            && let Some(class) = self.gate(number).class()
        {
            class.resume(now);
        }
        let client = &self.clients[number];
        let Some(row) = client.rows.get(client.at).copied() else { return self.commit(now, number) };
        match self.database.update(number, row) {
            Lock::Taken => self.taken(now, number),
            Lock::Conflict => self.conflict(now, number),
            Lock::Waits => {
                let step = self.clients[number].step;
                let check = now + self.scenario.kind.deadlock_check();
                self.plan(check, number, Event::LookForDeadlock(step));
            }
        }
    }

    fn taken(&mut self, now: Duration, number: usize) {
        let (network, think) = (self.scenario.network, self.scenario.think);
        let client = &mut self.clients[number];
        client.step += 1;
        client.at += 1;
        // A replay runs what the client has asked for in one write.
        if client.at < client.asked {
            return self.plan(now + WORK, number, Event::Request);
        }
        client.asked = client.at;
        let step = client.step;
        if think > IDLE {
            self.plan(now + network / 2 + IDLE, number, Event::Idle(step));
        }
        self.plan(now + network + think + WORK, number, Event::Request);
    }

    fn commit(&mut self, now: Duration, number: usize) {
        self.release(now, number, true);
        self.plan(now + self.scenario.network / 2, number, Event::Committed);
    }

    fn committed(&mut self, now: Duration, number: usize) {
        let client = &self.clients[number];
        self.tally.latencies.push(now - client.since);
        *self.tally.seconds.last_mut().expect("a second") += 1;
        self.tally.clients[number] += 1;
        self.leave(now, number, End::Done);
        let next = now + Duration::from_micros(self.rng.u64(0..200));
        self.plan(next, number, Event::Arrive);
    }

    fn conflict(&mut self, now: Duration, number: usize) {
        self.tally.wasted += 1;
        self.release(now, number, false);
        self.clients[number].step += 1;
        self.plan(now + self.scenario.network / 2, number, Event::Failed);
    }

    fn leave(&mut self, now: Duration, number: usize, end: End) {
        self.step_back(now, number, end);
        self.wake(now, number);
    }

    fn step_back(&mut self, now: Duration, number: usize, end: End) {
        let client = &mut self.clients[number];
        let (had_place, is_member) = (std::mem::take(&mut client.has_place), client.is_member);
        let gate = self.gate(number);
        match (gate, end) {
            (Gate::Governed(_), End::Done) if !is_member => {}
            (gate @ Gate::Governed(_), _) if !is_member => gate.contends(now),
            (Gate::Governed(Some(class)), _) if !had_place => class.ended(now, end),
            (gate, _) => gate.leave(now, end),
        }
    }

    fn wake(&mut self, now: Duration, number: usize) {
        while let Some(next) = self.gate(number).next(now) {
            self.clients[next].has_place = true;
            self.admitted(now, next);
        }
    }

    /// The locks of a transaction are free: who waited for them goes on.
    fn release(&mut self, now: Duration, number: usize, committed: bool) {
        for (other, lock) in self.database.end(now, number, committed) {
            match lock {
                Lock::Taken => self.taken(now, other),
                Lock::Conflict => self.conflict(now, other),
                Lock::Waits => {}
            }
        }
    }
}
