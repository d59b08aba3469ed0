//! Syntax errors: the word near which the text went wrong, and an arrow that points at it.

use super::lexer::Word;
use crate::errors::{SqlError, unimplemented_hint};

/// A syntax error at a place of a statement.
#[derive(Debug, Clone)]
pub(super) struct SyntaxError {
    near: String,
    at: usize,
    what: Option<String>,
    hint: Option<String>,
    code: &'static str,
}

impl SyntaxError {
    /// Something unexpected at a word.
    pub(super) fn at(word: &Word) -> Self {
        Self { near: word.text.clone(), at: word.start, what: None, hint: None, code: "42601" }
    }

    /// Something unexpected at the end.
    pub(super) fn at_end(sql: &str) -> Self {
        Self { near: "EOF".into(), at: sql.len(), what: None, hint: None, code: "42601" }
    }

    /// Says what is wrong.
    pub(super) fn saying(self, what: &str) -> Self {
        Self { what: Some(what.into()), ..self }
    }

    /// Points to the help of a command.
    pub(super) fn see(self, command: &str) -> Self {
        Self { hint: Some(format!("try \\{command}")), ..self }
    }

    /// Says that the syntax is known but not supported.
    pub(super) fn unimplemented(self, issue: Option<u32>) -> Self {
        let what = Some("unimplemented: this syntax".into());
        Self { what, hint: Some(unimplemented_hint(issue)), code: "0A000", ..self }
    }

    /// The error as the client sees it.
    pub(super) fn in_statement(self, sql: &str) -> SqlError {
        let what = self.what.map(|what| format!(": {what}")).unwrap_or_default();
        let line_start = sql[..self.at].rfind('\n').map_or(0, |at| at + 1);
        let line_end = sql[self.at..].find('\n').map_or(sql.len(), |at| self.at + at);
        let arrow = " ".repeat(sql[line_start..self.at].chars().count());
        let error = SqlError::new(self.code, format!("at or near \"{}\": syntax error{what}", self.near))
            .with_detail(format!("source SQL:\n{}\n{arrow}^", &sql[..line_end]));
        SqlError { hint: self.hint.map(String::into_boxed_str), ..error }
    }
}
