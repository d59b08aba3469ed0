//! Lists of operations: whatever client, server, clock and network do, in whatever order, the session stays sound.

use std::fmt;
use std::time::Duration;

use golden::{Backend, Frontend};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reprise::replay::{Begin, Dialect, LockTable, Mode, Policy};

use crate::bytes::frame;
use crate::cases;
use crate::server::{Mood, Server};
use crate::session::{Cut, Session};

/// What is printed of a frame.
const PRINTED_BYTES: usize = 200;

/// Bytes that are printed as text.
#[derive(Clone)]
struct Frame(Vec<u8>);

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(PRINTED_BYTES)];
        write!(f, "b\"{}\", {} bytes", shown.escape_ascii(), self.0.len())
    }
}

/// Something that happens to a session.
#[derive(Clone, Debug)]
enum Operation {
    /// The client sends these messages, in one write.
    Ask(&'static [&'static str]),
    /// The server answers the next requests.
    Answer(u8, Mood),
    /// The server sends a message that nobody asked for.
    Stray(&'static str),
    /// A frame with a length that fits, and nonsense in it.
    FromClient(Frame),
    /// The same, from the server.
    FromServer(Frame),
    /// The time comes for which the engine waits.
    Wait,
    /// Some milliseconds pass.
    Pass(u8),
    /// A replay gets its turn.
    Admit,
    /// A CancelRequest.
    Cancel,
    /// The client is gone.
    HangUp,
    /// The server is gone.
    Crash,
}

/// What the clients send.
const REQUESTS: &[&[&str]] = &[
    &["Query \"BEGIN\""],
    &["Query \"BEGIN\"", "Query \"UPDATE t SET v = 1\""],
    &["Query \"BEGIN\"", "Query \"SELECT v FROM t\"", "Query \"UPDATE t SET v = 1\"", "Query \"COMMIT\""],
    &["Query \"SELECT v FROM t\""],
    &["Query \"UPDATE t SET v = 1\""],
    &["Query \"COMMIT\""],
    &["Query \"ROLLBACK\""],
    &["Query \"SAVEPOINT a\""],
    &["Query \"ROLLBACK TO SAVEPOINT a\""],
    &["Query \"SAVEPOINT cockroach_restart\""],
    &["Query \"SET x = 1\""],
    &["Query \"LOCK TABLE t\""],
    &["Query \"BEGIN\"", "Query \"LOCK TABLE t\"", "Query \"UPDATE t SET v = 1\"", "Query \"COMMIT\""],
    &["Query \"BEGIN ISOLATION LEVEL READ COMMITTED\""],
    &["Parse \"\" \"LOCK TABLE t\"", "Bind \"\" \"\"", "Describe P \"\"", "Execute \"\" 0", "Sync"],
    &["Query \"UPDATE t SET v = 1 /* reprise:off */\""],
    &["Query \"PREPARE p AS SELECT 1\""],
    &["Query \"CREATE TABLE u (a INT)\""],
    &["Query \"BEGIN; UPDATE t SET v = 1; COMMIT\""],
    &["Query \"UPDATE t SET v = 1; COMMIT\""],
    &["Query \"COMMIT AND CHAIN\""],
    &["Query \"\""],
    &["Query \"an unclear ' text\""],
    &["Parse \"\" \"BEGIN\"", "Bind \"\" \"\"", "Execute \"\" 0", "Sync"],
    &["Parse \"\" \"UPDATE t SET v = 1\"", "Bind \"\" \"\"", "Execute \"\" 0", "Sync"],
    &["Parse \"\" \"SELECT v FROM t\"", "Bind \"\" \"\"", "Describe P \"\"", "Execute \"\" 0", "Sync"],
    &["Parse \"\" \"COMMIT\"", "Bind \"\" \"\"", "Execute \"\" 0", "Sync"],
    &["Parse \"s\" \"SELECT v FROM t\"", "Describe S \"s\"", "Sync"],
    &["Bind \"\" \"s\"", "Execute \"\" 0", "Sync"],
    &["Bind \"\" \"s\"", "Execute \"\" 0", "Bind \"\" \"s\"", "Execute \"\" 0", "Sync"],
    &["Parse \"\" \"UPDATE t SET v = 1\"", "Bind \"\" \"\"", "Execute \"\" 0", "Flush"],
    &["Close S \"s\"", "Sync"],
    &["Execute \"\" 1"],
    &["Flush"],
    &["Sync"],
    &["CopyData \"x\"", "CopyDone"],
    &["FunctionCall 1"],
    &["Terminate"],
];

/// What servers send unasked, or at the wrong time.
const STRAYS: &[&str] = &[
    "NoticeResponse S=\"NOTICE\" C=\"00000\" M=\"a notice\"",
    "ParameterStatus TimeZone=\"UTC\"",
    "NotificationResponse <PID> \"channel\" \"payload\"",
    "ErrorResponse S=\"ERROR\" C=\"40001\" M=\"unasked\"",
    "ErrorResponse S=\"ERROR\" C=\"40003\" M=\"unasked\"",
    "ErrorResponse S=\"FATAL\" C=\"57P01\" M=\"unasked\"",
    "ReadyForQuery I",
    "ReadyForQuery T",
    "ReadyForQuery E",
    "CommandComplete \"COMMIT\"",
    "CommandComplete \"ROLLBACK\"",
    "DataRow \"1\"",
    "RowDescription \"v\":20",
    "ParseComplete",
    "BindComplete",
    "CloseComplete",
    "NoData",
    "PortalSuspended",
    "CopyInResponse 0 0",
    "CopyOutResponse 0 0",
    "EmptyQueryResponse",
];

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        6 => Just(Mood::Well),
        1 => Just(Mood::Otherwise),
        3 => Just(Mood::Conflict),
        1 => Just(Mood::Fails),
        1 => Just(Mood::Ambiguous),
    ]
}

