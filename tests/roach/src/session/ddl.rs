//! Statements that change the schema.

use std::sync::Arc;

use super::{Flow, Session};
use crate::catalog::{Schema, Table};
use crate::errors::SqlError;
use crate::kv::{Priority, Span, Strength};
use crate::server::Shared;
use crate::sql::plan::{Delete, Node, Plan};
use crate::sql::schema::{self, SchemaChange};
use crate::transaction::{Event, State};

impl Session {
    pub(super) async fn change_schema(&mut self, statement: &sqlparser::ast::Statement) -> Flow {
        if self.state == State::Open && self.settings.is_on("autocommit_before_ddl") {
            self.commit_before_ddl().await?;
        }
        let change = schema::plan(statement, self.schema())?;
        self.check_schema_change(&change)?;
        let SchemaChange { tag, changes, truncated, .. } = change;
        for table in truncated {
            self.truncate(table).await?;
        }
        if let Some(txn) = &mut self.txn {
            txn.kv.touch();
            txn.changes.extend(changes);
        }
        self.output.complete(tag);
        Ok(())
    }

    /// The open transaction is committed, and the schema statement gets one of its own.
    async fn commit_before_ddl(&mut self) -> Flow {
        let message =
            "auto-committing transaction before processing DDL due to autocommit_before_ddl setting";
        self.output.notice("NOTICE", &SqlError::new("00000", message), self.version());
        let version = self.version();
        if let Some(txn) = &mut self.txn {
            txn.kv.commit().map_err(|conflict| SqlError::conflict(conflict, version))?;
            self.shared.catalog.apply(std::mem::take(&mut txn.changes));
        }
        self.apply(Event::Committed);
        self.begin_implicit(self.commands.next_position());
        Ok(())
    }

    fn check_schema_change(&self, change: &SchemaChange) -> Result<(), SqlError> {
        if self.txn.as_ref().is_some_and(|txn| txn.read_only) {
            return Err(SqlError::read_only(change.tag));
        }
        if change.tag == "CREATE TABLE" && self.settings.get("database")? != "defaultdb" {
            return Err(SqlError::new("42602", "no database specified"));
        }
        if change.temporary && !self.settings.is_on("experimental_enable_temp_tables") {
            return Err(SqlError::new("0A000", "temporary tables are only supported experimentally")
                .with_hint(
                    "See: https://go.crdb.dev/issue/46260\n--\nYou can enable temporary tables by running \
                 `SET experimental_enable_temp_tables = 'on'`.",
                ));
        }
        if change.alters && self.txn.as_ref().is_some_and(|txn| txn.kv.has_written()) {
            let message =
                "schema change statement cannot follow a statement that has written in the same transaction";
            return Err(SqlError::unimplemented(message, Some(26508)));
        }
        Ok(())
    }

    async fn truncate(&mut self, table: Arc<Table>) -> Flow {
        let plan = Plan {
            node: Node::Delete(Delete { table, filter: None, returning: None }),
            subqueries: Vec::new(),
            parameters: Vec::new(),
            columns: Vec::new(),
            tables: Vec::new(),
        };
        self.open(&plan, &[]).await?;
        Ok(())
    }
}

/// A value that stands in two rows of a column.
pub(super) async fn find_duplicate(shared: &Shared, table: &str, column: &str) -> Option<String> {
    let schema = Schema { catalog: &shared.catalog, changes: &[] };
    let table = schema.find_table(table)?;
    let slot = table.column(column)?.slot;
    let mut reader = shared.store.begin(Priority::Normal);
    let rows = reader.scan(&Span::table(table.id), Strength::Shared).await.ok()?;
    let mut values: Vec<_> =
        rows.iter().filter_map(|(_, row)| row.get(slot)).filter(|value| !value.is_null()).collect();
    values.sort();
    values.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_string())
}
