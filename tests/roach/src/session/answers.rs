//! Statements that show or change the session itself.

use std::sync::Arc;
use std::time::Duration;

use super::{Flow, Run, Session, Settings};
use crate::errors::SqlError;
use crate::kv::Priority;
use crate::sql::cast::parse as parse_value;
use crate::sql::parser::parse;
use crate::sql::plan::OutputColumn;
use crate::sql::statement::{Extent, Modes, Parsed, Statement, Target};
use crate::sql::value::{Datum, Type};
use crate::transaction::State;

impl Session {
    /// Answers a statement that only looks at the session, in any state.
    pub(super) fn observe(&mut self, run: &Run<'_>) -> Flow {
        let (rows, tag) = match &run.parsed.statement {
            Statement::ShowTransactionStatus => {
                // The transaction that this statement would begin is not there yet.
                let name =
                    if self.state == State::Implicit { State::NoTxn.name() } else { self.state.name() };
                (vec![vec![Datum::Text(name.into())]], "SHOW TRANSACTION STATUS")
            }
            Statement::ShowSavepointStatus => {
                let row = |savepoint: &crate::savepoints::Savepoint| {
                    vec![Datum::Text(savepoint.name.clone()), Datum::Bool(savepoint.initial)]
                };
                (self.savepoints.iter().map(row).collect(), "SHOW SAVEPOINT STATUS")
            }
            Statement::ShowSyntax(sql) => {
                parse(sql, self.version())?;
                let row = ["sql", sql.as_str()].map(|text| Datum::Text(text.into()));
                (vec![row.to_vec()], "SHOW SYNTAX")
            }
            _ => (vec![vec![Datum::Interval(Duration::ZERO); 4]], "SHOW LAST QUERY STATISTICS"),
        };
        let count = rows.len();
        self.show_rows(rows, run);
        self.output.complete(format!("{tag} {count}"));
        Ok(())
    }

    fn show_rows(&mut self, rows: Vec<Vec<Datum>>, run: &Run<'_>) {
        if run.portal.is_none() {
            self.output.columns(&columns_of(&run.parsed.statement, false), run.formats);
        }
        rows.iter().for_each(|row| self.output.row(row, run.formats));
    }

    /// Answers a statement that changes or shows something of the session.
    pub(super) async fn answer(&mut self, run: &Run<'_>) -> Flow {
        match &run.parsed.statement {
            Statement::Show(name) => self.show_variable(name, run)?,
            Statement::Set { variable, value, is_string, extent } => {
                self.set(variable, value, *is_string, *extent)?
            }
            Statement::SetAuthorization => self.output.complete("SET"),
            Statement::SetCharacteristics(modes) => self.set_characteristics(modes)?,
            Statement::Reset(variable) => {
                self.settings.reset(variable)?;
                self.report(variable);
                self.output.complete("SET");
            }
            Statement::DiscardAll => self.discard_all()?,
            Statement::Prepare { name, statement } => {
                let prepared = self.prepare(Parsed::clone(statement), &[])?;
                self.names.prepare(name, prepared)?;
                self.output.complete("PREPARE");
            }
            Statement::Execute { name, values } => return self.execute_prepared(name, values, run).await,
            Statement::Deallocate(name) => self.deallocate(name.as_deref())?,
            Statement::Cancel { target, application_name } => self.cancel(*target, application_name),
            Statement::Explain => self.explain(run),
            other => return Err(SqlError::unsupported(format!("{other:?}")).into()),
        }
        Ok(())
    }

    fn show_variable(&mut self, name: &str, run: &Run<'_>) -> Result<(), SqlError> {
        let txn = self.txn.as_ref().filter(|_| self.state == State::Open);
        let value = match (name, txn) {
            ("transaction_priority", txn) => match txn.map_or(Priority::Normal, |txn| txn.priority) {
                Priority::Low => "low".into(),
                Priority::Normal => "normal".into(),
                Priority::High => "high".into(),
            },
            ("transaction_read_only", txn) => {
                let read_only =
                    txn.map_or(self.settings.is_on("default_transaction_read_only"), |txn| txn.read_only);
                if read_only { "on".into() } else { "off".into() }
            }
            ("transaction_status", _) => self.state.name().into(),
            _ => self.settings.get(name)?,
        };
        self.show_rows(vec![vec![Datum::Text(value)]], run);
        self.output.complete("SHOW 1");
        Ok(())
    }

    /// Tells the client of a variable, changed or not.
    fn report(&mut self, variable: &str) {
        if let (Some(name), Ok(value)) = (Settings::reported(variable), self.settings.get(variable)) {
            if variable == "application_name" {
                self.handle.set_application_name(&value);
            }
            self.output.parameter(name, &value);
        }
    }

    fn set(&mut self, variable: &str, value: &str, is_string: bool, extent: Extent) -> Result<(), SqlError> {
        match extent {
            Extent::Session => self.settings.set(variable, value, is_string)?,
            Extent::Transaction if self.state == State::Open => {
                self.settings.set_local(variable, value, is_string)?
            }
            Extent::Transaction => {
                let warning = SqlError::new("25P01", "SET LOCAL can only be used in transaction blocks");
                self.output.notice("WARNING", &warning, self.version());
                self.output.complete("SET");
                return Ok(());
            }
        }
        self.report(variable);
        self.output.complete("SET");
        Ok(())
    }

