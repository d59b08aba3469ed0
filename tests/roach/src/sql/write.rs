//! Plans INSERT, UPSERT, UPDATE and DELETE, and any statement as a whole.

use std::sync::Arc;

use sqlparser::ast::{self, SetExpr};

use super::bind::{Binder, fold};
use super::expr::Expr;
use super::plan::{Assignment, Delete, Insert, Node, OnConflict, OutputColumn, Plan, Select, Source, Update};
use super::query::{scope_of_table, table_name};
use super::statement::Data;
use super::value::Type;
use crate::catalog::{Column, Schema, Table};
use crate::errors::SqlError;
use crate::kv::Strength;

/// What RETURNING shows, if there is one.
type Returning = (Option<Vec<Expr>>, Vec<OutputColumn>);

/// Plans a statement; the types of parameters that the client gave come first.
pub fn plan(data: &Data, schema: Schema<'_>, parameters: Vec<Option<Type>>) -> Result<Plan, SqlError> {
    let mut binder = Binder::new(schema, parameters);
    let (node, columns) = match &data.ast {
        ast::Statement::Query(query) => {
            let (select, columns) = binder.query(query, None)?;
            (Node::Select(select), columns)
        }
        ast::Statement::Insert(insert) => binder.insert(insert, data.upsert)?,
        ast::Statement::Update(update) => binder.update(update)?,
        ast::Statement::Delete(delete) => binder.delete(delete)?,
        other => return Err(SqlError::unsupported(other)),
    };
    let parameters = binder.parameters.iter().map(|ty| ty.unwrap_or(Type::Text)).collect();
    Ok(Plan { node, subqueries: binder.subqueries, parameters, columns, tables: binder.tables })
}

