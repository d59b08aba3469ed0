//! Which part of a table a condition speaks of, and the rows that are there.

use std::ops::Bound;

use super::expr::{Env, Expr, Operator};
use super::value::Datum;
use crate::catalog::Table;
use crate::errors::SqlError;
use crate::kv::{Key, Row, Span};

/// The spans that can hold rows for which a filter is true: single keys, a range, or the whole table.
pub(super) fn spans(table: &Table, filter: Option<&Expr>, env: &mut Env<'_>) -> Result<Vec<Span>, SqlError> {
    let whole = Span::table(table.id);
    let first =
        table.primary.first().and_then(|slot| table.columns.iter().position(|column| column.slot == *slot));
    let (Some(filter), Some(key)) = (filter, first) else {
        return Ok(vec![whole]);
    };
    let mut range = whole;
    for condition in conjunction(filter) {
        match condition {
            Expr::InList(inner, list) if is_column(inner, key) && list.iter().all(Expr::is_fixed) => {
                let mut values =
                    list.iter().map(|item| item.eval(&[], env)).collect::<Result<Vec<_>, _>>()?;
                values.sort();
                values.dedup();
                return Ok(values.into_iter().map(|value| Span::prefix(table.id, value)).collect());
            }
            Expr::Binary(operator, left, right) => {
                let (operator, value) = if is_column(left, key) && right.is_fixed() {
                    (*operator, right.eval(&[], env)?)
                } else if is_column(right, key) && left.is_fixed() {
                    (mirrored(*operator), left.eval(&[], env)?)
                } else {
                    continue;
                };
                if operator == Operator::Equal {
                    return Ok(vec![Span::prefix(table.id, value)]);
                }
                narrow(&mut range, operator, value);
            }
            _ => {}
        }
    }
    Ok(vec![range])
}

fn conjunction(filter: &Expr) -> Vec<&Expr> {
    match filter {
        Expr::Binary(Operator::And, left, right) => [conjunction(left), conjunction(right)].concat(),
        other => vec![other],
    }
}

fn is_column(expr: &Expr, index: usize) -> bool {
    matches!(expr, Expr::Column(column) if *column == index)
}

fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        other => other,
    }
}

fn narrow(range: &mut Span, operator: Operator, value: Datum) {
    match operator {
        Operator::Less => range.end = Bound::Excluded(value),
        Operator::LessOrEqual => range.end = Bound::Included(value),
        Operator::Greater => range.start = Bound::Excluded(value),
        Operator::GreaterOrEqual => range.start = Bound::Included(value),
        _ => {}
    }
}

/// The values of a stored row in the order of its table's columns.
pub(super) fn columns_of(table: &Table, row: &Row) -> Vec<Datum> {
    table.columns.iter().map(|column| row.get(column.slot).cloned().unwrap_or(Datum::Null)).collect()
}

/// The key of a row.
pub(super) fn key_of(table: &Table, slots: &[Datum]) -> Key {
    let part = |slot: &usize| slots.get(*slot).cloned().unwrap_or(Datum::Null);
    Key { table: table.id, parts: table.primary.iter().map(part).collect() }
}

/// Whether a text fits a pattern in which `%` is any text and `_` any character.
pub(super) fn like(text: &str, pattern: &str) -> bool {
    let mut characters = pattern.chars();
    match characters.next() {
        None => text.is_empty(),
        Some('%') => {
            let rest = characters.as_str();
            let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            starts.into_iter().any(|at| like(&text[at..], rest))
        }
        Some(wanted) => {
            let mut text = text.chars();
            text.next().is_some_and(|found| wanted == '_' || wanted == found)
                && like(text.as_str(), characters.as_str())
        }
    }
}
