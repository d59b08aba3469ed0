//! A conflict in full, for whoever reports on conflicts: the error of the database, and the statements of the transaction.
//!
//! The engine keeps none of it: what is worth keeping is copied while [`Output::conflict`] runs, and that is called at
//! conflicts only.

use super::cause::Cause;
use super::engine::{Engine, Output};
use super::event::Phase;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::journal::Journal;
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
        first.into_iter().chain(self.up_to(self.journal.len()))
    }

    /// The statement that met the conflict. `None` for a COMMIT, and where the transaction is not journalled.
    pub fn statement(&self) -> Option<Statement<'a>> {
        let entry = self.journal.entry(self.number)?;
        let frame = self.journal.frames(self.number..self.number + 1);
        let text = frame.get(HEADER_BYTES..).and_then(frontend::query).filter(|_| entry.tag == tag::QUERY);
        if entry.effect.ends() && text.and_then(Fingerprint::of).is_none() {
            return None;
        }
        self.up_to(self.number.saturating_add(1)).last()
    }

    fn up_to(&self, end: usize) -> impl Iterator<Item = Statement<'a>> + use<'a> {
        let (journal, fingerprints) = (self.journal, self.fingerprints);
        let mut unnamed = None;
        (0..end.min(journal.len())).filter_map(move |number| {
            let body = journal.frames(number..number + 1).get(HEADER_BYTES..)?;
            match journal.entry(number)?.tag {
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
            }
        })
    }
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

    /// Shows a statement that is prepared under a name, for later transactions only name it; and each that is run where
    /// they are watched.
    pub(super) fn show_request(&self, request: u8, frame: &[u8], out: &mut impl Output) {
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        if request == tag::PARSE
            && let Some(parse) = Parse::view(body)
            && let Some(statement) = self.prepared(parse, out.watches())
        {
            out.prepared(statement);
        } else if matches!(request, tag::QUERY | tag::BIND)
            && out.watches()
            && let Some(fingerprint) = self.fingerprints.request(request, frame, &self.journal)
        {
            let sql = frontend::query(body).filter(|_| request == tag::QUERY);
            out.runs(Statement { fingerprint, sql }, self.unit.explicit);
        }
    }

    /// A statement that is prepared, if it is to be shown.
    fn prepared<'a>(&self, parse: Parse<'a>, watches: bool) -> Option<Statement<'a>> {
        match parse.statement {
            b"" if watches => known(parse.sql),
            b"" => None,
            name => {
                let fingerprint = self.fingerprints.named(name)?;
                Some(Statement { fingerprint, sql: Some(parse.sql) })
            }
        }
    }
}
