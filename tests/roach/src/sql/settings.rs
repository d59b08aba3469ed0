//! Parses SET, RESET, SHOW and DISCARD.

use super::control::modes;
use super::lexer::Kind;
use super::parser::Cursor;
use super::statement::{Extent, Statement};
use super::syntax::SyntaxError;

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    let first = cursor.take()?;
    match first.text.as_str() {
        "set" => set(cursor),
        "show" => show(cursor),
        "reset" => {
            cursor.takes("session");
            let name = variable(cursor)?;
            cursor.end(Statement::Reset(name))
        }
        _ if cursor.takes("all") => cursor.end(Statement::DiscardAll),
        _ => Err(cursor.error().unimplemented(None)),
    }
}

fn set(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    if cursor.takes("transaction") {
        let modes = modes(cursor)?;
        return cursor.end(Statement::SetTransaction(modes)).map_err(|error| error.see("h SET TRANSACTION"));
    }
    let is_session = cursor.takes("session");
    if is_session && cursor.takes_all(&["characteristics", "as", "transaction"]) {
        let modes = modes(cursor)?;
        return cursor.end(Statement::SetCharacteristics(modes));
    }
    if is_session && cursor.takes_all(&["authorization", "default"]) {
        return cursor.end(Statement::SetAuthorization);
    }
    let mut extent = Extent::Session;
    if cursor.takes("local") {
        if !cursor.version.has_set_local() {
            return Err(cursor.error().unimplemented(Some(32562)));
        }
        extent = Extent::Transaction;
    }
    assignment(cursor, extent)
}

fn assignment(cursor: &mut Cursor<'_>, extent: Extent) -> Result<Statement, SyntaxError> {
    let variable = variable(cursor)?;
    if variable != "timezone" && !cursor.takes("=") && !cursor.takes("to") {
        return Err(cursor.error());
    }
    if variable == "timezone" && !cursor.takes("=") {
        cursor.takes("to");
    }
    let is_string = cursor.peek().is_some_and(|word| word.kind == Kind::String);
    let mut values = Vec::new();
    while cursor.peek().is_some() {
        let sign = if cursor.takes("-") { "-" } else { "" };
        values.push(format!("{sign}{}", cursor.take()?.text));
        if !cursor.takes(",") {
            break;
        }
    }
    if values.is_empty() {
        return Err(cursor.error());
    }
    cursor.end(Statement::Set { variable, value: values.join(", "), is_string, extent })
}

fn show(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    let fixed: [(&[&str], Statement); 6] = [
        (&["transaction", "status"], Statement::ShowTransactionStatus),
        (&["savepoint", "status"], Statement::ShowSavepointStatus),
        (&["last", "query", "statistics"], Statement::ShowLastQueryStatistics),
        (&["transaction", "isolation", "level"], Statement::Show("transaction_isolation".into())),
        (&["transaction", "priority"], Statement::Show("transaction_priority".into())),
        (&["commit", "timestamp"], Statement::ShowCommitTimestamp),
    ];
    for (keywords, statement) in fixed {
        let known = statement != Statement::ShowCommitTimestamp || cursor.version.shows_commit_timestamp();
        if known && cursor.takes_all(keywords) {
            return cursor.end(statement);
        }
    }
    if cursor.takes("syntax") {
        let sql = cursor.string()?;
        return cursor.end(Statement::ShowSyntax(sql));
    }
    if cursor.peek().is_none_or(|word| word.is("commit")) {
        return Err(cursor.error().see("h SHOW"));
    }
    let name = variable(cursor)?;
    cursor.end(Statement::Show(name))
}

/// The name of a variable, where TIME ZONE is another word for timezone.
fn variable(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    if cursor.takes_all(&["time", "zone"]) {
        return Ok("timezone".into());
    }
    let mut name = cursor.name()?;
    while cursor.takes(".") {
        name = format!("{name}.{}", cursor.name()?);
    }
    Ok(name)
}
