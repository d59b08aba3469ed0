//! The little SQL that clients and the model database have in common, and the tags that tell statements apart.
//!
//! Every statement of a client ends with a comment, `/* c0.17 */`; every Bind has such a tag as its last value. What
//! carries no tag was added by the engine.

use std::fmt::{self, Display, Formatter};

/// One execution of one statement: the client, and its running number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tag {
    pub(crate) client: u32,
    pub(crate) number: u32,
}

impl Tag {
    /// Reads `c0.17`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (client, number) = text.strip_prefix('c')?.split_once('.')?;
        Some(Self { client: client.parse().ok()?, number: number.parse().ok()? })
    }
}

impl Display for Tag {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client, self.number)
    }
}

/// What one statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Begin,
    Commit,
    Rollback,
    /// ROLLBACK AND CHAIN.
    Chain,
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    SelectKey(i64),
    SelectAll,
    Add {
        key: i64,
        delta: i64,
    },
    Swap {
        key: i64,
        old: i64,
        new: i64,
    },
    Insert {
        key: i64,
        value: i64,
    },
    Delete(i64),
    /// COPY FROM STDIN, in a text without the rows that follow it.
    Copy(Vec<(i64, i64)>),
    NextValue,
    DivideByZero,
    Set(String),
    SetLocal(String),
    Retype(u32),
    Notify(String),
    Listen,
    Empty,
}

impl Statement {
    /// Whether it gives rows.
    pub(crate) const fn has_rows(&self) -> bool {
        matches!(self, Self::SelectKey(_) | Self::SelectAll | Self::NextValue | Self::DivideByZero)
    }

    /// Whether it is allowed in a failed transaction.
    pub(crate) const fn leaves_failure(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::Chain | Self::RollbackTo(_))
    }
}

/// The text of a statement without its tag.
impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("BEGIN"),
            Self::Commit => f.write_str("COMMIT"),
            Self::Rollback => f.write_str("ROLLBACK"),
            Self::Chain => f.write_str("ROLLBACK AND CHAIN"),
            Self::Savepoint(name) => write!(f, "SAVEPOINT {name}"),
            Self::RollbackTo(name) => write!(f, "ROLLBACK TO SAVEPOINT {name}"),
            Self::Release(name) => write!(f, "RELEASE SAVEPOINT {name}"),
            Self::SelectKey(key) => write!(f, "SELECT v FROM kv WHERE k = {key}"),
            Self::SelectAll => f.write_str("SELECT k, v FROM kv"),
            Self::Add { key, delta } => write!(f, "UPDATE kv SET v = v + {delta} WHERE k = {key}"),
            Self::Swap { key, old, new } => {
                write!(f, "UPDATE kv SET v = {new} WHERE k = {key} AND v = {old}")
            }
            Self::Insert { key, value } => write!(f, "INSERT INTO kv VALUES ( {key} , {value} )"),
            Self::Copy(_) => f.write_str("COPY kv FROM STDIN"),
            Self::Delete(key) => write!(f, "DELETE FROM kv WHERE k = {key}"),
            Self::NextValue => f.write_str("SELECT nextval('seq')"),
            Self::DivideByZero => f.write_str("SELECT 1 / 0"),
            Self::Set(value) => write!(f, "SET application_name = {value}"),
            Self::SetLocal(value) => write!(f, "SET LOCAL application_name = {value}"),
            Self::Retype(oid) => write!(f, "ALTER TABLE kv ALTER v TYPE {oid}"),
            Self::Notify(payload) => write!(f, "NOTIFY news, {payload}"),
            Self::Listen => f.write_str("LISTEN news"),
            Self::Empty => Ok(()),
        }
    }
}

/// A statement as it stands in a text.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    pub(crate) tag: Option<Tag>,
    pub(crate) statement: Statement,
}

/// Reads the statements of a text; parameters `$1`, `$2`, ... stand for `values`. `None` for what is no SQL of the model.
pub(crate) fn read(sql: &str, values: &[String]) -> Option<Vec<Tagged>> {
    let mut texts: Vec<&str> = sql.split(';').collect();
    if texts.len() > 1 && texts.last().is_some_and(|last| last.trim().is_empty()) {
        texts.pop();
    }
    texts.into_iter().map(|text| read_one(text, values)).collect()
}

