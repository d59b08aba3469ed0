//! Turns text into statements: those of the session by hand, the others through `sqlparser`.

use super::lexer::{Kind, Word, split, words};
use super::statement::{Parsed, Statement, Target};
use super::syntax::SyntaxError;
use super::{control, data, settings};
use crate::errors::SqlError;
use crate::version::Version;

/// Parses every statement of a string; a syntax error anywhere is an error of the whole.
pub fn parse(sql: &str, version: Version) -> Result<Vec<Parsed>, SqlError> {
    split(sql).into_iter().map(|sql| parse_one(sql, version)).collect()
}

fn parse_one(sql: &str, version: Version) -> Result<Parsed, SqlError> {
    let words = words(sql);
    let mut cursor = Cursor { sql, words: &words, next: 0, version };
    match statement(&mut cursor) {
        Ok(statement) => Ok(Parsed { sql: sql.to_owned(), statement }),
        Err(error) => Err(error.in_statement(sql)),
    }
}

/// The words of a statement, and how far they were read.
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a str,
    pub(super) words: &'a [Word],
    pub(super) next: usize,
    pub(super) version: Version,
}

impl<'a> Cursor<'a> {
    /// The next word, which is not consumed.
    pub(super) fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.next)
    }

    /// Consumes a keyword if it comes next.
    pub(super) fn takes(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.is(keyword));
        self.next += usize::from(found);
        found
    }

    /// Consumes several keywords if all of them come next.
    pub(super) fn takes_all(&mut self, keywords: &[&str]) -> bool {
        let rest = self.words.get(self.next..).unwrap_or_default();
        let found =
            keywords.len() <= rest.len() && keywords.iter().zip(rest).all(|(keyword, word)| word.is(keyword));
        self.next += if found { keywords.len() } else { 0 };
        found
    }

    /// Consumes the next word, whatever it is.
    pub(super) fn take(&mut self) -> Result<&'a Word, SyntaxError> {
        let word = self.peek().ok_or_else(|| self.error())?;
        self.next += 1;
        Ok(word)
    }

    /// Consumes a name.
    pub(super) fn name(&mut self) -> Result<String, SyntaxError> {
        match self.peek() {
            Some(word) if matches!(word.kind, Kind::Word | Kind::Quoted) => {
                self.take().map(|word| word.text.clone())
            }
            _ => Err(self.error()),
        }
    }

    /// Consumes a string.
    pub(super) fn string(&mut self) -> Result<String, SyntaxError> {
        match self.peek() {
            Some(word) if word.kind == Kind::String => self.take().map(|word| word.text.clone()),
            _ => Err(self.error()),
        }
    }

    /// Demands a keyword.
    pub(super) fn expect(&mut self, keyword: &str) -> Result<(), SyntaxError> {
        if self.takes(keyword) { Ok(()) } else { Err(self.error()) }
    }

    /// Demands that nothing follows.
    pub(super) fn end<T>(&self, result: T) -> Result<T, SyntaxError> {
        if self.next >= self.words.len() { Ok(result) } else { Err(self.error()) }
    }

    /// Something unexpected at the next word.
    pub(super) fn error(&self) -> SyntaxError {
        self.peek().map_or_else(|| SyntaxError::at_end(self.sql), SyntaxError::at)
    }
}

fn statement(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    let Some(first) = cursor.peek() else {
        return Ok(Statement::Nothing);
    };
    match first.text.as_str() {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            control::parse(cursor)
        }
        "set" | "reset" | "show" | "discard" => settings::parse(cursor),
        "prepare" => prepare(cursor),
        "execute" => execute(cursor),
        "deallocate" => deallocate(cursor),
        "copy" => copy(cursor),
        "cancel" => cancel(cursor),
        "explain" => Ok(Statement::Explain),
        "close" => Ok(Statement::Nothing),
        "declare" => Err(cursor.error().unimplemented(Some(41412))),
        "select" | "with" | "values" | "table" | "insert" | "upsert" | "update" | "delete" | "(" => {
            data::parse(cursor)
        }
        "create" | "drop" | "alter" | "truncate" => data::parse_schema(cursor),
        _ => Err(cursor.error()),
    }
}

fn prepare(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.take()?;
    let name = cursor.name()?;
    if !cursor.takes("as") {
        return Err(cursor.error().see("h PREPARE"));
    }
    let start = cursor.peek().map_or(cursor.sql.len(), |word| word.start);
    let sql = cursor.sql[start..].to_owned();
    let words = words(&sql);
    let statement = statement(&mut Cursor { sql: &sql, words: &words, next: 0, version: cursor.version })?;
    Ok(Statement::Prepare { name, statement: Box::new(Parsed { sql, statement }) })
}

fn execute(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.take()?;
    let name = cursor.name()?;
    let mut values = Vec::new();
    if cursor.takes("(") {
        while !cursor.takes(")") {
            values.push(cursor.take()?.text.clone());
            cursor.takes(",");
        }
    }
    cursor.end(Statement::Execute { name, values })
}

fn deallocate(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.take()?;
    cursor.takes("prepare");
    let name = cursor.name()?;
    cursor.end(Statement::Deallocate(Some(name).filter(|name| name != "all")))
}

fn copy(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.take()?;
    let table = cursor.name()?;
    let mut columns = Vec::new();
    if cursor.takes("(") {
        while !cursor.takes(")") {
            columns.push(cursor.name()?);
            cursor.takes(",");
        }
    }
    cursor.expect("from")?;
    cursor.expect("stdin")?;
    cursor.end(Statement::CopyFrom { table, columns })
}

/// `CANCEL QUERY (SELECT query_id FROM [SHOW QUERIES] WHERE application_name = 'x')`, and the same for a session.
fn cancel(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    cursor.take()?;
    let target = match cursor.take()?.text.as_str() {
        "query" => Target::Query,
        "session" => Target::Session,
        _ => {
            cursor.next -= 1;
            return Err(cursor.error());
        }
    };
    while !cursor.takes_all(&["application_name", "="]) {
        cursor.take()?;
    }
    let application_name = cursor.string()?;
    cursor.expect(")")?;
    cursor.end(Statement::Cancel { target, application_name })
}
