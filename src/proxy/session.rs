//! One session: moves bytes between client, engine and server until one of them ends it.
//!
//! Both directions are polled in one task. A turn reads what is there, lets the engine decide, and writes what came of it:
//! one read and one write a side. No side waits for the other: what cannot be written now stays in the outbox, and above a
//! backlog nothing more is read for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::bell::{Bell, Bells};
use super::cancel::Registration;
use super::connection::{Connection, WAITING_BYTES};
use super::ending::Ending;
use super::idle::{Idle, Waiting};
use super::ledger::{Ledger, Outlet};
use super::refusal::fatal;
use super::sample::Sample;
use super::shutdown::Shutdown;
use super::tls::Stream;
use super::workers::Place;
use crate::insight::Activity;
use crate::replay::Engine;
use crate::wire::SqlState;

/// A session that runs.
pub(super) struct Session {
    engine: Engine,
    client: Connection<Stream>,
    server: Connection<Stream>,
    registration: Registration,
    shutdown: Shutdown,
    bells: Bells,
    clock: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    idle: Idle,
    /// The client has closed its sending side: it may still wait for answers.
    is_half_closed: bool,
    sample: Sample,
    ledger: Ledger,
    /// On its thread.
    place: Place,
}

/// Why a session does not run on.
pub(super) enum Stop {
    /// It has ended; and what the server may still be at work on for nobody can be cancelled with this key.
    Ended(Ending, Option<Box<[u8]>>),
    /// It is to go on on the thread with this number, where it is to be [settled](Session::settle).
    Moves(usize),
}

impl Session {
    pub(super) fn new(
        engine: Engine,
        (client, server): (Connection<Stream>, Connection<Stream>),
        registration: Registration,
        shutdown: Shutdown,
        idle: Idle,
        ledger: Ledger,
        place: Place,
    ) -> Self {
        let (bells, clock) = (Bells::new(), ledger.session.since());
        let (timer, is_half_closed) = (None, false);
        Self {
            engine,
            client,
            server,
            registration,
            shutdown,
            bells,
            clock,
            timer,
            idle,
            is_half_closed,
            sample: Sample::default(),
            ledger,
            place,
        }
    }

    /// It has moved, and goes on on the thread that this is called on.
    pub(super) fn settle(&mut self, place: Place) {
        self.place = place;
        self.timer = None;
        self.idle.settle();
        self.ledger.member.settle();
        for stream in [self.client.stream_mut(), self.server.stream_mut()] {
            if let Err(error) = stream.settle() {
                tracing::debug!(%error, "a socket stays with the thread that it was on");
            }
        }
    }

    /// Runs for as long as it stays on this thread.
    pub(super) async fn run(&mut self) -> Stop {
        let first = self.take_requests(self.clock.elapsed());
        let stopped = match first {
            Ok(_) => std::future::poll_fn(|cx| self.poll(cx)).await,
            Err(ending) => Err(ending),
        };
        let ending = match stopped {
            Ok(to) => return Stop::Moves(to),
            Err(ending) => ending,
        };
        let orphaned = !ending.is_of_server() && self.engine.awaits_answer();
        Box::pin(self.say_goodbye(&ending)).await;
        Stop::Ended(ending, orphaned.then(|| self.registration.key().map(Box::from)).flatten())
    }

