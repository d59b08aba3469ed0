//! What the console answers: reports as they are kept elsewhere, and what its commands have done.

use std::sync::Arc;

use super::command::{Command, Show, shows};
use crate::config::Settings;
use crate::insight::{Column, Report, count, text};
use crate::proxy::live::Live;
use crate::replay::Mode;
use crate::telemetry::Telemetry;

/// What a session of the console works with.
pub(in crate::proxy) struct Desk {
    pub(in crate::proxy) live: Arc<Live>,
    pub(in crate::proxy) telemetry: Arc<Telemetry>,
    /// Who sits at it.
    pub(in crate::proxy) user: String,
}

/// The answer to a command.
pub(super) enum Answer {
    /// Rows.
    Rows(Report),
    /// A tag.
    Done(&'static str),
}

/// Why a command is not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) sqlstate: &'static str,
    pub(super) message: String,
}

const HELP: &[Column] = &[text("command"), text("what_it_does")];
const CONFIG: &[Column] =
    &[text("key"), text("value"), text("default"), text("origin"), text("when_it_counts")];
const VERSION: &[Column] = &[text("version"), count("uptime_s")];

/// What the commands that are no SHOW do.
const ORDERS: [(&str, &str); 4] = [
    (
        "SET mode = 'observe'",
        "What is done about conflicts in sessions that begin from now on: transparent, observe or off. A reload takes it back.",
    ),
    ("RELOAD", "Reads the configuration and its files again, as SIGHUP does."),
    ("DRAIN", "Accepts no more clients, lets open transactions end, and exits, as SIGTERM does."),
    (
        "KILL <session>",
        "Ends a session at once, by its number in SHOW SESSIONS. What it had open is rolled back; in mode off, once the statement that runs has ended.",
    ),
];

/// What a SHOW tells.
const fn help(show: Show) -> &'static str {
    use crate::insight::Topic;
    match show {
        Show::Help => "This list.",
        Show::Stats => "Transactions, conflicts, sessions and memory in figures, since the start.",
        Show::Topic(Topic::Sessions) => "Who is connected, and what each session does now.",
        Show::Topic(Topic::Transactions) => "The transactions whose retries cost the most time.",
        Show::Topic(Topic::Conflicts) => "The tables, indexes and keys that meet the most conflicts.",
        Show::Topic(Topic::Statements) => {
            "The statements that meet conflicts, or gave other results in replays."
        }
        Show::Topic(Topic::Coverage) => {
            "How much of what each application does could be run again, and what stands in the way."
        }
        Show::Topic(Topic::Advice) => "What to change so that more conflicts can be hidden.",
        Show::Governor => "The contention classes, and how many of their transactions run and wait.",
        Show::Config => "Every option with its value and where that comes from.",
        Show::Version => "The version, and how long it has been running.",
    }
}

/// The columns of what a SHOW tells.
pub(super) fn columns(show: Show) -> &'static [Column] {
    match show {
        Show::Help => HELP,
        Show::Stats => Telemetry::STATS,
        Show::Topic(topic) => topic.columns(),
        Show::Governor => Telemetry::GOVERNOR,
        Show::Config => CONFIG,
        Show::Version => VERSION,
    }
}

impl Desk {
    /// Does what is asked.
    pub(super) fn answer(&self, command: Command) -> Result<Answer, Failure> {
        if let Command::Show(show) = command {
            return Ok(Answer::Rows(self.show(show)));
        }
        if let Command::Nothing(tag) = command {
            return Ok(Answer::Done(tag));
        }
        if self.live.now().config.admin.viewers.contains(&self.user) {
            let message = format!("permission denied: \"{}\" may only look (admin.viewers)", self.user);
            return Err(Failure { sqlstate: "42501", message });
        }
        let user = self.user.as_str();
        match command {
            Command::SetMode(mode) => self.set_mode(mode),
            Command::Reload => {
                tracing::warn!(user, "the console asks for the configuration to be read again");
                let refused = |message| Failure { sqlstate: "F0000", message };
                self.live.operator().ok_or_else(unattended)?.reload().map_err(refused)?;
                Ok(Answer::Done("RELOAD"))
            }
            Command::Drain => {
                tracing::warn!(user, "the console asks for the end");
                self.live.operator().ok_or_else(unattended)?.drain();
                Ok(Answer::Done("DRAIN"))
            }
            Command::Kill(number) => {
                let session = self.telemetry.insight().session(number).ok_or_else(|| Failure {
                    sqlstate: "42704",
                    message: format!("there is no session {number}"),
                })?;
                tracing::warn!(user, session = number, "the console ends a session");
                session.kill.cancel();
                Ok(Answer::Done("KILL"))
            }
            Command::Show(_) | Command::Nothing(_) => Ok(Answer::Done("")),
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<Answer, Failure> {
        tracing::warn!(user = self.user, mode = mode.name(), "the console sets the mode");
        self.live.set_mode(mode);
        Ok(Answer::Done("SET"))
    }

    fn show(&self, show: Show) -> Report {
        match show {
            Show::Help => help_report(),
            Show::Stats => self.telemetry.stats(),
            Show::Topic(topic) => self.telemetry.insight().report(topic),
            Show::Governor => self.telemetry.governor().report(),
            Show::Config => self.config(),
            Show::Version => {
                let row = vec![env!("CARGO_PKG_VERSION").into(), self.telemetry.uptime().as_secs().into()];
                Report { columns: VERSION, rows: vec![row] }
            }
        }
    }

    /// The options; secrets are in files, and only the names of those are here.
    fn config(&self) -> Report {
        let settings = self.live.operator().map_or_else(Settings::default, |operator| operator.settings());
        let mode = self.live.now().config.retry.policy.mode.name();
        let rows = settings.iter().map(|(key, setting)| {
            let path = key.path();
            let at_start = crate::config::READ_AT_START.contains(&path.as_str());
            let set_here = path == "retry.mode" && setting.text != mode;
            let (value, origin) = if set_here {
                (mode, "console".to_owned())
            } else {
                (&*setting.text, setting.origin.to_string())
            };
            let when = if at_start { "at the start" } else { "for new connections" };
            vec![path.into(), value.into(), key.default.into(), origin.into(), when.into()]
        });
        Report { columns: CONFIG, rows: rows.collect() }
    }
}

fn unattended() -> Failure {
    Failure { sqlstate: "0A000", message: "nobody is there who could do that".to_owned() }
}

fn help_report() -> Report {
    let shown = shows().map(|(name, show)| (format!("SHOW {}", name.to_uppercase()), help(show)));
    let orders = ORDERS.map(|(command, what)| (command.to_owned(), what));
    let rows = shown.chain(orders).map(|(command, what)| vec![command.into(), what.into()]);
    Report { columns: HELP, rows: rows.collect() }
}
