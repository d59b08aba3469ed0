//! A statement in words that tell no data: its text without literals, parameters and comments.
//!
//! Nothing is passed on because it looks harmless. A word, a quoted name and an operator are; anything else becomes a `?`.

use super::fingerprint::{TOKENS_MAX, first_at_work};
use super::lexer::{Lexer, Token};

/// Bytes of a text that are kept at most.
const TEXT_MAX: usize = 400;
/// What stands for a literal or a parameter.
const LITERAL: &str = "?";

/// The first statement of a text that works on data, with a `?` for each literal, parameter and list of them. `None` if there
/// is no such statement.
pub fn normalised(sql: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut tokens = Pieces(first_at_work(sql)?);
    for _ in 0..TOKENS_MAX {
        let Some(piece) = tokens.next() else { return Some(text) };
        if piece.what == LITERAL && (text.ends_with("?,") || text.ends_with(LITERAL)) {
            // A list of literals is one, however long it is; so is a number in several parts.
            text.truncate(text.trim_end_matches([',', '?']).len());
        } else if piece.what == "." && text.ends_with(LITERAL) {
            continue;
        } else if piece.apart && !text.is_empty() {
            text.push(' ');
        }
        if text.len() + piece.what.len() > TEXT_MAX {
            break;
        }
        text.push_str(&piece.what);
    }
    Some(text + " ...")
}

/// The table that a statement works on, as far as its first words tell: of several it is the one that is written.
pub fn target(sql: &[u8]) -> Option<String> {
    let mut pieces = Pieces(first_at_work(sql)?).map(|piece| piece.what);
    let is = |word: &str, expected: &str| word.eq_ignore_ascii_case(expected);
    let mut found = loop {
        let word = pieces.next()?;
        if ["UPDATE", "INTO", "FROM", "TABLE", "COPY"].iter().any(|before| is(&word, before)) {
            break pieces.next()?;
        }
    };
    if is(&found, "ONLY") || is(&found, "TABLE") {
        found = pieces.next()?;
    }
    while let Some(part) = pieces.next().filter(|dot| dot == ".").and_then(|_| pieces.next()) {
        found = format!("{found}.{part}");
    }
    let is_name = |c: char| c.is_alphabetic() || matches!(c, '_' | '"');
    found.starts_with(is_name).then(|| found.replace('"', ""))
}

/// A part of a text that tells no data.
struct Piece {
    what: String,
    /// Whether there is something between it and the one before.
    apart: bool,
}

/// The parts of one statement.
struct Pieces<'a>(Lexer<'a>);

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let before = self.0.0.len();
        self.0.skip_blanks_and_comments();
        let text = self.0.0;
        let apart = text.len() < before;
        let token = self.0.next_token()?;
        let own = &text[..text.len() - self.0.0.len()];
        let what = match token {
            Token::Word(_) | Token::Quoted(_) => String::from_utf8_lossy(own).into_owned(),
            Token::Other if is_operator(own) => String::from_utf8_lossy(own).into_owned(),
            Token::Other => LITERAL.to_owned(),
            Token::Semicolon => return None,
            Token::Unclear => {
                self.0 = Lexer(&[]);
                LITERAL.to_owned()
            }
        };
        Some(Piece { what, apart })
    }
}

fn is_operator(text: &[u8]) -> bool {
    matches!(text, [byte] if b"()[],.=<>+-*/%^|&~!@#:".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn text(sql: &str, expected: &str) {
        assert_eq!(normalised(sql.as_bytes()).as_deref(), Some(expected));
    }

    #[test]
    fn literals_parameters_and_comments_are_gone() {
        text("UPDATE t SET a = a - 1.5e3 WHERE k = 'x''y'", "UPDATE t SET a = a - ? WHERE k = ?");
        text(
            "BEGIN; SELECT * FROM \"T x\" /* secret */ WHERE k IN (1, 2,3); COMMIT",
            "SELECT * FROM \"T x\" WHERE k IN (?)",
        );
        text("INSERT INTO a.b VALUES ($1, $2, now()) -- secret", "INSERT INTO a.b VALUES (?, now())");
        text("select $tag$secret; $tag$, E'\\'secret', 0xFF, x'AB', U&'d!0061' ", "select ?, x?, U&?");
        text("SELECT a::text||'x' FROM t WHERE b>=10", "SELECT a::text||? FROM t WHERE b>=?");
        assert_eq!(normalised(b"COMMIT"), None);
    }

    #[test]
    fn what_cannot_be_told_ends_the_text() {
        text("SELECT 'a\\'secret', b FROM t", "SELECT ?");
        text("SELECT 'secret", "SELECT ?");
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = format!("SELECT {} FROM t", vec!["column"; 1000].join("+"));
        let cut = normalised(long.as_bytes()).unwrap();
        assert!(cut.ends_with(" ...") && cut.len() <= TEXT_MAX + 4, "{cut}");
    }

    #[test]
    fn the_table_is_told() {
        for (sql, expected) in [
            ("UPDATE only accounts SET a = 1", Some("accounts")),
            ("INSERT INTO bank.\"Accounts\" (a) VALUES (1)", Some("bank.Accounts")),
            ("DELETE FROM a.b.c WHERE d = 1", Some("a.b.c")),
            ("SELECT a, 'FROM secret' FROM t JOIN u ON t.a = u.a", Some("t")),
            ("SELECT * FROM (SELECT 1)", None),
            ("SELECT 1", None),
            ("SELECT * FROM 'secret'", None),
        ] {
            assert_eq!(target(sql.as_bytes()).as_deref(), expected, "{sql}");
        }
    }
}