    /// It is over, but something is left to be done in its place.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    /// Tells the sides that are still there. Its future is boxed, for a session that runs needs no room for it.
    async fn say_goodbye(&mut self, ending: &Ending) {
        let now = self.clock.elapsed();
        let in_doubt = self.engine.is_committing();
        let goodbye = match ending {
            Ending::ClientViolation(violation) => {
                Some(fatal(SqlState::PROTOCOL_VIOLATION, &violation.to_string()))
            }
            Ending::ShuttingDown | Ending::ServerViolation(_) if self.engine.is_within_message() => None,
            Ending::ServerViolation(_) if in_doubt => Some(fatal(
                SqlState::RESOLUTION_UNKNOWN,
                "the database does not speak the PostgreSQL protocol; whether the transaction was committed is unknown",
            )),
            Ending::ServerViolation(_) => Some(fatal(
                SqlState::CONNECTION_FAILURE,
                "the database does not speak the PostgreSQL protocol",
            )),
            Ending::ShuttingDown if in_doubt => Some(fatal(
                SqlState::RESOLUTION_UNKNOWN,
                "terminating connection due to administrator command; whether the transaction was committed is unknown",
            )),
            Ending::ShuttingDown => {
                Some(fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"))
            }
            Ending::Idle => Some(fatal(
                SqlState::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            )),
            Ending::IdleInTransaction => Some(fatal(
                SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )),
            _ => None,
        };
        self.client.outbox().extend(goodbye.unwrap_or_default());
        self.with_engine(now, |engine, out| engine.frontend_closed(now, out));
        self.ledger.place.leave();
        let tells = self.client.is_drained() || !matches!(ending, Ending::ClientLeft | Ending::Client(_));
        // A client that reads no more cannot be told: its connection is closed all the same, and the server does not wait for it.
        let patience = Duration::from_secs(if tells { 5 } else { 0 });
        let _ = tokio::join!(
            tokio::time::timeout(patience, self.client.close()),
            tokio::time::timeout(Duration::from_secs(1), self.server.close()),
        );
    }

    /// One turn: everything that can be done now. Ready when it ends, or is to move to another thread.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Ending>> {
        self.try_poll(cx).transpose().map_or(Poll::Pending, Poll::Ready)
    }

    fn try_poll(&mut self, cx: &mut Context<'_>) -> Result<Option<usize>, Ending> {
        self.bells.wake(cx.waker());
        loop {
            let mut moved = self.poll_server()?;
            moved |= self.poll_client()?;
            moved |= self.poll_timer(cx)?;
            moved |= self.poll_turn(cx)?;
            moved |= self.poll_member(cx)?;
            moved |= self.poll_outside()?;
            moved |= self.poll_drain(cx)?;
            self.end_if_told()?;
            if !moved {
                let (began, held) = (self.engine.began(), self.engine.held_bytes());
                self.ledger.session.note(activity(&self.engine), began, held);
                // Whoever moves is polled again, there.
                return match self.place.stir() {
                    None => self.poll_idle(cx).map(|()| None),
                    to => Ok(to),
                };
            }
        }
    }

    fn poll_client(&mut self) -> Result<bool, Ending> {
        if self.server.is_backed_up() || !self.listens_to_client() || !self.bells.client.heard() {
            return Ok(false);
        }
        let Poll::Ready(read) = self.client.poll_fill(&mut self.bells.client.context()) else {
            return Ok(false);
        };
        match read {
            Ok(0) => self.is_half_closed = true,
            Ok(_) => {
                let now = self.clock.elapsed();
                self.idle.stir(now);
                self.take_requests(now)?;
            }
            Err(error) => return Err(Ending::Client(error)),
        }
        if self.engine.awaits_copy_data() {
            // A client that sends its data is not idle, though the server waits for more.
            self.ledger.member.stir();
        }
        Ok(has_more(&self.client, &self.bells.client))
    }

    /// Whether the client is read. While its requests must wait only a little more is read, for that is how it is noticed
    /// that the client went away.
    fn listens_to_client(&self) -> bool {
        let has_room = self.client.received().len() < WAITING_BYTES;
        !self.is_half_closed && (has_room || self.engine.takes_requests())
    }

    fn poll_server(&mut self) -> Result<bool, Ending> {
        if self.client.is_backed_up() || !self.bells.server.heard() {
            return Ok(false);
        }
        let Poll::Ready(read) = self.server.poll_fill(&mut self.bells.server.context()) else {
            return Ok(false);
        };
        match read {
            Ok(0) if self.engine.is_busy() && !self.engine.is_left() => {
                return Err(self.server_left(Ending::ServerLost));
            }
            Ok(0) => return Err(self.server_left(Ending::ServerLeft)),
            Ok(_) => self.take_answers()?,
            Err(error) => return Err(self.server_left(Ending::Server(error))),
        }
        Ok(has_more(&self.server, &self.bells.server))
    }

