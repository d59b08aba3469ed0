//! The command line: arguments, subcommands and exit codes.

mod check;
mod demo;
mod reload;
mod run;
mod service;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Error, Flag, KEYS, Origin, Sources};
use crate::replay::Mode;

/// Something failed, or the configuration is not valid.
const FAILURE: u8 = 1;
/// The command line asks for what is not there; clap uses the same code.
const USAGE: u8 = 2;

/// A PostgreSQL-wire proxy that hides transaction conflicts (SQLSTATE 40001) from applications.
///
/// Applications connect to Reprise as they would to CockroachDB or PostgreSQL. It replays a transaction that met a
/// conflict, checks that the client would have been shown the same, and only then lets the client go on.
///
/// Without a subcommand it runs the proxy until SIGINT or SIGTERM; a second one ends it at once.
#[derive(Debug, Parser)]
#[command(name = "reprise", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validates the configuration and prints the one in effect.
    ///
    /// Every problem is told with its line and key on standard error. A valid configuration is printed as TOML, with
    /// the origin of each value that is not the default.
    Check(Options),
    /// Shows the same contended bank transfers without retries, with a client's retry loop, and through Reprise.
    ///
    /// Uses the database of --upstream, else a cockroach found on PATH, else PostgreSQL's own binaries, to run a throwaway
    /// server. Succeeds only if the transfers through Reprise conserved all money and lost no update.
    Demo(crate::demo::Options),
}

/// Flags that override the configuration.
#[derive(Debug, Args)]
struct Options {
    /// Read this configuration file; none is read unless it is named.
    ///
    /// What the file leaves out keeps its default.
    #[arg(long, value_name = "FILE", env = "REPRISE_CONFIG")]
    config: Option<PathBuf>,
    /// Listen for clients on this IP:PORT [default: 127.0.0.1:6432].
    ///
    /// Overrides `proxy.listen`.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Connect to the database at this HOST:PORT [default: 127.0.0.1:26257].
    ///
    /// Overrides `upstream.address`.
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,
    /// Serve metrics and health on this IP:PORT, "" for none [default: 127.0.0.1:9432].
    ///
    /// The paths are /metrics, /healthz and /readyz. Overrides `http.listen`.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// What to do about conflicts [default: transparent].
    ///
    /// "transparent" hides them, "observe" only counts them, "off" relays. Overrides `retry.mode`.
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(Mode::ALL.map(Mode::name)))]
    mode: Option<String>,
}

impl Options {
    fn into_sources(self) -> Sources {
        let flags = [
            ("--listen", "proxy", "listen", self.listen),
            ("--upstream", "upstream", "address", self.upstream),
            ("--http", "http", "listen", self.http),
            ("--mode", "retry", "mode", self.mode),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, section, name, text)| Some(Flag { flag, section, name, text: text? }));
        Sources { file: self.config, environment: std::env::vars_os().collect(), flags: given.collect() }
    }
}

/// Does what the arguments ask for; the first one is the name of the program.
pub fn execute(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = command().get_matches_from(arguments);
    let Arguments { command, options } =
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match command {
        None => run::run(options.into_sources()),
        Some(Command::Check(options)) => check::check(options.into_sources()),
        Some(Command::Demo(options)) => demo::demo(options),
    }
}

fn command() -> clap::Command {
    Arguments::command().after_long_help(after_help())
}

fn after_help() -> String {
    let mut help = String::from(
        "Examples:\n  \
           reprise --upstream db.example.com:26257      with defaults for all else\n  \
           reprise demo                                 see it at work, on a throwaway database\n  \
           reprise check --config reprise.toml          is the file valid, and what is in effect?\n  \
           REPRISE_RETRY_TIMEOUT=5s reprise             an option from the environment\n  \
           psql -h 127.0.0.1 -p 6432                    connect to it as to the database\n\n\
         Environment, with defaults; it overrides the file, and flags override it:\n",
    );
    for key in KEYS {
        let _ = write!(help, "  {}={}\n          {}\n", key.variable(), key.default, key.help);
    }
    help.push_str(
        "\nExit codes:\n  0  done\n  1  failed, or the configuration is not valid\n  2  wrong usage",
    );
    help
}

/// Tells why there is no configuration.
fn refuse(error: &Error) -> ExitCode {
    eprintln!("{error}");
    match error {
        Error::Unreadable { .. } => ExitCode::from(USAGE),
        Error::Invalid(problems) => {
            let in_flags = problems.iter().any(|problem| matches!(problem.origin, Origin::Flag(_)));
            ExitCode::from(if in_flags { USAGE } else { FAILURE })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_sets_an_option_and_its_help_names_the_default() {
        let text = |text: &str| Some(text.to_owned());
        let options = Options {
            config: None,
            listen: text("127.0.0.1:1"),
            upstream: text("localhost:2"),
            http: text(""),
            mode: text("off"),
        };
        let mut sources = options.into_sources();
        sources.environment.clear();
        let flags = sources.flags.clone();
        let (_, settings) = config::load(sources).expect("valid");
        let help = command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for Flag { flag, section, name, text } in flags {
            let setting = settings.get(section, name);
            assert_eq!((&setting.text, &setting.origin), (&text, &Origin::Flag(flag)));
            let key = KEYS.iter().find(|key| key.section == section && key.name == name).expect("its key");
            assert!(help.contains(&format!("[default: {}]", key.default)), "{flag}: {help}");
            assert!(help.contains(&format!("Overrides `{section}.{name}`.")), "{flag}: {help}");
        }
    }
}
