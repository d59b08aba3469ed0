//! Statements that read, write or change the schema.

use std::sync::Arc;
use std::time::Instant;

use super::{Flow, Health, Run, Session, Stop};
use crate::catalog::{Change, Schema, Table};
use crate::errors::SqlError;
use crate::kv::{Priority, Span, Strength};
use crate::server::{Handle, Shared};
use crate::sql::cast::interval;
use crate::sql::execute::{Cursor, Executor};
use crate::sql::expr::Env;
use crate::sql::plan::{OutputColumn, Plan};
use crate::sql::schema::SchemaChange;
use crate::sql::statement::{Data, Statement};
use crate::sql::{schema, write};
use crate::transaction::State;

/// How many errors `inject_retry_errors_enabled` makes in one transaction.
const MAX_INJECTED: u8 = 3;

impl Session {
    /// A statement that is not about the transaction itself, within the time that it may take.
    pub(super) async fn ordinary(&mut self, run: &Run<'_>) -> Flow {
        let deadline = self.settings.duration("statement_timeout").map(|timeout| run.received + timeout);
        // A retried statement keeps the time at which it came, so that retries do not go on for ever.
        if deadline.is_some_and(|deadline| deadline <= Instant::now())
            && matches!(run.parsed.statement, Statement::Data(_))
        {
            return Err(SqlError::statement_timeout().into());
        }
        let handle = self.handle.clone();
        limited(deadline, &handle, self.unlimited(run)).await?;
        self.inject_after(run)
    }

    /// Lets `inject_retry_errors_enabled` make an error of a statement that succeeded.
    fn inject_after(&mut self, run: &Run<'_>) -> Flow {
        let exempt = matches!(run.parsed.statement, Statement::Set { .. } | Statement::Show(_));
        if exempt || self.state != State::Open || !self.settings.is_on("inject_retry_errors_enabled") {
            return Ok(());
        }
        match &mut self.txn {
            Some(txn) if txn.injected < MAX_INJECTED => {
                txn.injected += 1;
                // Nothing that a variable injects is retried by the server.
                self.rewind = None;
                self.output.take_back_completion();
                let conflict = crate::kv::Conflict::Injected("inject_retry_errors_enabled");
                txn.kv.restart(&conflict);
                Err(SqlError::conflict(conflict, self.version()).into())
            }
            _ => Ok(()),
        }
    }

    async fn unlimited(&mut self, run: &Run<'_>) -> Flow {
        match &run.parsed.statement {
            Statement::Data(data) => self.data(data, run).await,
            Statement::Schema(statement) => self.change_schema(statement).await,
            Statement::CopyFrom { table, columns } => self.copy(table, columns).await,
            _ => self.answer(run).await,
        }
    }

    async fn data(&mut self, data: &Data, run: &Run<'_>) -> Flow {
        if let Some(cursor) = self.resumed(run) {
            let columns = run.prepared.map(|prepared| prepared.columns.clone()).unwrap_or_default();
            return self.show(cursor, &columns, run).await;
        }
        let plan = self.plan(data, run)?;
        self.check_read_only(&plan, data)?;
        if run.portal.is_none() && !plan.columns.is_empty() {
            self.output.columns(&plan.columns, run.formats);
        }
        self.read_at(data)?;
        let cursor = self.open(&plan, run).await?;
        self.show(cursor, &plan.columns, run).await
    }

    /// The rows that are left in a suspended portal, or none in one that has completed.
    fn resumed(&mut self, run: &Run<'_>) -> Option<Cursor> {
        let once = self.version().portals_run_once();
        let portal = self.names.portal_mut(run.portal?)?;
        match portal.suspended.take() {
            Some(cursor) => Some(cursor),
            None if portal.completed && once => Some(Cursor::empty(&portal.prepared.parsed.statement)),
            None => None,
        }
    }

    fn plan(&mut self, data: &Data, run: &Run<'_>) -> Result<Plan, SqlError> {
        let types = run.prepared.map(|prepared| prepared.parameters.iter().map(|ty| Some(*ty)).collect());
        let plan = write::plan(data, self.schema(), types.unwrap_or_default())?;
        match run.prepared {
            Some(prepared) if prepared.columns != plan.columns => {
                Err(SqlError::new("0A000", "cached plan must not change result type"))
            }
            _ => Ok(plan),
        }
    }