    fn server_left(&mut self, ending: Ending) -> Ending {
        let now = self.clock.elapsed();
        self.with_engine(now, |engine, out| engine.backend_closed(now, out));
        ending
    }

    /// Hands the engine what the client sent.
    fn take_requests(&mut self, now: Duration) -> Result<(), Ending> {
        self.sample.begin(now);
        let (received, to_client) = self.client.both();
        let (to_server, ledger, clock) = (self.server.sink(), &mut self.ledger, self.clock);
        let mut out = Outlet { to_client, to_server, ledger, clock, now, closed: false };
        let alone = !self.engine.awaits_answer();
        let taken = self.engine.handle_frontend(now, received, &mut out).map_err(Ending::ClientViolation)?;
        let closed = out.closed;
        self.client.consume(taken);
        self.sample.asks(now, alone && !self.server.is_drained());
        if closed { Err(Ending::Lost) } else { Ok(()) }
    }

    /// Hands the engine what the server sent, then what the client's requests were waiting with.
    fn take_answers(&mut self) -> Result<(), Ending> {
        let now = self.clock.elapsed();
        if !self.engine.is_kept_alive() {
            self.idle.stir(now);
        }
        self.sample.begin(now);
        self.sample.hears(now).into_iter().for_each(|took| self.ledger.telemetry.round_trip(took));
        let (received, to_server) = self.server.both();
        let (to_client, ledger, clock) = (self.client.sink(), &mut self.ledger, self.clock);
        let mut out = Outlet { to_client, to_server, ledger, clock, now, closed: false };
        let taken = self.engine.handle_backend(now, received, &mut out).map_err(Ending::ServerViolation)?;
        let closed = out.closed;
        self.server.consume(taken);
        if closed {
            return Err(Ending::Lost);
        }
        if self.client.received().is_empty() { Ok(()) } else { self.take_requests(now) }
    }

    fn with_engine<T>(
        &mut self,
        now: Duration,
        call: impl FnOnce(&mut Engine, &mut Outlet<'_>) -> T,
    ) -> (T, bool) {
        let mut out = Outlet {
            to_client: self.client.sink(),
            to_server: self.server.sink(),
            ledger: &mut self.ledger,
            clock: self.clock,
            now,
            closed: false,
        };
        let result = call(&mut self.engine, &mut out);
        (result, out.closed)
    }

    /// The engine's time has come, or will.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let Some(deadline) = self.engine.deadline() else {
            self.timer = None;
            return Ok(false);
        };
        let due = tokio::time::Instant::from_std(self.clock + deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        self.timer = None;
        // The timer's clock and this one may differ by a hair; the engine must not be told that it is early.
        let now = self.clock.elapsed().max(deadline);
        let ((), closed) = self.with_engine(now, |engine, out| engine.timeout(now, out));
        if closed { Err(Ending::Lost) } else { self.take_requests(now).map(|()| true) }
    }