/// What may happen where both sides keep to the protocol.
fn proper() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => select(REQUESTS).prop_map(Operation::Ask),
        12 => (1..6u8, mood()).prop_map(|(count, mood)| Operation::Answer(count, mood)),
        2 => Just(Operation::Wait),
        1 => (0..20u8).prop_map(Operation::Pass),
        1 => Just(Operation::Cancel),
        2 => Just(Operation::Admit),
    ]
}

/// What may happen at all, but for an end.
fn improper() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => proper(),
        3 => select(STRAYS).prop_map(Operation::Stray),
        1 => frame().prop_map(|bytes| Operation::FromClient(Frame(bytes))),
        1 => frame().prop_map(|bytes| Operation::FromServer(Frame(bytes))),
    ]
}

/// What a server sends that nobody asked for is left out: it may fit a batch that came whole, and none of its messages one by one.
fn asked() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => proper(),
        1 => frame().prop_map(|bytes| Operation::FromClient(Frame(bytes))),
    ]
}

fn ending() -> impl Strategy<Value = Operation> {
    prop_oneof![Just(Operation::HangUp), Just(Operation::Crash)]
}

fn policy() -> impl Strategy<Value = (Policy, Dialect)> {
    let mode = prop_oneof![6 => Just(Mode::Transparent), 1 => Just(Mode::Observe)];
    let dialect = prop_oneof![Just(Dialect::Cockroach), Just(Dialect::Postgres)];
    let begin = prop_oneof![Just(Begin::Immediate), Just(Begin::Auto), Just(Begin::Deferred)];
    let lock_table = select(&LockTable::ALL[..]);
    (mode, dialect, begin, lock_table, 1..5u32, 100..2000usize).prop_map(
        |(mode, dialect, begin, lock_table, max_attempts, journal_bytes)| {
            let hold_bytes = journal_bytes / 4;
            let limits = Policy { max_attempts, journal_bytes, hold_bytes, ..Policy::default() };
            (Policy { mode, begin, lock_table, ..limits }, dialect)
        },
    )
}

/// A session and its server.
struct Scene {
    session: Session,
    server: Server,
    heard: usize,
}

impl Scene {
    fn new(policy: Policy, dialect: Dialect, cut: Cut) -> Self {
        Self { session: Session::new(policy, dialect, cut), server: Server::new(), heard: 0 }
    }

    fn play(mut self, operations: &[Operation]) -> Self {
        for operation in operations {
            if self.session.is_over() {
                break;
            }
            self.happen(operation);
            self.server.hear(&self.session.record.to_server[self.heard..]);
            self.heard = self.session.record.to_server.len();
        }
        self
    }

    fn happen(&mut self, operation: &Operation) {
        let session = &mut self.session;
        match operation {
            Operation::Ask(lines) => {
                let requests =
                    lines.iter().map(|line| Frontend::parse(line).expect("a frontend message").encode());
                session.client_sends(&requests.collect::<Vec<_>>().concat());
            }
            Operation::Answer(count, mood) => self.answer(*count, *mood),
            Operation::Stray(line) => {
                session.server_sends(&Backend::parse(line).expect("a backend message").encode());
            }
            Operation::FromClient(frame) => session.client_sends(&frame.0),
            Operation::FromServer(frame) => session.server_sends(&frame.0),
            Operation::Wait => session.wait(),
            Operation::Pass(milliseconds) => session.pass(Duration::from_millis((*milliseconds).into())),
            Operation::Admit => session.admit(),
            Operation::Cancel => {
                session.cancel();
            }
            Operation::HangUp => session.hang_up(),
            Operation::Crash => session.crash(),
        }
    }

    /// The server answers the next requests, the last of them in this mood.
    fn answer(&mut self, count: u8, mood: Mood) {
        for left in (0..count).rev() {
            let mood = if left == 0 { mood } else { Mood::Well };
            for frame in self.server.answer(mood).unwrap_or_default() {
                self.session.server_sends(&frame);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_session_stays_sound_whatever_happens(
        (policy, dialect) in policy(),
        operations in vec(improper(), 1..60),
        ending in ending(),
    ) {
        let mut scene = Scene::new(policy, dialect, Cut::Whole).play(&operations);
        if !scene.session.is_over() {
            scene.happen(&ending);
        }
    }

    #[test]
    fn how_frames_are_cut_changes_nothing(
        (policy, dialect) in policy(),
        operations in vec(asked(), 1..40),
        pieces in 1..12usize,
    ) {
        // A BEGIN is deferred only if nothing comes with it in one read.
        let policy = Policy { begin: Begin::Immediate, ..policy };
        expect_same(&policy, dialect, &operations, pieces)?;
    }
}

/// What either side gets is the same whether messages come whole or in pieces.
fn expect_same(
    policy: &Policy,
    dialect: Dialect,
    operations: &[Operation],
    pieces: usize,
) -> Result<(), TestCaseError> {
    let play = |cut| Scene::new(policy.clone(), dialect, cut).play(operations).session.record;
    let (whole, cut) = (play(Cut::Whole), play(Cut::Pieces(pieces)));
    prop_assert_eq!(readable(&whole.to_client), readable(&cut.to_client), "to the client");
    prop_assert_eq!(readable(&whole.to_server), readable(&cut.to_server), "to the server");
    Ok(())
}

fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
