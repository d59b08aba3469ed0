//! What a transaction is about to do, in a number: its first statement that works on data, without literals and spacing.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::journal::Journal;
use super::lexer::{Lexer, Token};
use crate::wire::HEADER_BYTES;
use crate::wire::frontend::{self, Bind, Parse, tag};

/// The fingerprint of a statement: the same for all that differ in literals, spacing and letter case only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// Statements that read no data and lock none: what comes behind them is the first.
const HARMLESS: [&str; 7] = ["BEGIN", "START", "SET", "RESET", "SHOW", "SAVEPOINT", "DISCARD"];
/// Statements that end something: nothing is to be expected behind them.
const ENDING: [&str; 5] = ["COMMIT", "END", "ROLLBACK", "ABORT", "RELEASE"];
/// Elements of a text that are read at most.
pub(super) const TOKENS_MAX: usize = 128;
/// Room for a statement without its literals, to begin with.
const NORMAL_BYTES: usize = 512;
/// Prepared statements of a session that are known by name at most.
const NAMES_MAX: usize = 1024;

impl Fingerprint {
    /// Of the first statement of a text that works on data; `None` if there is none.
    pub fn of(sql: &[u8]) -> Option<Self> {
        first_at_work(sql).map(Self::of_statement)
    }

    fn of_statement(mut lexer: Lexer<'_>) -> Self {
        let mut normal = Vec::with_capacity(lexer.0.len().min(NORMAL_BYTES));
        let mut other = false;
        for _ in 0..TOKENS_MAX {
            let token = lexer.next_token();
            // A list of literals is one, however long it is.
            if !matches!(token, Some(Token::Other)) {
                normal.push(if other { b'?' } else { b' ' });
            }
            other = matches!(token, Some(Token::Other));
            match token {
                Some(Token::Word(word)) => normal.extend(word.iter().map(u8::to_ascii_lowercase)),
                Some(Token::Quoted(name)) => normal.extend_from_slice(name),
                Some(Token::Other) => {}
                Some(Token::Semicolon | Token::Unclear) | None => break,
            }
        }
        Self(xxh3_64(&normal))
    }
}

/// Where the first statement of a text that works on data begins.
pub(super) fn first_at_work(sql: &[u8]) -> Option<Lexer<'_>> {
    let mut lexer = Lexer(sql);
    loop {
        let start = lexer;
        let first = lexer.next_word()?;
        let is = |words: &[&str]| words.iter().any(|word| first.eq_ignore_ascii_case(word.as_bytes()));
        if is(&ENDING) {
            return None;
        }
        if !is(&HARMLESS) {
            return Some(start);
        }
        while !matches!(lexer.next_token()?, Token::Semicolon) {}
    }
}

impl From<Fingerprint> for u64 {
    fn from(Fingerprint(number): Fingerprint) -> Self {
        number
    }
}

/// The prepared statements of a session, by name.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    named: HashMap<Box<[u8]>, Option<Fingerprint>>,
    /// The unnamed one, where statements are watched: no journal needs to have it.
    pub(super) unnamed: Option<Fingerprint>,
}

impl Fingerprints {
    /// A Parse goes out.
    pub(super) fn parse(&mut self, statement: &[u8], sql: &[u8]) {
        if !statement.is_empty() && (self.named.len() < NAMES_MAX || self.named.contains_key(statement)) {
            self.named.insert(statement.into(), Fingerprint::of(sql));
        }
    }

    /// Of a statement that was prepared under a name.
    pub(super) fn named(&self, statement: &[u8]) -> Option<Fingerprint> {
        self.named.get(statement).copied()?
    }

    /// Of a request, in a transaction with these requests before it. `None` if it does no work, or if that is not known.
    pub(super) fn request(&self, tag: u8, frame: &[u8], before: &Journal) -> Option<Fingerprint> {
        let body = frame.get(HEADER_BYTES..)?;
        match tag {
            tag::QUERY | tag::PARSE => Fingerprint::of(frontend::text(tag, body)?),
            tag::BIND => match Bind::view(body)?.statement {
                b"" => unnamed(before).or(self.unnamed),
                name => self.named(name),
            },
            _ => None,
        }
    }

    /// Of the first request of a transaction that has one.
    pub(super) fn first(&self, journal: &Journal) -> Option<Fingerprint> {
        let mut messages = (0..journal.len()).flat_map(|number| journal.messages(number));
        messages.find_map(|frame| self.request(frame[0], frame, journal))
    }
}

/// Of the unnamed statement that was parsed last.
fn unnamed(journal: &Journal) -> Option<Fingerprint> {
    let messages = (0..journal.len()).rev().flat_map(|number| journal.messages(number));
    messages.filter(|frame| frame[0] == tag::PARSE).find_map(|frame| {
        let parse = Parse::view(&frame[HEADER_BYTES..])?;
        parse.statement.is_empty().then(|| Fingerprint::of(parse.sql))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(texts: &[&str]) {
        let of = |text: &str| Fingerprint::of(text.as_bytes());
        assert!(of(texts[0]).is_some());
        for text in texts {
            assert_eq!(of(text), of(texts[0]), "{text}");
        }
    }

    #[test]
    fn literals_spacing_and_case_do_not_matter() {
        same(&[
            "UPDATE t SET a = 1 WHERE k = 'x'",
            "update t\n set A=22  where k = 'it''s' ;",
            "UPDATE t SET a = $1 WHERE k = $2",
        ]);
        same(&["SELECT * FROM t WHERE k IN (1, 2, 3)", "SELECT * FROM t WHERE k IN (1)"]);
        let of = |text: &str| Fingerprint::of(text.as_bytes());
        assert_ne!(of("UPDATE t SET a = 1"), of("UPDATE u SET a = 1"));
        assert_ne!(of("SELECT ab"), of("SELECT a b"));
    }

    #[test]
    fn what_opens_the_transaction_is_passed_over() {
        same(&["UPDATE t SET a = 1", "BEGIN; SET LOCAL x = 'y;'; UPDATE t SET a = 2; COMMIT"]);
        for text in ["BEGIN", "SET a = 1; SHOW b", "COMMIT", "", "BEGIN; ROLLBACK; SELECT 1"] {
            assert_eq!(Fingerprint::of(text.as_bytes()), None, "{text}");
        }
    }
}
