//! COPY FROM STDIN: rows that come as data messages.

use std::io;
use std::sync::Arc;

use pgwire::messages::copy::{CopyData, CopyInResponse};

use super::{Flow, Health, Session, Stop};
use crate::catalog::{Column, Table};
use crate::errors::SqlError;
use crate::sql::cast::parse;
use crate::sql::execute::Executor;
use crate::sql::plan::OnConflict;
use crate::sql::value::Datum;

impl Session {
    pub(super) async fn copy(&mut self, table: &str, columns: &[String]) -> Flow {
        let table = self.schema().table(table)?;
        let columns = targets(&table, columns)?;
        let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        self.output.message(&CopyInResponse::new(0, count, vec![0; columns.len()]));
        self.flush().await?;
        let text = self.receive().await?;
        let copied = self.store(&table, &columns, &text).await;
        if let (Err(Stop::Error(_)), Some(txn)) = (&copied, &mut self.txn) {
            // A COPY that fails takes the storage transaction with it.
            txn.kv.rollback();
            txn.health = Health::Finalized;
        }
        // The state machine knows no conflicts of a COPY: the server never retries it.
        let count = copied.map_err(Stop::without_retry)?;
        self.output.complete(format!("COPY {count}"));
        Ok(())
    }

    /// All data up to CopyDone.
    async fn receive(&mut self) -> Result<Vec<u8>, Stop> {
        let mut data = Vec::new();
        loop {
            let frame =
                self.frames.next().await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            match frame.tag {
                b'd' => {
                    data.extend(frame.decode::<CopyData>().map(|message| message.data).unwrap_or_default())
                }
                b'c' => return Ok(data),
                b'f' => return Err(SqlError::new("XXUUU", "client canceled COPY").into()),
                b'H' | b'S' => {}
                b'Q' => {
                    return Err(
                        SqlError::protocol("unrecognized client message type ClientMsgSimpleQuery").into()
                    );
                }
                other => {
                    let message = format!("unrecognized client message type ClientMessageType({other})");
                    return Err(SqlError::protocol(message).into());
                }
            }
        }
    }

    async fn store(&mut self, table: &Arc<Table>, columns: &[Column], text: &[u8]) -> Result<usize, Stop> {
        let text = String::from_utf8_lossy(text);
        let version = self.version();
        let mut count = 0;
        for line in text.lines().take_while(|line| *line != "\\.") {
            let mut slots = vec![Datum::Null; table.slots];
            for (column, field) in columns.iter().zip(line.split('\t')) {
                slots[column.slot] = if field == "\\N" { Datum::Null } else { parse(field, column.ty)? };
            }
            let Some((txn, mut env)) = self.tools(&[]) else { break };
            let mut executor = Executor { txn, env: &mut env, version };
            executor.insert_row(table, slots, &OnConflict::Fail).await?;
            count += 1;
        }
        Ok(count)
    }
}

fn targets(table: &Table, names: &[String]) -> Result<Vec<Column>, SqlError> {
    if names.is_empty() {
        return Ok(table.visible().cloned().collect());
    }
    names
        .iter()
        .map(|name| table.column(name).cloned().ok_or_else(|| SqlError::unknown_column(name)))
        .collect()
}
