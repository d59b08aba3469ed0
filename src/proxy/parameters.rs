//! A client's startup parameters: those of Reprise are read and kept from the database, the others go on as they are.

use thiserror::Error;

use crate::config::Client;
use crate::insight::plain;
use crate::replay::{Mode, REPORT, report_value};
use crate::wire::SqlState;
use crate::wire::options;
use crate::wire::startup::startup_message;

/// What the name of each parameter of Reprise begins with.
const PREFIX: &[u8] = b"reprise.";
/// The names that PostgreSQL knows by their case, because they are no settings; CockroachDB knows them in any.
const EXACT: [&[u8]; 4] = [b"user", b"database", b"options", b"replication"];
/// Names what is done about conflicts in this session.
const MODE: &[u8] = b"reprise.mode";

/// So much of a name or a value is told.
const SHOWN_CHARACTERS: usize = 128;

/// What a client asks of Reprise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wishes {
    mode: Option<Mode>,
    report: Option<bool>,
}

impl Wishes {
    /// Reads one more of them, which wins over an earlier one.
    fn read(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadParameter> {
        if name.eq_ignore_ascii_case(MODE) {
            let named = |mode: &Mode| value.eq_ignore_ascii_case(mode.name().as_bytes());
            let mode = Mode::ALL.into_iter().find(named);
            self.mode = Some(mode.ok_or_else(|| BadParameter::Mode(shown(value)))?);
        } else if name.eq_ignore_ascii_case(REPORT.as_bytes()) {
            self.report = Some(report_value(value).ok_or_else(|| BadParameter::Report(shown(value)))?);
        } else {
            return Err(BadParameter::Name(shown(name)));
        }
        Ok(())
    }
}

/// A name or a value as it may stand in a line of a log: whoever sends it has not logged in.
fn shown(bytes: &[u8]) -> String {
    plain(String::from_utf8_lossy(bytes).chars().take(SHOWN_CHARACTERS).collect())
}

/// What a startup packet asks for.
#[derive(Debug, PartialEq)]
pub(super) struct Parameters {
    /// The startup packet for the database.
    pub(super) packet: Vec<u8>,
    /// What the client wants done about conflicts, if it says so; nothing where it replicates: that is not a session of
    /// transactions.
    pub(super) mode: Option<Mode>,
    /// Whether it wants to be told of transactions that were run again.
    pub(super) report: bool,
    /// Who it is.
    pub(super) client: Client,
}

/// A parameter of Reprise that there is not, or that has no such value.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum BadParameter {
    /// There is none of this name.
    #[error("unrecognized configuration parameter \"{0}\"")]
    Name(String),
    /// It differs from one that is no setting by its case only.
    #[error("unrecognized configuration parameter \"{0}\"")]
    Case(String),
    /// The mode is none.
    #[error("invalid value for parameter \"reprise.mode\": \"{0}\"")]
    Mode(String),
    /// It is neither on nor off.
    #[error("parameter \"reprise.report\" requires a Boolean value, not \"{0}\"")]
    Report(String),
}

impl BadParameter {
    /// What PostgreSQL reports for such a parameter of its own.
    pub(super) const fn sqlstate(&self) -> SqlState {
        match self {
            Self::Name(_) | Self::Case(_) => SqlState::UNDEFINED_OBJECT,
            Self::Mode(_) | Self::Report(_) => SqlState::INVALID_PARAMETER_VALUE,
        }
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Name(_) => "The parameters of Reprise are reprise.mode and reprise.report.".to_owned(),
            Self::Case(name) => format!("Write it in small letters: \"{}\".", name.to_ascii_lowercase()),
            Self::Report(_) => "Available values: on, off.".to_owned(),
            Self::Mode(_) => format!("Available values: {}.", Mode::ALL.map(Mode::name).join(", ")),
        }
    }
}

