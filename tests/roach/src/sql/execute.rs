//! Runs plans: reads and writes through the storage layer, and hands out rows one by one.

use std::pin::Pin;

use super::aggregate::group;
use super::expr::{Env, Expr};
use super::plan::{Assignment, Delete, Insert, Node, OnConflict, Plan, Select, Source, Update};
use super::scan::{columns_of, key_of, spans};
use super::statement::Statement;
use super::value::Datum;
use crate::catalog::Table;
use crate::errors::SqlError;
use crate::kv::{Conflict, Key, Row, Span, Strength, Transaction};
use crate::version::Version;

/// A row as expressions see it.
type Tuple = Vec<Datum>;

/// A future of a query within a query.
type Nested<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlError>> + Send + 'a>>;

/// Rows that wait to be shown. What is shown of a row is computed when its turn comes.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    rows: std::vec::IntoIter<Tuple>,
    projection: Vec<Expr>,
    subqueries: Vec<Vec<Tuple>>,
    tag: &'static str,
    affected: Option<usize>,
}

impl Cursor {
    /// A result without rows, for a statement that has shown all of its rows before.
    pub fn empty(statement: &Statement) -> Self {
        let tag = match statement {
            Statement::Data(data) => match data.ast {
                sqlparser::ast::Statement::Insert(_) => "INSERT 0",
                sqlparser::ast::Statement::Update(_) => "UPDATE",
                sqlparser::ast::Statement::Delete(_) => "DELETE",
                _ => "SELECT",
            },
            _ => "SELECT",
        };
        Self { tag, ..Self::default() }
    }

    /// The next row.
    pub fn next(&mut self, env: &mut Env<'_>) -> Option<Result<Tuple, SqlError>> {
        let row = self.rows.next()?;
        if env.subqueries.is_empty() {
            env.subqueries.clone_from(&self.subqueries);
        }
        Some(self.projection.iter().map(|expr| expr.eval(&row, env)).collect())
    }

    /// The command tag after so many rows were shown.
    pub fn tag(&self, shown: usize) -> String {
        format!("{} {}", self.tag, self.affected.unwrap_or(shown))
    }
}

/// Runs plans in a transaction.
pub struct Executor<'a, 'e> {
    /// The transaction.
    pub txn: &'a mut Transaction,
    /// What expressions may look at.
    pub env: &'a mut Env<'e>,
    /// How errors are worded.
    pub version: Version,
}

impl Executor<'_, '_> {
    /// Runs a plan up to the point where its rows can be shown.
    pub async fn open(&mut self, plan: &Plan) -> Result<Cursor, SqlError> {
        for subquery in &plan.subqueries {
            let rows = self.select(subquery).await?;
            self.env.subqueries.push(rows);
        }
        let tag = plan.node.tag();
        let cursor = match &plan.node {
            Node::Select(select) => {
                let (rows, projection) = self.rows(select).await?;
                Cursor { rows: rows.into_iter(), projection, tag, ..Cursor::default() }
            }
            Node::Insert(insert) => returning(self.insert(insert).await?, insert.returning.as_ref(), tag),
            Node::Update(update) => returning(self.update(update).await?, update.returning.as_ref(), tag),
            Node::Delete(delete) => returning(self.delete(delete).await?, delete.returning.as_ref(), tag),
        };
        Ok(Cursor { subqueries: self.env.subqueries.clone(), ..cursor })
    }

    /// All rows of a query, as they are shown.
    fn select<'a>(&'a mut self, select: &'a Select) -> Nested<'a, Vec<Tuple>> {
        Box::pin(async move {
            let (rows, projection) = self.rows(select).await?;
            rows.iter().map(|row| self.project(&projection, row)).collect()
        })
    }

    fn project(&mut self, projection: &[Expr], row: &[Datum]) -> Result<Tuple, SqlError> {
        projection.iter().map(|expr| expr.eval(row, self.env)).collect()
    }

