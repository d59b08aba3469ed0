//! The variables of a session.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::errors::SqlError;
use crate::sql::cast::interval;
use crate::version::Version;

/// What may be done with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bool,
    /// Milliseconds, given as a number or as an interval.
    Duration,
    /// A number and nothing else.
    Integer,
    /// It cannot be changed.
    ReadOnly,
    /// It always stays what it is.
    Fixed,
}

/// A variable that every session has.
struct Variable {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    since: Version,
}

const fn variable(name: &'static str, kind: Kind, default: &'static str, since: Version) -> Variable {
    Variable { name, kind, default, since }
}

static VARIABLES: [Variable; 39] = [
    variable("application_name", Kind::Text, "", Version::V20_2),
    variable("autocommit_before_ddl", Kind::Bool, "on", Version::V25_2),
    variable("avoid_buffering", Kind::Bool, "off", Version::V23_1),
    variable("bytea_output", Kind::Text, "hex", Version::V20_2),
    variable("client_encoding", Kind::Text, "UTF8", Version::V20_2),
    variable("client_min_messages", Kind::Text, "notice", Version::V20_2),
    variable("crdb_version", Kind::ReadOnly, "", Version::V20_2),
    variable("database", Kind::Text, "defaultdb", Version::V20_2),
    variable("datestyle", Kind::Text, "ISO, MDY", Version::V20_2),
    variable("default_transaction_isolation", Kind::Fixed, "serializable", Version::V20_2),
    variable("default_transaction_priority", Kind::Text, "normal", Version::V20_2),
    variable("default_transaction_read_only", Kind::Bool, "off", Version::V20_2),
    variable("enable_implicit_transaction_for_batch_statements", Kind::Bool, "on", Version::V23_1),
    variable("experimental_enable_temp_tables", Kind::Bool, "off", Version::V20_2),
    variable("extra_float_digits", Kind::Integer, "0", Version::V20_2),
    variable("force_savepoint_restart", Kind::Bool, "off", Version::V20_2),
    variable("idle_in_transaction_session_timeout", Kind::Integer, "0", Version::V20_2),
    variable("inject_retry_errors_enabled", Kind::Bool, "off", Version::V23_1),
    variable("inject_retry_errors_on_commit_enabled", Kind::Bool, "off", Version::V23_1),
    variable("integer_datetimes", Kind::ReadOnly, "on", Version::V20_2),
    variable("intervalstyle", Kind::Text, "postgres", Version::V20_2),
    variable("is_superuser", Kind::ReadOnly, "on", Version::V20_2),
    variable("lock_timeout", Kind::Integer, "0", Version::V20_2),
    variable("max_identifier_length", Kind::ReadOnly, "128", Version::V20_2),
    variable("multiple_active_portals_enabled", Kind::Bool, "off", Version::V23_1),
    variable("node_id", Kind::ReadOnly, "1", Version::V20_2),
    variable("results_buffer_size", Kind::ReadOnly, "16384", Version::V20_2),
    variable("row_security", Kind::Bool, "off", Version::V20_2),
    variable("search_path", Kind::Text, "public", Version::V20_2),
    variable("server_encoding", Kind::ReadOnly, "UTF8", Version::V20_2),
    variable("server_version", Kind::ReadOnly, "9.5.0", Version::V20_2),
    variable("server_version_num", Kind::ReadOnly, "90500", Version::V20_2),
    variable("session_authorization", Kind::ReadOnly, "root", Version::V20_2),
    variable("standard_conforming_strings", Kind::Text, "on", Version::V20_2),
    variable("statement_timeout", Kind::Duration, "0", Version::V20_2),
    variable("timezone", Kind::Text, "UTC", Version::V20_2),
    variable("transaction_isolation", Kind::Fixed, "serializable", Version::V20_2),
    variable("transaction_timeout", Kind::Duration, "0", Version::V23_1),
    variable("vectorize", Kind::Text, "on", Version::V20_2),
];

/// The variables that the client is told of when they are set, by their names in ParameterStatus.
const REPORTED: [(&str, &str); 2] = [("application_name", "application_name"), ("timezone", "TimeZone")];

/// The values of a session's variables.
#[derive(Debug, Clone)]
pub struct Settings {
    version: Version,
    values: BTreeMap<String, String>,
    initial: BTreeMap<String, String>,
    /// What SET LOCAL says until the transaction ends.
    local: BTreeMap<String, String>,
}

impl Settings {
    /// The defaults of a version.
    pub fn new(version: Version) -> Self {
        let known = VARIABLES.iter().filter(|variable| variable.since <= version);
        let mut values: BTreeMap<String, String> =
            known.map(|variable| (variable.name.into(), variable.default.into())).collect();
        values.insert("crdb_version".into(), version.banner());
        Self { version, initial: values.clone(), values, local: BTreeMap::new() }
    }

