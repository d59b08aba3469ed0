//! Statements that read, write or change the schema.

use std::time::{Duration, Instant};

use super::{Flow, Health, Run, Session, Stop};
use crate::catalog::Schema;
use crate::errors::SqlError;
use crate::kv::{Strength, Transaction};
use crate::server::Handle;
use crate::sql::cast::interval;
use crate::sql::execute::{Cursor, Executor};
use crate::sql::expr::Env;
use crate::sql::plan::{Node, Plan};
use crate::sql::statement::{Data, Statement};
use crate::sql::value::Datum;
use crate::sql::write;
use crate::transaction::State;

/// A moment, and the error of what is not over then.
type Deadline = (Instant, fn() -> SqlError);

/// How many errors `inject_retry_errors_enabled` makes in one transaction.
const MAX_INJECTED: u8 = 3;

impl Session {
    /// A statement that is not about the transaction itself, within the time that it may take.
    pub(super) async fn ordinary(&mut self, run: &Run<'_>) -> Flow {
        let deadline = self.deadline(run);
        // A retried statement keeps the time at which it came, so that retries do not go on for ever.
        if let (Some((at, error)), Statement::Data(_)) = (deadline, &run.parsed.statement)
            && at <= Instant::now()
        {
            return Err(error().into());
        }
        let handle = self.handle.clone();
        limited(deadline, &handle, self.unlimited(run)).await?;
        self.inject_after(run)
    }

    /// When a statement must have ended, and what is said if it has not.
    fn deadline(&self, run: &Run<'_>) -> Option<Deadline> {
        let limit = |name| self.settings.duration(name);
        let of_statement = limit("statement_timeout").map(|timeout| run.received + timeout);
        let began = self.txn.as_ref().filter(|_| self.state == State::Open).map(|txn| txn.since);
        let of_transaction = limit("transaction_timeout").and_then(|timeout| Some(began? + timeout));
        let deadlines: [Option<Deadline>; 2] = [
            of_statement.map(|at| (at, SqlError::statement_timeout as fn() -> SqlError)),
            of_transaction.map(|at| (at, SqlError::transaction_timeout as fn() -> SqlError)),
        ];
        deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
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
            return self.show(cursor, run).await;
        }
        let plan = self.plan(data, run)?;
        self.check_read_only(&plan, data)?;
        if run.portal.is_none() && !plan.columns.is_empty() {
            self.output.columns(&plan.columns, run.formats);
        }
        self.read_at(data)?;
        let cursor = self.open(&plan, run.values).await?;
        self.show(cursor, run).await
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
            Node::Select(select) if select.strength == Strength::Exclusive => {
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

    /// The storage transaction, and what expressions may look at besides it.
    pub(super) fn tools<'a>(&'a mut self, values: &'a [Datum]) -> Option<(&'a mut Transaction, Env<'a>)> {
        let Self { txn, settings, sequences, shared, .. } = self;
        let txn = txn.as_mut()?;
        let env = Env {
            schema: Schema { catalog: &shared.catalog, changes: &txn.changes },
            parameters: values,
            subqueries: Vec::new(),
            settings,
            sequences,
            transaction_time: txn.began,
            statement_time: txn.statement_began,
            logical: txn.kv.snapshot().write,
            read_only: txn.read_only,
            pause: Duration::ZERO,
        };
        Some((&mut txn.kv, env))
    }

    /// Runs a plan up to the point where its rows can be shown.
    pub(super) async fn open(&mut self, plan: &Plan, values: &[Datum]) -> Result<Cursor, Stop> {
        let version = self.version();
        let now = self.shared.store.now().nanoseconds();
        match &mut self.txn {
            Some(txn) if txn.health != Health::Sound => return Err(SqlError::cancelled().into()),
            Some(txn) => txn.statement_began = now,
            None => {}
        }
        let Some((txn, mut env)) = self.tools(values) else {
            return Err(SqlError::no_transaction(version).into());
        };
        Ok(Executor { txn, env: &mut env, version }.open(plan).await?)
    }

    /// Shows rows until there are no more, or until the portal's limit is reached.
    async fn show(&mut self, mut cursor: Cursor, run: &Run<'_>) -> Flow {
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

    /// The next row; one that asks for it is shown after a while only.
    async fn next_row(&mut self, cursor: &mut Cursor, run: &Run<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        let Some((_, mut env)) = self.tools(run.values) else {
            return Ok(None);
        };
        let row = cursor.next(&mut env).transpose()?;
        let pause = env.pause;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(row)
    }
}

/// Work that a timeout or another session may cut short.
async fn limited(deadline: Option<Deadline>, handle: &Handle, work: impl Future<Output = Flow>) -> Flow {
    let timeout = async {
        match deadline {
            Some((at, error)) => {
                tokio::time::sleep_until(at.into()).await;
                error()
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        error = timeout => Err(error.into()),
        () = handle.cancelled() => Err(SqlError::cancelled().into()),
        () = handle.killed() => Err(Stop::Io(std::io::ErrorKind::ConnectionAborted.into())),
    }
}
