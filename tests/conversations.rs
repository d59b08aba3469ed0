//! The engine, driven without sockets by conversations written down in `tests/conversations/`.
//!
//! One line is one message, in the notation of the recordings; what stands before it says who sends it to whom:
//!
//! ```text
//!   client          engine          server
//!      |  > Query      |  >> Query     |       lines with > and << are played,
//!      |-------------->|-------------->|       lines with >> and < are what the engine must make of them
//!      |  < DataRow    |  << DataRow   |
//!      |<--------------|<--------------|
//! ```
//!
//! Besides: `wait` lets the time pass to the engine's deadline, `cancel` is a CancelRequest (`cancel forwarded` where it must
//! go to the server too), `admit` gives a replay its turn, `enter` a transaction its place, `hang up` closes the client's and `crash` the server's connection, `closed` says that the engine
//! ends the session, and `= ...` is an event that it reports. `@dialect` and `@policy` set up a case; BEGIN is
//! sent immediately unless the policy says otherwise. With `@turns wait` every replay waits for its turn, with `@places wait` every transaction for a place. In a case with `@reads apart` the client awaits each answer.
//!
//! Every case is played three times: frame by frame, byte by byte, and with neighbouring messages in one read.
//! `BLESS=1 cargo test --test conversations` writes what the engine does into the files: read the diff before you commit it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use golden::{Backend, Frontend};
use reprise::replay::{Begin, Dialect, Engine, Event, Intent, LockTable, Mode, Output, Place, Policy};

/// Known hazards of replaying transactions: each has its cases in `hazards.txt`.
const HAZARDS: u32 = 30;

/// What the engine did, in the order in which it did it.
#[derive(Default)]
struct Record {
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    events: Vec<Event>,
    closed: bool,
    held_bytes: usize,
    /// Whether replays wait for their turn.
    turns_wait: bool,
    /// Whether transactions wait for a place.
    places_wait: bool,
}

impl Output for Record {
    fn frontend(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
    }
    fn backend(&mut self, bytes: &[u8]) {
        self.to_server.extend_from_slice(bytes);
    }
    fn report(&mut self, event: Event) {
        self.events.push(event);
    }
    fn hold(&mut self, journal_bytes: usize) -> bool {
        self.held_bytes = journal_bytes;
        true
    }
    fn admit(&mut self, _: Duration) -> bool {
        !self.turns_wait
    }
    fn governs(&self) -> bool {
        self.places_wait
    }
    fn enter(&mut self, _: Duration, _: Intent, _: Duration, _: bool) -> Place {
        Place::Awaited
    }
    fn close(&mut self) {
        self.closed = true;
    }
}

/// How the bytes of one message, or of several, reach the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Frames,
    Bytes,
    Runs,
}

/// An engine with a clock and what its two sides have not been read of.
struct World {
    engine: Engine,
    now: Duration,
    record: Record,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    cut: Cut,
}

impl World {
    fn new(case: &Case, cut: Cut) -> Self {
        let engine = Engine::new(Arc::new(case.policy.clone()), case.dialect, 1);
        let (from_client, from_server) = (Vec::new(), Vec::new());
        let record =
            Record { turns_wait: case.turns_wait, places_wait: case.places_wait, ..Record::default() };
        Self { engine, now: Duration::ZERO, record, from_client, from_server, cut }
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        for piece in self.pieces(bytes) {
            self.from_client.extend_from_slice(&piece);
            self.take_requests();
        }
    }

    fn server_sends(&mut self, bytes: &[u8]) {
        for piece in self.pieces(bytes) {
            self.from_server.extend_from_slice(&piece);
            let taken =
                self.engine.handle_backend(self.now, &self.from_server, &mut self.record).expect("frames");
            self.from_server.drain(..taken);
            self.take_requests();
        }
    }

    fn take_requests(&mut self) {
        let taken =
            self.engine.handle_frontend(self.now, &self.from_client, &mut self.record).expect("frames");
        self.from_client.drain(..taken);
    }

    fn pieces(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        match self.cut {
            Cut::Bytes => bytes.iter().map(|b| vec![*b]).collect(),
            Cut::Frames | Cut::Runs => vec![bytes.to_vec()],
        }
    }

