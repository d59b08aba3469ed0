//! Plays a case against a server over TCP and writes down what it answered.

mod connection;

use std::collections::HashMap;
use std::io;
use std::str::FromStr;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;

use crate::Mask;
use crate::mask::mask_text;
use crate::notation::{
    Action, Backend, CancelKey, Case, Fields, Frontend, Server, Step, Until, quote, to_hex,
};
use connection::{Connection, Received};

/// The name of the connection that runs the setup of a case.
const HIDDEN: &str = "$";

/// How long a statement of the setup may take.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server listens, and who asks: `HOST:PORT[/DB[?user=U]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The name or number of the host.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The database, where it is not the recording's default.
    pub database: Option<String>,
    /// The user, where it is not the recording's default.
    pub user: Option<String>,
}

impl Address {
    /// A server on the loopback interface, with default user and database.
    pub fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".into(), port, database: None, user: None }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^([^:/]+|\[[^\]]+\]):(\d+)(?:/([^?]*))?(?:\?user=(\w+))?$")
                .expect("the pattern is constant")
        });
        let wrong = || format!("{text}: HOST:PORT[/DB[?user=U]] is expected");
        let parts = SHAPE.captures(text).ok_or_else(wrong)?;
        let optional = |index| parts.get(index).map(|part: regex::Match<'_>| part.as_str().to_owned());
        Ok(Self {
            host: parts[1].trim_matches(['[', ']']).to_owned(),
            port: parts[2].parse().map_err(|_| wrong())?,
            database: optional(3).filter(|name| !name.is_empty()),
            user: optional(4),
        })
    }
}

/// Plays cases against one server.
#[derive(Debug, Clone)]
pub struct Player {
    address: Address,
    timeout: Duration,
}

impl Player {
    /// A player that gives each wait at most `timeout`.
    pub fn new(address: Address, timeout: Duration) -> Self {
        Self { address, timeout }
    }

    /// Plays one case: the lines of its script, each followed by the server's masked answers.
    pub fn play(&self, server: Server, case: &Case) -> Vec<String> {
        let mut scene = Scene {
            player: self,
            server,
            connections: HashMap::new(),
            mask: Mask::default(),
            transcript: Vec::new(),
        };
        for step in &case.steps {
            scene.transcript.push(step.line.clone());
            if let Err(failure) = scene.step(step) {
                scene.transcript.push(format!("< $ {failure}"));
                break;
            }
        }
        scene.transcript
    }
}

/// Why a case could not be played to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("SetupFailed {}", quote(.0))]
    Setup(String),
    #[error("Failed {}", quote(.0))]
    Startup(String),
    #[error("Failed {}", quote(&.0.to_string()))]
    Io(#[from] io::Error),
}

/// One case while it is played.
struct Scene<'a> {
    player: &'a Player,
    server: Server,
    connections: HashMap<String, Connection>,
    mask: Mask,
    transcript: Vec<String>,
}

