//! What the engine of a session asks for: bytes land in the outboxes, and everything else where the session is accounted for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Sink;
use super::member::Member;
use super::turns::Place;
use crate::insight::Session;
use crate::replay::{self, Encounter, Event, Fingerprint, Intent, Output, Statement};
use crate::telemetry::Telemetry;

/// Where a session is accounted for.
pub(super) struct Ledger {
    pub(super) session: Arc<Session>,
    pub(super) telemetry: Arc<Telemetry>,
    /// Bytes of journal that are granted to the session.
    pub(super) held: usize,
    /// Where its transaction stands among those that it contends with.
    pub(super) member: Member,
    /// Where it stands in the line of replays.
    pub(super) place: Place,
}

impl Ledger {
    fn hold(&mut self, bytes: usize) -> bool {
        let budget = self.telemetry.journal();
        let granted = bytes <= self.held || budget.reserve(bytes - self.held);
        if granted {
            budget.release(self.held.saturating_sub(bytes));
            self.held = bytes;
        }
        granted
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// What the engine asks for lands in the outboxes.
pub(super) struct Outlet<'a> {
    pub(super) to_client: Sink<'a>,
    pub(super) to_server: Sink<'a>,
    pub(super) ledger: &'a mut Ledger,
    /// When the session began: its times count from there.
    pub(super) clock: Instant,
    /// The time of the call.
    pub(super) now: Duration,
    pub(super) closed: bool,
}

impl Output for Outlet<'_> {
    fn frontend(&mut self, bytes: &[u8]) {
        self.to_client.push(bytes);
    }

    fn backend(&mut self, bytes: &[u8]) {
        self.to_server.push(bytes);
    }

    fn report(&mut self, event: Event) {
        self.ledger.telemetry.record(&self.ledger.session, &event, self.now);
        if let Event::TransactionEnded(end) = event {
            self.ledger.member.ended(end.outcome);
        }
    }

    fn hold(&mut self, journal_bytes: usize) -> bool {
        self.ledger.hold(journal_bytes)
    }

    fn admit(&mut self, started: Duration) -> bool {
        self.ledger.place.ask(self.clock + started, &self.ledger.telemetry)
    }

    fn governs(&self) -> bool {
        self.ledger.member.governs()
    }

    fn enter(&mut self, now: Duration, intent: Intent, since: Duration, replay: bool) -> replay::Place {
        self.ledger.member.enter(intent, now.saturating_sub(since), replay)
    }

    fn contends(&mut self, statement: Fingerprint) {
        self.ledger.member.contends(statement);
    }

    fn conflict(&mut self, met: &Encounter<'_>) {
        self.ledger.telemetry.conflict(&self.ledger.session, met);
    }

    fn differed(&mut self, statement: Statement<'_>) {
        self.ledger.telemetry.insight().differed(&self.ledger.session, statement);
    }

    fn verified(&mut self, statement: Fingerprint) {
        self.ledger.telemetry.insight().verified(&self.ledger.session, statement);
    }

    fn watches(&self) -> bool {
        self.ledger.session.is_watched()
    }

    fn runs(&mut self, statement: Statement<'_>, in_transaction: bool) {
        self.ledger.telemetry.insight().runs(&self.ledger.session, statement, in_transaction);
    }

    fn prepared(&mut self, statement: Statement<'_>) {
        self.ledger.telemetry.insight().prepared(statement);
    }

    fn close(&mut self) {
        self.closed = true;
    }
}
