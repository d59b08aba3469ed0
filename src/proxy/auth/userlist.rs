//! The file with users and their passwords, in the format of PgBouncer's `userlist.txt`.
//!
//! Source: [its documentation](https://www.pgbouncer.org/config.html#authentication-file-format).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

use super::scram::{self, ITERATIONS, Keys, Secret};

/// Bytes of a salt, as PostgreSQL makes them.
const SALT_BYTES: usize = 16;

/// Who may log in.
pub(in crate::proxy) struct Users {
    users: HashMap<Box<[u8]>, User>,
    /// Makes up secrets for users that are not there, the same ones each time.
    pretence: scram::Hash,
}

/// What is known of a user.
#[derive(Clone)]
pub(super) struct User {
    pub(super) secret: Secret,
    /// The password itself, if the file has it.
    pub(super) password: Option<String>,
}

/// Why the file cannot be used. Nothing that is in it is told.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not there, or may not be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A line is not as it should be.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The operating system gives no random numbers.
    #[error("there are no random numbers for salts")]
    Random,
}

impl Users {
    /// Reads the file.
    pub(in crate::proxy) fn load(path: &Path) -> Result<Self, Error> {
        let mut users = HashMap::new();
        for (line, name, value) in pairs(path, "expected \"user\" \"password\"")? {
            let wrong = |problem| Error::Line { path: path.to_owned(), line, problem };
            if is_md5(&value) {
                return Err(wrong(
                    "an MD5 password cannot be used: write a SCRAM secret, or the password itself",
                ));
            }
            let user = user(value)?.ok_or_else(|| wrong("the SCRAM secret is not valid"))?;
            if users.insert(name.into_bytes().into(), user).is_some() {
                return Err(wrong("the user is there twice"));
            }
        }
        Ok(Self { users, pretence: random()? })
    }

    /// What is known of a user; for one that is not there a secret that nobody's password fits.
    pub(super) fn find(&self, name: &[u8]) -> User {
        let stranger = || {
            let made_up = |what: &[u8]| scram::hmac(&self.pretence, &[what, name].concat());
            let secret = Secret {
                iterations: ITERATIONS,
                salt: made_up(b"salt")[..SALT_BYTES].to_vec(),
                stored_key: made_up(b"stored key"),
                server_key: made_up(b"server key"),
            };
            User { secret, password: None }
        };
        self.users.get(name).cloned().unwrap_or_else(stranger)
    }
}

/// The pairs of quoted texts in a file, each with its line.
pub(in crate::proxy) fn pairs(
    path: &Path,
    expected: &'static str,
) -> Result<Vec<(usize, String, String)>, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Error::Unreadable { path: path.to_owned(), error })?;
    let lines = text.lines().enumerate().filter(|(_, line)| has_user(line));
    let pair = |(number, line)| {
        let pair = field(line).and_then(|(first, rest)| Some((number + 1, first, field(rest)?.0)));
        pair.ok_or_else(|| Error::Line { path: path.to_owned(), line: number + 1, problem: expected })
    };
    lines.map(pair).collect()
}

/// Whether a line is neither empty nor a comment.
fn has_user(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with(';')
}

/// The quoted text at the start, in which a quote is written twice, and what follows it.
fn field(text: &str) -> Option<(String, &str)> {
    let mut rest = text.trim_start().strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        value.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

/// A user with this password or secret; `None` if the secret is not valid.
fn user(value: String) -> Result<Option<User>, Error> {
    if value.starts_with("SCRAM-SHA-256$") {
        return Ok(Secret::parse(&value).map(|secret| User { secret, password: None }));
    }
    let salt = random::<SALT_BYTES>()?.to_vec();
    let secret = Keys::derive(&value, &salt, ITERATIONS).secret(salt, ITERATIONS);
    Ok(Some(User { secret, password: Some(value) }))
}

fn is_md5(value: &str) -> bool {
    let hash = value.strip_prefix("md5");
    hash.is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Random bytes that nobody can foretell.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Users, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        Users::load(file.path()).map_err(|error| error.to_string().replace(&path, "f"))
    }

    #[test]
    fn users_are_read_as_pgbouncer_reads_them() {
        let users = load("; a comment\n\n\"ann\" \"se\"\"cret\" and more\n  \"b\"\"ob\"   \"x\"\n").unwrap();
        assert_eq!(users.find(b"ann").password.as_deref(), Some("se\"cret"));
        assert_eq!(users.find(b"b\"ob").password.as_deref(), Some("x"));
        assert_eq!(users.users.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_its_words() {
        for (text, expected) in [
            ("ann secret", "f:1: expected \"user\" \"password\""),
            ("\"ann\" \"secret", "f:1: expected \"user\" \"password\""),
            ("\n\"ann\" \"SCRAM-SHA-256$secret\"", "f:2: the SCRAM secret is not valid"),
            ("\"ann\" \"a\"\n\"ann\" \"b\"", "f:2: the user is there twice"),
        ] {
            assert_eq!(load(text).err().as_deref(), Some(expected));
        }
        let md5 = load("\"ann\" \"md50123456789abcdef0123456789abcdef\"").err().unwrap();
        assert!(md5.starts_with("f:1: an MD5 password cannot be used"), "{md5}");
    }

    #[test]
    fn a_stranger_looks_like_anybody_and_always_the_same() {
        let users = load("\"ann\" \"secret\"").unwrap();
        let (stranger, again) = (users.find(b"eve").secret, users.find(b"eve").secret);
        assert!(stranger == again && stranger != users.find(b"bob").secret);
        let ann = users.find(b"ann").secret;
        assert_eq!((stranger.salt.len(), stranger.iterations), (ann.salt.len(), ann.iterations));
    }
}
