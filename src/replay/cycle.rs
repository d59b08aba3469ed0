//! A cycle that comes whole and runs one statement, which reads or writes rows, or plainly opens or commits a transaction: most of
//! what drivers send.
//!
//! Nothing in it is to be decided, so that it is kept in one go, as one request. What is known of the transaction behind it is the
//! same as if its messages were told apart by `requests.rs`, which takes whatever else comes.

use std::time::Duration;

use super::batch::BATCH;
use super::deferred::Begin;
use super::engine::{Engine, Output};
use super::gate::Gate;
use super::outstanding::REQUESTS_MAX;
use super::owner::Owner;
use super::policy::Dialect;
use super::state::State;
use super::statement::{Class, Classes};
use crate::wire::frontend::{self, Bind, Parse, tag};
use crate::wire::{HEADER_BYTES, frames};

/// A Query; or Bind, Execute and Sync with the unnamed portal, perhaps with a Parse before them, and a Describe among them.
struct Cycle<'a> {
    /// The text of the Query, or that of the Parse, which makes the unnamed statement.
    text: Option<&'a [u8]>,
    /// The name of the statement that is bound: empty if, and only if, it is made here. `None` for a Query.
    bound: Option<&'a [u8]>,
    /// Bytes of all its frames.
    bytes: usize,
}

impl Engine {
    /// Takes such a cycle at the start of the client's bytes. Returns how many they are, to be passed on as they are; `None` if
    /// something else is there, or something is to be decided: then the transaction may have begun, and its second cycle too, and
    /// nothing else has changed.
    pub(super) fn take_cycle(&mut self, now: Duration, bytes: &[u8], out: &mut impl Output) -> Option<usize> {
        if !self.may_take_cycle(out) {
            return None;
        }
        let cycle = Cycle::at_start_of(bytes)?;
        if cycle.bound.is_some() && !self.outstanding.takes_batches() {
            return None;
        }
        let classes = self.classes_of_cycle(&cycle).filter(|classes| self.is_calm_cycle(*classes))?;
        if matches!(self.state, State::Idle) {
            self.begin_unit(now);
        } else {
            self.second_cycle_begins();
        }
        self.room_for(cycle.bytes, out).ok()?;
        self.keep_cycle(&cycle, classes, &bytes[..cycle.bytes]);
        Some(cycle.bytes)
    }

    /// Whether the client is where such a cycle needs no look at each request.
    fn may_take_cycle(&self, out: &impl Output) -> bool {
        let begins = match self.state {
            State::Idle => !out.governs(),
            State::Open => self.goes_on_calmly(out),
            _ => false,
        };
        begins
            && !self.discarding
            && !self.outstanding.is_skipping()
            && !self.outstanding.is_copying()
            && self.outstanding.len() < REQUESTS_MAX
            && !self.may_ignore_locks()
            && !out.watches()
    }

    /// Whether a cycle of the client's own transaction begins, before which nothing is to be sent. What stands against a replay would
    /// have ended this state.
    fn goes_on_calmly(&self, out: &impl Output) -> bool {
        let passes = match self.unit.gate {
            Gate::Passed => true,
            Gate::Ahead => !out.governs(),
            Gate::Waiting { .. } | Gate::Granted | Gate::Cancelled => false,
        };
        let is_second =
            self.unit.explicit && self.dialect == Dialect::Postgres && self.unit.begin == Begin::Sent;
        passes && self.unit.at_cycle_start && (self.unit.opening > 0 || is_second)
    }

    /// The classes of what it runs, if no answer that is to come changes them.
    fn classes_of_cycle(&self, cycle: &Cycle<'_>) -> Option<Classes> {
        match (cycle.bound, cycle.text) {
            (None, sql) => sql.map(Classes::of),
            (Some(statement), None) => {
                let known = self.unit.prepared() == Classes::default();
                self.outstanding.prepared.settled(statement).filter(|_| known)
            }
            (Some(unnamed), Some(sql)) => {
                let classes = Self::classes_of_prepared(sql);
                let same = self.outstanding.prepared.settled(unnamed) == Some(classes);
                (same && classes == Class::Data.into()).then_some(classes)
            }
        }
    }