fn read_one(text: &str, values: &[String]) -> Option<Tagged> {
    let (text, comment) = text.split_once("/*").unwrap_or((text, ""));
    let tag = comment.split_once("*/").and_then(|(tag, _)| Tag::parse(tag.trim()));
    let words: Vec<&str> = text.split_whitespace().map(|word| parameter(word, values)).collect();
    Some(Tagged { tag, statement: statement(&words)? })
}

fn parameter<'a>(word: &'a str, values: &'a [String]) -> &'a str {
    let number: Option<usize> = word.strip_prefix('$').and_then(|number| number.parse().ok());
    number.and_then(|number| values.get(number.checked_sub(1)?)).map_or(word, String::as_str)
}

/// Parameters without a value are zeros: a statement can be described before it is bound.
fn number<N: std::str::FromStr + Default>(word: &str) -> Option<N> {
    if word.starts_with('$') { Some(N::default()) } else { word.parse().ok() }
}

fn statement(words: &[&str]) -> Option<Statement> {
    Some(match *words {
        [] => Statement::Empty,
        ["BEGIN"] => Statement::Begin,
        ["COMMIT"] => Statement::Commit,
        ["ROLLBACK"] => Statement::Rollback,
        ["ROLLBACK", "AND", "CHAIN"] => Statement::Chain,
        ["SAVEPOINT", name] => Statement::Savepoint(name.to_owned()),
        ["ROLLBACK", "TO", "SAVEPOINT", name] => Statement::RollbackTo(name.to_owned()),
        ["RELEASE", "SAVEPOINT", name] => Statement::Release(name.to_owned()),
        ["SELECT", "v", "FROM", "kv", "WHERE", "k", "=", key] => Statement::SelectKey(number(key)?),
        ["SELECT", "k,", "v", "FROM", "kv"] => Statement::SelectAll,
        ["UPDATE", "kv", "SET", "v", "=", "v", "+", delta, "WHERE", "k", "=", key] => {
            Statement::Add { key: number(key)?, delta: number(delta)? }
        }
        ["UPDATE", "kv", "SET", "v", "=", new, "WHERE", "k", "=", key, "AND", "v", "=", old] => {
            Statement::Swap { key: number(key)?, old: number(old)?, new: number(new)? }
        }
        ["INSERT", "INTO", "kv", "VALUES", "(", key, ",", value, ")"] => {
            Statement::Insert { key: number(key)?, value: number(value)? }
        }
        ["DELETE", "FROM", "kv", "WHERE", "k", "=", key] => Statement::Delete(number(key)?),
        ["COPY", "kv", "FROM", "STDIN"] => Statement::Copy(Vec::new()),
        ["SELECT", "nextval('seq')"] => Statement::NextValue,
        ["SELECT", "1", "/", "0"] => Statement::DivideByZero,
        ["SET", "application_name", "=", value] => Statement::Set(value.to_owned()),
        ["SET", "LOCAL", "application_name", "=", value] => Statement::SetLocal(value.to_owned()),
        ["ALTER", "TABLE", "kv", "ALTER", "v", "TYPE", oid] => Statement::Retype(number(oid)?),
        ["NOTIFY", "news,", payload] => Statement::Notify(payload.to_owned()),
        ["LISTEN", "news"] => Statement::Listen,
        _ => return None,
    })
}

/// The rows of a COPY, as they go over the wire.
pub(crate) fn copy_rows(rows: &[(i64, i64)]) -> Vec<Vec<u8>> {
    rows.iter().map(|(key, value)| format!("{key}\t{value}\n").into_bytes()).collect()
}

/// Reads them. Nothing, if there is something else in the data.
pub(crate) fn read_copy_rows(data: &[u8]) -> Option<Vec<(i64, i64)>> {
    let lines = std::str::from_utf8(data).ok()?.lines();
    lines
        .map(|line| line.split_once('\t').and_then(|(k, v)| Some((k.parse().ok()?, v.parse().ok()?))))
        .collect()
}
