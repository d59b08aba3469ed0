//! Expressions whose names are resolved, and their evaluation.

use super::function::Builtin;
use super::scan::like;
use super::value::{Datum, Type};
use crate::catalog::Schema;
use crate::errors::SqlError;
use crate::kv::Timestamp;
use crate::session::{Sequences, Settings};

use std::time::Duration;

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Concat,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Like,
}

/// An expression.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Expr {
    Constant(Datum),
    /// The value at this place of the row.
    Column(usize),
    /// A parameter of the statement, counted from zero.
    Parameter(usize),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Cast(Box<Expr>, Type),
    IsNull(Box<Expr>),
    InList(Box<Expr>, Vec<Expr>),
    /// Membership in the result of a subquery, by its number.
    InQuery(Box<Expr>, usize),
    /// The only value of a subquery, by its number.
    Scalar(usize),
    /// Whether a subquery, by its number, has rows.
    Exists(usize),
    Case(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    Coalesce(Vec<Expr>),
    Call(&'static Builtin, Vec<Expr>),
    Array(Vec<Expr>),
}

/// What an expression may look at besides its row.
pub struct Env<'a> {
    /// Tables and sequences.
    pub schema: Schema<'a>,
    /// The values of the statement's parameters.
    pub parameters: &'a [Datum],
    /// The results of its subqueries.
    pub subqueries: Vec<Vec<Vec<Datum>>>,
    /// The variables of the session.
    pub settings: &'a mut Settings,
    /// What the session last got from sequences.
    pub sequences: &'a mut Sequences,
    /// When the transaction began.
    pub transaction_time: u64,
    /// When the statement began.
    pub statement_time: u64,
    /// Where the transaction writes.
    pub logical: Timestamp,
    /// Whether the transaction must not write.
    pub read_only: bool,
    /// How long the statement wants to sleep before its next row is shown.
    pub pause: Duration,
}

impl Expr {
    /// The value for a row.
    pub fn eval(&self, row: &[Datum], env: &mut Env<'_>) -> Result<Datum, SqlError> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Column(index) => Ok(row.get(*index).cloned().unwrap_or(Datum::Null)),
            Self::Parameter(index) => Ok(env.parameters.get(*index).cloned().unwrap_or(Datum::Null)),
            Self::Not(inner) => Ok(match inner.eval(row, env)? {
                Datum::Bool(value) => Datum::Bool(!value),
                _ => Datum::Null,
            }),
            Self::Negative(inner) => negate(inner.eval(row, env)?),
            Self::Binary(operator, left, right) => binary(*operator, left, right, row, env),
            Self::Cast(inner, ty) => inner.eval(row, env)?.cast(*ty),
            Self::IsNull(inner) => Ok(Datum::Bool(inner.eval(row, env)?.is_null())),
            Self::InList(inner, list) => {
                let value = inner.eval(row, env)?;
                let list = list.iter().map(|item| item.eval(row, env)).collect::<Result<Vec<_>, _>>()?;
                Ok(member(&value, list.iter()))
            }
            Self::InQuery(inner, query) => {
                let value = inner.eval(row, env)?;
                Ok(member(&value, env.subqueries[*query].iter().filter_map(|row| row.first())))
            }
            Self::Scalar(query) => {
                let first = env.subqueries[*query].first().and_then(|row| row.first());
                Ok(first.cloned().unwrap_or(Datum::Null))
            }
            Self::Exists(query) => Ok(Datum::Bool(!env.subqueries[*query].is_empty())),
            Self::Case(arms, otherwise) => {
                for (condition, result) in arms {
                    if condition.eval(row, env)?.is_true() {
                        return result.eval(row, env);
                    }
                }
                otherwise.as_ref().map_or(Ok(Datum::Null), |otherwise| otherwise.eval(row, env))
            }
            Self::Coalesce(choices) => {
                for choice in choices {
                    let value = choice.eval(row, env)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Self::Call(function, arguments) => {
                let values = arguments
                    .iter()
                    .map(|argument| argument.eval(row, env))
                    .collect::<Result<Vec<_>, _>>()?;
                (function.call)(env, &values)
            }
            Self::Array(items) => {
                let values = items.iter().map(|item| item.eval(row, env)).collect::<Result<Vec<_>, _>>()?;
                Ok(Datum::IntArray(values.iter().filter_map(Datum::as_int).collect()))
            }
        }
    }

    /// Whether its value is the same for all rows of a statement, and free of side effects.
    pub fn is_fixed(&self) -> bool {
        match self {
            Self::Constant(_) | Self::Parameter(_) => true,
            Self::Cast(inner, _) | Self::Negative(inner) => inner.is_fixed(),
            Self::Binary(_, left, right) => left.is_fixed() && right.is_fixed(),
            _ => false,
        }
    }
}

fn member<'a>(value: &Datum, mut list: impl Iterator<Item = &'a Datum>) -> Datum {
    if value.is_null() { Datum::Null } else { Datum::Bool(list.any(|item| item == value)) }
}

