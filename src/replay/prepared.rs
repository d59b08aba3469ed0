//! What the prepared statements and portals of a session do to a transaction: Bind and Execute name them only.
//!
//! A name stands for what the server took under it: a Parse that fails, or is passed over, leaves what was there before. So
//! names change when the server answers, in the order of its answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::statement::{Class, Classes};

/// Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1): longer ones that begin alike are one and the same to it.
pub(super) const NAME_BYTES_MAX: usize = 63;
/// Unanswered requests that change a name: each that follows is held against all of them.
const IN_FLIGHT_MAX: usize = 1024;

/// The classes of the session's statements and portals. Only those that do more than read and write rows are
/// kept, so that for most sessions everything stays empty and a lookup costs nothing.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: BTreeMap<Box<[u8]>, Classes>,
    unnamed_statement: Classes,
    /// Requests that change a name and are not answered yet, in the order in which they were sent.
    in_flight: VecDeque<Change>,
    /// The last of these is that of a request that is about to be sent.
    announced: bool,
    /// Number of the batch that is being sent.
    batch: u32,
    portals: BTreeMap<Box<[u8]>, Classes>,
    unnamed_portal: Classes,
    /// There was a name that could not be read: no other is certain any more.
    names_lost: bool,
}

/// A Parse, or a Close, which leaves nothing.
#[derive(Debug)]
struct Change {
    statement: Box<[u8]>,
    classes: Option<Classes>,
    batch: u32,
}

impl Prepared {
    /// A Parse is about to be sent.
    pub(super) fn parse(&mut self, statement: &[u8], classes: Classes) {
        let same = match statement {
            [] => classes == self.unnamed_statement,
            _ => classes.only_data() && !self.statements.contains_key(statement),
        };
        self.announce(statement, Some(classes), same);
    }

    /// A name is sent that is too long to be read, or to be told from others; or more of them are on their way than are followed.
    pub(super) const fn lose_names(&mut self) {
        self.names_lost = true;
    }

    /// A Close is about to be sent.
    pub(super) fn close(&mut self, statement: &[u8]) {
        let same = statement.is_empty() || !self.statements.contains_key(statement);
        self.announce(statement, None, same);
    }

    fn announce(&mut self, statement: &[u8], classes: Option<Classes>, same: bool) {
        self.announced = !same || self.in_flight.iter().any(|change| *change.statement == *statement);
        if self.announced && self.in_flight.len() >= IN_FLIGHT_MAX {
            self.announced = false;
            self.lose_names();
        }
        if self.announced {
            let batch = self.batch;
            self.in_flight.push_back(Change { statement: statement.into(), classes, batch });
        }
    }

    /// The request that was announced is sent, or will be passed over. Whether its answer is to be noted by [`Self::settle`].
    pub(super) fn sent(&mut self, passed_over: bool) -> bool {
        let announced = std::mem::take(&mut self.announced);
        if announced && passed_over {
            self.in_flight.pop_back();
        }
        announced && !passed_over
    }

    /// What ends a cycle is sent: what follows runs even if something before has failed.
    pub(super) const fn end_batch(&mut self) {
        self.batch = self.batch.wrapping_add(1);
    }

    /// The first of the requests that change a name is answered.
    pub(super) fn settle(&mut self, succeeded: bool) {
        let Some(Change { statement, classes, .. }) = self.in_flight.pop_front().filter(|_| succeeded) else {
            return;
        };
        match classes {
            Some(classes) if statement.is_empty() => self.unnamed_statement = classes,
            Some(classes) if !classes.only_data() => {
                self.statements.insert(statement, classes);
            }
            _ => {
                self.statements.remove(&statement);
            }
        }
    }

    /// Statements may be taken away, and made, by SQL: what goes by the names that are known is unclear until it is prepared again.
    pub(super) fn forget_statements(&mut self) {
        self.statements.values_mut().for_each(|classes| *classes = Class::Unclear.into());
    }

    /// The classes of what a Bind of this statement binds. `None` if an answer that is still to come decides whether it may end
    /// a transaction: one in an earlier batch, for in the same batch an error passes over the Bind too.
    fn statement(&self, statement: &[u8]) -> Option<Classes> {
        let settled = match statement {
            _ if self.names_lost || statement.len() > NAME_BYTES_MAX => Class::Unclear.into(),
            [] => self.unnamed_statement,
            _ => self.statements.get(statement).copied().unwrap_or(Class::Data.into()),
        };
        let mut changes = self.in_flight.iter().rev().filter(|change| *change.statement == *statement);
        let classes = |change: &Change| change.classes.unwrap_or(Class::Data.into());
        match changes.next() {
            None => Some(settled),
            Some(last) if last.batch == self.batch => Some(classes(last)),
            Some(last) => {
                let sure =
                    |other: Classes| other == classes(last) || !(other.may_end() || classes(last).may_end());
                (sure(settled) && changes.all(|change| sure(classes(change)))).then(|| classes(last))
            }
        }
    }

    /// The classes of what a Bind of this statement binds, if no answer that is to come changes any name.
    pub(super) fn settled(&self, statement: &[u8]) -> Option<Classes> {
        if self.in_flight.is_empty() { self.statement(statement) } else { None }
    }

