//! CREATE, DROP, ALTER and TRUNCATE.

use std::sync::Arc;

use sqlparser::ast::{self, AlterTableOperation, ColumnOption, ObjectType};

use super::bind::{fold, type_of};
use super::query::table_name;
use super::value::Type;
use crate::catalog::{Change, Column, Schema, Sequence, Table};
use crate::errors::SqlError;

/// What a schema statement does.
#[derive(Debug)]
pub struct SchemaChange {
    /// Its command tag.
    pub tag: &'static str,
    /// What it changes when it is committed.
    pub changes: Vec<Change>,
    /// The tables of which it removes all rows.
    pub truncated: Vec<Arc<Table>>,
    /// Whether it changes a table that is there, which must come before all writes of its transaction.
    pub alters: bool,
    /// Whether it makes a temporary table.
    pub temporary: bool,
}

impl SchemaChange {
    fn new(tag: &'static str, changes: Vec<Change>) -> Self {
        Self { tag, changes, truncated: Vec::new(), alters: false, temporary: false }
    }
}

/// Resolves a schema statement.
pub fn plan(statement: &ast::Statement, schema: Schema<'_>) -> Result<SchemaChange, SqlError> {
    match statement {
        ast::Statement::CreateTable(create) => create_table(create, schema),
        // Nothing is kept of a schema but the prefix of the names in it.
        ast::Statement::CreateSchema { .. } => Ok(SchemaChange::new("CREATE SCHEMA", Vec::new())),
        ast::Statement::Drop { object_type: ObjectType::Schema, names, .. } => {
            let within = names.iter().flat_map(|name| schema.tables_within(&table_name(name)));
            Ok(SchemaChange::new("DROP SCHEMA", within.map(Change::DropTable).collect()))
        }
        ast::Statement::CreateSequence { name, if_not_exists, .. } => {
            let name = table_name(name);
            match schema.find_sequence(&name) {
                Some(_) if *if_not_exists => Ok(SchemaChange::new("CREATE SEQUENCE", Vec::new())),
                Some(_) => Err(exists(&name)),
                None => {
                    let change = Change::CreateSequence(name, Arc::new(Sequence::default()));
                    Ok(SchemaChange::new("CREATE SEQUENCE", vec![change]))
                }
            }
        }
        ast::Statement::CreateIndex(create) => {
            let table = schema.table(&table_name(&create.table_name))?;
            let name = create.name.as_ref().map(table_name).unwrap_or_default();
            let column =
                create.columns.first().map(|column| column.column.expr.to_string()).unwrap_or_default();
            let unique = Change::CreateUniqueIndex { table: table.name.clone(), name, column };
            let changes = if create.unique { vec![unique] } else { Vec::new() };
            Ok(SchemaChange { alters: true, ..SchemaChange::new("CREATE INDEX", changes) })
        }
        ast::Statement::AlterTable(alter) => alter_table(alter, schema),
        ast::Statement::Drop { object_type, if_exists, names, .. } => {
            drop_objects(*object_type, *if_exists, names, schema)
        }
        ast::Statement::Truncate(truncate) => {
            let tables = truncate.table_names.iter().map(|target| schema.table(&table_name(&target.name)));
            let truncated = tables.collect::<Result<_, _>>()?;
            Ok(SchemaChange { truncated, ..SchemaChange::new("TRUNCATE", Vec::new()) })
        }
        other => Err(SqlError::unsupported(other)),
    }
}

fn exists(name: &str) -> SqlError {
    SqlError::new("42P07", format!("relation \"{name}\" already exists"))
}

fn create_table(create: &ast::CreateTable, schema: Schema<'_>) -> Result<SchemaChange, SqlError> {
    let name = table_name(&create.name);
    if schema.find_table(&name).is_some() {
        return if create.if_not_exists {
            Ok(SchemaChange::new("CREATE TABLE", Vec::new()))
        } else {
            Err(exists(&name))
        };
    }
    let mut table = Table {
        id: schema.catalog.next_id(),
        name,
        version: 1,
        columns: Vec::new(),
        primary: Vec::new(),
        slots: 0,
    };
    create.columns.iter().try_for_each(|column| add_column(&mut table, column))?;
    for constraint in &create.constraints {
        add_constraint(&mut table, constraint);
    }
    if table.primary.is_empty() {
        add_rowid(&mut table);
    }
    let changes = vec![Change::CreateTable(Arc::new(table))];
    Ok(SchemaChange { temporary: create.temporary, ..SchemaChange::new("CREATE TABLE", changes) })
}