impl Parameters {
    /// Reads the parameters. As in PostgreSQL one of its own wins over the same one in `options`, and a later over an earlier.
    pub(super) fn read<'a>(
        parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, BadParameter> {
        let (mut in_options, mut alone, mut replicates) = (Wishes::default(), Wishes::default(), false);
        let mut client = Client::default();
        let mut kept: Vec<(&[u8], Vec<u8>)> = Vec::new();
        for (name, value) in parameters {
            if is_ours(name) {
                alone.read(name, value)?;
                continue;
            }
            match name {
                b"options" => {
                    let left = read_options(value, &mut in_options)?;
                    kept.extend(left.map(|left| (name, left)));
                    continue;
                }
                b"replication" => replicates = is_replication(value),
                b"user" => client.user = value.into(),
                b"database" => client.database = value.into(),
                // CockroachDB would take it for the one that it resembles: a name that nobody was asked to prove.
                _ if EXACT.iter().any(|exact| name.eq_ignore_ascii_case(exact)) => {
                    return Err(BadParameter::Case(shown(name)));
                }
                _ if name.eq_ignore_ascii_case(b"application_name") => client.application_name = value.into(),
                _ => {}
            }
            kept.push((name, value.to_vec()));
        }
        if client.database.is_empty() {
            client.database.clone_from(&client.user);
        }
        let packet = startup_message(kept.iter().map(|(name, value)| (*name, value.as_slice())));
        let mode = if replicates { Some(Mode::Off) } else { alone.mode.or(in_options.mode) };
        let report = alone.report.or(in_options.report).unwrap_or_default();
        Ok(Self { packet, mode, report, client })
    }
}

/// Reads what `options` ask of Reprise; what is left of them for the database.
fn read_options(text: &[u8], wishes: &mut Wishes) -> Result<Option<Vec<u8>>, BadParameter> {
    let ours: Vec<_> = options::switches(text).into_iter().filter(|switch| is_ours(&switch.name)).collect();
    if ours.is_empty() {
        return Ok(Some(text.to_vec()));
    }
    for switch in &ours {
        wishes.read(&switch.name, switch.value.as_deref().unwrap_or_default())?;
    }
    Ok(options::without(text, ours.into_iter().map(|switch| switch.span)))
}

/// Whether the parameter `replication` asks for what it is called. Its values are `database` and those of a boolean.
fn is_replication(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let is_false = |word: &[u8]| !value.is_empty() && word.starts_with(&value) && value != b"o";
    !value.is_empty() && value != b"0" && ![&b"false"[..], b"off", b"no"].into_iter().any(is_false)
}

