//! Transactions and savepoints: what each statement means in each state.

use std::time::Instant;

use super::ddl::find_duplicate;
use super::{Flow, Health, Run, Session, Stop, Txn};
use crate::catalog::Change;
use crate::errors::SqlError;
use crate::faults::Point;
use crate::kv::Priority;
use crate::savepoints::{Savepoint, Savepoints};
use crate::server::Shared;
use crate::sql::cast::interval;
use crate::sql::statement::{Modes, Statement};
use crate::transaction::{Event, State};

impl Session {
    /// Statements that mean something of their own outside a transaction: whether this is one.
    pub(super) fn outside(&mut self, run: &Run<'_>) -> Result<bool, SqlError> {
        let tag = match &run.parsed.statement {
            Statement::Begin(modes) => {
                self.begin(modes, run.position);
                return Ok(true);
            }
            Statement::Commit => "COMMIT",
            Statement::Rollback => "ROLLBACK",
            Statement::SetTransaction(_) => "SET TRANSACTION",
            Statement::Savepoint(_) => "SAVEPOINT",
            Statement::Release(_) => "RELEASE",
            Statement::RollbackTo(name) => return Err(SqlError::no_savepoint(name)),
            Statement::ShowCommitTimestamp => return self.show_commit_timestamp().map(|()| true),
            _ => return Ok(false),
        };
        let error = SqlError::no_transaction(self.version());
        if !self.settings.is_on("autocommit_before_ddl") {
            return Err(error);
        }
        self.output.notice("WARNING", &error, self.version());
        self.output.complete(tag);
        Ok(true)
    }

    fn start(&mut self) -> Txn {
        let began = self.shared.store.now().nanoseconds();
        Txn {
            kv: self.shared.store.begin(Priority::Normal),
            changes: Vec::new(),
            began,
            since: Instant::now(),
            statement_began: began,
            read_only: self.settings.is_on("default_transaction_read_only"),
            priority: Priority::Normal,
            health: Health::Sound,
            attempt: 0,
            injected: 0,
        }
    }

    fn begin(&mut self, modes: &Modes, position: u64) {
        let txn = self.start();
        self.txn = Some(txn);
        self.locals = vec![(String::new(), self.settings.locals())];
        self.set_modes(modes);
        self.apply(Event::StartExplicit);
        self.output.complete("BEGIN");
        self.set_rewind_point(position + 1);
    }

    pub(super) fn begin_implicit(&mut self, position: u64) {
        let txn = self.start();
        self.txn = Some(txn);
        self.locals = vec![(String::new(), self.settings.locals())];
        self.apply(Event::StartImplicit);
        self.set_rewind_point(position);
    }

    fn set_modes(&mut self, modes: &Modes) {
        let now = self.shared.store.now();
        let Some(txn) = &mut self.txn else { return };
        if let Some(read_only) = modes.read_only {
            txn.read_only = read_only;
        }
        if let Some(priority) = modes.priority {
            txn.priority = priority;
            txn.kv.set_priority(priority);
        }
        if let Some(age) = modes.as_of.as_ref().and_then(|age| interval(age.trim_start_matches('-'))) {
            txn.read_only = true;
            txn.kv.read_at(now.before(age));
        }
    }

    /// Statements in an open transaction.
    pub(super) async fn in_transaction(&mut self, run: &Run<'_>) -> Flow {
        let statement = &run.parsed.statement;
        let is_plain =
            !statement.ends_or_mends() && !matches!(statement, Statement::Release(_) | Statement::Begin(_));
        if is_plain {
            self.strike(&Point::Statement(run.parsed.sql.clone())).await?;
        }
        match statement {
            Statement::Begin(modes) => self.begin_again(modes),
            Statement::Commit => self.commit().await,
            Statement::Rollback => {
                self.rollback();
                Ok(())
            }
            Statement::Savepoint(name) => Ok(self.savepoint(name)?),
            Statement::Release(name) => self.release(name).await,
            Statement::RollbackTo(name) => Ok(self.roll_back_to(name, run.position)?),
            Statement::SetTransaction(modes) => Ok(self.set_transaction(modes)?),
            Statement::ShowCommitTimestamp => {
                self.commit_storage().await??;
                self.show_commit_timestamp()?;
                self.apply(Event::Released);
                Ok(())
            }
            _ => self.ordinary(run).await,
        }
    }