    /// Does what one line says; false if it is no line that is played.
    fn play(&mut self, line: &str) -> bool {
        if line == "wait" {
            self.now = self.engine.deadline().expect("a deadline to wait for");
            self.engine.timeout(self.now, &mut self.record);
            self.take_requests();
        } else if line == "admit" {
            self.engine.admitted(self.now, &mut self.record);
            self.take_requests();
        } else if line == "enter" {
            self.engine.place_granted(self.now, &mut self.record);
            self.take_requests();
        } else if line == "cancel" || line == "cancel forwarded" {
            let forwarded = self.engine.cancel(self.now, &mut self.record);
            assert_eq!(forwarded, line == "cancel forwarded", "whether the cancel goes to the server");
            self.take_requests();
        } else if line == "hang up" {
            self.engine.frontend_closed(self.now, &mut self.record);
        } else if line == "crash" {
            self.engine.backend_closed(self.now, &mut self.record);
        } else {
            return false;
        }
        true
    }

    /// What the engine did since the last call, in lines.
    fn reactions(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(message) = Frontend::read(&mut self.record.to_server) {
            lines.push(format!(">> {message}"));
        }
        while let Some(message) = Backend::read(&mut self.record.to_client) {
            lines.push(format!("< {message}"));
        }
        lines.extend(self.record.events.drain(..).map(|event| format!("= {}", told(&event))));
        if std::mem::take(&mut self.record.closed) {
            lines.push("closed".to_owned());
        }
        lines
    }
}

/// A case: its head, and its lines.
struct Case {
    name: String,
    dialect: Dialect,
    policy: Policy,
    /// Whether messages that stand together may come in one read.
    together: bool,
    /// Whether replays wait for their turn.
    turns_wait: bool,
    /// Whether transactions wait for a place.
    places_wait: bool,
    lines: Vec<String>,
}

impl Case {
    fn set(&mut self, head: &str) {
        let words: Vec<&str> = head.split_whitespace().collect();
        match words[..] {
            ["@dialect", "cockroach"] => self.dialect = Dialect::Cockroach,
            ["@dialect", "postgres"] => self.dialect = Dialect::Postgres,
            ["@reads", "apart"] => self.together = false,
            ["@turns", "wait"] => self.turns_wait = true,
            ["@places", "wait"] => self.places_wait = true,
            ["@policy", ref settings @ ..] => settings.iter().for_each(|setting| self.set_policy(setting)),
            _ => panic!("{}: {head}", self.name),
        }
    }

    fn set_policy(&mut self, setting: &str) {
        let (name, value) = setting.split_once('=').expect("name=value");
        match (name, value) {
            ("mode", value) => {
                self.policy.mode = Mode::ALL.into_iter().find(|m| m.name() == value).expect("a mode")
            }
            ("max_attempts", n) => self.policy.max_attempts = n.parse().expect("a number"),
            ("timeout_ms", n) => self.policy.timeout = Duration::from_millis(n.parse().expect("a number")),
            ("begin", value) => {
                self.policy.begin = Begin::ALL.into_iter().find(|b| b.name() == value).expect("a choice")
            }
            ("lock_table", value) => {
                let found = LockTable::ALL.into_iter().find(|l| l.name() == value);
                self.policy.lock_table = found.expect("a choice");
            }
            ("hold_bytes", n) => self.policy.hold_bytes = n.parse().expect("a number"),
            ("journal_bytes", n) => self.policy.journal_bytes = n.parse().expect("a number"),
            _ => panic!("{}: {setting}", self.name),
        }
    }

    /// Plays the case and returns its lines as they should be: what is played, with what the engine made of it.
    fn play(&self, cut: Cut) -> Vec<String> {
        let mut world = World::new(self, cut);
        let mut lines = Vec::new();
        let played: Vec<&String> = self.lines.iter().filter(|line| is_played(line)).collect();
        let mut at = 0;
        while let Some(line) = played.get(at) {
            lines.push((*line).clone());
            at += 1;
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            if !world.play(line) {
                let side = line.split(' ').next().expect("a side");
                let mut bytes = encode(line);
                let joins = cut == Cut::Runs || line.ends_with('+');
                while let Some(next) =
                    played.get(at).filter(|next| joins && next.starts_with(&format!("{side} ")))
                {
                    bytes.extend(encode(next));
                    lines.push((*next).clone());
                    at += 1;
                }
                if side == ">" { world.client_sends(&bytes) } else { world.server_sends(&bytes) }
            }
            lines.extend(world.reactions());
        }
        assert!(
            world.from_client.is_empty() || !world.engine.takes_requests(),
            "{}: requests are left",
            self.name
        );
        lines
    }
}

