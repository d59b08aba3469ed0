//! Where a conflict was: the table, index and key that the database names in its error.
//!
//! CockroachDB names the key, `/Table/<table>/<index>/...`, behind a few words that tell it from the keys of the transactions
//! themselves in `meta={...}`, which are no conflicts. PostgreSQL names a table in its fields or, for a deadlock, in the
//! context; for most conflicts it names none.

use memchr::memmem;

use crate::wire::backend::ErrorFields;

/// A table of a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    /// Nobody has said.
    Unknown,
    /// By its name.
    Named(Box<str>),
    /// By its number, and the number of an index.
    Numbered { table: u32, index: u32 },
}

/// What an error tells of the place of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) table: Table,
    /// What the key has behind the index: data.
    pub(super) key: Option<Box<str>>,
}

/// What stands before the key of a conflict.
const BEFORE_KEY: [&str; 5] =
    ["committed value ", "intent ", "conflicting locks on ", "write for key ", "value on key "];
/// What a key can be followed by.
const AFTER_KEY: [&str; 6] = [" @", " at timestamp ", " [reason=", ", /", "): ", ": \""];
/// Bytes of a key that are kept at most.
const KEY_MAX: usize = 120;

impl Place {
    /// Reads the place of a conflict.
    pub(super) fn of(error: ErrorFields<'_>) -> Self {
        let message = error.get(b'M').unwrap_or_default();
        if let Some(place) = BEFORE_KEY.iter().find_map(|before| of_key(behind(message, before)?)) {
            return place;
        }
        let named = error.get(b't').map(text).map(|table| match error.get(b's').map(text) {
            Some(schema) if schema != "public" => format!("{schema}.{table}"),
            _ => table,
        });
        let in_context = || {
            let context = behind(error.get(b'W')?, "in relation \"")?;
            Some(text(context.split(|byte| *byte == b'"').next()?))
        };
        let table = named.or_else(in_context).map_or(Table::Unknown, |name| Table::Named(name.into()));
        Self { table, key: None }
    }
}

/// Reads `/Table/106/1/...`, with `/Tenant/2` before it in virtual clusters.
fn of_key(text: &[u8]) -> Option<Place> {
    let rest = match text.strip_prefix(b"/Tenant/") {
        Some(rest) => number(rest)?.1,
        None => text,
    };
    let (table, rest) = number(rest.strip_prefix(b"/Table/")?)?;
    let (index, rest) = number(rest.strip_prefix(b"/")?)?;
    let end = AFTER_KEY.iter().filter_map(|after| memmem::find(rest, after.as_bytes())).min();
    let key = &rest[..end.unwrap_or(rest.len()).min(KEY_MAX)];
    let key = (!key.is_empty()).then(|| String::from_utf8_lossy(key).into());
    Some(Place { table: Table::Numbered { table, index }, key })
}

fn behind<'a>(text: &'a [u8], words: &str) -> Option<&'a [u8]> {
    memmem::find(text, words.as_bytes()).map(|at| &text[at + words.len()..])
}

fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str) -> Place {
        Place::of(ErrorFields::new(format!("C40001\0{fields}\0\0").as_bytes()))
    }

    #[test]
    fn the_key_of_the_conflict_is_told_from_those_of_the_transactions() {
        let text = "Mrestart transaction: TransactionRetryError: retry txn (RETRY_SERIALIZABLE  - failed preemptive refresh \
                    due to conflicting locks on /Table/106/1/918951292305080321/0 [reason=wait_policy] - conflicting txn: \
                    meta={id=1b2bf263 key=/Table/107/2/9/0 iso=Serializable})";
        let place = of(text);
        assert_eq!(place.table, Table::Numbered { table: 106, index: 1 });
        assert_eq!(place.key.as_deref(), Some("/918951292305080321/0"));
        for text in [
            "MWriteTooOldError: write for key /Tenant/10/Table/106/1/\"a b/c\"/0 at timestamp 1.2,0 too old",
            "M... due to encountered recently written committed value /Table/106/1/\"a b/c\"/0 @1700512229.37,1)",
            "M... recently written intent /Table/106/1/\"a b/c\"/0 @1)",
            "M... a conflict: committed value on key /Table/106/1/\"a b/c\"/0): \"sql txn\"",
        ] {
            let expected =
                Place { table: Table::Numbered { table: 106, index: 1 }, key: Some("/\"a b/c\"/0".into()) };
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn without_a_key_there_is_no_place() {
        for text in [
            "MTransactionAbortedError(ABORT_REASON_PUSHER_ABORTED): \"sql txn\" meta={id=1 key=/Table/106/1/1/0}",
            "Mcommitted value /Meta2/x",
            "Mcould not serialize access due to concurrent update",
        ] {
            assert_eq!(of(text), Place { table: Table::Unknown, key: None }, "{text}");
        }
    }

    #[test]
    fn postgresql_names_a_table_in_fields_and_in_the_context() {
        assert_eq!(of("Mx\0spublic\0tkv").table, Table::Named("kv".into()));
        assert_eq!(of("Mx\0sbank\0tkv").table, Table::Named("bank.kv".into()));
        let deadlock = "Mdeadlock detected\0Wwhile updating tuple (0,3) in relation \"accounts\"\nmore";
        assert_eq!(of(deadlock).table, Table::Named("accounts".into()));
    }
}