impl Scene<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match &step.action {
            Action::Setup(sql) => return self.set_up(sql),
            Action::Open { connection, parameters } => {
                let opened = self.open(connection, parameters)?;
                self.connections.insert(connection.clone(), opened);
            }
            Action::OpenRaw { connection } => {
                let opened = self.connect()?;
                self.connections.insert(connection.clone(), opened);
            }
            Action::Drop { connection } => {
                self.connections.remove(connection);
            }
            Action::Send { connection, message, more } => {
                let bytes = message.encode_with(|name| self.key_of(name));
                self.connection(connection)?.send(bytes, *more);
            }
            Action::Sleep(pause) => thread::sleep(*pause),
            Action::Wait { connection, until } => {
                let answers = self.wait(connection, until)?;
                self.transcript.extend(answers.iter().map(|answer| format!("< {connection} {answer}")));
            }
        }
        Ok(())
    }

    fn connection(&mut self, name: &str) -> Result<&mut Connection, Failure> {
        let missing = || Failure::Startup(format!("connection {name} is not open"));
        self.connections.get_mut(name).ok_or_else(missing)
    }

    fn key_of(&self, name: &str) -> CancelKey {
        self.connections.get(name).map(|connection| connection.key).unwrap_or_default()
    }

    fn connect(&self) -> io::Result<Connection> {
        Connection::open(&self.player.address.host, self.player.address.port)
    }

    /// Opens a connection and reads until its first ReadyForQuery.
    fn open(&self, name: &str, parameters: &[(String, String)]) -> Result<Connection, Failure> {
        let address = &self.player.address;
        let mut all = vec![
            ("user", address.user.as_deref().unwrap_or(self.server.default_user())),
            ("database", address.database.as_deref().unwrap_or(self.server.default_database())),
            ("application_name", "golden"),
        ];
        for (name, value) in parameters {
            all.retain(|(given, _)| given != name);
            all.push((name, value));
        }
        let mut connection = self.connect()?;
        connection.send(Frontend::startup(all).encode(), false);
        let deadline = Instant::now() + self.player.timeout;
        let failed = |what: String| Err(Failure::Startup(format!("connection {name}: {what}")));
        loop {
            match connection.receive(deadline) {
                Received::Message(Backend::ReadyForQuery(_)) => return Ok(connection),
                Received::Message(Backend::ErrorResponse(fields)) => return failed(fields.to_string()),
                Received::Message(_) => {}
                Received::Timeout => return failed("timeout during startup".into()),
                Received::Closed => return failed("closed during startup".into()),
            }
        }
    }

    fn set_up(&mut self, sql: &str) -> Result<(), Failure> {
        if self.connections.get(HIDDEN).is_none_or(Connection::is_closed) {
            let opened = self.open(HIDDEN, &[])?;
            self.connections.insert(HIDDEN.into(), opened);
        }
        let connection = self.connection(HIDDEN)?;
        connection.send(Frontend::Query(sql.into()).encode(), false);
        let deadline = Instant::now() + SETUP_TIMEOUT;
        let mut failure = None;
        loop {
            match connection.receive(deadline) {
                Received::Message(Backend::ErrorResponse(fields)) => failure = Some(describe(&fields)),
                Received::Message(Backend::ReadyForQuery(_)) => break,
                Received::Message(_) => {}
                Received::Timeout => return Err(Failure::Setup("timeout".into())),
                Received::Closed => return Err(Failure::Setup("closed".into())),
            }
        }
        failure.map_or(Ok(()), |text| Err(Failure::Setup(mask_text(&text))))
    }

    fn wait(&mut self, name: &str, until: &Until) -> Result<Vec<String>, Failure> {
        let timeout = self.player.timeout;
        let Some(connection) = self.connections.get_mut(name) else {
            return Err(Failure::Startup(format!("connection {name} is not open")));
        };
        let deadline = Instant::now() + timeout;
        Ok(match until {
            Until::Byte => vec![raw(connection, 1, deadline, |bytes| {
                format!("Byte {}", quote(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>()))
            })],
            Until::Bytes(count) => {
                vec![raw(connection, *count, deadline, |bytes| format!("Bytes 0x{}", to_hex(bytes)))]
            }
            Until::Silent(pause) => {
                let (mut answers, end) =
                    messages(connection, &mut self.mask, Instant::now() + *pause, |_| false);
                match end {
                    Some("Closed") => answers.push("Closed".into()),
                    _ if answers.is_empty() => answers.push(format!("Silent {}", pause.as_millis())),
                    _ => {}
                }
                answers
            }
            _ => {
                let mut left = match until {
                    Until::Ready(count) | Until::Count(count) => *count,
                    _ => 1,
                };
                let is_last = |message: &Backend| {
                    left -= usize::from(counts(until, message));
                    left == 0
                };
                let (mut answers, end) = messages(connection, &mut self.mask, deadline, is_last);
                answers.extend(end.map(str::to_owned));
                answers
            }
        })
    }
}

/// Whether a wait counts this message.
fn counts(until: &Until, message: &Backend) -> bool {
    match until {
        Until::Ready(_) => matches!(message, Backend::ReadyForQuery(_)),
        Until::Error => matches!(message, Backend::ErrorResponse(_)),
        Until::Type(name) => message.to_string().split(' ').next() == Some(name),
        Until::Count(_) => true,
        _ => false,
    }
}

/// Reads messages up to the last one that is wanted: their lines, and what ended them too early.
fn messages(
    connection: &mut Connection,
    mask: &mut Mask,
    deadline: Instant,
    mut is_last: impl FnMut(&Backend) -> bool,
) -> (Vec<String>, Option<&'static str>) {
    let mut lines = Vec::new();
    loop {
        match connection.receive(deadline) {
            Received::Timeout => return (lines, Some("Timeout")),
            Received::Closed => return (lines, Some("Closed")),
            Received::Message(message) => {
                let last = is_last(&message);
                lines.push(mask.apply(message).to_string());
                if last {
                    return (lines, None);
                }
            }
        }
    }
}

fn raw(
    connection: &mut Connection,
    count: usize,
    deadline: Instant,
    show: impl Fn(&[u8]) -> String,
) -> String {
    match connection.receive_raw(count, deadline) {
        bytes if !bytes.is_empty() => show(&bytes),
        _ if connection.is_closed() => "Closed".into(),
        _ => "Timeout".into(),
    }
}

fn describe(fields: &Fields) -> String {
    format!("{} {}", fields.get('C').unwrap_or_default(), fields.get('M').unwrap_or_default())
}
