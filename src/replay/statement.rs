//! What a SQL text does to the transaction around it, told from its keywords alone.
//!
//! This is no parser: the server's status byte says what happened. The text is read only for what must be
//! known before it is sent: whether it may end the transaction, and whether it changes what no rollback restores.

mod functions;

use super::lexer::{Lexer, Token, comments_say, is_any};
use super::savepoint::is_restart_savepoint;
pub(super) use functions::{Functions, names};

/// What one statement is, as far as a replay cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Class {
    /// Reads or writes rows: SELECT, INSERT, UPDATE, DELETE and the like.
    Data = 1,
    /// Anything that none of the other classes names, harmless inside a transaction block.
    Utility = 1 << 1,
    /// Changes the schema. CockroachDB may commit the open transaction before it runs one.
    Definition = 1 << 2,
    /// BEGIN, START TRANSACTION.
    Begin = 1 << 3,
    /// COMMIT, END.
    Commit = 1 << 4,
    /// ROLLBACK, ABORT.
    Rollback = 1 << 5,
    /// COMMIT or ROLLBACK with AND CHAIN.
    Chain = 1 << 6,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase = 1 << 7,
    /// SAVEPOINT, RELEASE or ROLLBACK TO a name that begins with `cockroach_restart`.
    RestartSavepoint = 1 << 8,
    /// SAVEPOINT of any other name: what was locked before it stays locked when what is behind it fails.
    Savepoint = 1 << 25,
    /// RELEASE of any other name; of one that begins with `cockroach_restart` together with [`Self::RestartSavepoint`]: then it
    /// commits.
    Release = 1 << 26,
    /// RELEASE of a name that begins with `cockroach_restart`.
    RestartRelease = 1 << 8 | 1 << 26,
    /// ROLLBACK TO such a name.
    RestartRollback = 1 << 8 | 1 << 12,
    /// SHOW COMMIT TIMESTAMP: CockroachDB commits the transaction to know it.
    CommitTimestamp = 1 << 17,
    /// SET, RESET, USE: undone by a rollback on PostgreSQL, not on CockroachDB.
    Setting = 1 << 9,
    /// PREPARE, DEALLOCATE, DISCARD, LOAD: never undone.
    SessionState = 1 << 10,
    /// ROLLBACK TO an ordinary savepoint.
    RollbackTo = 1 << 12,
    /// LOCK TABLE.
    Lock = 1 << 13,
    /// DECLARE ... WITH HOLD: the cursor outlives the transaction.
    HeldCursor = 1 << 18,
    /// FETCH, MOVE, CLOSE: no rollback moves a cursor back that is from before the transaction.
    Cursor = 1 << 19,
    /// SET TRANSACTION: on CockroachDB a rollback to a savepoint does not undo it.
    TransactionMode = 1 << 20,
    /// PREPARE of a SET, RESET or USE, or of a change to the schema.
    PreparedEffect = 1 << 21,
    /// PREPARE of what takes or frees session-level advisory locks.
    PreparedLock = 1 << 23,
    /// EXECUTE: whatever was prepared.
    Execute = 1 << 22,
    /// CREATE TABLE ... AS EXECUTE: both.
    DefinitionByExecute = 1 << 2 | 1 << 22,
    /// Takes or frees session-level advisory locks, which no rollback does.
    AdvisoryLock = 1 << 24,
    /// Cannot be told: an unusual quoting, or a text that is cut.
    Unclear = 1 << 11,
}

/// The word of a comment that switches retries off for the transaction.
const SWITCHED_OFF: &[u8] = b"reprise:off";

/// The classes that occur in a text of one or more statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(u32);

impl From<Class> for Classes {
    fn from(class: Class) -> Self {
        Self(class as u32)
    }
}

