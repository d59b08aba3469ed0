//! One session of the engine with two peers, and what must be true of it whatever they do.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use reprise::replay::{Dialect, Engine, Event, Output, Policy};

/// The longest that a message of Reprise's own is, or what it adds to an error, or what it holds here.
const OWN_BYTES_MAX: usize = 4096;
/// Journals grow by steps of at most this.
const GRANT_BYTES: usize = 64 << 10;
/// Timeouts that may be due one after the other before the clock must move on.
const TIMEOUTS_MAX: usize = 4;

/// What the engine did.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_server: Vec<u8>,
    /// Where the bytes are that the engine has been handed.
    input: Option<Range<*const u8>>,
    /// The most bytes that it has been handed at once.
    input_bytes: usize,
    granted_bytes: usize,
    replays: u32,
    /// Nothing may be sent any more.
    over: bool,
}

impl Record {
    fn hand(&mut self, bytes: &[u8]) {
        self.input = Some(bytes.as_ptr_range());
        self.input_bytes = self.input_bytes.max(bytes.len());
    }

    fn check_alive(&self, bytes: &[u8]) {
        assert!(
            !self.over || bytes.is_empty(),
            "bytes after the end: {:?}",
            bytes.escape_ascii().to_string()
        );
    }

    /// What comes from nowhere in the input the engine has kept, or made: that has a limit.
    fn check_kept(&self, bytes: &[u8]) {
        let passed_on = self.input.as_ref().is_some_and(|input| input.contains(&bytes.as_ptr()));
        let limit = OWN_BYTES_MAX + self.input_bytes;
        assert!(passed_on || bytes.len() <= limit, "{} bytes for the client were kept", bytes.len());
    }
}

impl Output for Record {
    fn frontend(&mut self, bytes: &[u8]) {
        self.check_alive(bytes);
        self.check_kept(bytes);
        self.to_client.extend_from_slice(bytes);
    }
    fn backend(&mut self, bytes: &[u8]) {
        self.check_alive(bytes);
        self.to_server.extend_from_slice(bytes);
    }
    fn report(&mut self, _: Event) {}
    fn hold(&mut self, journal_bytes: usize) -> bool {
        self.granted_bytes = journal_bytes;
        true
    }
    fn admit(&mut self, _: Duration) -> bool {
        // Every other replay waits for its turn.
        self.replays += 1;
        self.replays % 2 == 1
    }
    fn close(&mut self) {
        assert!(!self.over, "closed twice");
        self.over = true;
    }
}

/// How the bytes of one message reach the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// In one piece.
    Whole,
    /// In pieces of as many bytes.
    Pieces(usize),
}

/// A side of the session.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// An engine, its clock, and what it has not taken yet.
pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) record: Record,
    journal_bytes: usize,
    cut: Cut,
    now: Duration,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
}

impl Session {
    pub(crate) fn new(policy: Policy, dialect: Dialect, cut: Cut) -> Self {
        let journal_bytes = policy.journal_bytes;
        let engine = Engine::new(Arc::new(policy), dialect, 1);
        let (from_client, from_server) = (Vec::new(), Vec::new());
        let (record, now) = (Record::default(), Duration::ZERO);
        Self { engine, record, journal_bytes, cut, now, from_client, from_server }
    }

    /// Whether nothing can happen any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.record.over
    }

    pub(crate) fn client_sends(&mut self, bytes: &[u8]) {
        for piece in self.pieces(bytes) {
            self.from_client.extend_from_slice(piece);
            self.take(Side::Client);
        }
        self.check();
    }

    pub(crate) fn server_sends(&mut self, bytes: &[u8]) {
        for piece in self.pieces(bytes) {
            self.from_server.extend_from_slice(piece);
            self.take(Side::Server);
            self.take(Side::Client);
        }
        self.check();
    }

    fn pieces<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let length = match self.cut {
            Cut::Whole => bytes.len(),
            Cut::Pieces(length) => length,
        };
        bytes.chunks(length.max(1))
    }

    /// Lets the engine take what one side has sent. A length that cannot be ends the session.
    fn take(&mut self, side: Side) {
        if self.is_over() {
            return;
        }
        let bytes = match side {
            Side::Client => &mut self.from_client,
            Side::Server => &mut self.from_server,
        };
        self.record.hand(bytes);
        let taken = match side {
            Side::Client => self.engine.handle_frontend(self.now, bytes, &mut self.record),
            Side::Server => self.engine.handle_backend(self.now, bytes, &mut self.record),
        };
        self.record.input = None;
        match taken {
            Ok(taken) => {
                assert!(taken <= bytes.len(), "{taken} bytes taken of {}", bytes.len());
                bytes.drain(..taken);
            }
            Err(_) => self.record.over = true,
        }
    }

    /// The clock moves on.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        for _ in 0..TIMEOUTS_MAX {
            if self.is_over() || self.engine.deadline().is_none_or(|due| due > self.now) {
                return self.check();
            }
            self.engine.timeout(self.now, &mut self.record);
            self.take(Side::Client);
        }
        panic!("a timeout that is due for ever");
    }

    /// The time comes for which the engine waits.
    pub(crate) fn wait(&mut self) {
        if let Some(due) = self.engine.deadline() {
            self.pass(due.saturating_sub(self.now));
        }
    }

    /// A replay gets its turn, if it waits for it.
    pub(crate) fn admit(&mut self) {
        self.engine.admitted(self.now, &mut self.record);
        self.take(Side::Client);
        self.check();
    }

    /// Whether the CancelRequest goes on to the server.
    pub(crate) fn cancel(&mut self) -> bool {
        let forwarded = self.engine.cancel(self.now, &mut self.record);
        self.take(Side::Client);
        self.check();
        forwarded
    }

    /// The client goes: nothing may come of it but the end.
    pub(crate) fn hang_up(&mut self) {
        self.engine.frontend_closed(self.now, &mut self.record);
        self.end();
    }

    /// The server goes.
    pub(crate) fn crash(&mut self) {
        self.engine.backend_closed(self.now, &mut self.record);
        self.end();
    }

    fn end(&mut self) {
        self.record.over = true;
        assert_eq!(self.record.granted_bytes, 0, "the journal outlives its session");
        assert!(!self.engine.is_busy() && self.engine.deadline().is_none(), "work after the end");
        // What was under way on either side may still arrive.
        let taken = self.engine.handle_frontend(self.now, b"Q\0\0\0\x05\0", &mut self.record);
        assert_eq!(taken, Ok(6));
        let taken = self.engine.handle_backend(self.now, b"Z\0\0\0\x05I", &mut self.record);
        assert_eq!(taken, Ok(6));
        self.engine.timeout(self.now, &mut self.record);
    }

    fn check(&self) {
        let granted = self.record.granted_bytes;
        assert!(granted <= self.journal_bytes.next_multiple_of(GRANT_BYTES), "{granted} bytes of journal");
        assert!(granted == 0 || self.engine.is_busy() || self.is_over(), "a journal without a transaction");
    }
}