    /// The rows of a query, and what is to be shown of each.
    async fn rows(&mut self, select: &Select) -> Result<(Vec<Tuple>, Vec<Expr>), SqlError> {
        let mut rows = self.source(&select.source, select.filter.as_ref(), select.strength).await?;
        if let Some(filter) = &select.filter {
            rows = self.filter(rows, filter)?;
        }
        if let Some(grouping) = &select.grouping {
            rows = group(rows, grouping, self.env)?;
        }
        if !select.order.is_empty() {
            rows = self.sort(rows, &select.order)?;
        }
        let mut projection = select.projection.clone();
        if select.distinct {
            rows = rows.iter().map(|row| self.project(&projection, row)).collect::<Result<_, _>>()?;
            projection = (0..projection.len()).map(Expr::Column).collect();
            let mut seen = Vec::new();
            rows.retain(|row| {
                !seen.contains(row) && {
                    seen.push(row.clone());
                    true
                }
            });
        }
        let offset = self.count(select.offset.as_ref())?.unwrap_or(0);
        let limit = self.count(select.limit.as_ref())?.unwrap_or(usize::MAX);
        Ok((rows.into_iter().skip(offset).take(limit).collect(), projection))
    }

    fn count(&mut self, expr: Option<&Expr>) -> Result<Option<usize>, SqlError> {
        let value = expr.map(|expr| expr.eval(&[], self.env)).transpose()?;
        Ok(value.and_then(|value| value.as_int()).and_then(|count| usize::try_from(count).ok()))
    }

    fn filter(&mut self, rows: Vec<Tuple>, filter: &Expr) -> Result<Vec<Tuple>, SqlError> {
        let mut kept = Vec::new();
        for row in rows {
            if filter.eval(&row, self.env)?.is_true() {
                kept.push(row);
            }
        }
        Ok(kept)
    }

