//! LOCK TABLE, answered by Reprise on CockroachDB, which has no table locks.
//!
//! Under SERIALIZABLE a transaction needs none: what a lock would have kept apart meets as a conflict, and is retried. So
//! LOCK TABLE is ignored only where that level is certain; what may change it takes the certainty away.
//!
//! In the simple protocol the answer is written here, when everything before it is answered; the server hears nothing.
//! In the extended protocol the statement is prepared as an empty one, and the answer to that is told as the tag of a LOCK
//! TABLE: so it stands in its place among the other answers of its batch, and is passed over when they are.

use super::engine::{Engine, Output};
use super::explain;
use super::lexer::{Lexer, Token};
use super::policy::{Dialect, LockTable, Mode};
use super::scan::Scan;
use super::statement::{Class, Classes, Functions, names};
use crate::wire::backend::Status;
use crate::wire::frontend::{self, Parse, tag};
use crate::wire::{HEADER_BYTES, encode};

/// What is prepared in the place of a LOCK TABLE: no statement.
const IGNORED: &[u8] = b"/* LOCK TABLE, ignored by Reprise */";
/// The portal that is run in its place where the isolation level is no longer certain: there is none of this name, and the
/// name says why.
const REFUSED: &str = "LOCK TABLE is ignored under SERIALIZABLE only";
const TAG: &str = "LOCK TABLE";

/// What a session knows of its locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// The client was told that they are ignored.
    noticed: bool,
    /// Something may have changed the isolation level of the session.
    session_in_doubt: bool,
    /// The same for the transaction at hand.
    pub(super) transaction_in_doubt: bool,
    /// The next request is a LOCK TABLE that waits for the answers before it.
    waits: bool,
}

impl Engine {
    /// Whether there is any LOCK TABLE to be ignored.
    pub(super) fn may_ignore_locks(&self) -> bool {
        self.policy.lock_table == LockTable::Ignore
            && self.dialect == Dialect::Cockroach
            && self.policy.mode == Mode::Transparent
    }

    const fn is_serializable(&self) -> bool {
        !self.locks.session_in_doubt && !self.locks.transaction_in_doubt
    }

    /// Whether this Query is a LOCK TABLE that is answered here, if it is in a transaction.
    fn is_ignored_lock(&self, frame: &[u8]) -> bool {
        self.may_ignore_locks()
            && self.is_serializable()
            && !self.discarding
            && self.outstanding.ends_cycle()
            && !self.outstanding.is_copying()
            && frontend::query(&frame[HEADER_BYTES..]).is_some_and(|sql| Classes::of(sql).is(Class::Lock))
    }

    /// Whether the next request, a Query, is a LOCK TABLE that must wait until everything before it is answered: only then is it known
    /// whether it is in a transaction.
    pub(super) fn lock_must_wait(&mut self, frame: &[u8]) -> bool {
        self.locks.waits = !self.outstanding.is_empty() && self.is_ignored_lock(frame);
        self.locks.waits
    }

    /// Whether a request waits for that.
    pub(super) fn lock_waits(&self) -> bool {
        self.locks.waits && !self.outstanding.is_empty()
    }

    /// Answers a LOCK TABLE of the simple protocol. False if the Query is none.
    pub(super) fn answer_lock(&mut self, frame: &[u8], out: &mut impl Output) -> bool {
        if self.status == Status::Idle || !self.is_ignored_lock(frame) {
            return false;
        }
        let mut answer = Vec::new();
        if self.status == Status::Failed {
            answer = explain::in_failed_transaction();
        } else {
            self.complete_lock(&mut answer);
        }
        encode::ready_for_query(&mut answer, self.status);
        out.frontend(&answer);
        true
    }

