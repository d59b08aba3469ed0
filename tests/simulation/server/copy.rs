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

/// A COPY whose data is awaited.
pub(super) struct Copying {
    tagged: Tagged,
    /// What has come of the data.
    data: Vec<u8>,
    /// The portal that it runs in, in the extended protocol.
    portal: Option<String>,
}

impl Server {
    /// Asks for the data of a COPY, unless it fails at once.
    pub(super) fn begins_copy(&mut self, tagged: &Tagged, portal: Option<&str>) -> bool {
        let begins = !self.cancelled && self.transaction.refuses(&tagged.statement).is_none();
        if begins {
            self.emit(&asks_for_data());
            self.flush();
            let (data, portal) = (Vec::new(), portal.map(str::to_owned));
            self.copying = Some(Copying { tagged: tagged.clone(), data, portal });
        }
        begins
    }

    /// Whether the data of this statement was asked for: only then it has come so far.
    pub(super) const fn copy_was_asked_for(&self, tagged: &Tagged) -> bool {
        matches!(tagged.statement, Statement::Copy(_)) && self.copied
    }

    /// A message while the data of a COPY is awaited. An error may come before its end: then the rest is passed over.
    pub(super) fn copy_message(&mut self, message: Frontend, store: &mut Store, faults: &mut Faults) {
        let Some(Copying { tagged, data, portal }) = &mut self.copying else { return };
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
        let (tag, portal) = (tagged.tag, portal.take());
        let rows = sql::read_copy_rows(data);
        if rows.is_none() {
            store.complaints.push(format!("the data of a COPY is {:?}", String::from_utf8_lossy(data)));
        }
        let statement = Statement::Copy(rows.unwrap_or_default());
        self.copying = None;
        self.transaction.forced = forced;
        self.copied = true;
        let tagged = Tagged { tag, statement };
        match portal {
            Some(name) => {
                self.portals.entry(name.clone()).and_modify(|portal| portal.tagged = tagged);
                self.execute(&name, 0, store, faults);
            }
            None => self.run_all(&[tagged], store, faults),
        }
        self.copied = false;
        self.transaction.forced = None;
    }
}