impl Classes {
    /// A comment switches retries off.
    const OFF: u32 = 1 << 16;
    /// There is more than one statement.
    const SEVERAL: u32 = 1 << 15;
    /// The first of several is a BEGIN.
    const BEGINS: u32 = 1 << 14;
    /// The classes that end a transaction, or may do so where they stand.
    const ENDING: u32 = Class::Commit as u32
        | Class::Rollback as u32
        | Class::Chain as u32
        | Class::TwoPhase as u32
        | Class::CommitTimestamp as u32
        | Class::Unclear as u32;

    /// Reads a text. Empty for a text without any statement.
    pub(super) fn of(sql: &[u8]) -> Self {
        // Most texts are one statement without comments.
        match memchr::memchr3(b'/', b'-', b';', sql) {
            None => return Self::of_statement(sql),
            Some(at) if is_last_semicolon(sql, at) => return Self::of_statement(&sql[..at]),
            Some(_) => {}
        }
        let off = if comments_say(sql, SWITCHED_OFF) { Self::OFF } else { 0 };
        Self::of_text(sql).union(Self(off))
    }

    fn of_text(sql: &[u8]) -> Self {
        let Some(semicolon) = memchr::memchr(b';', sql) else { return Self::of_statement(sql) };
        if is_last_semicolon(sql, semicolon) {
            return Self::of_statement(&sql[..semicolon]);
        }
        let mut statements = Lexer(sql).statements();
        let first = statements.next().unwrap_or_default();
        match statements.next() {
            Some(second) => {
                let begins = if first.has(Class::Begin) { Self::BEGINS } else { 0 };
                let mark = Self(Self::SEVERAL | begins);
                statements.fold(first.union(second), Self::union).union(mark)
            }
            None => first,
        }
    }

    /// The classes of a text that is prepared: when it is run, the names in it are not at hand any more.
    pub(super) fn of_prepared(sql: &[u8]) -> Self {
        let functions = Functions::named(sql);
        let class = |named, class: Class| if named { Self::from(class) } else { Self::default() };
        let named = class(functions.lock, Class::AdvisoryLock).union(class(functions.set, Class::Setting));
        Self::of(sql).union(named)
    }

    fn of_statement(sql: &[u8]) -> Self {
        let mut words = Lexer(sql);
        words.next_word().map_or_else(Self::default, |first| classify(first, words).into())
    }

    /// Whether `class` occurs.
    pub(super) const fn has(self, class: Class) -> bool {
        self.0 & class as u32 != 0
    }

    /// Whether a comment in the text switches retries off.
    pub(super) const fn are_switched_off(self) -> bool {
        self.0 & Self::OFF != 0
    }

    /// Whether the text has more than one statement.
    pub(super) const fn is_several(self) -> bool {
        self.0 & Self::SEVERAL != 0
    }

    /// Whether the first of several statements is a BEGIN.
    pub(super) const fn begins(self) -> bool {
        self.0 & Self::BEGINS != 0
    }

    /// Whether the text sets, releases or goes back to savepoints.
    pub(super) const fn names_savepoint(self) -> bool {
        self.has(Class::Savepoint) || self.has(Class::Release) || self.has(Class::RollbackTo)
    }

    /// Whether the text releases a savepoint that CockroachDB restarts transactions at, which commits.
    pub(super) const fn releases_restart(self) -> bool {
        self.has(Class::Release) && self.has(Class::RestartSavepoint)
    }

    /// Whether the text is one statement of this class.
    pub(super) const fn is(self, class: Class) -> bool {
        self.0 & !Self::OFF == class as u32
    }

    /// Whether the text may end the transaction block that it is sent in.
    pub(super) const fn may_end(self) -> bool {
        self.0 & Self::ENDING != 0
    }

    /// Whether the text only reads or writes rows.
    pub(super) const fn only_data(self) -> bool {
        let classes = self.0 & !Self::SEVERAL;
        classes == Class::Data as u32 || classes == 0
    }

