//! Errors as the client sees them: SQLSTATE, text, detail and hint, word for word.

use crate::catalog::Table;
use crate::kv::{Conflict, Key};
use crate::sql::value::Datum;
use crate::version::Version;

/// What an error means for the transaction in which it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Gravity {
    /// The transaction is aborted; ROLLBACK TO SAVEPOINT repairs it.
    Ordinary,
    /// The transaction must be tried again, by the server or by the client.
    Retryable(Box<Conflict>),
    /// The statement was cancelled while it held the storage layer's attention; no savepoint helps.
    Broken,
    /// The statement was cancelled while it computed; every later one of the transaction will be, too.
    Cancelled,
}

/// An error.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlError {
    /// The SQLSTATE.
    pub code: String,
    /// The text.
    pub message: String,
    /// More about it.
    pub detail: Option<Box<str>>,
    /// What to do about it.
    pub hint: Option<Box<str>>,
    /// The constraint that was violated.
    pub constraint: Option<Box<str>>,
    /// What it means for the transaction.
    pub gravity: Gravity,
}

/// The hint of something unimplemented that has no issue of its own.
const NO_ISSUE: &str = "\n\nPlease check the public issue tracker to check whether this problem is\nalready tracked. If you \
    cannot find it there, please report the error\nwith details by creating a new issue.\n\nIf you would rather not post \
    publicly, please contact us directly\nusing the support form.\n\nWe appreciate your feedback.\n";

