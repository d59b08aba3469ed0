//! Statements, as the session tells them apart.

use crate::kv::Priority;

/// What BEGIN and SET TRANSACTION say about a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Modes {
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// PRIORITY.
    pub priority: Option<Priority>,
    /// ISOLATION LEVEL; every level means serializable.
    pub isolation: Option<String>,
    /// AS OF SYSTEM TIME.
    pub as_of: Option<String>,
}

/// How long a plain SET lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Until the session ends.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// What CANCEL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The statement that runs.
    Query,
    /// The connection.
    Session,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Statement {
    Begin(Modes),
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    SetTransaction(Modes),
    SetCharacteristics(Modes),
    Show(String),
    ShowTransactionStatus,
    ShowSavepointStatus,
    ShowLastQueryStatistics,
    ShowSyntax(String),
    ShowCommitTimestamp,
    Set {
        variable: String,
        value: String,
        is_string: bool,
        extent: Extent,
    },
    SetAuthorization,
    Reset(String),
    DiscardAll,
    Prepare {
        name: String,
        statement: Box<Parsed>,
    },
    Execute {
        name: String,
        values: Vec<String>,
    },
    Deallocate(Option<String>),
    CopyFrom {
        table: String,
        columns: Vec<String>,
    },
    Cancel {
        target: Target,
        application_name: String,
    },
    Explain,
    /// A statement without any answer of its own.
    Nothing,
    Data(Box<Data>),
    Schema(Box<sqlparser::ast::Statement>),
}

/// SELECT, INSERT, UPDATE and DELETE: what `sqlparser` read, and what it has no words for.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// The statement itself.
    pub ast: sqlparser::ast::Statement,
    /// UPSERT instead of INSERT.
    pub upsert: bool,
    /// AS OF SYSTEM TIME.
    pub as_of: Option<String>,
    /// The words behind FOR that lock less than UPDATE.
    pub lock_words: Option<&'static str>,
}

/// A statement with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What the client wrote.
    pub sql: String,
    /// What it means.
    pub statement: Statement,
}

impl Statement {
    /// Whether it looks at the session only, and is therefore answered in every state.
    pub fn is_observer(&self) -> bool {
        matches!(
            self,
            Self::ShowTransactionStatus
                | Self::ShowSavepointStatus
                | Self::ShowLastQueryStatistics
                | Self::ShowSyntax(_)
        )
    }

    /// Whether an automatic retry need not repeat it when nothing else has happened yet.
    pub fn can_be_left_behind(&self) -> bool {
        matches!(self, Self::Savepoint(_) | Self::SetTransaction(_))
    }

    /// Whether it belongs to those that an aborted transaction still understands.
    pub fn ends_or_mends(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo(_) | Self::Savepoint(_))
    }
}
