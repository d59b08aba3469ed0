//! Plans: statements whose names and types are resolved against the schema.

use std::sync::Arc;

use super::expr::Expr;
use super::value::Type;
use crate::catalog::Table;
use crate::kv::Strength;

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its header.
    pub name: String,
    /// The type of its values.
    pub ty: Type,
}

/// A statement that reads or writes rows.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it does.
    pub node: Node,
    /// The queries that are run before it, and whose results its expressions use.
    pub subqueries: Vec<Select>,
    /// The types of its parameters.
    pub parameters: Vec<Type>,
    /// The columns of its result; none if it has no rows to show.
    pub columns: Vec<OutputColumn>,
    /// The tables that it was planned for, so that a later change of them is noticed.
    pub tables: Vec<Arc<Table>>,
}

/// What a statement does.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Node {
    Select(Select),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
}

/// SELECT, VALUES and their combinations.
#[derive(Debug, Clone)]
pub struct Select {
    /// Where its rows come from.
    pub source: Source,
    /// Which of them count.
    pub filter: Option<Expr>,
    /// How they are put together in groups.
    pub grouping: Option<Grouping>,
    /// What is shown of each row or group.
    pub projection: Vec<Expr>,
    /// In which order; true means descending.
    pub order: Vec<(Expr, bool)>,
    /// Whether equal rows are shown once.
    pub distinct: bool,
    /// How many rows are shown.
    pub limit: Option<Expr>,
    /// How many rows are left out before.
    pub offset: Option<Expr>,
    /// Whether the rows that were read are locked.
    pub strength: Strength,
}

/// Where rows come from.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Source {
    /// One row without columns.
    One,
    Table(Arc<Table>),
    Series(Expr, Expr),
    Values(Vec<Vec<Expr>>),
    Derived(Box<Select>),
    Union {
        left: Box<Select>,
        right: Box<Select>,
        all: bool,
    },
    Join {
        left: Box<Source>,
        right: Box<Source>,
        on: Option<Expr>,
        outer: bool,
        right_width: usize,
    },
}

/// Groups, and what is computed over them. A group's row has the keys first and the aggregates behind them.
#[derive(Debug, Clone)]
pub struct Grouping {
    /// What is equal within a group.
    pub keys: Vec<Expr>,
    /// What is computed over it.
    pub aggregates: Vec<Aggregate>,
    /// Which groups count.
    pub having: Option<Expr>,
}

/// A value computed over many rows.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// How.
    pub kind: AggregateKind,
    /// Over what; nothing for `count(*)`.
    pub argument: Option<Expr>,
    /// Whether equal values count once.
    pub distinct: bool,
}

/// How a value is computed over many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AggregateKind {
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

impl AggregateKind {
    /// The aggregate of a name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "min" => Self::Min,
            "max" => Self::Max,
            "avg" => Self::Avg,
            _ => return None,
        })
    }
}

/// A value for a slot of a row.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The slot.
    pub slot: usize,
    /// The type of its column.
    pub ty: Type,
    /// The value.
    pub value: Expr,
}

/// INSERT and UPSERT.
#[derive(Debug, Clone)]
pub struct Insert {
    /// Into which table.
    pub table: Arc<Table>,
    /// The slots and types that the rows of `rows` fill.
    pub targets: Vec<(usize, Type)>,
    /// What the other columns get.
    pub defaults: Vec<Assignment>,
    /// The rows.
    pub rows: Select,
    /// What happens where a row is already there.
    pub on_conflict: OnConflict,
    /// What is shown of each row.
    pub returning: Option<Vec<Expr>>,
}

/// What an INSERT does where a row is already there.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum OnConflict {
    Fail,
    /// UPSERT.
    Replace,
    Skip,
    /// Computed over the row that is there, followed by the one that was to be inserted.
    Update(Vec<Assignment>),
}

/// UPDATE.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Update {
    pub table: Arc<Table>,
    pub filter: Option<Expr>,
    pub assignments: Vec<Assignment>,
    pub returning: Option<Vec<Expr>>,
}

/// DELETE.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Delete {
    pub table: Arc<Table>,
    pub filter: Option<Expr>,
    pub returning: Option<Vec<Expr>>,
}

impl Node {
    /// What a read-only transaction says when it is asked for this.
    pub fn write_name(&self) -> Option<&'static str> {
        match self {
            Self::Select(_) => None,
            Self::Insert(insert) if matches!(insert.on_conflict, OnConflict::Replace) => Some("UPSERT"),
            Self::Insert(_) => Some("INSERT"),
            Self::Update(_) => Some("UPDATE"),
            Self::Delete(_) => Some("DELETE"),
        }
    }

    /// How its command tag begins.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Select(_) => "SELECT",
            Self::Insert(_) => "INSERT 0",
            Self::Update(_) => "UPDATE",
            Self::Delete(_) => "DELETE",
        }
    }
}
