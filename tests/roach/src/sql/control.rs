//! Parses the statements that begin, end and divide transactions.

use super::lexer::Word;
use super::parser::Cursor;
use super::statement::{Modes, Statement};
use super::syntax::SyntaxError;
use crate::kv::Priority;

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    let first = cursor.take()?;
    match first.text.as_str() {
        "begin" | "start" => begin(cursor),
        "commit" | "end" => {
            cursor.takes("transaction");
            cursor.end(Statement::Commit).map_err(|error| error.see("h COMMIT"))
        }
        "rollback" => rollback(cursor).map_err(|error| error.see("h ROLLBACK")),
        "abort" => {
            cursor.takes("transaction");
            cursor.end(Statement::Rollback).map_err(|error| error.see("h ABORT"))
        }
        "savepoint" => {
            let name = cursor.name()?;
            cursor.end(Statement::Savepoint(name)).map_err(|error| error.see("h SAVEPOINT"))
        }
        _ => {
            cursor.takes("savepoint");
            let name = cursor.name()?;
            cursor.end(Statement::Release(name)).map_err(|error| error.see("h RELEASE"))
        }
    }
}

fn begin(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.takes("transaction");
    let modes = modes(cursor)?;
    cursor.end(Statement::Begin(modes)).map_err(|error| error.see("h BEGIN"))
}

fn rollback(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.takes("transaction");
    if !cursor.takes("to") {
        return cursor.end(Statement::Rollback);
    }
    cursor.takes("savepoint");
    let name = cursor.name()?;
    cursor.end(Statement::RollbackTo(name))
}

/// The modes of BEGIN and SET TRANSACTION. What cannot be one is left for the caller to complain about.
pub(super) fn modes(cursor: &mut Cursor<'_>) -> Result<Modes, SyntaxError> {
    let mut modes = Modes::default();
    loop {
        let before = cursor.next;
        if cursor.takes("read") {
            let word = cursor.take()?;
            let read_only = word.is("only");
            set_once(&mut modes.read_only, read_only, word, "read mode")?;
        } else if cursor.takes("priority") {
            let word = cursor.take()?;
            let priority = priority(word)?;
            set_once(&mut modes.priority, priority, word, "user priority")?;
        } else if cursor.takes_all(&["isolation", "level"]) {
            let word = cursor.take()?;
            let level =
                if cursor.takes_all(&["committed"]) || cursor.takes("uncommitted") || cursor.takes("read") {
                    format!("{} ...", word.text)
                } else {
                    word.text.clone()
                };
            set_once(&mut modes.isolation, level, word, "isolation level")?;
        } else if cursor.takes_all(&["as", "of", "system", "time"]) {
            modes.as_of = Some(cursor.string()?);
        } else {
            cursor.next = before;
            return Ok(modes);
        }
        cursor.takes(",");
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, word: &Word, what: &str) -> Result<(), SyntaxError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SyntaxError::at(word).saying(&format!("{what} specified multiple times"))),
    }
}

fn priority(word: &Word) -> Result<Priority, SyntaxError> {
    match word.text.as_str() {
        "low" => Ok(Priority::Low),
        "normal" => Ok(Priority::Normal),
        "high" => Ok(Priority::High),
        _ => Err(SyntaxError::at(word)),
    }
}
