//! Puts rows together in groups and computes over them.

use super::expr::{Env, Operator, combine};
use super::plan::{Aggregate, AggregateKind, Grouping};
use super::value::{Datum, Type};
use crate::errors::SqlError;

/// The rows of the groups: keys first, aggregates behind them.
pub(super) fn group(
    rows: Vec<Vec<Datum>>,
    grouping: &Grouping,
    env: &mut Env<'_>,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    let mut groups: Vec<(Vec<Datum>, Vec<Vec<Datum>>)> = Vec::new();
    if grouping.keys.is_empty() {
        groups.push((Vec::new(), rows));
    } else {
        for row in rows {
            let key = grouping.keys.iter().map(|key| key.eval(&row, env)).collect::<Result<Vec<_>, _>>()?;
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, members)) => members.push(row),
                None => groups.push((key, vec![row])),
            }
        }
    }
    let mut result = Vec::new();
    for (mut row, members) in groups {
        for aggregate in &grouping.aggregates {
            row.push(compute(aggregate, &members, env)?);
        }
        if grouping
            .having
            .as_ref()
            .map_or(Ok(true), |having| having.eval(&row, env).map(|value| value.is_true()))?
        {
            result.push(row);
        }
    }
    Ok(result)
}

fn compute(aggregate: &Aggregate, rows: &[Vec<Datum>], env: &mut Env<'_>) -> Result<Datum, SqlError> {
    let count = |count: usize| Datum::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let Some(argument) = &aggregate.argument else {
        return Ok(count(rows.len()));
    };
    let mut values = rows.iter().map(|row| argument.eval(row, env)).collect::<Result<Vec<_>, _>>()?;
    values.retain(|value| !value.is_null());
    if aggregate.distinct {
        values.sort();
        values.dedup();
    }
    let number = values.len();
    Ok(match aggregate.kind {
        AggregateKind::Count => count(number),
        AggregateKind::Min => values.into_iter().min().unwrap_or(Datum::Null),
        AggregateKind::Max => values.into_iter().max().unwrap_or(Datum::Null),
        AggregateKind::Sum => sum(values)?,
        AggregateKind::Avg if number == 0 => Datum::Null,
        AggregateKind::Avg => combine(Operator::Divide, &sum(values)?, &count(number))?,
    })
}

fn sum(values: Vec<Datum>) -> Result<Datum, SqlError> {
    let mut values = values.into_iter();
    let Some(first) = values.next() else {
        return Ok(Datum::Null);
    };
    values.try_fold(first, |total, value| combine(Operator::Add, &total, &value))?.cast(Type::Decimal)
}