impl Binder<'_> {
    fn target(&mut self, name: &ast::ObjectName, alias: Option<&ast::Ident>) -> Result<Arc<Table>, SqlError> {
        let table = self.schema.table(&table_name(name))?;
        let alias = alias.map_or_else(|| table.name.clone(), fold);
        self.scope = scope_of_table(&table, &alias);
        self.tables.push(table.clone());
        Ok(table)
    }

    fn insert(&mut self, insert: &ast::Insert, upsert: bool) -> Result<(Node, Vec<OutputColumn>), SqlError> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported(insert));
        };
        let table = self.target(name, None)?;
        let scope = std::mem::take(&mut self.scope);
        let targets = self.insert_targets(&table, insert)?;
        let rows = self.insert_rows(insert, &targets)?;
        let defaults = self.insert_defaults(&table, &targets)?;
        self.scope = scope;
        let (returning, columns) = self.returning(insert.returning.as_deref())?;
        let on_conflict = match &insert.on {
            _ if upsert => OnConflict::Replace,
            None => OnConflict::Fail,
            Some(on) => self.on_conflict(&table, on)?,
        };
        let targets = targets.iter().map(|column| (column.slot, column.ty)).collect();
        Ok((Node::Insert(Insert { table, targets, defaults, rows, on_conflict, returning }), columns))
    }

    fn insert_targets(&self, table: &Table, insert: &ast::Insert) -> Result<Vec<Column>, SqlError> {
        if insert.columns.is_empty() {
            return Ok(table.visible().cloned().collect());
        }
        let named = insert.columns.iter().map(table_name);
        named
            .map(|name| table.column(&name).cloned().ok_or_else(|| SqlError::unknown_column(&name)))
            .collect()
    }

    /// The rows to insert. Parameters in VALUES get the types of their columns.
    fn insert_rows(&mut self, insert: &ast::Insert, targets: &[Column]) -> Result<Select, SqlError> {
        let Some(query) = &insert.source else {
            return Ok(values(vec![Vec::new()]));
        };
        let SetExpr::Values(rows) = &*query.body else {
            return Ok(self.query(query, None)?.0);
        };
        let mut bound = Vec::new();
        for row in &rows.rows {
            if row.content.len() > targets.len() {
                let (given, wanted) = (row.content.len(), targets.len());
                let message = format!(
                    "INSERT has more expressions than target columns, {given} expressions for {wanted} targets"
                );
                return Err(SqlError::new("42601", message));
            }
            let values = row.content.iter().zip(targets).map(|(expr, column)| self.expect(expr, column.ty));
            bound.push(values.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(values(bound))
    }

    fn insert_defaults(&mut self, table: &Table, targets: &[Column]) -> Result<Vec<Assignment>, SqlError> {
        let mut defaults = Vec::new();
        for column in &table.columns {
            if let (Some(default), false) =
                (&column.default, targets.iter().any(|target| target.slot == column.slot))
            {
                let value = self.expect(default, column.ty)?;
                defaults.push(Assignment { slot: column.slot, ty: column.ty, value });
            }
        }
        Ok(defaults)
    }

    fn on_conflict(&mut self, table: &Table, on: &ast::OnInsert) -> Result<OnConflict, SqlError> {
        let ast::OnInsert::OnConflict(on) = on else {
            return Err(SqlError::unsupported(on));
        };
        match &on.action {
            ast::OnConflictAction::DoNothing => Ok(OnConflict::Skip),
            ast::OnConflictAction::DoUpdate(update) => {
                self.scope.extend(scope_of_table(table, "excluded"));
                self.assignments(table, &update.assignments).map(OnConflict::Update)
            }
        }
    }

    fn assignments(
        &mut self,
        table: &Table,
        assignments: &[ast::Assignment],
    ) -> Result<Vec<Assignment>, SqlError> {
        let mut bound = Vec::new();
        for assignment in assignments {
            let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
                return Err(SqlError::unsupported(assignment));
            };
            let name = table_name(name);
            let column = table.column(&name).ok_or_else(|| SqlError::unknown_column(&name))?;
            let value = self.expect(&assignment.value, column.ty)?;
            bound.push(Assignment { slot: column.slot, ty: column.ty, value });
        }
        Ok(bound)
    }

    fn update(&mut self, update: &ast::Update) -> Result<(Node, Vec<OutputColumn>), SqlError> {
        let table = self.relation(&update.table)?;
        let assignments = self.assignments(&table, &update.assignments)?;
        let filter = self.filter(update.selection.as_ref())?;
        let (returning, columns) = self.returning(update.returning.as_deref())?;
        Ok((Node::Update(Update { table, filter, assignments, returning }), columns))
    }

    fn delete(&mut self, delete: &ast::Delete) -> Result<(Node, Vec<OutputColumn>), SqlError> {
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        let [relation] = from.as_slice() else {
            return Err(SqlError::unsupported(delete));
        };
        let table = self.relation(relation)?;
        let filter = self.filter(delete.selection.as_ref())?;
        let (returning, columns) = self.returning(delete.returning.as_deref())?;
        Ok((Node::Delete(Delete { table, filter, returning }), columns))
    }

    fn relation(&mut self, relation: &ast::TableWithJoins) -> Result<Arc<Table>, SqlError> {
        match &relation.relation {
            ast::TableFactor::Table { name, alias, args: None, .. } if relation.joins.is_empty() => {
                self.target(name, alias.as_ref().map(|alias| &alias.name))
            }
            other => Err(SqlError::unsupported(other)),
        }
    }

    fn filter(&mut self, filter: Option<&ast::Expr>) -> Result<Option<Expr>, SqlError> {
        filter.map(|filter| self.expect(filter, Type::Bool)).transpose()
    }

    fn returning(&mut self, items: Option<&[ast::SelectItem]>) -> Result<Returning, SqlError> {
        match items {
            None => Ok((None, Vec::new())),
            Some(items) => self.projection(items).map(|(exprs, columns)| (Some(exprs), columns)),
        }
    }
}

fn values(rows: Vec<Vec<Expr>>) -> Select {
    let width = rows.first().map_or(0, Vec::len);
    Select {
        source: Source::Values(rows),
        filter: None,
        grouping: None,
        projection: (0..width).map(Expr::Column).collect(),
        order: Vec::new(),
        distinct: false,
        limit: None,
        offset: None,
        strength: Strength::Shared,
    }
}