impl SqlError {
    /// An ordinary error.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            detail: None,
            hint: None,
            constraint: None,
            gravity: Gravity::Ordinary,
        }
    }

    /// The same with a hint.
    pub fn with_hint(self, hint: impl Into<Box<str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with a detail.
    pub fn with_detail(self, detail: impl Into<Box<str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// A conflict as a client of this version sees it.
    pub fn conflict(conflict: Conflict, version: Version) -> Self {
        let mut error = Self::new("40001", conflict.message(version));
        if version.hints_conflicts() {
            let page = format!(
                "https://www.cockroachlabs.com/docs/v{}/transaction-retry-error-reference.html",
                version.name()
            );
            let anchor = conflict.anchor().map(|anchor| format!("#{anchor}")).unwrap_or_default();
            error.hint = Some(format!("See: {page}{anchor}").into());
        }
        error.gravity = Gravity::Retryable(Box::new(conflict));
        error
    }

    /// The conflict behind the error, if it is one.
    pub fn as_conflict(&self) -> Option<&Conflict> {
        match &self.gravity {
            Gravity::Retryable(conflict) => Some(conflict),
            _ => None,
        }
    }

    pub(crate) fn unimplemented(message: &str, issue: Option<u32>) -> Self {
        Self::new("0A000", format!("unimplemented: {message}")).with_hint(unimplemented_hint(issue))
    }

    pub(crate) fn aborted() -> Self {
        Self::new("25P02", "current transaction is aborted, commands ignored until end of transaction block")
    }

    pub(crate) fn committed() -> Self {
        Self::new(
            "25000",
            "current transaction is committed, commands ignored until end of transaction block",
        )
    }

    pub(crate) fn no_transaction(version: Version) -> Self {
        Self::new(version.no_transaction_code(), "there is no transaction in progress")
    }

    pub(crate) fn in_transaction(version: Version) -> Self {
        Self::new(version.in_transaction_code(), "there is already a transaction in progress")
    }

    pub(crate) fn no_savepoint(name: &str) -> Self {
        Self::new("3B001", format!("savepoint \"{name}\" does not exist"))
    }

    pub(crate) fn nested_restart_savepoint() -> Self {
        Self::new("42601", "SAVEPOINT \"cockroach_restart\" cannot be nested")
    }

    pub(crate) fn late_restart_savepoint() -> Self {
        let message = "SAVEPOINT \"cockroach_restart\" needs to be the first statement in a transaction";
        Self::new("42601", message)
    }

    pub(crate) fn rollback_over_ddl() -> Self {
        Self::unimplemented("ROLLBACK TO SAVEPOINT not yet supported after DDL statements", Some(10735))
    }

    pub(crate) fn urgent_rollback_over_ddl() -> Self {
        let message = "cannot use ROLLBACK TO SAVEPOINT in a HIGH PRIORITY transaction containing DDL";
        Self::unimplemented(message, Some(46414))
    }

    pub(crate) fn rollback_after_error() -> Self {
        Self::unimplemented("cannot rollback to savepoint after error", None)
    }

    pub(crate) fn finalized() -> Self {
        let hint = format!("You have encountered an unexpected error.{NO_ISSUE}");
        Self::new("XX000", "internal error: operation invalid for finalized txns")
            .with_detail("stack trace:\nnone: this is a double")
            .with_hint(hint)
    }

    pub(crate) fn active_portals(version: Version) -> Self {
        let message = if version >= Version::V23_1 {
            "multiple active portals is in preview, please set session variable \
             multiple_active_portals_enabled to true to enable them"
        } else {
            "multiple active portals not supported"
        };
        Self::unimplemented(message, Some(40195))
    }

    pub(crate) fn statement_timeout() -> Self {
        let message = "query execution canceled due to statement timeout";
        Self { gravity: Gravity::Cancelled, ..Self::new("57014", message) }
    }

    pub(crate) fn transaction_timeout() -> Self {
        let message = "query execution canceled due to transaction timeout";
        Self { gravity: Gravity::Cancelled, ..Self::new("57014", message) }
    }

    pub(crate) fn cancelled() -> Self {
        Self { gravity: Gravity::Cancelled, ..Self::new("57014", "query execution canceled") }
    }

    /// What the client is told when the outcome of its commit is not known.
    pub(crate) fn ambiguous(version: Version) -> Self {
        let cause = "injected: the node that held the transaction record was lost";
        Self::new(
            "40003",
            if version >= Version::V23_1 {
                format!("result is ambiguous: {cause}")
            } else {
                format!("result is ambiguous ({cause})")
            },
        )
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new("57P01", "server is shutting down")
    }

    pub(crate) fn no_new_clients(version: Version) -> Self {
        let advice = if version >= Version::V23_1 { ", try another node" } else { "" };
        Self::new("57P01", format!("server is not accepting clients{advice}"))
    }

    pub(crate) fn unknown_statement(name: &str) -> Self {
        Self::new("26000", format!("unknown prepared statement \"{name}\""))
    }

    pub(crate) fn unknown_portal(name: &str) -> Self {
        Self::new("34000", format!("unknown portal \"{name}\""))
    }

    pub(crate) fn unknown_table(name: &str) -> Self {
        Self::new("42P01", format!("relation \"{name}\" does not exist"))
    }

    pub(crate) fn unknown_column(name: &str) -> Self {
        Self::new("42703", format!("column \"{name}\" does not exist"))
    }

    pub(crate) fn unknown_parameter(name: &str) -> Self {
        Self::new("42704", format!("unrecognized configuration parameter \"{name}\""))
    }

    pub(crate) fn read_only(what: &str) -> Self {
        Self::new("25006", format!("cannot execute {what} in a read-only transaction"))
    }

    pub(crate) fn division_by_zero() -> Self {
        Self::new("22012", "division by zero")
    }

    /// Since 23.1 the key stands in the detail, and the constraint in a field of its own.
    pub(crate) fn duplicate_key(table: &Table, key: &Key, version: Version) -> Self {
        let columns = table.primary_names();
        let values: Vec<String> = key.parts.iter().map(sql_literal).collect();
        let values = values.join(",");
        if version < Version::V23_1 {
            let constraint = "violates unique constraint \"primary\"";
            return Self::new("23505", format!("duplicate key value ({columns})=({values}) {constraint}"));
        }
        let constraint = format!("{}_pkey", table.name);
        let message = format!("duplicate key value violates unique constraint \"{constraint}\"");
        let error =
            Self::new("23505", message).with_detail(format!("Key ({columns})=({values}) already exists."));
        Self { constraint: Some(constraint.into()), ..error }
    }

    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new("0A000", format!("the double does not understand {what}"))
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new("08P01", message)
    }
}

fn sql_literal(datum: &Datum) -> String {
    match datum {
        Datum::Text(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}

/// The hint that leads to the issue of something unimplemented.
pub(crate) fn unimplemented_hint(issue: Option<u32>) -> String {
    let head = "You have attempted to use a feature that is not yet implemented.";
    match issue {
        Some(issue) => format!("{head}\nSee: https://go.crdb.dev/issue/{issue}"),
        None => format!("{head}{NO_ISSUE}"),
    }
}
