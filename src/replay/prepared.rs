//! What the prepared statements and portals of a session do to a transaction: Bind and Execute name them only.

use std::collections::{HashMap, HashSet};

use super::statement::{Class, Classes};

/// The classes of the session's statements and portals. Only those that do more than read and write rows are
/// kept, so that for most sessions every map stays empty and a lookup costs nothing.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: HashMap<Box<[u8]>, Classes>,
    portals: HashMap<Box<[u8]>, Classes>,
    unnamed_statement: Classes,
    unnamed_portal: Classes,
}

impl Prepared {
    /// A Parse went out. A name that is already there keeps its classes too: whether the server took this
    /// text or kept the other is not known yet.
    pub(super) fn parse(&mut self, statement: &[u8], classes: Classes) {
        if statement.is_empty() {
            self.unnamed_statement = classes;
        } else if let Some(known) = self.statements.get_mut(statement) {
            *known = known.union(classes);
        } else if !classes.only_data() {
            self.statements.insert(statement.into(), classes);
        }
    }

    /// A Bind went out; returns the classes of its statement.
    pub(super) fn bind(&mut self, portal: &[u8], statement: &[u8]) -> Classes {
        let classes = if statement.is_empty() {
            self.unnamed_statement
        } else {
            self.statements.get(statement).copied().unwrap_or(Class::Data.into())
        };
        if portal.is_empty() {
            self.unnamed_portal = classes;
        } else if !classes.only_data() {
            self.portals.insert(portal.into(), classes);
        } else if !self.portals.is_empty() {
            self.portals.remove(portal);
        }
        classes
    }

    /// The classes of what an Execute of this portal runs.
    pub(super) fn execute(&self, portal: &[u8]) -> Classes {
        if portal.is_empty() {
            self.unnamed_portal
        } else {
            self.portals.get(portal).copied().unwrap_or(Class::Data.into())
        }
    }

    /// The server closed a statement.
    pub(super) fn closed(&mut self, statement: &[u8]) {
        self.statements.remove(statement);
    }

    /// The transaction ended, and every portal with it.
    pub(super) fn transaction_ended(&mut self) {
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }
}

/// Which prepared statements a transaction makes and uses: those that it did not make itself must be there again when it is
/// replayed.
#[derive(Debug, Default)]
pub(super) struct Names {
    made: HashSet<Box<[u8]>>,
    unnamed: Unnamed,
    closed_from_before: bool,
    /// A name was made twice, or closed after it was made.
    remade: bool,
}

/// What a transaction does with the unnamed statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unnamed {
    #[default]
    Untouched,
    /// It uses the one from before it.
    FromBefore,
    /// It has made its own.
    Made,
    /// It has used the one from before it, and then made its own: the first is gone.
    Lost,
}

impl Names {
    /// A Parse goes out.
    pub(super) fn parse(&mut self, statement: &[u8]) {
        if !statement.is_empty() {
            self.remade |= !self.made.insert(statement.into());
        } else if matches!(self.unnamed, Unnamed::FromBefore | Unnamed::Lost) {
            self.unnamed = Unnamed::Lost;
        } else {
            self.unnamed = Unnamed::Made;
        }
    }

    /// A Bind or a Describe goes out.
    pub(super) fn use_statement(&mut self, statement: &[u8]) {
        if statement.is_empty() && self.unnamed == Unnamed::Untouched {
            self.unnamed = Unnamed::FromBefore;
        }
    }

    /// A Close goes out.
    pub(super) fn close(&mut self, statement: &[u8]) {
        let made = self.made.contains(statement);
        self.remade |= made;
        self.closed_from_before |= !statement.is_empty() && !made;
    }

    /// Whether each statement that was made under a name is still the one under that name.
    pub(super) const fn are_kept(&self) -> bool {
        !self.remade
    }

    /// Whether a replay could meet other statements under these names. In a transaction block even an unnamed one that
    /// stays is lost: the requests that restart the block may drop it.
    pub(super) fn are_lost(&self, explicit: bool) -> bool {
        let unnamed = match self.unnamed {
            Unnamed::Untouched | Unnamed::Made => false,
            Unnamed::FromBefore => explicit,
            Unnamed::Lost => true,
        };
        unnamed || self.closed_from_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_of_interest_are_kept() {
        let mut prepared = Prepared::default();
        prepared.parse(b"s1", Class::Data.into());
        prepared.parse(b"s2", Class::Commit.into());
        assert_eq!(prepared.statements.len(), 1);
        assert!(prepared.bind(b"", b"s1").only_data());
        assert!(prepared.bind(b"p", b"s2").is(Class::Commit));
        assert!(prepared.execute(b"p").is(Class::Commit));
        assert!(prepared.execute(b"").only_data());
        prepared.transaction_ended();
        assert!(prepared.execute(b"p").only_data());
    }

    #[test]
    fn a_name_parsed_twice_counts_as_both_until_it_is_closed() {
        let mut prepared = Prepared::default();
        prepared.parse(b"s", Class::Commit.into());
        prepared.parse(b"s", Class::Data.into());
        assert!(prepared.bind(b"", b"s").may_end());
        prepared.closed(b"s");
        assert!(!prepared.bind(b"", b"s").may_end());
    }

    #[test]
    fn a_statement_from_before_that_is_not_there_again_is_lost() {
        let mut names = Names::default();
        names.use_statement(b"named before");
        names.parse(b"");
        names.use_statement(b"");
        names.parse(b"s");
        names.close(b"s");
        assert!(!names.are_lost(true) && !names.are_kept());
        names.close(b"named before");
        assert!(names.are_lost(true));

        let mut names = Names::default();
        names.use_statement(b"");
        assert!(names.are_lost(true) && !names.are_lost(false));
        names.parse(b"");
        assert!(names.are_lost(false));
    }
}
