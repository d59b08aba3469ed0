//! The configuration file as it was written: TOML with the line of every value. Serde would stop at the first
//! mistake, so the document is walked key by key and all of them are told.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Form, KEYS, Key};
use super::problem::{Origin, Problem, nearest};
use super::settings::Settings;

/// Lays the file over the settings.
pub(super) fn apply(path: &str, text: &str, settings: &mut Settings, problems: &mut Vec<Problem>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut file = File { path, text, settings, problems };
    for error in errors {
        file.report(error.span().unwrap_or_default(), String::new(), error.message().to_owned());
    }
    for (name, value) in document.get_ref() {
        file.section(name.get_ref(), name.span(), value);
    }
}

/// The name of the tables of rules.
const RULES: &str = "rules";

struct File<'a> {
    path: &'a str,
    text: &'a str,
    settings: &'a mut Settings,
    problems: &'a mut Vec<Problem>,
}

impl File<'_> {
    fn section(&mut self, name: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(options) if KEYS.iter().any(|key| key.section == name) => {
                for (option, value) in options {
                    self.option(name, option.get_ref(), option.span(), value);
                }
            }
            DeValue::Array(rules) if name == RULES => {
                for rule in rules {
                    self.rule(rule);
                }
            }
            _ if name == RULES => {
                self.report(span, name.to_owned(), "expected tables, each headed [[rules]]".to_owned());
            }
            DeValue::Table(_) => self.report(span, name.to_owned(), unknown_section(name)),
            _ => self.report(span, name.to_owned(), unknown_key("", name)),
        }
    }

    fn rule(&mut self, rule: &Spanned<DeValue<'_>>) {
        let DeValue::Table(options) = rule.get_ref() else {
            return self.report(rule.span(), RULES.to_owned(), "expected a table".to_owned());
        };
        self.settings.begin_rule(self.origin(rule.span()));
        for (option, value) in options {
            self.option(RULES, option.get_ref(), option.span(), value);
        }
    }

    fn option(&mut self, section: &str, name: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let Some(key) = keys::find(section, name) else {
            return self.report(span, format!("{section}.{name}"), unknown_key(section, name));
        };
        match written(key.form, value.get_ref()) {
            Ok(text) => self.settings.set(key, text, self.origin(span)),
            Err(message) => self.report(span, key.path(), message),
        }
    }

    fn report(&mut self, span: Range<usize>, key: String, message: String) {
        self.problems.push(Problem { origin: self.origin(span), key, message });
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Origin::File { path: self.path.to_owned(), line: before.matches('\n').count() + 1 }
    }
}

/// The text of a value that has the form wanted. A bare number passes where text is wanted, so that it is the
/// option that says what it misses, such as the unit of a duration.
fn written(form: Form, value: &DeValue<'_>) -> Result<String, String> {
    match (form, value) {
        (Form::Text, DeValue::String(text)) => Ok(text.to_string()),
        (Form::Text | Form::Integer, DeValue::Integer(number)) => {
            i128::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string())
                .map_err(|error| error.to_string())
        }
        (Form::Boolean, DeValue::Boolean(value)) => Ok(value.to_string()),
        (_, other) => Err(format!("expected {}, found {}", form.name(), other.type_str())),
    }
}

fn unknown_section(name: &str) -> String {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    match nearest(name, sections.iter().copied().chain([RULES])) {
        Some(RULES) => "unknown section; did you mean [[rules]]?".to_owned(),
        Some(section) => format!("unknown section; did you mean [{section}]?"),
        None => format!("unknown section; there are [{}], [[rules]]", sections.join("], [")),
    }
}

fn unknown_key(section: &str, name: &str) -> String {
    let names = keys::all().filter(|key| key.section == section).map(|key| key.name);
    let elsewhere = KEYS.iter().filter(|key| key.name == name).map(Key::path);
    match nearest(name, names.clone()).map(str::to_owned).or_else(|| elsewhere.into_iter().next()) {
        Some(meant) => format!("unknown key; did you mean {meant}?"),
        None if section.is_empty() => "unknown key outside of any section".to_owned(),
        None => format!("unknown key; [{section}] has {}", names.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let (mut settings, mut problems) = (Settings::default(), Vec::new());
        apply("f.toml", text, &mut settings, &mut problems);
        problems.sort();
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn every_unknown_name_is_told_with_its_line_and_what_was_probably_meant() {
        let text =
            "max_attempts = 3\n\n[retry]\nmax_atempts = 3\nlisten = \"x\"\ncolour = 1\n[retri]\n[colour]\n";
        assert_eq!(
            problems(text),
            [
                "f.toml:1: max_attempts: unknown key; did you mean retry.max_attempts?",
                "f.toml:4: retry.max_atempts: unknown key; did you mean max_attempts?",
                "f.toml:5: retry.listen: unknown key; did you mean proxy.listen?",
                "f.toml:6: retry.colour: unknown key; [retry] has mode, max_attempts, initial_backoff, max_backoff, \
                 max_concurrent_replays, timeout, journal_bytes, journal_bytes_total, hold_bytes, hold_time, begin, deadlocks",
                "f.toml:7: retri: unknown section; did you mean [retry]?",
                "f.toml:8: colour: unknown section; there are [proxy], [tls], [auth], [upstream], [retry], [compat], [governor], [admin], [report], [privacy], [http], [traces], [log], [[rules]]",
            ]
        );
    }

    #[test]
    fn a_value_of_the_wrong_form_is_told() {
        let text = "[retry]\nmax_attempts = \"3\"\ndeadlocks = 1\nmode = [1]\ntimeout = 1.5\n";
        assert_eq!(
            problems(text),
            [
                "f.toml:2: retry.max_attempts: expected an integer, found string",
                "f.toml:3: retry.deadlocks: expected a boolean, found integer",
                "f.toml:4: retry.mode: expected a string, found array",
                "f.toml:5: retry.timeout: expected a string, found float",
            ]
        );
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line_and_the_rest_is_still_read() {
        let problems = problems("[retry]\nmode = = \"off\"\n\n[log]\nlevl = \"info\"\n");
        assert!(problems[0].starts_with("f.toml:2: "), "{problems:?}");
        assert_eq!(problems.last().unwrap(), "f.toml:5: log.levl: unknown key; did you mean level?");
    }

    #[test]
    fn a_key_given_twice_is_told() {
        let problems = problems("[log]\nlevel = \"info\"\nlevel = \"warn\"\n");
        assert!(problems[0].starts_with("f.toml:3: ") && problems[0].contains("duplicate"), "{problems:?}");
    }

    #[test]
    fn numbers_are_kept_in_plain_decimal() {
        let (mut settings, mut problems) = (Settings::default(), Vec::new());
        apply("f.toml", "[retry]\nmax_attempts = 0x1_0\ntimeout = 15\n", &mut settings, &mut problems);
        assert_eq!(problems, []);
        assert_eq!(settings.get("retry", "max_attempts").text, "16");
        assert_eq!(settings.get("retry", "timeout").text, "15");
    }
}