fn add_column(table: &mut Table, definition: &ast::ColumnDef) -> Result<(), SqlError> {
    let slot = table.slots;
    let is_serial = definition.data_type.to_string().to_lowercase().contains("serial");
    let mut column = Column {
        name: fold(&definition.name),
        ty: type_of(&definition.data_type)?,
        slot,
        default: is_serial.then(unique_rowid),
        not_null: false,
        hidden: false,
        references: None,
    };
    for option in &definition.options {
        match &option.option {
            ColumnOption::PrimaryKey(_) => table.primary = vec![slot],
            ColumnOption::NotNull => column.not_null = true,
            ColumnOption::Default(default) => column.default = Some(default.clone()),
            ColumnOption::ForeignKey(reference) => {
                column.references = Some(table_name(&reference.foreign_table))
            }
            _ => {}
        }
    }
    table.columns.push(column);
    table.slots += 1;
    Ok(())
}

fn add_constraint(table: &mut Table, constraint: &ast::TableConstraint) {
    match constraint {
        ast::TableConstraint::PrimaryKey(primary) => {
            let names = primary.columns.iter().map(|column| column.column.expr.to_string().to_lowercase());
            table.primary = names.filter_map(|name| table.column(&name).map(|column| column.slot)).collect();
        }
        ast::TableConstraint::ForeignKey(reference) => {
            let name = reference.columns.first().map(fold).unwrap_or_default();
            if let Some(column) = table.columns.iter_mut().find(|column| column.name == name) {
                column.references = Some(table_name(&reference.foreign_table));
            }
        }
        _ => {}
    }
}

/// A table without a primary key gets a hidden one.
fn add_rowid(table: &mut Table) {
    let slot = table.slots;
    table.columns.push(Column {
        name: "rowid".into(),
        ty: Type::Int,
        slot,
        default: Some(unique_rowid()),
        not_null: true,
        hidden: true,
        references: None,
    });
    table.primary = vec![slot];
    table.slots += 1;
}

/// The expression `unique_rowid()`.
fn unique_rowid() -> ast::Expr {
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    sqlparser::parser::Parser::new(&dialect)
        .try_with_sql("unique_rowid()")
        .and_then(|mut parser| parser.parse_expr())
        .expect("the text is constant")
}

fn alter_table(alter: &ast::AlterTable, schema: Schema<'_>) -> Result<SchemaChange, SqlError> {
    let mut table = Table::clone(&*schema.table(&table_name(&alter.name))?);
    for operation in &alter.operations {
        match operation {
            AlterTableOperation::AddColumn { column_def, .. } => add_column(&mut table, column_def)?,
            AlterTableOperation::DropColumn { column_names, .. } => {
                let dropped: Vec<String> = column_names.iter().map(fold).collect();
                table.columns.retain(|column| !dropped.contains(&column.name));
            }
            other => return Err(SqlError::unsupported(other)),
        }
    }
    table.version += 1;
    let changes = vec![Change::AlterTable(Arc::new(table))];
    Ok(SchemaChange { alters: true, ..SchemaChange::new("ALTER TABLE", changes) })
}

fn drop_objects(
    object_type: ObjectType,
    if_exists: bool,
    names: &[ast::ObjectName],
    schema: Schema<'_>,
) -> Result<SchemaChange, SqlError> {
    let mut changes = Vec::new();
    for name in names.iter().map(table_name) {
        let (is_there, change) = match object_type {
            ObjectType::Table => (schema.find_table(&name).is_some(), Change::DropTable(name.clone())),
            ObjectType::Sequence => {
                (schema.find_sequence(&name).is_some(), Change::DropSequence(name.clone()))
            }
            other => return Err(SqlError::unsupported(other)),
        };
        match is_there {
            true => changes.push(change),
            false if if_exists => {}
            false => return Err(SqlError::unknown_table(&name)),
        }
    }
    let tag = if object_type == ObjectType::Table { "DROP TABLE" } else { "DROP SEQUENCE" };
    Ok(SchemaChange::new(tag, changes))
}