    /// Whether a statement with a name may do more than read and write rows.
    pub(super) fn does_more_than_data(&self) -> bool {
        let more = |change: &Change| change.classes.is_some_and(|classes| !classes.only_data());
        self.names_lost
            || !self.statements.is_empty()
            || self.in_flight.iter().any(|it| !it.statement.is_empty() && more(it))
    }

    /// The unnamed portal is bound to a statement of these classes.
    pub(super) const fn bind_unnamed(&mut self, classes: Classes) {
        self.unnamed_portal = classes;
    }

    /// A Bind is about to be sent; returns the classes of its statement, or `None` if they cannot be known yet.
    pub(super) fn bind(&mut self, portal: &[u8], statement: &[u8]) -> Option<Classes> {
        let known = self.statement(statement);
        let classes = known.unwrap_or(Class::Unclear.into());
        if portal.is_empty() {
            self.unnamed_portal = classes;
        } else if !classes.only_data() && portal.len() <= NAME_BYTES_MAX {
            self.portals.insert(portal.into(), classes);
        } else if !self.portals.is_empty() {
            self.portals.remove(portal);
        }
        known
    }

    /// The classes of what an Execute of this portal runs.
    pub(super) fn execute(&self, portal: &[u8]) -> Classes {
        if self.names_lost || portal.len() > NAME_BYTES_MAX {
            Class::Unclear.into()
        } else if portal.is_empty() {
            self.unnamed_portal
        } else {
            self.portals.get(portal).copied().unwrap_or(Class::Data.into())
        }
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
    made: BTreeSet<Box<[u8]>>,
    unnamed: Unnamed,
    closed_from_before: bool,
    /// Which statement a name stands for cannot be known when it is used.
    uncertain: bool,
    /// A name was made twice.
    remade: bool,
    /// A name was closed after it was made.
    closed: bool,
    /// The unnamed statement was made in the cycle at hand.
    made_in_cycle: bool,
    /// It was at some time one that does more than read and write rows.
    unnamed_controls: bool,
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
    pub(super) fn parse(&mut self, statement: &[u8], classes: Classes) {
        self.made_in_cycle |= statement.is_empty();
        self.unnamed_controls |= statement.is_empty() && !classes.only_data();
        if !statement.is_empty() {
            self.remade |= !self.made.insert(statement.into());
        } else if matches!(self.unnamed, Unnamed::FromBefore | Unnamed::Lost) {
            self.unnamed = Unnamed::Lost;
        } else {
            self.unnamed = Unnamed::Made;
        }
    }

    /// A Bind or a Describe goes out. Whether it uses the unnamed statement of an earlier cycle.
    pub(super) fn use_statement(&mut self, statement: &[u8]) -> bool {
        if statement.is_empty() && self.unnamed == Unnamed::Untouched {
            self.unnamed = Unnamed::FromBefore;
        }
        statement.is_empty() && !self.made_in_cycle
    }

    /// It cannot be known which statement it is that goes by its name.
    pub(super) const fn lose(&mut self) {
        self.uncertain = true;
    }

    /// What ends a cycle goes out.
    pub(super) const fn end_cycle(&mut self) {
        self.made_in_cycle = false;
    }

    /// Whether the unnamed statement of an earlier attempt, if the Parse that replaces it fails, could end the transaction.
    pub(super) const fn unnamed_controls(&self) -> bool {
        self.unnamed_controls
    }

    /// A Close goes out.
    pub(super) fn close(&mut self, statement: &[u8]) {
        let made = self.made.contains(statement);
        self.closed |= made;
        self.closed_from_before |= !statement.is_empty() && !made;
    }

    /// Whether each statement that was made under a name is still there.
    pub(super) const fn are_kept(&self) -> bool {
        !self.closed
    }

    /// Whether a replay could meet other statements under these names, or leave others behind should it be given up midway.
    /// In a transaction block even an unnamed one that stays is lost: the requests that restart the block may drop it.
    pub(super) fn are_lost(&self, explicit: bool) -> bool {
        let unnamed = match self.unnamed {
            Unnamed::Untouched | Unnamed::Made => false,
            Unnamed::FromBefore => explicit,
            Unnamed::Lost => true,
        };
        unnamed || self.closed_from_before || self.remade || self.uncertain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a Parse, answered at once.
    fn parse(prepared: &mut Prepared, name: &[u8], classes: Class, succeeds: bool) {
        prepared.parse(name, classes.into());
        if prepared.sent(false) {
            prepared.settle(succeeds);
        }
        prepared.end_batch();
    }

    fn bound(prepared: &mut Prepared, portal: &[u8], statement: &[u8]) -> Classes {
        prepared.bind(portal, statement).expect("it is known")
    }

    #[test]
    fn only_statements_of_interest_are_kept() {
        let mut prepared = Prepared::default();
        parse(&mut prepared, b"s1", Class::Data, true);
        parse(&mut prepared, b"s2", Class::Commit, true);
        assert_eq!(prepared.statements.len(), 1);
        assert!(bound(&mut prepared, b"", b"s1").only_data());
        assert!(bound(&mut prepared, b"p", b"s2").is(Class::Commit));
        assert!(prepared.execute(b"p").is(Class::Commit));
        assert!(prepared.execute(b"").only_data());
        prepared.transaction_ended();
        assert!(prepared.execute(b"p").only_data());
    }

    #[test]
    fn a_parse_that_fails_leaves_what_was_there() {
        let mut prepared = Prepared::default();
        parse(&mut prepared, b"s", Class::Commit, true);
        parse(&mut prepared, b"s", Class::Data, false);
        assert!(bound(&mut prepared, b"", b"s").is(Class::Commit));
        parse(&mut prepared, b"", Class::Begin, true);
        parse(&mut prepared, b"", Class::Data, false);
        assert!(bound(&mut prepared, b"", b"").is(Class::Begin));
    }

    #[test]
    fn a_name_that_is_closed_and_made_again_is_the_new_one() {
        let mut prepared = Prepared::default();
        parse(&mut prepared, b"s", Class::Commit, true);
        prepared.close(b"s");
        assert!(prepared.sent(false));
        prepared.parse(b"s", Class::Begin.into());
        assert!(prepared.sent(false));
        assert!(bound(&mut prepared, b"", b"s").is(Class::Begin));
        prepared.settle(true);
        prepared.settle(true);
        assert!(bound(&mut prepared, b"", b"s").is(Class::Begin));
    }

    #[test]
    fn what_was_deallocated_is_unclear_until_it_is_prepared_again() {
        let mut prepared = Prepared::default();
        parse(&mut prepared, b"s", Class::Commit, true);
        prepared.forget_statements();
        assert!(bound(&mut prepared, b"", b"s").is(Class::Unclear));
        parse(&mut prepared, b"s", Class::Data, true);
        assert!(bound(&mut prepared, b"", b"s").only_data());
    }

    #[test]
    fn a_name_that_postgresql_cuts_is_unclear() {
        let mut prepared = Prepared::default();
        let (kept, cut) = ([b'n'; NAME_BYTES_MAX], [b'n'; NAME_BYTES_MAX + 1]);
        parse(&mut prepared, &kept, Class::Commit, true);
        assert!(bound(&mut prepared, b"", &kept).is(Class::Commit));
        assert!(bound(&mut prepared, b"", &cut).is(Class::Unclear));
        assert!(prepared.execute(&kept).only_data());
        assert!(prepared.execute(&cut).is(Class::Unclear));
    }

    #[test]
    fn more_unanswered_changes_than_are_followed_make_every_name_unclear() {
        let mut prepared = Prepared::default();
        let sent = (0..2 * IN_FLIGHT_MAX).filter(|number| {
            prepared.parse(number.to_string().as_bytes(), Class::Commit.into());
            prepared.sent(false)
        });
        assert_eq!(sent.count(), IN_FLIGHT_MAX);
        assert!(bound(&mut prepared, b"", b"other").is(Class::Unclear));
        for _ in 0..IN_FLIGHT_MAX {
            prepared.settle(true);
        }
        assert!(bound(&mut prepared, b"", b"0").is(Class::Unclear));
    }

    #[test]
    fn what_depends_on_an_answer_to_come_is_unclear() {
        let mut prepared = Prepared::default();
        prepared.parse(b"s", Class::Commit.into());
        assert!(prepared.sent(false));
        assert!(bound(&mut prepared, b"", b"s").is(Class::Commit));
        prepared.end_batch();
        assert_eq!(prepared.bind(b"", b"s"), None);
        prepared.settle(true);
        assert!(bound(&mut prepared, b"", b"s").is(Class::Commit));
        prepared.parse(b"s", Class::Data.into());
        assert!(!prepared.sent(true));
        assert!(bound(&mut prepared, b"", b"s").is(Class::Commit));
    }

    #[test]
    fn what_ends_no_transaction_either_way_is_clear_enough() {
        let mut prepared = Prepared::default();
        parse(&mut prepared, b"", Class::Begin, true);
        prepared.parse(b"", Class::Data.into());
        assert!(prepared.sent(false));
        prepared.end_batch();
        assert!(bound(&mut prepared, b"", b"").only_data());
    }

    #[test]
    fn a_statement_from_before_that_is_not_there_again_is_lost() {
        let mut names = Names::default();
        names.use_statement(b"named before");
        names.parse(b"", Class::Data.into());
        names.use_statement(b"");
        names.parse(b"s", Class::Data.into());
        names.close(b"s");
        assert!(!names.are_lost(true) && !names.are_kept());
        names.close(b"named before");
        assert!(names.are_lost(true));

        let mut names = Names::default();
        names.parse(b"s", Class::Data.into());
        names.close(b"s");
        assert!(!names.are_lost(true));
        names.parse(b"s", Class::Data.into());
        assert!(names.are_lost(true));

        let mut names = Names::default();
        names.use_statement(b"");
        assert!(names.are_lost(true) && !names.are_lost(false));
        names.parse(b"", Class::Data.into());
        assert!(names.are_lost(false));
    }
}