    /// Whether any of this may stand against a replay: neither reading and writing, nor beginning and ending.
    pub(super) const fn may_hinder(self) -> bool {
        const HARMLESS: u32 = Class::Data as u32
            | Class::Utility as u32
            | Class::Savepoint as u32
            | Class::Release as u32
            | Class::Begin as u32
            | Class::Commit as u32
            | Class::Rollback as u32
            | Classes::SEVERAL
            | Classes::BEGINS;
        self.0 & !HARMLESS != 0
    }

    /// The classes of both.
    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether this is a semicolon with nothing behind it: whatever it stands in, there is no second statement.
fn is_last_semicolon(sql: &[u8], at: usize) -> bool {
    sql[at] == b';' && sql[at + 1..].iter().all(u8::is_ascii_whitespace)
}

/// Whether a BEGIN or START TRANSACTION asks for nothing but what is known here: SERIALIZABLE, READ ONLY or READ WRITE. CockroachDB
/// does not know BEGIN WORK.
pub(super) fn begins_plainly(sql: &[u8]) -> bool {
    let mut known = vec!["TRANSACTION", "ISOLATION LEVEL SERIALIZABLE", "READ ONLY", "READ WRITE"];
    let Ok(text) = std::str::from_utf8(sql) else { return false };
    let text = text.trim().trim_end_matches(';').replace(',', " ").to_ascii_uppercase();
    let options = text.split_ascii_whitespace().skip(1).collect::<Vec<_>>().join(" ") + " ";
    let mut rest = options.as_str().trim_start();
    // Each at most once: what remains is not known.
    while let Some(at) = known
        .iter()
        .position(|option| rest.strip_prefix(option).is_some_and(|behind| behind.starts_with(' ')))
    {
        rest = rest[known.swap_remove(at).len()..].trim_start();
    }
    rest.is_empty() && !(options.contains("ONLY") && options.contains("WRITE"))
}

/// Whether a COMMIT, END, ROLLBACK or ABORT is one to CockroachDB too: it knows neither AND NO CHAIN nor a vertical tab, and WORK
/// behind ABORT only.
pub(super) fn ends_in_cockroach(sql: &[u8]) -> bool {
    let mut words = Lexer(sql);
    let aborts = words.next_word().is_some_and(|word| word.eq_ignore_ascii_case(b"ABORT"));
    let noise: &[&str] = if aborts { &["TRANSACTION", "WORK"] } else { &["TRANSACTION"] };
    !sql.contains(&0x0b) && words.next_word_but(noise).is_none()
}

/// Whether a BEGIN or START TRANSACTION has no options at all: the defaults of the session are in force.
pub(super) fn begins_without_options(sql: &[u8]) -> bool {
    let mut words = Lexer(sql);
    words.next_word();
    words.next_word_but(&["WORK", "TRANSACTION"]).is_none()
}

/// Classifies one statement by its first word and, where that is not enough, by those behind it.
fn classify(first: &[u8], mut rest: Lexer<'_>) -> Class {
    let is = |word: &str| first.eq_ignore_ascii_case(word.as_bytes());
    let any = |words: &[&str]| is_any(first, words);
    match first[0].to_ascii_uppercase() {
        b'S' if is("SELECT") => Class::Data,
        b'I' if is("INSERT") => Class::Data,
        b'U' if any(&["UPDATE", "UPSERT"]) => Class::Data,
        b'D' if is("DELETE") => Class::Data,
        b'W' if is("WITH") => Class::Data,
        b'V' if is("VALUES") => Class::Data,
        b'M' if is("MERGE") => Class::Data,
        b'T' if is("TABLE") => Class::Data,
        b'B' if is("BEGIN") => Class::Begin,
        b'S' if is("START") => rest.begins_with(&["TRANSACTION"], Class::Begin),
        b'C' if is("COMMIT") => ending(Class::Commit, rest),
        b'E' if is("END") => ending(Class::Commit, rest),
        b'R' if is("ROLLBACK") => ending(Class::Rollback, rest),
        b'A' if is("ABORT") => ending(Class::Rollback, rest),
        b'P' if is("PREPARE") => match rest.begins_with(&["TRANSACTION"], Class::TwoPhase) {
            Class::TwoPhase => Class::TwoPhase,
            _ => prepared(rest),
        },
        b'E' if is("EXECUTE") => Class::Execute,
        b'S' if is("SAVEPOINT") => savepoint(rest.next_word(), Class::Savepoint, Class::RestartSavepoint),
        b'R' if is("RELEASE") => {
            savepoint(rest.next_word_but(&["SAVEPOINT"]), Class::Release, Class::RestartRelease)
        }
        b'S' if is("SET") => setting(rest.next_word()),
        b'R' if is("RESET") => Class::Setting,
        b'U' if is("USE") => Class::Setting,
        b'D' if any(&["DEALLOCATE", "DISCARD"]) => Class::SessionState,
        b'L' if is("LOAD") => Class::SessionState,
        b'S' if is("SHOW") => show(rest),
        b'D' if is("DECLARE") => cursor(rest),
        b'F' if is("FETCH") => Class::Cursor,
        b'M' if is("MOVE") => Class::Cursor,
        b'C' if is("CLOSE") => Class::Cursor,
        b'C' if is("COPY") => Class::Utility,
        b'L' if is("LOCK") => Class::Lock,
        b'L' if is("LISTEN") => Class::Utility,
        b'N' if is("NOTIFY") => Class::Utility,
        b'U' if is("UNLISTEN") => Class::Utility,
        b'E' if is("EXPLAIN") => explained(rest),
        b'C' if is("CREATE") && rest.says("EXECUTE") => Class::DefinitionByExecute,
        b'(' => Class::Data,
        b'?' => Class::Unclear,
        _ => Class::Definition,
    }
}

/// COMMIT, END, ROLLBACK or ABORT, by what follows.
fn ending(plain: Class, mut rest: Lexer<'_>) -> Class {
    let mut word = rest.next_word_but(&["WORK", "TRANSACTION"]);
    let is = |word: Option<&[u8]>, name: &str| word.is_some_and(|w| w.eq_ignore_ascii_case(name.as_bytes()));
    if is(word, "TO") {
        return savepoint(rest.next_word_but(&["SAVEPOINT"]), Class::RollbackTo, Class::RestartRollback);
    }
    if is(word, "PREPARED") {
        return Class::TwoPhase;
    }
    if is(word, "AND") {
        word = rest.next_word();
        if is(word, "CHAIN") {
            return Class::Chain;
        }
        return if is(word, "NO") && is(rest.next_word(), "CHAIN") { plain } else { Class::Unclear };
    }
    if word.is_none() { plain } else { Class::Unclear }
}

/// PREPARE, by what is behind its AS.
fn prepared(mut rest: Lexer<'_>) -> Class {
    let functions = Functions::named(rest.0);
    if functions.lock || functions.set {
        return if functions.lock { Class::PreparedLock } else { Class::PreparedEffect };
    }
    while rest.next_word().is_some_and(|word| !word.eq_ignore_ascii_case(b"AS")) {}
    match rest.next_word() {
        // Nothing is prepared that prepares: this ends here.
        Some(first) if is_any(first, &["PREPARE"]) => Class::PreparedEffect,
        Some(first) if !matches!(classify(first, rest), Class::Data | Class::Utility) => {
            Class::PreparedEffect
        }
        Some(_) | None => Class::SessionState,
    }
}

/// EXPLAIN, by what it explains: with ANALYZE that is run, and CockroachDB does not commit before it as if it were only told of.
fn explained(mut rest: Lexer<'_>) -> Class {
    let mut has_options = false;
    loop {
        let at = rest;
        let Some(word) = rest.next_word() else { return Class::Utility };
        if is_any(word, &["ANALYZE", "ANALYSE", "VERBOSE"]) {
            continue;
        }
        // Options, unless it is a query in parentheses; they come once.
        let options = word == b"(" && !has_options && !rest.next_word().is_some_and(reads_or_writes);
        if options {
            (rest, has_options) = (at, true);
            rest.skip_parentheses();
            continue;
        }
        return match () {
            // Nothing is explained that explains or prepares: this ends here.
            () if is_any(word, &["EXPLAIN", "PREPARE"]) => Class::Unclear,
            () if word == b"(" || reads_or_writes(word) => Class::Utility,
            () => classify(word, rest),
        };
    }
}

/// Whether a statement that begins with this word reads or writes rows.
fn reads_or_writes(first: &[u8]) -> bool {
    classify(first, Lexer(b"")) == Class::Data
}

/// SAVEPOINT, RELEASE or ROLLBACK TO, by the savepoint's name: `restart` or `ordinary`.
fn savepoint(name: Option<&[u8]>, ordinary: Class, restart: Class) -> Class {
    if name.is_some_and(is_restart_savepoint) { restart } else { ordinary }
}

/// SHOW, by what follows.
fn show(mut rest: Lexer<'_>) -> Class {
    let mut is = |name: &str| rest.next_word().is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    if is("COMMIT") && is("TIMESTAMP") { Class::CommitTimestamp } else { Class::Utility }
}

/// DECLARE, by whether it says WITH HOLD before the FOR.
fn cursor(mut rest: Lexer<'_>) -> Class {
    let mut with = false;
    while let Some(word) = rest.next_word().filter(|word| !word.eq_ignore_ascii_case(b"FOR")) {
        if with && word.eq_ignore_ascii_case(b"HOLD") {
            return Class::HeldCursor;
        }
        with = word.eq_ignore_ascii_case(b"WITH");
    }
    Class::Utility
}

/// SET, by what follows: SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with the transaction.
fn setting(word: Option<&[u8]>) -> Class {
    let is = |name: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    match () {
        () if is("TRANSACTION") => Class::TransactionMode,
        () if is("LOCAL") || is("CONSTRAINTS") => Class::Utility,
        () => Class::Setting,
    }
}

impl Lexer<'_> {
    /// Whether this word occurs.
    fn says(mut self, word: &str) -> bool {
        std::iter::from_fn(|| self.next_word()).any(|other| is_any(other, &[word]))
    }