fn is_played(line: &str) -> bool {
    !(line.starts_with(">> ") || line.starts_with("< ") || line.starts_with("= ") || line == "closed")
}

/// The bytes of a played message.
fn encode(line: &str) -> Vec<u8> {
    match line.split_once(' ') {
        Some((">", message)) => Frontend::parse(message).expect("a frontend message").encode(),
        Some(("<<", message)) => Backend::parse(message).expect("a backend message").encode(),
        _ => panic!("{line}: neither played nor expected"),
    }
}

/// What a case must come to however its bytes are cut: all requests, all answers and all events, each in order.
fn by_side(lines: &[String]) -> [Vec<&String>; 3] {
    [">> ", "< ", "= "].map(|side| lines.iter().filter(|line| line.starts_with(side)).collect())
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let mut files: Vec<PathBuf> =
        folder.read_dir().expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// The cases of a file, and what precedes the first one.
fn parse(text: &str) -> (Vec<String>, Vec<Case>) {
    let (mut head, mut cases) = (Vec::new(), Vec::<Case>::new());
    for line in text.lines() {
        match (line.strip_prefix("@case "), cases.last_mut()) {
            (Some(name), _) => cases.push(Case {
                name: name.to_owned(),
                dialect: Dialect::Postgres,
                policy: Policy { begin: Begin::Immediate, ..Policy::default() },
                together: true,
                turns_wait: false,
                places_wait: false,
                lines: Vec::new(),
            }),
            (None, None) => head.push(line.to_owned()),
            (None, Some(case)) if line.starts_with('@') => {
                case.set(line);
                case.lines.push(format!("# {line}"));
            }
            (None, Some(case)) => case.lines.push(line.to_owned()),
        }
    }
    (head, cases)
}

/// An event as the conversations write it: without the cause that the database names, which they are not about, and without the
/// number of statements, which the lines before it show.
fn told(event: &Event) -> String {
    match event {
        Event::Conflict { sqlstate, phase, .. } => {
            format!("Conflict {{ sqlstate: {sqlstate}, phase: {phase:?} }}")
        }
        Event::ReplayStarted { attempt, journal_bytes, .. } => {
            format!("ReplayStarted {{ attempt: {attempt}, journal_bytes: {journal_bytes} }}")
        }
        event => format!("{event:?}"),
    }
}

#[test]
fn every_conversation_goes_as_written() {
    let (mut played, mut wrong) = (0, Vec::new());
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("a text file");
        let (head, cases) = parse(&text);
        let mut blessed = head.join("\n") + "\n";
        for case in &cases {
            println!("{}: {}", file.display(), case.name);
            let lines = case.play(Cut::Frames);
            let _ = write!(blessed, "@case {}\n{}\n", case.name, lines.join("\n").replace("# @", "@"));
            played += 1;
            if lines != case.lines {
                wrong.push(format!("{}\n  the engine does:\n{}", case.name, lines.join("\n")));
            }
            let cuts = [Cut::Bytes, Cut::Runs].into_iter().take(if case.together { 2 } else { 1 });
            for cut in cuts {
                let cut_lines = case.play(cut);
                assert_eq!(by_side(&cut_lines), by_side(&lines), "{}: cut by {cut:?}", case.name);
            }
        }
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, blessed.trim_end().to_owned() + "\n").expect("written");
        }
    }
    assert!(played > 0, "no conversations were found");
    assert!(wrong.is_empty() || std::env::var_os("BLESS").is_some(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_hazard_has_a_case_named_after_it() {
    let text =
        files().iter().map(|file| std::fs::read_to_string(file).expect("a text file")).collect::<String>();
    let lacks_case = |hazard: &u32| !text.contains(&format!("\n@case h{hazard:02} "));
    let missing: Vec<u32> = (1..=HAZARDS).filter(lacks_case).collect();
    assert!(missing.is_empty(), "no case for the hazards {missing:?}");
}
