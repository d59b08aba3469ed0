//! The names of savepoints in a text: those that CockroachDB restarts transactions at go by their name alone.

use super::lexer::{Lexer, Token};

/// Whether a savepoint is one that CockroachDB restarts transactions at: it compares the prefix after folding, so a quoted name in
/// capitals is an ordinary one.
pub(super) fn is_restart_savepoint(name: &[u8]) -> bool {
    const RESTART: &[u8] = b"cockroach_restart";
    match name.strip_prefix(b"\"") {
        Some(quoted) => quoted.starts_with(RESTART),
        None => name.get(..RESTART.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESTART)),
    }
}

/// Whether the first of the statements that name a restart savepoint sets it.
pub(super) fn sets_restart_savepoint(sql: &[u8]) -> bool {
    let mut named = savepoint_names(sql).filter(|(.., name)| is_restart_savepoint(name));
    named.next().is_some_and(|(verb, ..)| verb.eq_ignore_ascii_case(b"SAVEPOINT"))
}

/// Where in a text the names of restart savepoints begin.
pub(super) fn restart_savepoints(sql: &[u8]) -> impl Iterator<Item = usize> {
    savepoint_names(sql)
        .filter(|(.., name)| is_restart_savepoint(name))
        .map(|(_, at, name)| at + usize::from(name.starts_with(b"\"")))
}

/// The savepoints that a text names: the first word of the statement, where the name begins, and the name.
fn savepoint_names(sql: &[u8]) -> impl Iterator<Item = (&[u8], usize, &[u8])> {
    let mut lexer = Lexer(sql);
    let (mut verb, mut before): (&[u8], &[u8]) = (b"", b"");
    std::iter::from_fn(move || {
        loop {
            let (word, quote) = match lexer.next_token()? {
                Token::Word(word) => (word, 0),
                Token::Quoted(word) => (word, 1),
                Token::Semicolon => {
                    (verb, before) = (b"", b"");
                    continue;
                }
                _ => continue,
            };
            let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let named = match () {
                () if is(verb, "ROLLBACK") => is(before, "TO") || is(before, "SAVEPOINT"),
                () if is(verb, "RELEASE") => is(before, "RELEASE") || is(before, "SAVEPOINT"),
                () => is(verb, "SAVEPOINT") && is(before, "SAVEPOINT"),
            };
            if verb.is_empty() {
                verb = word;
            }
            before = word;
            if named && !word.eq_ignore_ascii_case(b"SAVEPOINT") {
                return Some((verb, sql.len() - lexer.0.len() - word.len() - quote, word));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_restart_savepoints_are_found_where_they_stand() {
        let found = |sql: &str| restart_savepoints(sql.as_bytes()).collect::<Vec<_>>();
        assert_eq!(found("SAVEPOINT cockroach_restart"), [10]);
        assert_eq!(found("ROLLBACK TO \"cockroach_restart\"; SELECT cockroach_restart"), [13]);
        assert_eq!(found("rollback to savepoint Cockroach_Restart; RELEASE cockroach_restart2"), [22, 49]);
        assert!(found("ALTER TABLE t RENAME TO cockroach_restart_old").is_empty());
        assert!(found("SAVEPOINT a; SELECT 'RELEASE cockroach_restart'").is_empty());
        assert!(sets_restart_savepoint(b"SAVEPOINT a; SAVEPOINT cockroach_restart"));
        assert!(!sets_restart_savepoint(b"ROLLBACK TO SAVEPOINT cockroach_restart"));
        assert!(!sets_restart_savepoint(b"RELEASE SAVEPOINT cockroach_restart; SAVEPOINT cockroach_restart"));
    }
}
