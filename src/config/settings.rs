//! The settings as text, each with its origin: the defaults, and what the file, the environment and the flags lay
//! over them. Their meaning is not looked at here.

use std::ffi::{OsStr, OsString};
use std::fmt;

use super::keys::{Form, KEYS, Key, RULE_KEYS, VARIABLE_PREFIX, find};
use super::problem::{Origin, Problem, nearest};

/// One value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value as text, without the quotes that TOML may put around it.
    pub text: String,
    /// Who gave it.
    pub origin: Origin,
}

/// A value for every option. Written out, it is a configuration file that tells where each value that is not the
/// default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    options: Vec<Setting>,
    rules: Vec<Vec<Setting>>,
}

/// A flag of the command line, and the option that it sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The flag, such as `--mode`.
    pub flag: &'static str,
    /// The section of the option.
    pub section: &'static str,
    /// The name of the option.
    pub name: &'static str,
    /// The value.
    pub text: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { options: defaults(KEYS), rules: Vec::new() }
    }
}

fn defaults(keys: &[Key]) -> Vec<Setting> {
    keys.iter().map(|key| Setting { text: key.default.to_owned(), origin: Origin::Default }).collect()
}

impl Settings {
    /// The value of an option.
    ///
    /// # Panics
    /// If there is no such option.
    pub fn get(&self, section: &str, name: &str) -> &Setting {
        self.iter()
            .find_map(|(key, setting)| (key.section == section && key.name == name).then_some(setting))
            .expect("the option is in the table of options")
    }

    /// Every option with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &Setting)> {
        KEYS.iter().zip(&self.options)
    }

    /// The rules in their order, each with a value for all of [`RULE_KEYS`].
    pub fn rules(&self) -> impl Iterator<Item = &[Setting]> {
        self.rules.iter().map(Vec::as_slice)
    }

    /// The options that have another value here, by their paths; `rules` if any of those differs.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = self.iter().zip(&other.options);
        let mut names: Vec<_> = pairs
            .filter(|((_, setting), other)| setting.text != other.text)
            .map(|((key, _), _)| key.path())
            .collect();
        let texts = |settings: &Self| -> Vec<Vec<String>> {
            settings.rules().map(|rule| rule.iter().map(|setting| setting.text.clone()).collect()).collect()
        };
        if texts(self) != texts(other) {
            names.push("rules".to_owned());
        }
        names
    }

    /// Adds a rule that begins in `origin`; what is set after this is set in it.
    pub(super) fn begin_rule(&mut self, origin: Origin) {
        let mut rule = defaults(RULE_KEYS);
        rule.iter_mut().for_each(|setting| setting.origin = origin.clone());
        self.rules.push(rule);
    }

    pub(super) fn set(&mut self, key: &'static Key, text: String, origin: Origin) {
        let rule = self.rules.last_mut().into_iter().flatten();
        let settings = KEYS.iter().zip(&mut self.options).chain(RULE_KEYS.iter().zip(rule));
        for (candidate, setting) in settings {
            if std::ptr::eq(candidate, key) {
                *setting = Setting { text, origin };
                return;
            }
        }
    }

    pub(super) fn set_flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            let key = find(flag.section, flag.name).expect("a flag names an option of the table");
            self.set(key, flag.text.clone(), Origin::Flag(flag.flag));
        }
    }

    pub(super) fn set_variables(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Vec<Problem>,
    ) {
        for (variable, value) in environment {
            if let Some(variable) = variable.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) {
                self.set_variable(variable, &value, problems);
            }
        }
    }

    fn set_variable(&mut self, variable: &str, value: &OsStr, problems: &mut Vec<Problem>) {
        let origin = Origin::Environment(variable.to_owned());
        let known = KEYS.iter().find(|key| key.variable() == variable);
        match (known, value.to_str()) {
            (Some(key), Some(text)) => self.set(key, plain(key.form, text), origin),
            (Some(key), None) => {
                problems.push(Problem { origin, key: key.path(), message: "not valid UTF-8".to_owned() });
            }
            (None, _) => problems.extend(mistyped(variable)),
        }
    }
}

/// A number in the one notation that TOML has for it; what is no number is left to whoever reads the option.
fn plain(form: Form, text: &str) -> String {
    match (form, text.parse::<i128>()) {
        (Form::Integer, Ok(number)) => number.to_string(),
        _ => text.to_owned(),
    }
}

/// Only what looks like a mistyped option is a problem: others name variables too, as Kubernetes does with
/// `REPRISE_SERVICE_HOST` for a service called reprise.
fn mistyped(variable: &str) -> Option<Problem> {
    let unprefixed = |name: &str| name.trim_start_matches(VARIABLE_PREFIX).to_owned();
    let meant = nearest(&unprefixed(variable), KEYS.iter().map(|key| unprefixed(&key.variable())))?;
    Some(Problem {
        origin: Origin::Environment(variable.to_owned()),
        key: String::new(),
        message: format!("unknown variable; did you mean {VARIABLE_PREFIX}{meant}?"),
    })
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for (key, setting) in self.iter() {
            if key.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}[{}]", key.section)?;
                section = key.section;
            }
            write!(f, "{} = {}", key.name, key.form.literal(&setting.text))?;
            match setting.text == key.default {
                true => writeln!(f)?,
                false => writeln!(f, " # {}", setting.origin)?,
            }
        }
        for rule in self.rules() {
            writeln!(f, "\n[[rules]]")?;
            for (key, setting) in RULE_KEYS.iter().zip(rule).filter(|(key, rule)| rule.text != key.default) {
                writeln!(f, "{} = {} # {}", key.name, key.form.literal(&setting.text), setting.origin)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_environment(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let (mut settings, mut problems) = (Settings::default(), Vec::new());
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        settings.set_variables(variables, &mut problems);
        (settings, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn a_mistyped_variable_is_told_and_a_foreign_one_is_left_alone() {
        let (settings, problems) = from_environment(&[
            ("REPRISE_RETRY_MAX_ATEMPTS", "7"),
            ("REPRISE_SERVICE_HOST", "10.0.0.1"),
            ("REPRISE_HTTP_PORT", "tcp://10.0.0.1:9432"),
            ("RETRY_MODE", "off"),
        ]);
        assert_eq!(settings, Settings::default());
        assert_eq!(
            problems,
            ["REPRISE_RETRY_MAX_ATEMPTS: unknown variable; did you mean REPRISE_RETRY_MAX_ATTEMPTS?"]
        );
    }

    #[test]
    fn written_out_only_what_differs_from_the_default_has_its_origin() {
        let (settings, _) = from_environment(&[
            ("REPRISE_RETRY_MAX_ATTEMPTS", "007"),
            ("REPRISE_RETRY_MODE", "transparent"),
            ("REPRISE_LOG_LEVEL", "a\"b"),
        ]);
        let written = settings.to_string();
        assert!(written.contains("\nmax_attempts = 7 # REPRISE_RETRY_MAX_ATTEMPTS\n"), "{written}");
        assert!(written.contains("\nmode = \"transparent\"\n"), "{written}");
        let parsed: toml::Table = written.parse().expect("it is TOML");
        assert_eq!(parsed["log"]["level"].as_str(), Some("a\"b"));
    }
}