    fn set_characteristics(&mut self, modes: &Modes) -> Result<(), SqlError> {
        if let Some(read_only) = modes.read_only {
            let value = if read_only { "on" } else { "off" };
            self.settings.set("default_transaction_read_only", value, false)?;
        }
        self.output.complete("SET");
        Ok(())
    }

    fn discard_all(&mut self) -> Result<(), SqlError> {
        if self.state == State::Open {
            return Err(SqlError::new("25001", "DISCARD ALL cannot run inside a transaction block"));
        }
        self.settings.reset_all();
        self.names.deallocate_all();
        for (name, value) in self.settings.all_reported() {
            self.output.parameter(name, &value);
        }
        self.output.complete("DISCARD");
        Ok(())
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            None => {
                self.names.deallocate_all();
                self.output.complete("DEALLOCATE ALL");
            }
            Some(name) if self.names.deallocate(name) => self.output.complete("DEALLOCATE"),
            Some(name) => return Err(missing(name)),
        }
        Ok(())
    }

    /// EXECUTE of a statement that SQL has prepared.
    async fn execute_prepared(&mut self, name: &str, values: &[String], run: &Run<'_>) -> Flow {
        let prepared = self.names.statement(name).ok_or_else(|| missing(name))?;
        let typed = values.iter().zip(&prepared.parameters).map(|(value, ty)| parse_value(value, *ty));
        let values = typed.collect::<Result<Vec<_>, _>>()?;
        let parsed = Arc::clone(&prepared.parsed);
        let inner =
            Run { parsed: &parsed, values: &values, prepared: Some(&prepared), formats: run.formats, ..*run };
        Box::pin(self.in_transaction(&inner)).await
    }

    fn cancel(&mut self, target: Target, application_name: &str) {
        let found = self.shared.sessions_named(application_name);
        let (what, count) = match target {
            Target::Query => ("QUERIES", found.iter().map(|handle| handle.cancel()).count()),
            Target::Session => ("SESSIONS", found.iter().map(|handle| handle.kill()).count()),
        };
        self.output.complete(format!("CANCEL {what} {count}"));
    }

    /// The plan of a constant row: the double has no plans worth explaining.
    fn explain(&mut self, run: &Run<'_>) {
        let rows: Vec<Vec<Datum>> = [
            ["", "distribution", "local"],
            ["", "vectorized", "false"],
            ["values", "", ""],
            ["", "size", "1 column, 1 row"],
        ]
        .iter()
        .map(|row| row.iter().map(|text| Datum::Text((*text).into())).collect())
        .collect();
        let count = rows.len();
        self.show_rows(rows, run);
        self.output.complete(format!("EXPLAIN {count}"));
    }

    pub(super) fn show_commit_timestamp(&mut self) -> Result<(), SqlError> {
        let missing = || SqlError::new("55000", "no previous transaction");
        let at = self.handle.commit_timestamp().ok_or_else(missing)?;
        self.output.columns(&columns_of(&Statement::ShowCommitTimestamp, false), &[]);
        self.output.row(&[Datum::Text(at.decimal())], &[]);
        self.output.complete("SHOW COMMIT TIMESTAMP 1");
        Ok(())
    }
}

fn missing(name: &str) -> SqlError {
    SqlError::new("26000", format!("prepared statement \"{name}\" does not exist"))
}

/// The columns of a statement's answer. A prepared SHOW TRANSACTION STATUS is headed otherwise than a simple one.
pub(super) fn columns_of(statement: &Statement, prepared: bool) -> Vec<OutputColumn> {
    let columns = |columns: &[(&str, Type)]| {
        columns.iter().map(|(name, ty)| OutputColumn { name: (*name).into(), ty: *ty }).collect()
    };
    match statement {
        Statement::Show(name) => vec![OutputColumn { name: name.clone(), ty: Type::Text }],
        Statement::ShowTransactionStatus if prepared => columns(&[("transaction_status", Type::Text)]),
        Statement::ShowTransactionStatus => columns(&[("TRANSACTION STATUS", Type::Text)]),
        Statement::ShowSavepointStatus => {
            columns(&[("savepoint_name", Type::Text), ("is_initial_savepoint", Type::Bool)])
        }
        Statement::ShowSyntax(_) => columns(&[("field", Type::Text), ("message", Type::Text)]),
        Statement::ShowCommitTimestamp => columns(&[("commit_timestamp", Type::Decimal)]),
        Statement::ShowLastQueryStatistics => columns(&[
            ("parse_latency", Type::Interval),
            ("plan_latency", Type::Interval),
            ("exec_latency", Type::Interval),
            ("service_latency", Type::Interval),
        ]),
        Statement::Explain => {
            columns(&[("tree", Type::Text), ("field", Type::Text), ("description", Type::Text)])
        }
        _ => Vec::new(),
    }
}