    fn complete_lock(&mut self, answer: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.locks.noticed, true) {
            encode::notice(
                answer,
                "LOCK TABLE is ignored: this database has no table locks",
                "Under SERIALIZABLE isolation none are needed: Reprise retries what they would have kept apart.",
            );
        }
        encode::command_complete(answer, TAG);
    }

    /// What goes to the server in the place of this request, where that is another one: asked only where LOCK TABLE is ignored.
    pub(super) fn without_lock(&mut self, tag: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let body = &frame[HEADER_BYTES..];
        let mut other = Vec::new();
        match tag {
            tag::QUERY => self.note_isolation(frontend::query(body)?, false),
            tag::PARSE => {
                let parse = Parse::view(body)?;
                self.note_isolation(parse.sql, true);
                if self.is_serializable() && Classes::of(parse.sql).is(Class::Lock) {
                    encode::parse(&mut other, parse.statement, IGNORED);
                }
            }
            tag::EXECUTE if !self.is_serializable() && self.runs_lock(body) => {
                encode::execute(&mut other, REFUSED);
            }
            _ => {}
        }
        (!other.is_empty()).then_some(other)
    }

    fn runs_lock(&self, execute: &[u8]) -> bool {
        frontend::execute(execute)
            .is_some_and(|portal| self.outstanding.prepared.execute(portal).is(Class::Lock))
    }

    /// Notes whether a text may change the isolation level: of its transaction if that is all that it can do, else of the
    /// session.
    fn note_isolation(&mut self, sql: &[u8], prepared: bool) {
        if !may_change_isolation(sql) {
            return;
        }
        let classes = Classes::of(sql);
        if !prepared && (classes.is(Class::Begin) || sets_transaction(sql)) {
            self.locks.transaction_in_doubt = true;
        } else {
            self.locks.session_in_doubt = true;
        }
    }

    /// The classes of a text that is prepared, for one that stands in the place of a LOCK TABLE.
    pub(super) fn classes_of_prepared(sql: &[u8]) -> Classes {
        if sql == IGNORED { Class::Lock.into() } else { Classes::of_prepared(sql) }
    }

    /// The empty statement in the place of a LOCK TABLE has been run.
    pub(super) fn show_lock(&mut self, scan: &mut Scan<'_>, out: &mut impl Output) {
        let mut answer = Vec::new();
        self.complete_lock(&mut answer);
        scan.skip(out);
        self.deliver_own(&answer, out);
    }
}

/// Whether a text may lower the isolation level, now or when what it defines is run: it names it, and says more than
/// ISOLATION LEVEL SERIALIZABLE.
fn may_change_isolation(sql: &[u8]) -> bool {
    if Functions::named(sql).set {
        return true;
    }
    if !names(sql, &[b"isolation"]) || Classes::of(sql).only_data() {
        return false;
    }
    let mut rest = Lexer(sql);
    loop {
        let before = rest.0;
        let token = rest.next_token();
        let text = &before[..before.len().saturating_sub(rest.0.len())];
        match token {
            None => return false,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"ISOLATION") => {
                let level = [rest.next_word(), rest.next_word()];
                let serializable = [&b"LEVEL"[..], b"SERIALIZABLE"];
                let is = std::iter::zip(level, serializable)
                    .all(|(word, wanted)| word.is_some_and(|word| word.eq_ignore_ascii_case(wanted)));
                if !is {
                    return true;
                }
            }
            Some(Token::Unclear) => return true,
            // A name, a string or a comment that has it in it: whatever that is.
            Some(_) if names(text, &[b"isolation"]) => return true,
            Some(_) => {}
        }
    }
}

fn sets_transaction(sql: &[u8]) -> bool {
    let mut words = Lexer(sql);
    let mut next =
        |wanted: &str| words.next_word().is_some_and(|w| w.eq_ignore_ascii_case(wanted.as_bytes()));
    next("SET") && next("TRANSACTION") && !Classes::of(sql).is_several()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_lower_the_isolation_level_is_known() {
        for sql in [
            "BEGIN ISOLATION LEVEL READ COMMITTED",
            "SET default_transaction_isolation = 'serializable'",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SNAPSHOT",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SET transaction_isolation TO 'x'",
            "SELECT set_config($1, $2, false)",
            "SELECT SET_CONFIG('a', 'b', true)",
            "PREPARE p AS SET \"default_transaction_isolation\" = 'x'",
            "DO $$ SET default_transaction_isolation = 'x' $$",
            "RESET default_transaction_isolation",
        ] {
            assert!(may_change_isolation(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "BEGIN",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "START TRANSACTION ISOLATION LEVEL serializable, READ ONLY",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "INSERT INTO wards VALUES ('isolation')",
            "SELECT isolation FROM wards",
            "RESET ALL",
        ] {
            assert!(!may_change_isolation(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn the_empty_statement_has_no_statement_in_it() {
        assert_eq!(Classes::of(IGNORED), Classes::default());
        assert!(Engine::classes_of_prepared(IGNORED).is(Class::Lock));
    }
}