    /// Whether it works on data; or opens a transaction where none is, or commits one, with nothing to be sent before or instead.
    fn is_calm_cycle(&self, classes: Classes) -> bool {
        let sends_begin = !self.policy.begin.defers(self.dialect);
        let sends_commit = self.dialect == Dialect::Postgres && self.unit.begin == Begin::Sent;
        match self.state {
            _ if classes == Class::Data.into() => true,
            State::Idle => classes == Class::Begin.into() && sends_begin,
            _ => classes == Class::Commit.into() && sends_commit && self.unit.explicit,
        }
    }

    fn keep_cycle(&mut self, cycle: &Cycle<'_>, classes: Classes, bytes: &[u8]) {
        let is_batch = cycle.bound.is_some();
        if is_batch {
            self.outstanding.prepared.bind_unnamed(classes);
            if cycle.text.is_some() {
                self.unit.names.parse(b"", classes);
                self.fingerprints.unnamed = None;
            }
        }
        let request = if is_batch { BATCH } else { tag::QUERY };
        self.unit.count(request, classes);
        let effect = self.effect(request, classes);
        let number = self.journal.push(request, effect, bytes);
        self.outstanding.push(request, Owner::Journalled(number));
        if effect.ends() {
            self.outstanding.mark_commit();
        }
        self.cycle_position(request, effect);
    }
}

