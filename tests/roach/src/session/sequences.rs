//! What a session last got from each sequence; no rollback changes that.

use std::collections::HashMap;

use crate::errors::SqlError;
use crate::sql::value::Datum;

/// The values that `currval` and `lastval` show.
#[derive(Debug, Default)]
pub struct Sequences {
    values: HashMap<String, i64>,
    last: Option<i64>,
}

impl Sequences {
    /// Notes a value that `nextval` gave.
    pub fn remember(&mut self, name: &str, value: i64) {
        self.values.insert(name.into(), value);
        self.last = Some(value);
    }

    /// What `nextval` of a sequence gave last.
    pub fn current(&self, name: &str) -> Result<Datum, SqlError> {
        let undefined = || {
            let message =
                format!("currval(): currval of sequence \"{name}\" is not yet defined in this session");
            SqlError::new("55000", message)
        };
        self.values.get(name).copied().map(Datum::Int).ok_or_else(undefined)
    }

    /// What `nextval` of any sequence gave last.
    pub fn last(&self) -> Result<Datum, SqlError> {
        let undefined = || SqlError::new("55000", "lastval(): lastval is not yet defined in this session");
        self.last.map(Datum::Int).ok_or_else(undefined)
    }
}
