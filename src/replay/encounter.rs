//! A conflict in full, for whoever reports on conflicts: the error of the database, and the statements of the transaction.
//!
//! The engine keeps none of it: what is worth keeping is copied while [`Output::conflict`] runs, and that is called at
//! conflicts only.

use super::cause::Cause;
use super::engine::{Engine, Output};
use super::event::Phase;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::journal::Journal;
use super::reason::Reason;
use super::statement::Functions;
use crate::wire::HEADER_BYTES;
use crate::wire::backend::ErrorFields;
use crate::wire::frontend::{self, Bind, Parse, tag};

/// A statement of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// What it is known by.
    pub fingerprint: Fingerprint,
    /// Its text as the client wrote it, literals included; `None` if it was prepared before the transaction, and told then
    /// by [`Output::prepared`].
    pub sql: Option<&'a [u8]>,
}

impl Statement<'_> {
    /// Why a transaction with this statement could not be run again, as far as that is asked at conflicts only: its text names a
    /// function whose effects no rollback takes back. What sets a parameter so is an obstacle on CockroachDB only.
    pub fn late_obstacle(&self) -> Option<Reason> {
        let functions = Functions::named(self.sql?);
        match () {
            () if functions.lock => Some(Reason::AdvisoryLock),
            () if functions.set => Some(Reason::SessionState),
            () => None,
        }
    }
}

/// A transaction that has met a conflict.
#[derive(Clone, Copy)]
pub struct Encounter<'a> {
    /// When it was met.
    pub phase: Phase,
    /// What the database names as the cause.
    pub cause: Cause,
    /// The error itself; data may be in its texts.
    pub error: ErrorFields<'a>,
    pub(super) number: usize,
    pub(super) journal: &'a Journal,
    pub(super) fingerprints: &'a Fingerprints,
    pub(super) first: Option<Fingerprint>,
}

impl<'a> Encounter<'a> {
    /// The statements of the transaction that work on data, in order; of one that is not journalled the first one only.
    pub fn statements(&self) -> impl Iterator<Item = Statement<'a>> {
        let first = self.first.filter(|_| self.journal.len() == 0);
        let first = first.map(|fingerprint| Statement { fingerprint, sql: None });
        first.into_iter().chain(up_to(self.journal.len(), self.journal, self.fingerprints).map(|(_, it)| it))
    }

    /// The statement that met the conflict. `None` for a COMMIT, and where the transaction is not journalled.
    pub fn statement(&self) -> Option<Statement<'a>> {
        let entry = self.journal.entry(self.number)?;
        let statements = up_to(self.number.saturating_add(1), self.journal, self.fingerprints);
        let met_there = |at: usize| at == self.number || !entry.effect.ends();
        statements.last().filter(|(at, _)| met_there(*at)).map(|(_, statement)| statement)
    }
}

/// The statements of the journalled requests up to `end`, each with the number of the request that runs it.
fn up_to<'a>(
    end: usize,
    journal: &'a Journal,
    fingerprints: &'a Fingerprints,
) -> impl Iterator<Item = (usize, Statement<'a>)> {
    let mut unnamed = None;
    let messages = |number| journal.messages(number).map(move |frame| (number, frame));
    (0..end.min(journal.len())).flat_map(messages).filter_map(move |(number, frame)| {
        let body = &frame[HEADER_BYTES..];
        let statement = match frame[0] {
            tag::QUERY => known(frontend::query(body)?),
            tag::PARSE => {
                let parse = Parse::view(body)?;
                if parse.statement.is_empty() {
                    unnamed = known(parse.sql);
                }
                None
            }
            tag::BIND => match Bind::view(body)?.statement {
                b"" => unnamed,
                name => fingerprints.named(name).map(|fingerprint| Statement { fingerprint, sql: None }),
            },
            _ => None,
        };
        Some((number, statement?))
    })
}

fn known(sql: &[u8]) -> Option<Statement<'_>> {
    Fingerprint::of(sql).map(|fingerprint| Statement { fingerprint, sql: Some(sql) })
}

impl Engine {
    /// Shows a conflict to whoever reports on conflicts.
    pub(super) fn show_conflict(
        &self,
        phase: Phase,
        cause: Cause,
        number: usize,
        body: &[u8],
        out: &mut impl Output,
    ) {
        out.conflict(&Encounter {
            phase,
            cause,
            error: ErrorFields::new(body),
            number,
            journal: &self.journal,
            fingerprints: &self.fingerprints,
            first: self.first_statement(),
        });
    }

    /// Shows a statement that gave another result than the one that the client had seen.
    pub(super) fn show_difference(&self, number: usize, out: &mut impl Output) {
        let encounter = Encounter {
            phase: Phase::Replay,
            cause: Cause::OTHER,
            error: ErrorFields::new(&[]),
            number,
            journal: &self.journal,
            fingerprints: &self.fingerprints,
            first: None,
        };
        encounter.statement().into_iter().for_each(|statement| out.differed(statement));
    }

    /// Shows the statements that a replay has verified: of the requests that it has `sent`, those that the client had been
    /// shown the whole answers of, as far as it came.
    pub(super) fn show_verified(&self, sent: usize, out: &mut impl Output) {
        let shown = self.unit.shown.min(sent);
        let mut statements = up_to(shown, &self.journal, &self.fingerprints).peekable();
        while let Some((number, statement)) = statements.next() {
            let end = statements.peek().map_or(shown, |(next, _)| *next);
            let mut requests = self.journal.entries_from(number).iter().take(end - number);
            if !requests.all(|request| request.answered || !request.is_answered()) {
                return;
            }
            out.verified(statement.fingerprint);
        }
    }

    /// Shows a statement that is prepared under a name, for later transactions only name it; and each that is run where
    /// they are watched.
    pub(super) fn show_request(&mut self, request: u8, frame: &[u8], out: &mut impl Output) {
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        if request == tag::PARSE
            && let Some(parse) = Parse::view(body)
        {
            if let Some(statement) = self.prepared(parse, out.watches()) {
                out.prepared(statement);
            }
        } else if matches!(request, tag::QUERY | tag::BIND)
            && out.watches()
            && let Some(fingerprint) = self.fingerprints.request(request, frame, &self.journal)
        {
            let sql = frontend::query(body).filter(|_| request == tag::QUERY);
            out.runs(Statement { fingerprint, sql }, self.unit.explicit);
        }
    }

    /// A statement that is prepared, if it is to be shown.
    fn prepared<'a>(&mut self, parse: Parse<'a>, watches: bool) -> Option<Statement<'a>> {
        match parse.statement {
            b"" => {
                let statement = if watches { known(parse.sql) } else { None };
                self.fingerprints.unnamed = statement.map(|statement| statement.fingerprint);
                statement
            }
            name => {
                let fingerprint = self.fingerprints.named(name)?;
                Some(Statement { fingerprint, sql: Some(parse.sql) })
            }
        }
    }
}