impl<'a> Cycle<'a> {
    fn at_start_of(bytes: &'a [u8]) -> Option<Self> {
        let (mut requests, mut taken) = (frames(bytes).peekable(), 0);
        let mut take = |tag| {
            let frame = requests.next_if(|frame| frame[0] == tag)?;
            taken += frame.len();
            Some(&frame[HEADER_BYTES..])
        };
        if let Some(query) = take(tag::QUERY) {
            return Some(Self { text: Some(frontend::query(query)?), bound: None, bytes: taken });
        }
        let parse = match take(tag::PARSE) {
            Some(body) => Some(Parse::view(body).filter(|parse| parse.statement.is_empty())?),
            None => None,
        };
        let bind = Bind::view(take(tag::BIND)?)?;
        let describes_portal = take(tag::DESCRIBE).is_none_or(|target| target == b"P\0");
        let portal = frontend::execute(take(tag::EXECUTE)?)?;
        take(tag::SYNC)?;
        let fits = bind.portal.is_empty()
            && portal.is_empty()
            && describes_portal
            && bind.statement.is_empty() == parse.is_some();
        let text = parse.map(|parse| parse.sql);
        fits.then_some(Self { text, bound: Some(bind.statement), bytes: taken })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::client::{Client, bind, describe, execute, frame, parse, query, sync};
    use crate::replay::engine::Step;
    use crate::replay::fingerprint::Fingerprint;
    use crate::replay::journal::Effect;
    use crate::replay::{Begin, Dialect, LockTable, Mode, Policy};

    /// What a server answers, where all goes well.
    fn answer(tag: u8, ready: &[u8], command: &str) -> Vec<u8> {
        match tag {
            b'P' => frame(b'1', b""),
            b'B' => frame(b'2', b""),
            b'C' => frame(b'3', b""),
            b'D' => frame(b'n', b""),
            b'E' => frame(b'C', format!("{command}\0").as_bytes()),
            b'Q' => [frame(b'C', format!("{command}\0").as_bytes()), frame(b'Z', ready)].concat(),
            _ => frame(b'Z', ready),
        }
    }

    /// An engine behind these cycles of a client, each with the status behind it; the answer to the last may be missing.
    fn behind(policy: &Policy, dialect: Dialect, cycles: &[(Vec<u8>, &str)]) -> Engine {
        let (mut engine, mut client) = (Engine::new(Arc::new(policy.clone()), dialect, 1), Client::default());
        for (cycle, ready) in cycles {
            engine.handle_frontend(Duration::ZERO, cycle, &mut client).expect("frames");
            while let Some(front) = engine.outstanding.front().filter(|_| !ready.is_empty()) {
                let bytes = answer(front.tag, ready.as_bytes(), "SELECT 1");
                engine.handle_backend(Duration::ZERO, &bytes, &mut client).expect("frames");
            }
        }
        engine
    }

    /// All that a cycle changes, but for its requests. Where the transaction is on its way to its first statement is told by its
    /// classes too.
    fn left_behind(engine: &mut Engine) -> String {
        engine.unit.gate = Gate::Passed;
        let Engine { state, unit, journal, outstanding, fingerprints, .. } = engine;
        let kept = (journal.all(), &outstanding.prepared, outstanding.are_complete());
        format!("{state:?} {unit:?} {kept:?} {:?}", fingerprints.unnamed)
    }

    /// Its messages, those of a batch told apart, and what they do to a transaction.
    fn messages(engine: &Engine) -> (Vec<u8>, Vec<Effect>) {
        let entries = engine.journal.entries_from(0);
        let mut effects = entries.iter().map(|entry| entry.effect).collect::<Vec<_>>();
        effects.retain(|effect| *effect != Effect::None);
        effects.dedup();
        let of = |number| engine.journal.messages(number).map(|frame| frame[0]);
        ((0..entries.len()).flat_map(of).collect(), effects)
    }

    /// Whether a cycle is taken at once behind those; and if so, that it leaves behind what its requests do one by one.
    #[track_caller]
    fn takes(policy: &Policy, dialect: Dialect, cycles: &[(Vec<u8>, &str)], cycle: &[u8]) -> bool {
        let [mut whole, mut apart] = [(); 2].map(|()| behind(policy, dialect, cycles));
        let (mut client, now) = (Client::default(), Duration::from_secs(1));
        // Of a statement that was watched.
        for engine in [&mut whole, &mut apart] {
            engine.fingerprints.unnamed = Fingerprint::of(b"SELECT 2");
        }
        let Some(taken) = whole.take_cycle(now, cycle, &mut client) else { return false };
        let mut at = 0;
        for frame in frames(cycle) {
            let rest = &cycle[at + frame.len()..];
            let step = apart.request(now, frame[0], frame, rest, &mut client);
            assert!(matches!(step, Some(Step::Forward)));
            at += frame.len();
        }
        assert_eq!(taken, at);
        assert_eq!(left_behind(&mut whole), left_behind(&mut apart));
        assert_eq!(messages(&whole), messages(&apart));
        let unanswered = |engine: &Engine| {
            (engine.outstanding.may_commit(), engine.outstanding.has_unanswered_statement())
        };
        assert_eq!(unanswered(&whole), unanswered(&apart));
        true
    }

    #[test]
    fn a_whole_cycle_leaves_behind_what_its_requests_do() {
        let modes = [Mode::Transparent, Mode::Observe];
        let policies = modes.map(|mode| Policy { mode, begin: Begin::Immediate, ..Policy::default() });
        let prepared = [parse("s", "UPDATE t SET a = 1"), parse("c", "COMMIT"), sync()].concat();
        let unnamed = [parse("", "SELECT 1"), bind("", ""), execute(""), sync()].concat();
        let [commit, data] = ["c", "s"].map(|name| [bind("", name), sync()].concat());
        let before = [
            vec![(unnamed.clone(), "I")],
            vec![(unnamed.clone(), "I"), (prepared.clone(), "I"), (data, "I")],
            vec![(unnamed.clone(), "I"), (query("BEGIN"), "T"), (query("SELECT 1"), "T")],
            vec![(prepared.clone(), "I"), (query("BEGIN"), "T"), (unnamed.clone(), "T"), (commit, "T")],
            vec![
                (unnamed.clone(), "I"),
                (query("BEGIN"), "T"),
                (query("SELECT 1"), "T"),
                (query("SELECT 2"), ""),
            ],
        ];
        let cycles = [
            query("SELECT 1"),
            query("update t set a = 1;"),
            unnamed,
            [parse("", "DELETE FROM t"), bind("", ""), describe("P"), execute(""), sync()].concat(),
            [bind("", "s"), execute(""), sync()].concat(),
            [bind("", "s"), describe("P"), execute(""), sync()].concat(),
        ];
        for (policy, dialect) in
            policies.iter().flat_map(|policy| [(policy, Dialect::Postgres), (policy, Dialect::Cockroach)])
        {
            for (before, cycle) in
                before.iter().flat_map(|before| cycles.iter().map(move |cycle| (before, cycle)))
            {
                // A batch behind something else that is unanswered is told apart.
                let is_taken = cycle[0] == tag::QUERY || before.last().is_some_and(|last| !last.1.is_empty());
                assert_eq!(takes(policy, dialect, before, cycle), is_taken, "{}", cycle.escape_ascii());
            }
        }
    }

    #[test]
    fn a_transaction_is_opened_and_committed_at_once() {
        let immediate = Policy { begin: Begin::Immediate, ..Policy::default() };
        let deferred = Policy { begin: Begin::Deferred, ..Policy::default() };
        let prepared = [parse("b", "BEGIN"), parse("c", "END"), sync()].concat();
        let named = |name| [bind("", name), describe("P"), execute(""), sync()].concat();
        let (begin, commit) = ([query("begin"), named("b")], [query("COMMIT"), named("c")]);
        let outside = vec![(query("SELECT 1"), "I"), (prepared.clone(), "I")];
        let empty = [outside.clone(), vec![(query("BEGIN"), "T")]].concat();
        let worked = [empty.clone(), vec![(named("s"), "T"), (query("SELECT 1"), "T")]].concat();
        let failed = [empty.clone(), vec![(query("SELECT 1"), "E")]].concat();
        let pipelined = [empty.clone(), vec![(named("s"), "")]].concat();
        for (policy, dialect, sends_begin, sends_commit) in [
            (&immediate, Dialect::Postgres, true, true),
            (&deferred, Dialect::Postgres, false, true),
            (&immediate, Dialect::Cockroach, true, false),
            (&Policy::default(), Dialect::Cockroach, false, false),
        ] {
            for cycle in &begin {
                assert_eq!(takes(policy, dialect, &outside, cycle), sends_begin);
                assert!(!takes(policy, dialect, &worked, cycle), "there is one");
            }
            for cycle in &commit {
                for before in [&worked, &failed] {
                    assert_eq!(takes(policy, dialect, before, cycle), sends_commit);
                }
                assert_eq!(takes(policy, dialect, &empty, cycle), sends_begin && sends_commit);
                assert_eq!(takes(policy, dialect, &pipelined, cycle), sends_begin && sends_commit);
                assert!(!takes(policy, dialect, &outside, cycle), "there is none");
            }
        }
    }

    #[test]
    fn a_statement_whose_text_is_not_read_is_known_by_its_name() {
        let policy = Policy { begin: Begin::Immediate, journal_bytes: 64, ..Policy::default() };
        let cycle = [bind("", "name"), execute(""), sync()].concat();
        let long = parse("name", &format!("COMMIT /* {} */", "long ".repeat(20)));
        // The name may be cut too: then more is waited for, unless it is too long to be kept.
        let named = HEADER_BYTES + "name\0".len();
        let endless = parse(&"n".repeat(199), "COMMIT");
        for (long, cut, waits) in [
            (&long, named + 4, false),
            (&long, named - 1, true),
            (&long, HEADER_BYTES, true),
            (&endless, 80, false),
        ] {
            let (mut engine, mut client) =
                (Engine::new(Arc::new(policy.clone()), Dialect::Postgres, 1), Client::default());
            let taken = engine.handle_frontend(Duration::ZERO, &long[..cut], &mut client).expect("a frame");
            assert_eq!(taken, if waits { 0 } else { cut });
            let rest = &[&long[taken..], &sync()].concat();
            assert_eq!(engine.handle_frontend(Duration::ZERO, rest, &mut client), Ok(rest.len()));
            let answer = [answer(b'P', b"", ""), answer(b'S', b"I", "")].concat();
            engine.handle_backend(Duration::ZERO, &answer, &mut client).expect("frames");
            assert_eq!(engine.take_cycle(Duration::ZERO, &cycle, &mut client), None, "{cut}");
        }
    }

    #[test]
    fn what_needs_a_look_is_not_taken_at_once() {
        let policy = Policy { begin: Begin::Immediate, ..Policy::default() };
        let unnamed = ([parse("", "SELECT 1"), bind("", ""), execute(""), sync()].concat(), "I");
        let named = ([parse("c", "COMMIT"), sync()].concat(), "I");
        let calm = [unnamed.clone(), named];
        for cycle in [
            query("SELECT 1; SELECT 2"),
            query("COMMIT"),
            query("SELECT 1 /* reprise:off */"),
            [bind("", "c"), execute(""), sync()].concat(),
            [bind("p", "s"), execute("p"), sync()].concat(),
            [bind("", "s"), execute("p"), sync()].concat(),
            [bind("p", "s"), execute(""), sync()].concat(),
            [bind("", "s"), describe("Ss"), execute(""), sync()].concat(),
            [bind("", ""), execute(""), sync()].concat(),
            [parse("", "SELECT 1"), bind("", "s"), execute(""), sync()].concat(),
            [parse("n", "SELECT 1"), bind("", "n"), execute(""), sync()].concat(),
            [parse("n", "SELECT 1"), bind("", ""), execute(""), sync()].concat(),
            [parse("", "SELECT pg_advisory_lock(1)"), bind("", ""), execute(""), sync()].concat(),
            [parse("", "COMMIT"), bind("", ""), execute(""), sync()].concat(),
            [bind("", "s"), execute("")].concat(),
            [bind("", "s"), execute(""), frame(b'H', b"")].concat(),
        ] {
            assert!(!takes(&policy, Dialect::Postgres, &calm, &cycle), "{}", cycle.escape_ascii());
        }
        let begin = (query("BEGIN"), "T");
        let simple = query("SELECT 1");
        // Where the client has the server take COPY data, where its first statement is still to come, and in the middle of a batch.
        let copies = (query("COPY t FROM STDIN"), "");
        let flushed = ([parse("n", "SELECT 1"), frame(b'H', b"")].concat(), "T");
        for (before, is_taken) in [
            (vec![begin.clone()], true),
            (vec![begin.clone(), (simple.clone(), "T")], true),
            (vec![begin.clone(), (simple.clone(), "T"), flushed], false),
            (vec![begin.clone(), (simple.clone(), "")], true),
            (vec![(simple.clone(), "")], false),
        ] {
            assert_eq!(takes(&policy, Dialect::Postgres, &before, &simple), is_taken);
        }
        let mut engine = behind(&policy, Dialect::Postgres, &[begin, (simple.clone(), "T"), copies]);
        let copy_in = frame(b'G', &[0; 3]);
        engine.handle_backend(Duration::ZERO, &copy_in, &mut Client::default()).expect("frames");
        assert_eq!(engine.take_cycle(Duration::ZERO, &simple, &mut Client::default()), None);
        let mut engine = behind(&policy, Dialect::Postgres, &[unnamed]);
        engine.discarding = true;
        assert_eq!(engine.take_cycle(Duration::ZERO, &simple, &mut Client::default()), None);
        let ignores = Policy { lock_table: LockTable::Ignore, ..policy };
        assert!(!takes(&ignores, Dialect::Cockroach, &[], &simple));
    }
}