    pub(super) fn schema(&self) -> Schema<'_> {
        let changes = self.txn.as_ref().map_or(&[][..], |txn| &txn.changes);
        Schema { catalog: &self.shared.catalog, changes }
    }

    fn check_read_only(&self, plan: &Plan, data: &Data) -> Result<(), SqlError> {
        let locks = match &plan.node {
            crate::sql::plan::Node::Select(select) if select.strength == Strength::Exclusive => {
                let text = data.ast.to_string();
                let plain = if text.contains("FOR SHARE") { "FOR SHARE" } else { "FOR UPDATE" };
                Some(data.lock_words.unwrap_or(plain))
            }
            _ => None,
        };
        match plan.node.write_name().or(locks) {
            Some(what) if self.txn.as_ref().is_some_and(|txn| txn.read_only) => {
                Err(SqlError::read_only(what))
            }
            _ => Ok(()),
        }
    }

    /// AS OF SYSTEM TIME in a statement of its own.
    fn read_at(&mut self, data: &Data) -> Result<(), SqlError> {
        let now = self.shared.store.now();
        if let (Some(age), Some(txn)) = (&data.as_of, &mut self.txn) {
            let age = interval(age.trim_start_matches('-'));
            let age =
                age.ok_or_else(|| SqlError::unsupported("AS OF SYSTEM TIME with anything but an interval"))?;
            txn.kv.read_at(now.before(age));
        }
        Ok(())
    }

    async fn open(&mut self, plan: &Plan, run: &Run<'_>) -> Result<Cursor, Stop> {
        let version = self.version();
        let Self { txn, settings, sequences, shared, .. } = self;
        let Some(txn) = txn else {
            return Err(SqlError::no_transaction(version).into());
        };
        if txn.health != Health::Sound {
            return Err(SqlError::cancelled().into());
        }
        let mut env = Env {
            schema: Schema { catalog: &shared.catalog, changes: &txn.changes },
            parameters: run.values,
            subqueries: Vec::new(),
            settings,
            sequences,
            transaction_time: txn.began,
            statement_time: shared.store.now().nanoseconds(),
            logical: txn.kv.snapshot().write,
            read_only: txn.read_only,
            pause: std::time::Duration::ZERO,
        };
        Ok(Executor { txn: &mut txn.kv, env: &mut env, version }.open(plan).await?)
    }

    /// Shows rows until there are no more, or until the portal's limit is reached.
    async fn show(&mut self, mut cursor: Cursor, columns: &[OutputColumn], run: &Run<'_>) -> Flow {
        let mut shown = 0;
        loop {
            if run.max_rows > 0 && shown == run.max_rows {
                return self.suspend(cursor, run);
            }
            match self.next_row(&mut cursor, run).await? {
                None => break,
                Some(row) => self.output.row(&row, run.formats),
            }
            shown += 1;
            if self.output.is_full() {
                self.flush().await?;
            }
        }
        debug_assert!(shown == 0 || !columns.is_empty());
        if let Some(portal) = run.portal.and_then(|name| self.names.portal_mut(name)) {
            portal.completed = true;
        }
        self.output.complete(cursor.tag(shown));
        Ok(())
    }

    fn suspend(&mut self, cursor: Cursor, run: &Run<'_>) -> Flow {
        if let Some(portal) = run.portal.and_then(|name| self.names.portal_mut(name)) {
            portal.suspended = Some(cursor);
        }
        self.output.message(&pgwire::messages::extendedquery::PortalSuspended::new());
        Ok(())
    }

    async fn next_row(
        &mut self,
        cursor: &mut Cursor,
        run: &Run<'_>,
    ) -> Result<Option<Vec<crate::sql::value::Datum>>, Stop> {
        let statement_time = self.shared.store.now().nanoseconds();
        let (row, pause) = {
            let Self { txn, settings, sequences, shared, .. } = self;
            let Some(txn) = txn else { return Ok(None) };
            let mut env = Env {
                schema: Schema { catalog: &shared.catalog, changes: &txn.changes },
                parameters: run.values,
                subqueries: Vec::new(),
                settings,
                sequences,
                transaction_time: txn.began,
                statement_time,
                logical: txn.kv.snapshot().write,
                read_only: txn.read_only,
                pause: std::time::Duration::ZERO,
            };
            (cursor.next(&mut env), env.pause)
        };
        let row = row.transpose()?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(row)
    }

    async fn change_schema(&mut self, statement: &sqlparser::ast::Statement) -> Flow {
        if self.state == State::Open && self.settings.is_on("autocommit_before_ddl") {
            self.commit_before_ddl().await?;
        }
        let change = schema::plan(statement, self.schema())?;
        self.check_schema_change(&change)?;
        let SchemaChange { tag, changes, truncated, .. } = change;
        if let Some(table) = truncated {
            self.truncate(&table).await?;
        }
        let drops = changes.iter().any(|change| matches!(change, Change::DropTable(_)));
        if let Some(txn) = &mut self.txn {
            txn.kv.touch();
            txn.changes.extend(changes);
        }
        debug_assert!(!drops || tag == "DROP TABLE");
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
        self.apply(crate::transaction::Event::Committed);
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

    async fn truncate(&mut self, table: &Arc<Table>) -> Flow {
        let sql = format!("DELETE FROM \"{}\"", table.name);
        let parsed = crate::sql::parser::parse(&sql, self.version())?;
        if let Some(Statement::Data(data)) = parsed.first().map(|parsed| &parsed.statement) {
            let run = Run {
                parsed: &parsed[0],
                values: &[],
                formats: &[],
                portal: None,
                max_rows: 0,
                prepared: None,
                position: self.commands.next_position(),
                received: Instant::now(),
            };
            let plan = self.plan(data, &run)?;
            self.open(&plan, &run).await?;
        }
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

/// Work that a timeout or another session may cut short.
async fn limited(deadline: Option<Instant>, handle: &Handle, work: impl Future<Output = Flow>) -> Flow {
    let timeout = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        () = timeout => Err(SqlError::statement_timeout().into()),
        () = handle.cancelled() => Err(SqlError::cancelled().into()),
        () = handle.killed() => Err(Stop::Io(std::io::ErrorKind::ConnectionAborted.into())),
    }
}
