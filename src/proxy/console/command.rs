//! The commands of the console, read from their text.

use crate::insight::Topic;
use crate::replay::Mode;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Tells something.
    Show(Show),
    /// `SET mode`: what is done about the conflicts of sessions that begin from now on.
    SetMode(Mode),
    /// Reads the configuration again.
    Reload,
    /// Ends the proxy in peace.
    Drain,
    /// Ends a session.
    Kill(u64),
    /// What drivers send of their own accord: it is answered with this tag and does nothing.
    Nothing(&'static str),
}

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Help,
    Stats,
    Topic(Topic),
    Governor,
    Config,
    Version,
}

/// Why a text is no command: the message, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoCommand {
    pub(super) sqlstate: &'static str,
    pub(super) message: String,
    pub(super) hint: String,
}

const SYNTAX_ERROR: &str = "42601";
const UNDEFINED_OBJECT: &str = "42704";
const INVALID_VALUE: &str = "22023";

/// Settings that drivers make at their start. The console has none of them: what it sends is the same either way.
const OF_DRIVERS: [&str; 9] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
];

/// What `SHOW` is followed by, and what it tells.
pub(super) fn shows() -> impl Iterator<Item = (&'static str, Show)> {
    let topics = Topic::ALL.into_iter().map(|topic| (topic.name(), Show::Topic(topic)));
    let rest = [("governor", Show::Governor), ("config", Show::Config), ("version", Show::Version)];
    [("help", Show::Help), ("stats", Show::Stats)].into_iter().chain(topics).chain(rest)
}

impl Command {
    /// Reads the commands of a text, which semicolons separate.
    pub(super) fn read_all(text: &str) -> impl Iterator<Item = Result<Self, NoCommand>> {
        text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(Self::read)
    }

    /// Reads one command.
    pub(super) fn read(text: &str) -> Result<Self, NoCommand> {
        let words: Vec<_> = text.trim_end_matches(';').split_whitespace().collect();
        let is = |word: &str, expected: &str| word.eq_ignore_ascii_case(expected);
        match words[..] {
            [show, what] if is(show, "SHOW") => {
                let mut known = shows();
                let found = known.find(|(name, _)| is(what, name)).map(|(_, show)| Self::Show(show));
                found.ok_or_else(|| undefined(format!("there is nothing to show of the name \"{what}\"")))
            }
            [reload] if is(reload, "RELOAD") => Ok(Self::Reload),
            [drain] if is(drain, "DRAIN") => Ok(Self::Drain),
            [kill, session] if is(kill, "KILL") => session.parse().map(Self::Kill).map_err(|_| NoCommand {
                sqlstate: INVALID_VALUE,
                message: format!("\"{session}\" is not the number of a session"),
                hint: "SHOW SESSIONS lists them.".to_owned(),
            }),
            [begin, ..] if is(begin, "BEGIN") => Ok(Self::Nothing("BEGIN")),
            [commit] if is(commit, "COMMIT") => Ok(Self::Nothing("COMMIT")),
            [rollback] if is(rollback, "ROLLBACK") => Ok(Self::Nothing("ROLLBACK")),
            [discard, all] if is(discard, "DISCARD") && is(all, "ALL") => Ok(Self::Nothing("DISCARD ALL")),
            [set, ..] if is(set, "SET") => set_to(text),
            _ => Err(NoCommand {
                sqlstate: SYNTAX_ERROR,
                message: "this is no command of the console".to_owned(),
                hint: "SHOW HELP lists them.".to_owned(),
            }),
        }
    }
}

/// Reads `SET name = value` and `SET name TO value`.
fn set_to(text: &str) -> Result<Command, NoCommand> {
    let spaced = text.trim_end_matches(';').replace('=', " = ");
    let mut words = spaced.split_whitespace().skip(1);
    let mut name = words.next().unwrap_or_default();
    if name.eq_ignore_ascii_case("SESSION") {
        name = words.next().unwrap_or_default();
    }
    if OF_DRIVERS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Ok(Command::Nothing("SET"));
    }
    if !["mode", "retry.mode"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Err(undefined(format!("\"{name}\" cannot be set here")));
    }
    let value = words.nth(1).unwrap_or_default().trim_matches('\'');
    let mode = Mode::ALL.into_iter().find(|mode| value.eq_ignore_ascii_case(mode.name()));
    mode.map(Command::SetMode).ok_or_else(|| NoCommand {
        sqlstate: INVALID_VALUE,
        message: format!("invalid value for \"mode\": \"{value}\""),
        hint: format!("Available values: {}.", Mode::ALL.map(Mode::name).join(", ")),
    })
}

fn undefined(message: String) -> NoCommand {
    NoCommand { sqlstate: UNDEFINED_OBJECT, message, hint: "SHOW HELP lists the commands.".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_case() {
        for (text, expected) in [
            ("SHOW STATS;", Command::Show(Show::Stats)),
            ("show\n sessions", Command::Show(Show::Topic(Topic::Sessions))),
            ("SET mode = 'observe'", Command::SetMode(Mode::Observe)),
            ("set retry.mode=off;", Command::SetMode(Mode::Off)),
            ("SET mode TO transparent", Command::SetMode(Mode::Transparent)),
            ("SET SESSION client_encoding TO 'UTF8'", Command::Nothing("SET")),
            ("Reload", Command::Reload),
            ("KILL 17", Command::Kill(17)),
            ("BEGIN READ ONLY", Command::Nothing("BEGIN")),
        ] {
            assert_eq!(Command::read(text), Ok(expected), "{text}");
        }
        assert_eq!(Command::read_all("SHOW HELP; ; SHOW VERSION;").count(), 2);
    }

    #[test]
    fn what_is_no_command_is_told_with_what_to_do() {
        for (text, sqlstate) in [
            ("SELECT 1", SYNTAX_ERROR),
            ("SHOW", SYNTAX_ERROR),
            ("SHOW nothing", UNDEFINED_OBJECT),
            ("KILL all", INVALID_VALUE),
            ("SET mode = 'on'", INVALID_VALUE),
            ("SET mode", INVALID_VALUE),
            ("SET search_path = x", UNDEFINED_OBJECT),
        ] {
            let refused = Command::read(text).unwrap_err();
            assert_eq!(refused.sqlstate, sqlstate, "{text}");
            assert!(refused.hint.ends_with('.'), "{text}");
        }
    }
}