    /// BEGIN where there is a transaction: a batch that the server began is taken over, anything else is an error.
    fn begin_again(&mut self, modes: &Modes) -> Flow {
        if self.state != State::Implicit {
            return Err(SqlError::in_transaction(self.version()).into());
        }
        self.set_modes(modes);
        self.apply(Event::StartExplicit);
        self.output.complete("BEGIN");
        Ok(())
    }

    /// Statements in a transaction that has failed.
    pub(super) fn in_aborted(&mut self, run: &Run<'_>) -> Flow {
        let force = self.settings.is_on("force_savepoint_restart");
        match &run.parsed.statement {
            Statement::Commit | Statement::Rollback => {
                self.rollback();
                Ok(())
            }
            Statement::RollbackTo(name) => Ok(self.roll_back_to(name, run.position)?),
            Statement::Savepoint(name) if Savepoints::is_restart_name(name, force) => {
                Ok(self.roll_back_to(name, run.position)?)
            }
            _ => Err(SqlError::aborted().into()),
        }
    }

    /// Statements in a transaction that was committed by RELEASE.
    pub(super) fn in_commit_wait(&mut self, statement: &Statement) -> Flow {
        match statement {
            Statement::Commit | Statement::Rollback => {
                self.apply(Event::Committed);
                self.output.complete("COMMIT");
                Ok(())
            }
            Statement::ShowCommitTimestamp => Ok(self.show_commit_timestamp()?),
            Statement::CopyFrom { .. } => Err(SqlError::aborted().into()),
            _ => Err(SqlError::committed().into()),
        }
    }

    fn rollback(&mut self) {
        if let Some(txn) = &mut self.txn {
            txn.kv.rollback();
        }
        self.apply(Event::RolledBack);
        self.output.complete("ROLLBACK");
    }

    fn savepoint(&mut self, name: &str) -> Result<(), SqlError> {
        let commits = Savepoints::is_restart_name(name, self.settings.is_on("force_savepoint_restart"));
        if let Some(txn) = &self.txn {
            self.savepoints.add(Savepoint {
                name: name.into(),
                commits,
                initial: !txn.kv.is_active(),
                mark: txn.kv.mark(),
                changes: txn.changes.len(),
            })?;
        }
        self.locals.push((name.into(), self.settings.locals()));
        self.output.complete("SAVEPOINT");
        Ok(())
    }