fn negate(value: Datum) -> Result<Datum, SqlError> {
    Ok(match value {
        Datum::Int(number) => Datum::Int(number.checked_neg().ok_or_else(out_of_range)?),
        Datum::Decimal(number) => Datum::Decimal(-number),
        other => other,
    })
}

fn binary(
    operator: Operator,
    left: &Expr,
    right: &Expr,
    row: &[Datum],
    env: &mut Env<'_>,
) -> Result<Datum, SqlError> {
    let left = left.eval(row, env)?;
    match (operator, &left) {
        (Operator::And, Datum::Bool(false)) => return Ok(Datum::Bool(false)),
        (Operator::Or, Datum::Bool(true)) => return Ok(Datum::Bool(true)),
        _ => {}
    }
    let right = right.eval(row, env)?;
    combine(operator, &left, &right)
}

/// The value of an operation. AND and OR come here only if their left side has not decided.
pub(super) fn combine(operator: Operator, left: &Datum, right: &Datum) -> Result<Datum, SqlError> {
    match operator {
        Operator::And if matches!(right, Datum::Bool(false)) => return Ok(Datum::Bool(false)),
        Operator::Or if matches!(right, Datum::Bool(true)) => return Ok(Datum::Bool(true)),
        _ if left.is_null() || right.is_null() => return Ok(Datum::Null),
        _ => {}
    }
    Ok(match operator {
        Operator::And | Operator::Or => right.clone(),
        Operator::Equal => Datum::Bool(left == right),
        Operator::NotEqual => Datum::Bool(left != right),
        Operator::Less => Datum::Bool(left < right),
        Operator::LessOrEqual => Datum::Bool(left <= right),
        Operator::Greater => Datum::Bool(left > right),
        Operator::GreaterOrEqual => Datum::Bool(left >= right),
        Operator::Like => Datum::Bool(like(&left.to_string(), &right.to_string())),
        Operator::Concat => Datum::Text(format!("{left}{right}")),
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
            return arithmetic(operator, left, right);
        }
    })
}

fn arithmetic(operator: Operator, left: &Datum, right: &Datum) -> Result<Datum, SqlError> {
    if let (Datum::Int(left), Datum::Int(right)) = (left, right) {
        let result = match operator {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Modulo if *right != 0 => left.checked_rem(*right),
            Operator::Modulo => return Err(SqlError::division_by_zero()),
            // Two integers make a decimal in CockroachDB.
            _ => return divide(Datum::Int(*left).as_f64(), Datum::Int(*right).as_f64()),
        };
        return result.map(Datum::Int).ok_or_else(out_of_range);
    }
    if let (Datum::Timestamp(moment), Datum::Interval(length)) = (left, right) {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        return Ok(Datum::Timestamp(match operator {
            Operator::Subtract => moment.saturating_sub(length),
            _ => moment.saturating_add(length),
        }));
    }
    let (Some(a), Some(b)) = (left.as_f64(), right.as_f64()) else {
        return Err(SqlError::new("22023", "unsupported binary operator"));
    };
    Ok(Datum::Decimal(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Modulo => a % b,
        _ => return divide(Some(a), Some(b)),
    }))
}

fn divide(left: Option<f64>, right: Option<f64>) -> Result<Datum, SqlError> {
    match (left, right) {
        (_, Some(0.0)) => Err(SqlError::division_by_zero()),
        (Some(left), Some(right)) => Ok(Datum::Decimal(left / right)),
        _ => Ok(Datum::Null),
    }
}

fn out_of_range() -> SqlError {
    SqlError::new("22003", "integer out of range")
}