    /// A turn that is of no more use is given back; one that was waited for may have come.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if !self.engine.uses_turn() {
            self.ledger.place.leave();
        }
        if self.ledger.place.poll(cx).is_pending() {
            return Ok(false);
        }
        self.go_on(|engine, now, out| engine.admitted(now, out))
    }

    /// What others want of the session: that it cancels what runs, or that it ends.
    fn poll_outside(&mut self) -> Result<bool, Ending> {
        if !self.bells.outside.heard() {
            return Ok(false);
        }
        let cx = &mut self.bells.outside.context();
        self.shutdown.poll(cx);
        let Poll::Ready(ask) = self.registration.poll_ask(cx) else { return Ok(false) };
        self.bells.outside.ring();
        let now = self.clock.elapsed();
        let (forward, closed) = self.with_engine(now, |engine, out| engine.cancel(now, out));
        // Whoever asked may have run out of patience.
        let _ = ask.send(forward);
        if closed { Err(Ending::Lost) } else { self.take_requests(now).map(|()| true) }
    }

    /// The transaction's place among those that it contends with: it is admitted, or has been idle for too long.
    fn poll_member(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if self.ledger.member.is_outside() {
            return Ok(false);
        }
        if !self.engine.is_busy() {
            self.ledger.member.step_out();
        } else if !self.engine.awaits_place() {
            self.ledger.member.withdraw();
        }
        if self.ledger.member.poll(self.is_server_busy(), cx).is_pending() {
            return Ok(false);
        }
        self.go_on(|engine, now, out| engine.place_granted(now, out))
    }

    /// Writes what can be written. True if a side is backed up no longer: what was not read for its sake is to be read,
    /// and nothing else would wake the session for that.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let backlogs = (self.server.is_backed_up(), self.client.is_backed_up());
        let to_server = self.server.poll_drain(cx);
        if let Poll::Ready(Err(error)) = to_server {
            return Err(self.server_left(Ending::Server(error)));
        }
        let to_client = self.client.poll_drain(cx);
        if let Poll::Ready(Err(error)) = to_client {
            return Err(Ending::Client(error));
        }
        let added = self.sample.end(to_server.is_ready() && to_client.is_ready(), || self.clock.elapsed());
        added.into_iter().for_each(|added| self.ledger.telemetry.added(added));
        Ok(backlogs != (self.server.is_backed_up(), self.client.is_backed_up()))
    }

    /// A client that does nothing for too long is told so, and its session ends.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        if self.is_half_closed {
            return self.poll_half_closed(cx);
        }
        let (waiting, ending) =
            match (self.engine.awaits_answer() || !self.engine.takes_requests(), self.engine.is_busy()) {
                (true, _) => return Ok(()),
                (false, true) => (Waiting::Inside, Ending::IdleInTransaction),
                (false, false) => (Waiting::Outside, Ending::Idle),
            };
        if self.idle.poll(cx, self.clock, waiting) { Err(ending) } else { Ok(()) }
    }

    /// A client that will say no more gets the answers that it is owed, for as long as they come: it may be gone altogether.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        let is_owed = self.engine.owes_last_answers() || !self.client.is_drained();
        if !is_owed || self.idle.poll(cx, self.clock, Waiting::HalfClosed) {
            return Err(Ending::ClientLeft);
        }
        if self.engine.only_relays() {
            // What goes wrong with that shows where answers are read.
            let _ = self.server.poll_close(cx);
        }
        Ok(())
    }

    /// Whether the server is at work for the transaction: not while it waits for the client, or is only kept alive.
    fn is_server_busy(&self) -> bool {
        let is_read = !self.client.is_backed_up();
        let is_fed = !(self.engine.awaits_copy_data() && self.server.is_drained());
        let is_asked = !(self.engine.is_retrying() && self.engine.is_kept_alive());
        self.engine.awaits_answer() && is_read && is_fed && is_asked
    }

    /// What the session has waited for is here. It goes on, unless it is to end: others that end may have made room for it.
    fn go_on(&mut self, call: impl FnOnce(&mut Engine, Duration, &mut Outlet<'_>)) -> Result<bool, Ending> {
        self.shutdown.poll(&mut self.bells.outside.context());
        self.end_if_told()?;
        let now = self.clock.elapsed();
        let ((), closed) = self.with_engine(now, |engine, out| call(engine, now, out));
        if closed { Err(Ending::Lost) } else { self.take_requests(now).map(|()| true) }
    }

    /// A session ends at the first moment outside a transaction once the proxy shuts down.
    fn end_if_told(&self) -> Result<(), Ending> {
        let ends = self.shutdown.ends(self.engine.is_busy());
        if ends { Err(Ending::ShuttingDown) } else { Ok(()) }
    }
}

/// Whether a side that was read may have more, and its bell is rung for that. After a read that took everything, the bell rings by
/// itself when more comes.
fn has_more(side: &Connection<Stream>, bell: &Bell) -> bool {
    let more = !side.has_read_all() || side.stream().poll_readable(&mut bell.context()).is_ready();
    if more {
        bell.ring();
    }
    more
}

/// What a session does, as its operator sees it.
fn activity(engine: &Engine) -> Activity {
    match () {
        () if !engine.is_busy() => Activity::Idle,
        () if engine.awaits_place() => Activity::Waiting,
        () if engine.is_retrying() => Activity::Retrying,
        () if engine.awaits_answer() => Activity::Active,
        () => Activity::IdleInTransaction,
    }
}