    async fn release(&mut self, name: &str) -> Flow {
        let version = self.version();
        let savepoint = self.savepoints.find(name)?.clone();
        if !savepoint.commits {
            if self.txn.as_ref().is_some_and(|txn| !savepoint.initial && !txn.kv.holds(savepoint.mark)) {
                return Err(SqlError::conflict(crate::kv::Conflict::ReleaseAfterRestart, version).into());
            }
            self.savepoints.pop(name);
            self.output.complete("RELEASE");
            return Ok(());
        }
        self.strike(&Point::Release).await?;
        let schema = self.commit_storage().await?;
        self.savepoints.clear();
        self.apply(Event::Released);
        self.rewind = None;
        schema?;
        self.output.complete("COMMIT");
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT, in an open transaction or in one that has failed.
    fn roll_back_to(&mut self, name: &str, position: u64) -> Result<(), SqlError> {
        let version = self.version();
        let savepoint = self.savepoints.find(name)?.clone();
        if self.state == State::Aborted {
            // What lies above is gone even if the rest fails.
            self.savepoints.pop_above(name);
        }
        let Some(txn) = &mut self.txn else { return Ok(()) };
        match txn.health {
            Health::Finalized => return Err(SqlError::finalized()),
            Health::Broken => return Err(SqlError::rollback_after_error()),
            Health::Sound | Health::Cancelled => {}
        }
        let ran_ddl = txn.changes.len() > savepoint.changes;
        if ran_ddl && txn.priority == Priority::High {
            return Err(SqlError::urgent_rollback_over_ddl());
        }
        if savepoint.initial {
            txn.kv.roll_back_to_beginning();
            txn.changes.truncate(savepoint.changes);
            txn.attempt += 1;
        } else if ran_ddl {
            return Err(SqlError::rollback_over_ddl());
        } else {
            let refused = |conflict| SqlError {
                gravity: crate::errors::Gravity::Ordinary,
                ..SqlError::conflict(conflict, version)
            };
            txn.kv.roll_back_to(savepoint.mark).map_err(refused)?;
        }
        self.savepoints.pop_above(name);
        self.names.close_portals();
        self.restore_savepoint_locals(name);
        self.apply(Event::RolledBackTo);
        self.output.complete("ROLLBACK");
        if savepoint.initial {
            self.set_rewind_point(position + 1);
        }
        Ok(())
    }

    fn restore_savepoint_locals(&mut self, name: &str) {
        if let Some(index) = self.locals.iter().rposition(|(other, _)| other == name) {
            self.locals.truncate(index + 1);
            let locals = self.locals[index].1.clone();
            self.restore_locals(locals);
        }
    }

    fn set_transaction(&mut self, modes: &Modes) -> Result<(), SqlError> {
        if let (Some(txn), Some(priority)) = (&self.txn, modes.priority)
            && txn.kv.is_active()
            && priority != txn.priority
        {
            return Err(SqlError::new("XXUUU", "cannot change the user priority of a running transaction"));
        }
        self.set_modes(modes);
        self.output.complete("SET TRANSACTION");
        Ok(())
    }

    async fn commit(&mut self) -> Flow {
        let injects = self.settings.is_on("inject_retry_errors_on_commit_enabled");
        let struck = self.strike(&Point::Commit).await;
        let committed = match struck {
            Ok(()) if injects => Err(self.injected("inject_retry_errors_on_commit_enabled").into()),
            Ok(()) => self.commit_storage().await,
            Err(stop) => Err(stop),
        };
        match committed {
            Ok(schema) => {
                self.apply(Event::Committed);
                schema?;
                self.output.complete("COMMIT");
                Ok(())
            }
            Err(Stop::Error(error)) => Err(self.commit_failed(error)),
            Err(stop) => Err(stop),
        }
    }

    /// A commit that failed ends the transaction, unless the server retries it.
    fn commit_failed(&mut self, error: SqlError) -> Stop {
        let shown = self.rewind.as_ref().is_none_or(|rewind| self.output.has_sent(rewind.position));
        if error.as_conflict().is_none() || shown {
            self.apply(Event::CommitFailed);
        }
        Stop::Error(error)
    }

    /// Ends a transaction that the server began itself.
    pub(super) async fn commit_implicit(&mut self) -> Flow {
        let struck = self.strike(&Point::Commit).await;
        let committed = match struck {
            Ok(()) => self.commit_storage().await,
            Err(stop) => Err(stop),
        };
        match committed {
            Ok(schema) => {
                self.apply(Event::Committed);
                Ok(schema?)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Commits rows and schema. The inner error is one of a schema change: the rows are committed all the same.
    async fn commit_storage(&mut self) -> Result<Result<(), SqlError>, Stop> {
        let version = self.version();
        let Some(txn) = &mut self.txn else { return Ok(Ok(())) };
        match txn.health {
            Health::Cancelled if txn.kv.has_written() => return Err(SqlError::cancelled().into()),
            Health::Finalized | Health::Broken => return Err(SqlError::finalized().into()),
            _ => {}
        }
        let at = txn.kv.commit().map_err(|conflict| SqlError::conflict(conflict, version))?;
        self.handle.set_commit_timestamp(at);
        let changes = std::mem::take(&mut txn.changes);
        let shared = self.shared.clone();
        Ok(apply_changes(&shared, changes).await)
    }

    /// An error that the session's own variable asks for.
    pub(super) fn injected(&mut self, variable: &'static str) -> SqlError {
        SqlError::conflict(crate::kv::Conflict::Injected(variable), self.version())
    }
}

/// Makes schema changes visible. If an index cannot be built, no table is altered.
async fn apply_changes(shared: &Shared, changes: Vec<Change>) -> Result<(), SqlError> {
    let mut outcome = Ok(());
    for change in &changes {
        if let Change::CreateUniqueIndex { table, name, column } = change
            && let Some(value) = find_duplicate(shared, table, column).await
        {
            outcome = Err(schema_change_failed(name, column, &value));
        }
    }
    let alters = |change: &Change| matches!(change, Change::AlterTable(_));
    let kept = changes.into_iter().filter(|change| outcome.is_ok() || !alters(change)).collect();
    shared.catalog.apply(kept);
    outcome
}

fn schema_change_failed(index: &str, column: &str, value: &str) -> SqlError {
    let cause =
        format!("(23505): duplicate key value ({column})=({value}) violates unique constraint \"{index}\"");
    SqlError::new("XXA00", format!("transaction committed but schema change aborted with error: {cause}")).with_hint(
        "Some of the non-DDL statements may have committed successfully, but some of the DDL statement(s) failed.\n\
         Manual inspection may be required to determine the actual state of the database.\n--\n\
         See: https://github.com/cockroachdb/cockroach/issues/42061",
    )
}
