//! The extended protocol: Parse, Bind, Describe, Execute, Close.

use std::sync::Arc;

use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Parse, ParseComplete,
};

use super::answers::columns_of;
use super::names::{Portal, Prepared};
use super::{Flow, Run, Session};
use crate::errors::SqlError;
use crate::output::format_of;
use crate::retry::Received;
use crate::sql::cast::{binary_parameter, text_parameter};
use crate::sql::parser::parse;
use crate::sql::statement::{Parsed, Statement};
use crate::sql::value::{Datum, Type};
use crate::sql::write;
use crate::transaction::State;

impl Session {
    pub(super) fn parse(&mut self, message: &Parse) -> Flow {
        let name = message.name.clone().unwrap_or_default();
        let parsed = one_statement(&message.query, parse(&message.query, self.version())?)?;
        self.check_aborted(&parsed)?;
        let prepared = self.prepare(parsed, &message.type_oids)?;
        self.names.prepare(&name, prepared)?;
        self.output.message(&ParseComplete::new());
        Ok(())
    }

    /// Resolves a statement as far as its parameters and the columns of its result.
    pub(super) fn prepare(&mut self, parsed: Parsed, types: &[u32]) -> Result<Prepared, SqlError> {
        let (parameters, columns) = match &parsed.statement {
            Statement::Data(data) => {
                let given = types.iter().map(|oid| Type::of_oid(*oid)).collect();
                let plan = write::plan(data, self.schema(), given)?;
                (plan.parameters, plan.columns)
            }
            Statement::CopyFrom { .. } => {
                return Err(SqlError::new("XXUUU", "CopyFrom not supported in extended protocol mode"));
            }
            other => (Vec::new(), columns_of(other, true)),
        };
        Ok(Prepared { parsed: Arc::new(parsed), parameters, columns })
    }

    /// Later versions refuse in an aborted transaction what could not be executed there.
    fn check_aborted(&self, parsed: &Parsed) -> Result<(), SqlError> {
        let fits = parsed.statement.ends_or_mends() || parsed.statement.is_observer();
        if self.state == State::Aborted && self.version().refuses_parse_when_aborted() && !fits {
            return Err(SqlError::aborted());
        }
        Ok(())
    }

    fn statement_of(&self, name: &str) -> Result<Arc<Prepared>, SqlError> {
        self.names.statement(name).ok_or_else(|| SqlError::unknown_statement(name))
    }

    pub(super) fn bind(&mut self, message: &Bind) -> Flow {
        let prepared = self.statement_of(message.statement_name.as_deref().unwrap_or_default())?;
        self.check_aborted(&prepared.parsed)?;
        let (wanted, given) = (prepared.parameters.len(), message.parameters.len());
        if wanted != given {
            return Err(SqlError::protocol(format!("expected {wanted} arguments, got {given}")).into());
        }
        let mut values = Vec::new();
        for (index, (value, ty)) in message.parameters.iter().zip(&prepared.parameters).enumerate() {
            values.push(match value {
                None => Datum::Null,
                Some(bytes) if format_of(&message.parameter_format_codes, index) == 1 => {
                    binary_parameter(index + 1, bytes, *ty)?
                }
                Some(bytes) => text_parameter(index + 1, bytes, *ty)?,
            });
        }
        let formats = message.result_column_format_codes.clone();
        let portal = Portal { prepared, values, formats, begun: None, suspended: None, completed: false };
        self.names.bind(message.portal_name.as_deref().unwrap_or_default(), portal)?;
        self.output.message(&BindComplete::new());
        Ok(())
    }

    pub(super) fn describe(&mut self, message: &Describe) -> Flow {
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == b'S' {
            let prepared = self.statement_of(name)?;
            self.check_aborted(&prepared.parsed)?;
            self.output.parameters(prepared.parameters.iter().map(|ty| ty.oid()).collect());
            self.output.columns(&prepared.columns, &[]);
        } else {
            let portal = self.names.portal(name)?;
            self.output.columns(&portal.prepared.columns, &portal.formats);
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, name: &str, max_rows: usize, received: &Received) -> Flow {
        if let Some(portal) = self.names.portal_mut(name) {
            portal.begun.get_or_insert(received.at);
        }
        let portal = self.names.portal(name)?;
        let begun = portal.begun.filter(|_| portal.suspended.is_some()).unwrap_or(received.at);
        let (prepared, values, formats) =
            (portal.prepared.clone(), portal.values.clone(), portal.formats.clone());
        let run = Run {
            parsed: &prepared.parsed,
            values: &values,
            formats: &formats,
            portal: Some(name),
            max_rows,
            prepared: Some(&prepared),
            position: received.position,
            received: begun,
        };
        self.statement(&run).await
    }

    pub(super) fn close(&mut self, message: &Close) -> Flow {
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == b'S' {
            self.names.deallocate(name);
        } else {
            self.names.close_portal(name);
        }
        self.output.message(&CloseComplete::new());
        Ok(())
    }
}

fn one_statement(sql: &str, mut statements: Vec<Parsed>) -> Result<Parsed, SqlError> {
    let count = statements.len();
    match statements.pop() {
        Some(only) if count == 1 => Ok(only),
        None => Ok(Parsed { sql: sql.into(), statement: Statement::Nothing }),
        Some(_) => {
            Err(SqlError::new("42P14", format!("prepared statement had {count} statements, expected 1")))
        }
    }
}
