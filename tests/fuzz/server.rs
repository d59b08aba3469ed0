//! A server of a few lines: it answers what the engine sends as a real one would, well or badly, as it is told.

use std::collections::{HashMap, VecDeque};

use golden::{Backend, Frontend};

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should be.
    Well,
    /// With another result.
    Otherwise,
    /// With a conflict.
    Conflict,
    /// With another error.
    Fails,
    /// With the error that leaves it open whether anything was done.
    Ambiguous,
}

/// A session of the server.
pub(crate) struct Server {
    unread: Vec<u8>,
    requests: VecDeque<Frontend>,
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
    /// The byte of ReadyForQuery.
    status: char,
    /// Everything up to Sync is passed over.
    skipping: bool,
}

impl Server {
    pub(crate) fn new() -> Self {
        let (statements, portals) = (HashMap::new(), HashMap::new());
        Self {
            unread: Vec::new(),
            requests: VecDeque::new(),
            statements,
            portals,
            status: 'I',
            skipping: false,
        }
    }

    /// What the engine has sent since the last call.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(request) = Frontend::read(&mut self.unread) {
            self.requests.push_back(request);
        }
    }

    /// The frames that answer the next request; `None` if there is no request.
    pub(crate) fn answer(&mut self, mood: Mood) -> Option<Vec<Vec<u8>>> {
        let request = self.requests.pop_front()?;
        let mut lines = Vec::new();
        if self.skipping && request != Frontend::Sync {
            return Some(Vec::new());
        }
        match request {
            Frontend::Query(ref sql) => self.query(sql, mood, &mut lines),
            Frontend::Sync => self.skipping = false,
            ref request => {
                let answer = self.extended(request, mood);
                self.skipping = answer.is_err();
                match answer {
                    Ok(answer) => lines.extend(answer),
                    Err(error) => lines.push(error),
                }
            }
        }
        if matches!(request, Frontend::Query(_) | Frontend::Sync) {
            lines.push(format!("ReadyForQuery {}", self.status));
        }
        Some(lines.iter().map(|line| Backend::parse(line).expect("a backend message").encode()).collect())
    }

    fn query(&mut self, sql: &str, mood: Mood, lines: &mut Vec<String>) {
        if sql.is_empty() {
            lines.push("EmptyQueryResponse".to_owned());
        }
        for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            if statement.starts_with("SELECT") && self.status != 'E' {
                lines.push("RowDescription \"v\":20".to_owned());
            }
            match self.run(statement, mood) {
                Ok(answer) => lines.extend(answer),
                Err(error) => return lines.push(error),
            }
        }
    }

    /// The answer to a request of the extended protocol, or the error behind which everything up to Sync is passed over.
    fn extended(&mut self, request: &Frontend, mood: Mood) -> Result<Vec<String>, String> {
        let lines = match request {
            Frontend::Parse { name: statement, sql, .. } => {
                self.refuse(mood)?;
                self.statements.insert(statement.clone(), sql.clone());
                vec!["ParseComplete"]
            }
            Frontend::Bind { portal, statement, .. } => {
                let sql = self.statements.get(statement).ok_or_else(|| error("26000"))?;
                self.portals.insert(portal.clone(), sql.clone());
                vec!["BindComplete"]
            }
            Frontend::Describe { .. } => vec!["NoData"],
            Frontend::Close { .. } => vec!["CloseComplete"],
            Frontend::Execute { portal, .. } => {
                let sql = self.portals.get(portal).cloned().ok_or_else(|| self.fail("34000"))?;
                return self.run(&sql, mood);
            }
            _ => Vec::new(),
        };
        Ok(lines.into_iter().map(str::to_owned).collect())
    }

    /// The answer to one statement.
    fn run(&mut self, sql: &str, mood: Mood) -> Result<Vec<String>, String> {
        let word = sql.split(' ').next().unwrap_or_default();
        if word == "/*" {
            return Ok(vec!["EmptyQueryResponse".to_owned()]);
        }
        let failed = self.status == 'E';
        if failed && !matches!(word, "COMMIT" | "ROLLBACK") {
            return Err(self.fail("25P02"));
        }
        if sql.contains("reprise_surfaced") {
            return Err(self.fail("3B001"));
        }
        if !failed && word != "ROLLBACK" {
            self.refuse(mood)
                .inspect_err(|_| self.status = if word == "COMMIT" { 'I' } else { self.status })?;
        }
        let count = if mood == Mood::Otherwise { 2 } else { 1 };
        let tag = match word {
            "BEGIN" => self.moves('T', "BEGIN"),
            "COMMIT" => self.moves('I', if failed { "ROLLBACK" } else { "COMMIT" }),
            "ROLLBACK" if sql.contains("TO") => self.moves('T', "ROLLBACK"),
            "ROLLBACK" => self.moves('I', "ROLLBACK"),
            "RELEASE" => "COMMIT".to_owned(),
            "SELECT" => {
                return Ok(vec![format!("DataRow \"{count}\""), "CommandComplete \"SELECT 1\"".to_owned()]);
            }
            word if word.chars().all(|c| c.is_ascii_alphabetic()) => format!("{word} {count}"),
            _ => "NONSENSE".to_owned(),
        };
        Ok(vec![format!("CommandComplete \"{tag}\"")])
    }

    fn moves(&mut self, status: char, tag: &str) -> String {
        self.status = status;
        tag.to_owned()
    }

    fn refuse(&mut self, mood: Mood) -> Result<(), String> {
        match mood {
            Mood::Well | Mood::Otherwise => Ok(()),
            Mood::Conflict => Err(self.fail("40001")),
            Mood::Fails => Err(self.fail("23505")),
            Mood::Ambiguous => Err(self.fail("40003")),
        }
    }

    fn fail(&mut self, sqlstate: &str) -> String {
        self.status = if self.status == 'I' { 'I' } else { 'E' };
        error(sqlstate)
    }
}

fn error(sqlstate: &str) -> String {
    format!("ErrorResponse S=\"ERROR\" C=\"{sqlstate}\" M=\"as it was told\"")
}
