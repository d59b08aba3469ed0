//! What a request runs or names, told from its text, or from what is known by the names in it.

use std::ops::RangeInclusive;

use super::cockroach::{forces_restart, names_restart};
use super::engine::Engine;
use super::policy::Dialect;
use super::prepared::NAME_BYTES_MAX;
use super::statement::{Class, Classes};
use crate::wire::frontend::{self, Bind, Parse, tag};

/// The functions that take and free advisory locks of a session, as PostgreSQL numbers them (`pg_proc.dat`).
const ADVISORY_LOCKS: RangeInclusive<u32> = 2880..=2892;

impl Engine {
    /// The classes of what a request runs or names.
    pub(super) fn classes(&mut self, tag: u8, body: &[u8]) -> Classes {
        let unclear = || Class::Unclear.into();
        match tag {
            tag::QUERY => {
                // One that is cut may do lasting things all the same.
                let cut = || Classes::of(body).union(Class::Unclear.into());
                let classes = frontend::query(body).map_or_else(cut, Classes::of);
                let classes = self.note_lasting(body, classes);
                self.with_executed(classes)
            }
            tag::PARSE => {
                let Some(statement) = frontend::name(body).filter(|name| name.len() <= NAME_BYTES_MAX) else {
                    self.outstanding.prepared.lose_names();
                    return unclear();
                };
                let parse = Parse::view(body);
                let cut = || {
                    let beginning = body.get(statement.len() + 1..).unwrap_or_default();
                    Self::classes_of_prepared(beginning).union(Class::Unclear.into())
                };
                let classes = parse.map_or_else(cut, |parse| Self::classes_of_prepared(parse.sql));
                let classes = self.note_lasting(body, classes);
                self.prepared_restart |= classes.has(Class::RestartSavepoint);
                self.outstanding.prepared.parse(statement, classes);
                parse.into_iter().for_each(|parse| self.fingerprints.parse(statement, parse.sql));
                self.unit.names.parse(statement, classes);
                only_named(classes)
            }
            tag::BIND => {
                let Some(bind) = Bind::view(body) else {
                    self.outstanding.prepared.lose_names();
                    return unclear();
                };
                self.unit.crosses = self.unit.names.use_statement(bind.statement);
                let bound = self.outstanding.prepared.bind(bind.portal, bind.statement);
                if bound.is_none() {
                    self.unit.names.lose();
                }
                let executed =
                    if bind.statement.is_empty() { Classes::default() } else { self.unit.prepared() };
                bound.map_or_else(Classes::default, only_named).union(executed)
            }
            tag::EXECUTE => self.with_executed(
                frontend::execute(body).map_or_else(unclear, |portal| self.classes_of_portal(portal)),
            ),
            tag::DESCRIBE => {
                if let Some(name) = frontend::statement_target(body) {
                    self.unit.crosses = self.unit.names.use_statement(name);
                }
                Classes::default()
            }
            tag::CLOSE => {
                if let Some(name) = frontend::statement_target(body) {
                    self.outstanding.prepared.close(name);
                    self.unit.names.close(name);
                }
                Classes::default()
            }
            tag::FUNCTION_CALL
                if frontend::function(body).is_some_and(|oid| ADVISORY_LOCKS.contains(&oid)) =>
            {
                Class::AdvisoryLock.into()
            }
            tag::FUNCTION_CALL => Class::Data.into(),
            _ => Classes::default(),
        }
    }

    /// The classes of what an Execute of this portal runs: whatever it was bound to, it may be that of a cursor by its name.
    fn classes_of_portal(&self, portal: &[u8]) -> Classes {
        let bound = self.outstanding.prepared.execute(portal);
        let may_be_cursor = self.unit.cursors_from_before && !portal.is_empty();
        if may_be_cursor { bound.union(Class::Cursor.into()) } else { bound }
    }

    /// Notes what a text may do that outlasts its transaction: take away what was prepared and, in the cockroach dialect, let savepoints
    /// of other names be restart points, or prepare what reaches for one. Returns its classes in a session with all of that.
    fn note_lasting(&mut self, text: &[u8], classes: Classes) -> Classes {
        if classes.only_data() {
            return classes;
        }
        let prepares = classes.has(Class::PreparedEffect) || classes.has(Class::PreparedLock);
        if prepares || classes.has(Class::SessionState) {
            self.outstanding.prepared.forget_statements();
        }
        if self.dialect == Dialect::Cockroach {
            self.forces_restart |= classes.has(Class::Setting) && forces_restart(text);
            self.prepared_restart |= prepares && names_restart(text);
            if self.forces_restart && classes.names_savepoint() {
                return classes.union(Class::RestartSavepoint.into());
            }
        }
        classes
    }

    /// The classes of what is run, where an EXECUTE may run what was prepared by a Parse: which of them is not read.
    fn with_executed(&self, classes: Classes) -> Classes {
        if classes.has(Class::Execute) && self.outstanding.prepared.does_more_than_data() {
            classes.union(Class::Unclear.into())
        } else {
            classes
        }
    }

    /// Whether it changes the schema, or may: an EXECUTE does if there was a PREPARE of such a thing. What drivers have prepared is
    /// taken care of by [`Self::with_executed`].
    pub(super) fn may_define(&self, classes: Classes) -> bool {
        let executes = classes.has(Class::Execute) && self.unit.prepared() != Classes::default();
        classes.has(Class::Definition) || executes
    }
}

/// What a statement does it does when it is executed; only a client's own retry protocol, and what cannot be read, must be
/// known from where it is named.
fn only_named(classes: Classes) -> Classes {
    if classes.has(Class::RestartSavepoint) || classes.has(Class::Unclear) {
        classes
    } else {
        Classes::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::Policy;

    fn classes(tag: u8, body: &[u8]) -> Classes {
        Engine::new(Arc::new(Policy::default()), Dialect::Postgres, 1).classes(tag, body)
    }

    #[test]
    fn a_function_that_locks_is_known_by_its_number() {
        for (oid, class) in [
            (2879_u32, Class::Data),
            (2880, Class::AdvisoryLock),
            (2892, Class::AdvisoryLock),
            (2893, Class::Data),
        ] {
            assert_eq!(classes(tag::FUNCTION_CALL, &oid.to_be_bytes()), class.into(), "{oid}");
        }
        assert_eq!(classes(tag::FUNCTION_CALL, &[0, 0]), Class::Data.into());
    }

    #[test]
    fn what_is_cut_does_lasting_things_all_the_same() {
        let cut = classes(tag::QUERY, b"DECLARE c CURSOR WITH HOLD FOR SELECT 1");
        assert!(cut.has(Class::HeldCursor) && cut.has(Class::Unclear));
        let cut = classes(tag::PARSE, b"\0PREPARE p AS SET a = 1; SELECT");
        assert!(cut.has(Class::Unclear));
    }

    #[test]
    fn what_is_longer_than_a_name_makes_every_name_uncertain() {
        let name = [b'n'; NAME_BYTES_MAX + 1];
        let mut engine = Engine::new(Arc::new(Policy::default()), Dialect::Postgres, 1);
        assert!(engine.classes(tag::PARSE, &[&name[..], b"\0SELECT 1\0\0\0"].concat()).has(Class::Unclear));
        assert!(engine.classes(tag::BIND, b"\0s\0\0\0\0\0\0\0").has(Class::Unclear));
    }
}
