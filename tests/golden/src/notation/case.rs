//! Recordings, their cases and their steps.

use std::path::Path;
use std::time::Duration;

use super::token::{Token, tokens};
use super::{Frontend, NotationError};

/// The kind of server that a recording was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// CockroachDB.
    CockroachDb,
    /// PostgreSQL.
    Postgres,
}

impl Server {
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::CockroachDb => "cockroachdb",
            Self::Postgres => "postgres",
        }
    }

    /// The user of connections for which a recording names none.
    pub fn default_user(self) -> &'static str {
        match self {
            Self::CockroachDb => "root",
            Self::Postgres => "postgres",
        }
    }

    /// The database of connections for which a recording names none.
    pub fn default_database(self) -> &'static str {
        match self {
            Self::CockroachDb => "defaultdb",
            Self::Postgres => "postgres",
        }
    }
}

/// A file of cases.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The name of the file, without folder.
    pub name: String,
    /// The server it was made with.
    pub server: Server,
    /// Its cases, each independent of all others.
    pub cases: Vec<Case>,
}

/// One conversation.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// A short name, unique among all recordings.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// The numbers of the conformance cases of the written specification.
    pub spec: Vec<String>,
    /// What a server must have.
    pub tags: Vec<String>,
    /// How often it may be played until the recorded one of several legal outcomes appears.
    pub attempts: usize,
    /// The conversation itself.
    pub steps: Vec<Step>,
}

/// One line of a script, with the answers recorded behind it.
#[derive(Debug, Clone)]
pub struct Step {
    /// The line as it stands in the file.
    pub line: String,
    /// What it says.
    pub action: Action,
    /// The recorded lines that follow, each beginning with `< `.
    pub answers: Vec<String>,
}

/// What a line of a script says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are the words of the line.
pub enum Action {
    /// Run SQL on the hidden connection and wait.
    Setup(String),
    /// Open a connection and finish its startup.
    Open { connection: String, parameters: Vec<(String, String)> },
    /// Open a connection and send nothing.
    OpenRaw { connection: String },
    /// Close a connection without Terminate.
    Drop { connection: String },
    /// Send a message, together with the next one of the connection if `more` follows in the same write.
    Send { connection: String, message: Frontend, more: bool },
    /// Do nothing for a while.
    Sleep(Duration),
    /// Read answers.
    Wait { connection: String, until: Until },
}

/// When a wait is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// The nth ReadyForQuery.
    Ready(usize),
    /// An ErrorResponse.
    Error,
    /// A message of this name.
    Type(String),
    /// So many messages.
    Count(usize),
    /// So much time.
    Silent(Duration),
    /// The end of the connection.
    Close,
    /// One byte that is no message.
    Byte,
    /// So many bytes that are no message.
    Bytes(usize),
}

impl Recording {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, NotationError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| NotationError::new(path.display(), error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&name, &text)
    }

    /// Reads the text of a file.
    pub fn parse(name: &str, text: &str) -> Result<Self, NotationError> {
        let mut recording = Self { name: name.into(), server: Server::CockroachDb, cases: Vec::new() };
        for line in text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
            recording.read_line(line)?;
        }
        Ok(recording)
    }

    fn read_line(&mut self, line: &str) -> Result<(), NotationError> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("@case", rest) => {
                let (id, title) = rest.split_once(' ').unwrap_or((rest, ""));
                self.cases.push(Case { id: id.into(), title: title.into(), attempts: 1, ..Case::default() });
                Ok(())
            }
            ("@server", rest) => {
                self.server =
                    if rest.starts_with("postgres") { Server::Postgres } else { Server::CockroachDb };
                Ok(())
            }
            ("@file" | "@note", _) => Ok(()),
            _ => match self.cases.last_mut() {
                Some(case) => case.read_line(line),
                None => Err(NotationError::new(line, "a line before the first case")),
            },
        }
    }

    /// The case of this id.
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.id == id)
    }
}

impl Case {
    fn read_line(&mut self, line: &str) -> Result<(), NotationError> {
        let words = |rest: &str| rest.split(' ').map(str::to_owned).collect::<Vec<_>>();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("@spec", rest) => self.spec.extend(words(rest)),
            ("@tags", rest) => self.tags.extend(words(rest)),
            ("@attempts", rest) => self.attempts = words(rest)[0].parse().unwrap_or(1),
            ("<", _) => match self.steps.last_mut() {
                Some(step) => step.answers.push(line.into()),
                None => return Err(NotationError::new(line, "an answer before the first step")),
            },
            (head, rest) => {
                let action = Action::parse(head, rest, line)?;
                self.steps.push(Step { line: line.into(), action, answers: Vec::new() });
            }
        }
        Ok(())
    }

    /// Script and recorded answers, line by line.
    pub fn transcript(&self) -> Vec<String> {
        self.steps.iter().flat_map(|step| std::iter::once(&step.line).chain(&step.answers)).cloned().collect()
    }

    /// Whether it has all of these tags.
    pub fn is_tagged(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

impl Action {
    fn parse(head: &str, rest: &str, line: &str) -> Result<Self, NotationError> {
        let (connection, words) = rest.split_once(' ').unwrap_or((rest, ""));
        let connection = connection.to_owned();
        Ok(match head {
            "$" => Self::Setup(rest.into()),
            "+" if words == "raw" => Self::OpenRaw { connection },
            "+" => {
                let parameter = |word: Token| Some((word.key?, word.text));
                Self::Open {
                    connection,
                    parameters: tokens(words)?.into_iter().filter_map(parameter).collect(),
                }
            }
            "-" => Self::Drop { connection },
            ">" => Self::Send { connection, message: Frontend::parse(words)?, more: false },
            ">+" => Self::Send { connection, message: Frontend::parse(words)?, more: true },
            "~" => Self::Sleep(milliseconds(rest)?),
            "?" => Self::Wait { connection, until: Until::parse(words)? },
            _ => return Err(NotationError::new(line, "not a line of a recording")),
        })
    }
}

impl Until {
    fn parse(words: &str) -> Result<Self, NotationError> {
        let (kind, rest) = words.split_once(' ').unwrap_or((words, ""));
        let count = || rest.parse().map_err(|_| NotationError::new(words, "a count is expected"));
        Ok(match kind {
            "ready" if rest.is_empty() => Self::Ready(1),
            "ready" => Self::Ready(count()?),
            "error" => Self::Error,
            "type" => Self::Type(rest.into()),
            "count" => Self::Count(count()?),
            "silent" => Self::Silent(milliseconds(rest)?),
            "close" => Self::Close,
            "byte" => Self::Byte,
            "bytes" => Self::Bytes(count()?),
            _ => return Err(NotationError::new(words, "not a wait")),
        })
    }
}

fn milliseconds(text: &str) -> Result<Duration, NotationError> {
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    number.map(Duration::from_millis).ok_or_else(|| NotationError::new(text, "milliseconds are expected"))
}