    /// Skips what is in the parentheses that open here, those within them included.
    fn skip_parentheses(&mut self) {
        let mut depth = 0_usize;
        loop {
            self.skip_blanks_and_comments();
            match self.0.first() {
                Some(b'(') => depth += 1,
                Some(b')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if self.next_token().is_none() || depth == 0 {
                return;
            }
        }
    }

    /// `class` if the next word is one of `words`.
    fn begins_with(&mut self, words: &[&str], class: Class) -> Class {
        if self.next_word().is_some_and(|word| is_any(word, words)) { class } else { Class::Unclear }
    }

    /// The class of each statement of the text.
    fn statements(mut self) -> impl Iterator<Item = Classes> {
        std::iter::from_fn(move || {
            loop {
                let start = self;
                match self.next_token()? {
                    Token::Semicolon => {}
                    Token::Unclear => {
                        self.0 = &[];
                        return Some(Class::Unclear.into());
                    }
                    first => {
                        let mut length = start.0.len() - self.0.len();
                        let mut last = first;
                        loop {
                            if matches!(last, Token::Unclear) {
                                self.0 = &[];
                                return Some(Class::Unclear.into());
                            }
                            match self.next_token() {
                                None | Some(Token::Semicolon) => break,
                                Some(token) => last = token,
                            }
                            length = start.0.len() - self.0.len();
                        }
                        return Some(Classes::of_statement(&start.0[..length]));
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
