//! Prepared statements and portals.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::errors::SqlError;
use crate::sql::execute::Cursor;
use crate::sql::plan::OutputColumn;
use crate::sql::statement::Parsed;
use crate::sql::value::{Datum, Type};

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What it is.
    pub parsed: Arc<Parsed>,
    /// The types of its parameters.
    pub parameters: Vec<Type>,
    /// The columns that it was described with.
    pub columns: Vec<OutputColumn>,
}

/// A statement with the values of its parameters.
#[derive(Debug, Clone)]
pub(super) struct Portal {
    /// The statement; it stays even if its name is given away.
    pub prepared: Arc<Prepared>,
    /// The values.
    pub values: Vec<Datum>,
    /// The formats of the columns of its result.
    pub formats: Vec<i16>,
    /// When its first Execute came: a statement that is read in parts has one time limit for all of them.
    pub begun: Option<Instant>,
    /// The rows that wait while it is suspended.
    pub suspended: Option<Cursor>,
    /// Whether it has run to its end.
    pub completed: bool,
}

/// All names of a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
}

impl Names {
    /// Gives a statement a name. Only the empty name can be given again.
    pub(super) fn prepare(&mut self, name: &str, prepared: Prepared) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        self.statements.insert(name.into(), Arc::new(prepared));
        Ok(())
    }

    /// The statement of a name.
    pub(super) fn statement(&self, name: &str) -> Option<Arc<Prepared>> {
        self.statements.get(name).cloned()
    }

    /// Forgets a statement: whether there was one.
    pub(super) fn deallocate(&mut self, name: &str) -> bool {
        self.statements.remove(name).is_some()
    }

    /// Forgets all statements.
    pub(super) fn deallocate_all(&mut self) {
        self.statements.clear();
    }

    /// Gives a portal a name. Only the empty name can be given again.
    pub(super) fn bind(&mut self, name: &str, portal: Portal) -> Result<(), SqlError> {
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(SqlError::new("42P03", format!("portal \"{name}\" already exists")));
        }
        self.portals.insert(name.into(), portal);
        Ok(())
    }

    /// The portal of a name.
    pub(super) fn portal(&self, name: &str) -> Result<&Portal, SqlError> {
        self.portals.get(name).ok_or_else(|| SqlError::unknown_portal(name))
    }

    /// The portal of a name, to be changed.
    pub(super) fn portal_mut(&mut self, name: &str) -> Option<&mut Portal> {
        self.portals.get_mut(name)
    }

    /// Forgets a portal.
    pub(super) fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// Forgets all portals.
    pub(super) fn close_portals(&mut self) {
        self.portals.clear();
    }

    /// The name of the portal that is suspended.
    pub(super) fn suspended(&self) -> Option<&str> {
        self.portals.iter().find(|(_, portal)| portal.suspended.is_some()).map(|(name, _)| name.as_str())
    }

    /// Forgets the rows that waited in a suspended portal.
    pub(super) fn drop_suspended(&mut self) {
        self.portals.values_mut().for_each(|portal| portal.suspended = None);
    }
}