    /// The version of the server.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes a parameter of the startup message. Unknown names are ignored.
    pub fn start_with(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let name = name.to_lowercase();
        match self.kind(&name) {
            Some(Kind::ReadOnly) if name != "results_buffer_size" => {
                let message = format!("parameter \"{name}\" cannot be changed");
                return Err(SqlError::new("55P02", message));
            }
            None => return Ok(()),
            _ => {}
        }
        self.values.insert(name.clone(), value.into());
        self.initial.insert(name, value.into());
        Ok(())
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        let found = VARIABLES.iter().find(|variable| variable.name == name && variable.since <= self.version);
        found.map(|variable| variable.kind)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Result<String, SqlError> {
        let name = name.to_lowercase();
        let found = self.local.get(&name).or_else(|| self.values.get(&name));
        found.cloned().ok_or_else(|| SqlError::unknown_parameter(&name))
    }

    /// Whether a variable is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_ok_and(|value| value == "on")
    }

    /// A variable that is a length of time, if it is not zero.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        let milliseconds = self.get(name).ok()?.parse().ok()?;
        Some(Duration::from_millis(milliseconds)).filter(|duration| !duration.is_zero())
    }

    /// Changes a variable for the rest of the session.
    pub fn set(&mut self, name: &str, value: &str, is_string: bool) -> Result<(), SqlError> {
        let value = self.checked(name, value, is_string)?;
        self.local.remove(name);
        self.values.insert(name.into(), value);
        Ok(())
    }

    /// Changes a variable for the rest of the transaction.
    pub fn set_local(&mut self, name: &str, value: &str, is_string: bool) -> Result<(), SqlError> {
        let value = self.checked(name, value, is_string)?;
        self.local.insert(name.into(), value);
        Ok(())
    }

    fn checked(&self, name: &str, value: &str, is_string: bool) -> Result<String, SqlError> {
        let wrong = |value: &str| {
            SqlError::new("22023", format!("invalid value for parameter \"{name}\": \"{value}\""))
        };
        Ok(match self.kind(name).ok_or_else(|| SqlError::unknown_parameter(name))? {
            Kind::Text => value.into(),
            Kind::Bool => match value.to_lowercase().as_str() {
                "on" | "true" | "yes" | "1" | "t" => "on".into(),
                "off" | "false" | "no" | "0" | "f" => "off".into(),
                _ => return Err(wrong(value)),
            },
            Kind::Duration => match (value.parse::<u64>(), interval(value)) {
                (Ok(milliseconds), _) => milliseconds.to_string(),
                (_, Some(length)) => length.as_millis().to_string(),
                _ => return Err(wrong(value)),
            },
            Kind::Integer if is_string || value.parse::<i64>().is_err() => {
                let error = SqlError::new("22023", format!("parameter \"{name}\" requires an integer value"));
                return Err(error.with_detail(format!("'{value}' is a string")));
            }
            Kind::Integer => value.into(),
            Kind::ReadOnly => {
                return Err(SqlError::new("55P02", format!("parameter \"{name}\" cannot be changed")));
            }
            Kind::Fixed if name == "transaction_isolation" && value != "serializable" => {
                return Err(wrong(value).with_hint("Available values: serializable"));
            }
            Kind::Fixed => self.get(name)?,
        })
    }

    /// Sets a variable to what it was when the session began.
    pub fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        let initial = self.initial.get(name).cloned().ok_or_else(|| SqlError::unknown_parameter(name))?;
        self.values.insert(name.into(), initial);
        Ok(())
    }

    /// Sets all variables to what they were when the session began.
    pub fn reset_all(&mut self) {
        self.values.clone_from(&self.initial);
    }

    /// The name under which the client is told of a variable, if it is.
    pub fn reported(name: &str) -> Option<&'static str> {
        REPORTED.iter().find(|(variable, _)| *variable == name).map(|(_, reported)| *reported)
    }

    /// The variables that the client is told of, and their values.
    pub fn all_reported(&self) -> Vec<(&'static str, String)> {
        REPORTED.iter().map(|(name, reported)| (*reported, self.get(name).unwrap_or_default())).collect()
    }

    /// What SET LOCAL has said so far.
    pub fn locals(&self) -> BTreeMap<String, String> {
        self.local.clone()
    }

    /// Takes back what SET LOCAL has said since.
    pub fn restore_locals(&mut self, locals: BTreeMap<String, String>) {
        self.local = locals;
    }
}