fn is_ours(name: &[u8]) -> bool {
    name.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::startup::Initial;

    fn read(parameters: &[(&str, &str)]) -> Result<Parameters, BadParameter> {
        Parameters::read(parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    /// What the database is told.
    fn told(parameters: &Parameters) -> Vec<(String, String)> {
        let Ok(Initial::Startup(startup)) = Initial::parse(&parameters.packet) else { panic!("a startup") };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        startup.parameters().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn the_mode_is_read_and_not_passed_on() {
        let alone = read(&[("user", "ann"), ("reprise.mode", "off"), ("DateStyle", "ISO")]).unwrap();
        assert_eq!(alone.mode, Some(Mode::Off));
        assert_eq!(told(&alone), [("user".into(), "ann".into()), ("DateStyle".into(), "ISO".into())]);
        let in_options = read(&[("options", "-c reprise.mode=Observe -c a=x\\ y")]).unwrap();
        assert_eq!(in_options.mode, Some(Mode::Observe));
        assert_eq!(told(&in_options), [("options".into(), " -c a=x\\ y".into())]);
        let only = read(&[("options", "--reprise.mode=off"), ("user", "ann")]).unwrap();
        assert_eq!(told(&only), [("user".into(), "ann".into())]);
    }

    #[test]
    fn reports_are_asked_for_besides_the_mode() {
        let both =
            read(&[("reprise.report", "on"), ("options", "-c reprise.mode=observe -c reprise.report=no")]);
        let both = both.unwrap();
        assert_eq!((both.mode, both.report), (Some(Mode::Observe), true));
        assert!(read(&[("options", "--reprise.report=TRUE")]).unwrap().report);
        assert!(!read(&[("user", "ann")]).unwrap().report);
        let bad = read(&[("reprise.report", "maybe")]).unwrap_err();
        assert_eq!(bad.sqlstate().as_str(), "22023");
        assert!(!bad.hint().is_empty());
    }

    #[test]
    fn without_a_parameter_of_ours_everything_is_as_it_was() {
        let none = read(&[("user", "ann"), ("options", " -c  a=1 "), ("a", "")]).unwrap();
        assert_eq!(none.mode, None);
        let all = [("user", "ann"), ("options", " -c  a=1 "), ("a", "")];
        assert_eq!(told(&none), all.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_later_wins_and_a_parameter_of_its_own_before_options() {
        let options = ("options", "-c reprise.mode=observe -c reprise.mode=off");
        assert_eq!(read(&[options]).unwrap().mode, Some(Mode::Off));
        assert_eq!(read(&[("reprise.mode", "transparent"), options]).unwrap().mode, Some(Mode::Transparent));
    }

    #[test]
    fn what_there_is_not_is_refused_as_postgresql_does() {
        let bad = read(&[("reprise.mode", "on")]).unwrap_err();
        assert_eq!(bad.to_string(), "invalid value for parameter \"reprise.mode\": \"on\"");
        assert_eq!(bad.hint(), "Available values: transparent, observe, off.");
        assert_eq!(bad.sqlstate().as_str(), "22023");
        assert_eq!(read(&[("options", "-c reprise.mode")]).unwrap_err(), BadParameter::Mode(String::new()));
        let unknown = read(&[("options", "-c reprise.moed=off")]).unwrap_err();
        assert_eq!(unknown.to_string(), "unrecognized configuration parameter \"reprise.moed\"");
        assert_eq!(unknown.sqlstate().as_str(), "42704");
    }

    /// CockroachDB takes `USER` for the user, PostgreSQL for a setting that there is not: nobody may go on as somebody else than
    /// who was asked for a password.
    #[test]
    fn a_name_that_differs_in_case_only_is_refused() {
        for name in ["USER", "Database", "OPTIONS", "Replication"] {
            let refused = read(&[("user", "ann"), (name, "root")]).unwrap_err();
            assert_eq!(refused.sqlstate().as_str(), "42704", "{name}");
            assert!(refused.hint().contains(&name.to_lowercase()), "{}", refused.hint());
        }
        let client = read(&[("user", "ann"), ("Application_Name", "app")]).unwrap().client;
        assert_eq!(&*client.application_name, b"app");
    }

    #[test]
    fn what_is_refused_cannot_write_a_line_of_the_log() {
        let refused = read(&[(&format!("reprise.\n\u{7}{}", "x".repeat(9000)), "")]).unwrap_err();
        let text = refused.to_string();
        assert!(!text.contains(char::is_control) && text.len() < 200, "{text}");
    }

    #[test]
    fn a_client_without_a_database_means_the_one_with_its_name() {
        let client = read(&[("user", "ann"), ("application_name", "app")]).unwrap().client;
        let expected =
            Client { user: (*b"ann").into(), database: (*b"ann").into(), application_name: (*b"app").into() };
        assert_eq!(client, expected);
    }

    #[test]
    fn replication_is_relayed_whatever_else_is_asked() {
        let mode = |value: &str| {
            let parameters: [(&[u8], &[u8]); 2] =
                [(b"replication", value.as_bytes()), (b"reprise.mode", b"transparent")];
            Parameters::read(parameters.into_iter()).unwrap().mode
        };
        for value in ["database", "true", "on", "1", "YES"] {
            assert_eq!(mode(value), Some(Mode::Off), "{value}");
        }
        for value in ["false", "F", "off", "of", "no", "0", ""] {
            assert_eq!(mode(value), Some(Mode::Transparent), "{value}");
        }
    }
}
