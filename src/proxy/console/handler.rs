//! Between the `pgwire` crate and the console: queries of either protocol become commands, and answers rows.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Sink, stream};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;

use super::answer::{Answer, Desk, columns};
use super::command::{Command, NoCommand};
use crate::insight::{Column, Kind, Report, Value};

/// Commands in one text: all of their answers are in memory before the first is sent.
const COMMANDS_MAX: usize = 16;

/// One session of the console.
pub(super) struct Handler {
    desk: Desk,
    reader: Arc<Reader>,
}

/// Reads commands for the extended protocol.
pub(super) struct Reader;

impl Handler {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk, reader: Arc::new(Reader) }
    }

    fn response(&self, command: Command, format: &Format) -> PgWireResult<Response> {
        match self.desk.answer(command) {
            Ok(Answer::Rows(report)) => rows(&report, format),
            Ok(Answer::Done(tag)) => Ok(Response::Execution(Tag::new(tag))),
            Err(failure) => Err(error(failure.sqlstate, failure.message, None)),
        }
    }
}

fn error(sqlstate: &str, message: String, hint: Option<String>) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), sqlstate.to_owned(), message);
    info.hint = hint;
    PgWireError::UserError(Box::new(info))
}

impl From<NoCommand> for PgWireError {
    fn from(refused: NoCommand) -> Self {
        error(refused.sqlstate, refused.message, Some(refused.hint))
    }
}

fn schema(columns: &[Column], format: &Format) -> Vec<FieldInfo> {
    let field = |(at, column): (usize, &Column)| {
        let kind = match column.kind {
            Kind::Text => Type::TEXT,
            Kind::Count => Type::INT8,
            Kind::Number => Type::FLOAT8,
        };
        FieldInfo::new(column.name.to_owned(), None, None, kind, format.format_for(at))
    };
    columns.iter().enumerate().map(field).collect()
}

fn rows(report: &Report, format: &Format) -> PgWireResult<Response> {
    let schema = Arc::new(schema(report.columns, format));
    let mut encoder = DataRowEncoder::new(Arc::clone(&schema));
    let mut rows = Vec::new();
    for row in &report.rows {
        for (field, value) in schema.iter().zip(row) {
            match value {
                Value::None => encoder.encode_field(&None::<String>)?,
                Value::Text(text) => encoder.encode_field(text)?,
                Value::Count(count) => encoder.encode_field(&i64::try_from(*count).unwrap_or(i64::MAX))?,
                // Written as PostgreSQL writes it: 1, not 1.0.
                Value::Number(number) if field.format() == FieldFormat::Text => {
                    let (text, options) = (number.to_string(), field.format_options());
                    encoder.encode_field_with_type_and_format(
                        &text,
                        &Type::TEXT,
                        FieldFormat::Text,
                        options,
                    )?;
                }
                Value::Number(number) => encoder.encode_field(number)?,
            }
        }
        rows.push(Ok(encoder.take_row()));
    }
    let mut response = QueryResponse::new(schema, stream::iter(rows));
    response.set_command_tag("SHOW");
    Ok(Response::Query(response))
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, _client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // All are read before any is done.
        let commands = Command::read_all(query).collect::<Result<Vec<_>, _>>()?;
        if commands.len() > COMMANDS_MAX {
            let message = format!("more than {COMMANDS_MAX} commands in one text");
            return Err(error("54000", message, Some("Send them one by one.".to_owned())));
        }
        commands.into_iter().map(|command| self.response(command, &Format::UnifiedText)).collect()
    }
}

#[async_trait]
impl QueryParser for Reader {
    type Statement = Command;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        _types: &[Option<Type>],
    ) -> PgWireResult<Option<Command>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        Ok(Some(Command::read(sql)?))
    }

    fn get_parameter_types(&self, _command: &Command) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    fn get_result_schema(&self, command: &Command, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        Ok(match command {
            Command::Show(show) => schema(columns(*show), format.unwrap_or(&Format::UnifiedText)),
            _ => Vec::new(),
        })
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Command;
    type QueryParser = Reader;

    fn query_parser(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    async fn do_query<C>(
        &self,
        _client: &mut C,
        portal: &Portal<Command>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.response(portal.statement.statement, &portal.result_column_format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_may_ask_for_either_format() {
        let column = [Column { name: "conflicts", kind: Kind::Count }];
        let format = |format| schema(&column, &format)[0].format();
        assert_eq!(format(Format::UnifiedText), FieldFormat::Text);
        assert_eq!(format(Format::UnifiedBinary), FieldFormat::Binary);
    }
}
