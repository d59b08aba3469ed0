//! COPY FROM STDIN: the server asks for data, takes it up to its end, and only then runs the statement.

use golden::{Backend, Frontend};

use super::Server;
use crate::faults::Faults;
use crate::sql::{self, Statement, Tagged};
use crate::store::Store;
use crate::transaction::Forced;

/// What asks for the data.
pub(super) const fn asks_for_data() -> Backend {
    Backend::CopyInResponse { format: 0, columns: Vec::new() }
}

impl Server {
    /// Asks for the data of a COPY, unless it fails at once.
    pub(super) fn begins_copy(&mut self, tagged: &Tagged) -> bool {
        let begins = !self.cancelled && self.transaction.refuses(&tagged.statement).is_none();
        if begins {
            self.emit(&asks_for_data());
            self.flush();
            self.copying = Some((tagged.clone(), Vec::new()));
        }
        begins
    }

    /// Whether the data of this statement was asked for: only then it has come so far.
    pub(super) const fn copy_was_asked_for(&self, tagged: &Tagged) -> bool {
        matches!(tagged.statement, Statement::Copy(_)) && self.copied
    }

    /// A message while the data of a COPY is awaited. An error may come before its end: then the rest is passed over.
    pub(super) fn copy_message(&mut self, message: Frontend, store: &mut Store, faults: &mut Faults) {
        let Some((tagged, data)) = &mut self.copying else { return };
        let forced = match message {
            Frontend::CopyData(bytes) => {
                data.extend(bytes);
                let mishap = if self.cancelled { None } else { faults.at_statement() };
                if mishap.is_none() && !self.cancelled {
                    return;
                }
                Some(Forced::Mishap(mishap))
            }
            Frontend::CopyDone => None,
            Frontend::CopyFail(_) => Some(Forced::Error("57014")),
            Frontend::Flush | Frontend::Sync => return,
            _ => Some(Forced::Error("08P01")),
        };
        let tag = tagged.tag;
        let rows = sql::read_copy_rows(data);
        if rows.is_none() {
            store.complaints.push(format!("the data of a COPY is {:?}", String::from_utf8_lossy(data)));
        }
        let statement = Statement::Copy(rows.unwrap_or_default());
        self.copying = None;
        self.transaction.forced = forced;
        self.copied = true;
        self.run_all(&[Tagged { tag, statement }], store, faults);
        self.copied = false;
        self.transaction.forced = None;
    }
}