    fn sort(&mut self, rows: Vec<Tuple>, order: &[(Expr, bool)]) -> Result<Vec<Tuple>, SqlError> {
        let mut keyed = Vec::new();
        for row in rows {
            let keys: Tuple =
                order.iter().map(|(key, _)| key.eval(&row, self.env)).collect::<Result<_, _>>()?;
            keyed.push((keys, row));
        }
        keyed.sort_by(|(a, _), (b, _)| {
            let compared = a.iter().zip(b).zip(order).map(|((a, b), (_, descending))| {
                let ordering = a.cmp(b);
                if *descending { ordering.reverse() } else { ordering }
            });
            compared.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    fn source<'a>(
        &'a mut self,
        source: &'a Source,
        filter: Option<&'a Expr>,
        strength: Strength,
    ) -> Nested<'a, Vec<Tuple>> {
        Box::pin(async move {
            Ok(match source {
                Source::One => vec![Vec::new()],
                Source::Table(table) => {
                    let rows = self.table(table, filter, strength).await?;
                    rows.iter().map(|(_, row)| columns_of(table, row)).collect()
                }
                Source::Series(start, end) => {
                    let start = start.eval(&[], self.env)?.as_int().unwrap_or(1);
                    let end = end.eval(&[], self.env)?.as_int().unwrap_or(0);
                    (start..=end).map(|number| vec![Datum::Int(number)]).collect()
                }
                Source::Values(rows) => {
                    rows.iter().map(|row| self.project(row, &[])).collect::<Result<_, _>>()?
                }
                Source::Derived(select) => self.select(select).await?,
                Source::Union { left, right, all } => {
                    let mut rows = self.select(left).await?;
                    rows.extend(self.select(right).await?);
                    if !all {
                        rows.sort();
                        rows.dedup();
                    }
                    rows
                }
                Source::Join { left, right, on, outer, right_width } => {
                    let left = self.source(left, None, strength).await?;
                    let right = self.source(right, None, strength).await?;
                    self.join(&left, &right, on.as_ref(), outer.then_some(*right_width))?
                }
            })
        })
    }

    fn join(
        &mut self,
        left: &[Tuple],
        right: &[Tuple],
        on: Option<&Expr>,
        outer: Option<usize>,
    ) -> Result<Vec<Tuple>, SqlError> {
        let mut joined = Vec::new();
        for first in left {
            let before = joined.len();
            for second in right {
                let row = [first.as_slice(), second].concat();
                if on.map_or(Ok(true), |on| on.eval(&row, self.env).map(|value| value.is_true()))? {
                    joined.push(row);
                }
            }
            if let Some(width) = outer.filter(|_| joined.len() == before) {
                joined.push([first.as_slice(), &vec![Datum::Null; width]].concat());
            }
        }
        Ok(joined)
    }

    /// The stored rows of the part of a table that a filter speaks of.
    async fn table(
        &mut self,
        table: &Table,
        filter: Option<&Expr>,
        strength: Strength,
    ) -> Result<Vec<(Key, Row)>, SqlError> {
        let mut rows = Vec::new();
        for span in spans(table, filter, self.env)? {
            rows.extend(self.txn.scan(&span, strength).await.map_err(|conflict| self.conflict(conflict))?);
        }
        Ok(rows)
    }

    fn conflict(&self, conflict: Conflict) -> SqlError {
        SqlError::conflict(conflict, self.version)
    }

    async fn put(&mut self, key: &Key, row: Option<Tuple>) -> Result<(), SqlError> {
        let row = row.map(Row::new);
        self.txn.put(key, row).await.map_err(|conflict| self.conflict(conflict))
    }

    async fn insert(&mut self, insert: &Insert) -> Result<Vec<Tuple>, SqlError> {
        let mut written = Vec::new();
        for values in self.select(&insert.rows).await? {
            let mut slots = vec![Datum::Null; insert.table.slots];
            for ((slot, ty), value) in insert.targets.iter().zip(values) {
                slots[*slot] = value.cast(*ty)?;
            }
            for default in &insert.defaults {
                slots[default.slot] = default.value.eval(&[], self.env)?.cast(default.ty)?;
            }
            written.extend(self.insert_row(&insert.table, slots, &insert.on_conflict).await?);
        }
        Ok(written)
    }

    /// Inserts one row: what RETURNING sees of it, if anything was written.
    pub async fn insert_row(
        &mut self,
        table: &Table,
        slots: Vec<Datum>,
        on_conflict: &OnConflict,
    ) -> Result<Option<Tuple>, SqlError> {
        self.check_row(table, &slots).await?;
        let key = key_of(table, &slots);
        if !matches!(on_conflict, OnConflict::Replace) {
            let exists = self.txn.exists(&key).await.map_err(|conflict| self.conflict(conflict))?;
            match on_conflict {
                _ if !exists => {}
                OnConflict::Skip => return Ok(None),
                OnConflict::Update(assignments) => return self.merge(table, &key, &slots, assignments).await,
                _ => {
                    return Err(SqlError::duplicate_key(table, &key, self.version));
                }
            }
        }
        self.put(&key, Some(slots.clone())).await?;
        Ok(Some(columns_of(table, &Row::new(slots))))
    }

    /// Updates the row that is in the way of an INSERT.
    async fn merge(
        &mut self,
        table: &Table,
        key: &Key,
        slots: &[Datum],
        assignments: &[Assignment],
    ) -> Result<Option<Tuple>, SqlError> {
        let span = Span::prefix(table.id, key.parts.first().cloned().unwrap_or(Datum::Null));
        let found =
            self.txn.scan(&span, Strength::Exclusive).await.map_err(|conflict| self.conflict(conflict))?;
        let Some((_, row)) = found.into_iter().find(|(other, _)| other == key) else {
            return Ok(None);
        };
        let seen = [columns_of(table, &row), columns_of(table, &Row::new(slots.to_vec()))].concat();
        let changed = self.assign(&row, &seen, assignments, table.slots)?;
        self.put(key, Some(changed.clone())).await?;
        Ok(Some(columns_of(table, &Row::new(changed))))
    }

    fn assign(
        &mut self,
        row: &Row,
        seen: &[Datum],
        assignments: &[Assignment],
        slots: usize,
    ) -> Result<Tuple, SqlError> {
        let mut changed = row.to_vec();
        changed.resize(slots, Datum::Null);
        for assignment in assignments {
            changed[assignment.slot] = assignment.value.eval(seen, self.env)?.cast(assignment.ty)?;
        }
        Ok(changed)
    }

    /// What a table demands of every row: no NULL where there must be none, and parents that exist.
    async fn check_row(&mut self, table: &Table, slots: &[Datum]) -> Result<(), SqlError> {
        for column in &table.columns {
            let value = &slots[column.slot];
            if value.is_null() && (column.not_null || table.primary.contains(&column.slot)) {
                let message =
                    format!("null value in column \"{}\" violates not-null constraint", column.name);
                return Err(SqlError::new("23502", message));
            }
            if let Some(parent) = column.references.as_ref().filter(|_| !value.is_null()) {
                let parent = self.env.schema.table(parent)?;
                let span = Span::prefix(parent.id, value.clone());
                let found = self
                    .txn
                    .scan(&span, Strength::Shared)
                    .await
                    .map_err(|conflict| self.conflict(conflict))?;
                if found.is_empty() {
                    let (child, name) = (&table.name, &column.name);
                    let message = format!(
                        "insert on table \"{child}\" violates foreign key constraint \"fk_{name}_ref_{}\"",
                        parent.name
                    );
                    return Err(SqlError::new("23503", message));
                }
            }
        }
        Ok(())
    }

    async fn update(&mut self, update: &Update) -> Result<Vec<Tuple>, SqlError> {
        let table = &update.table;
        let mut written = Vec::new();
        for (key, row) in self.matching(table, update.filter.as_ref()).await? {
            let seen = columns_of(table, &row);
            let changed = self.assign(&row, &seen, &update.assignments, table.slots)?;
            self.check_row(table, &changed).await?;
            let new_key = key_of(table, &changed);
            if new_key != key {
                if self.txn.exists(&new_key).await.map_err(|conflict| self.conflict(conflict))? {
                    return Err(SqlError::duplicate_key(table, &new_key, self.version));
                }
                self.put(&key, None).await?;
            }
            self.put(&new_key, Some(changed.clone())).await?;
            written.push(columns_of(table, &Row::new(changed)));
        }
        Ok(written)
    }

    async fn delete(&mut self, delete: &Delete) -> Result<Vec<Tuple>, SqlError> {
        let mut removed = Vec::new();
        for (key, row) in self.matching(&delete.table, delete.filter.as_ref()).await? {
            self.put(&key, None).await?;
            removed.push(columns_of(&delete.table, &row));
        }
        Ok(removed)
    }

    /// The rows for which a filter is true, locked.
    async fn matching(&mut self, table: &Table, filter: Option<&Expr>) -> Result<Vec<(Key, Row)>, SqlError> {
        let mut matching = Vec::new();
        for (key, row) in self.table(table, filter, Strength::Exclusive).await? {
            let seen = columns_of(table, &row);
            if filter.map_or(Ok(true), |filter| filter.eval(&seen, self.env).map(|value| value.is_true()))? {
                matching.push((key, row));
            }
        }
        Ok(matching)
    }
}

fn returning(written: Vec<Tuple>, projection: Option<&Vec<Expr>>, tag: &'static str) -> Cursor {
    match projection {
        Some(projection) => {
            Cursor { rows: written.into_iter(), projection: projection.clone(), tag, ..Cursor::default() }
        }
        None => Cursor { affected: Some(written.len()), tag, ..Cursor::default() },
    }
}
