//! Plays recordings, compares, and reports: the outcome of each case, and a diff where it differs.

use std::fmt::{self, Display, Formatter};

use regex::Regex;
use similar::TextDiff;

use crate::Player;
use crate::notation::{Case, Recording, tokens};

/// Tags of cases that are played only when they are asked for: they need several nodes, or somebody's hands.
const SPECIAL: [&str; 2] = ["cluster", "manual"];

/// Which cases to play.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only those whose id matches.
    pub only: Option<Regex>,
    /// Only those with all of these tags.
    pub tags: Vec<String>,
    /// None of those with any of these tags.
    pub without_tags: Vec<String>,
}

impl Selection {
    /// Whether a case belongs to the selection.
    pub fn contains(&self, case: &Case) -> bool {
        let wanted = |tag: &str| self.tags.iter().any(|wanted| wanted == tag);
        self.only.as_ref().is_none_or(|pattern| pattern.is_match(&case.id))
            && self.tags.iter().all(|tag| case.is_tagged(tag))
            && !self.without_tags.iter().any(|tag| case.is_tagged(tag))
            && !SPECIAL.iter().any(|tag| case.is_tagged(tag) && !wanted(tag))
    }
}

/// How closely an answer must resemble the recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Comparison {
    /// In everything that the notation shows.
    #[default]
    Strict,
    /// In message types, SQLSTATEs, command tags, status bytes and ends of connections.
    Loose,
}

impl Comparison {
    fn view(self, line: &str) -> String {
        match self {
            Self::Strict => line.to_owned(),
            Self::Loose => loosen(line).unwrap_or_else(|| line.to_owned()),
        }
    }
}

fn loosen(line: &str) -> Option<String> {
    let mut parts = line.splitn(4, ' ');
    let (head, name, kind) = (parts.next()?, parts.next()?, parts.next()?);
    match kind {
        "CommandComplete" | "ReadyForQuery" | "Closed" | "Silent" => None,
        _ if head != "<" => None,
        "ErrorResponse" | "NoticeResponse" => {
            let fields = tokens(parts.next().unwrap_or_default()).unwrap_or_default();
            let code = fields.iter().find(|field| field.key.as_deref() == Some("C"));
            Some(format!("{head} {name} {kind} {}", code.map_or("", |field| field.text.as_str())))
        }
        _ => Some(format!("{head} {name} {kind}")),
    }
}

/// A case that did not come out as recorded.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The file of the case.
    pub recording: String,
    /// The id of the case.
    pub id: String,
    /// The title of the case.
    pub title: String,
    /// Recorded and played lines, where they differ.
    pub diff: String,
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "FAIL {} {}: {}", self.recording, self.id, self.title)?;
        self.diff.lines().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// What became of the cases played.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The ids of those that came out as recorded.
    pub passed: Vec<String>,
    /// The others.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Plays the selected cases of a recording, and adds what became of them.
    pub fn check(
        &mut self,
        player: &Player,
        recording: &Recording,
        selection: &Selection,
        comparison: Comparison,
    ) {
        for case in recording.cases.iter().filter(|case| selection.contains(case)) {
            match differ(player, recording, case, comparison) {
                None => self.passed.push(case.id.clone()),
                Some(diff) => self.failures.push(Failure {
                    recording: recording.name.clone(),
                    id: case.id.clone(),
                    title: case.title.clone(),
                    diff,
                }),
            }
        }
    }

    /// Whether a case of this id came out otherwise than recorded.
    pub fn has_failed(&self, id: &str) -> bool {
        self.failures.iter().any(|failure| failure.id == id)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.failures.iter().try_for_each(|failure| failure.fmt(f))?;
        write!(f, "{} passed, {} failed", self.passed.len(), self.failures.len())
    }
}

/// Plays a case as often as it may be, until it comes out as recorded; the last difference if it never does.
fn differ(player: &Player, recording: &Recording, case: &Case, comparison: Comparison) -> Option<String> {
    let view = |lines: Vec<String>| lines.iter().map(|line| comparison.view(line) + "\n").collect::<String>();
    let wanted = view(case.transcript());
    let mut played = String::new();
    for _ in 0..case.attempts.max(1) {
        played = view(player.play(recording.server, case));
        if played == wanted {
            return None;
        }
    }
    Some(TextDiff::from_lines(&wanted, &played).unified_diff().context_radius(3).to_string())
}
