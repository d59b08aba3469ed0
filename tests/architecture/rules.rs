//! The rules of the shape. Each takes what it judges and returns what is wrong, with what to do about it.

use crate::source::Source;

/// The modules that know no socket, clock, task, log or metric.
const PURE: [&str; 3] = ["wire", "replay", "governor"];

/// Crates that a pure module may use: they compute, and do nothing else.
const PURE_CRATES: [&str; 3] = ["memchr", "thiserror", "xxhash_rust"];

/// What a pure module may not use of the standard library.
const IMPURE_STD: [&[&str]; 9] = [
    &["std", "env"],
    &["std", "fs"],
    &["std", "io"],
    &["std", "net"],
    &["std", "os"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
];

/// The longest that a file may be.
const FILE_LINES_MAX: usize = 500;
/// The longest that a function may be.
const FUNCTION_LINES_MAX: usize = 80;

/// Which module of the crate may use which, as a table in the documentation of the crate has it.
#[derive(Debug)]
pub(crate) struct Arrows(Vec<(String, Vec<String>)>);

impl Arrows {
    /// Reads rows such as ``//! | [`config`] | what it is for | `replay`, `telemetry` |``.
    pub(crate) fn read(documentation: &str) -> Self {
        let mut arrows = Self(Vec::new());
        for line in documentation.lines().filter_map(|line| line.strip_prefix("//! | [`")) {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let [module, _, allowed, ..] = cells[..] else { continue };
            let allowed = match allowed {
                "nothing" => Vec::new(),
                "all of the above" => arrows.0.iter().map(|(module, _)| module.clone()).collect(),
                names => names.split(", ").map(|name| name.trim_matches('`').to_owned()).collect(),
            };
            arrows.0.push((module.trim_end_matches("`]").to_owned(), allowed));
        }
        arrows
    }

    /// The modules, in the order of the table.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(module, _)| module.as_str())
    }

    /// What is wrong with the arrows that leave a file.
    pub(crate) fn judge(&self, source: &Source) -> Vec<String> {
        let Some(module) = source.module.first() else { return Vec::new() };
        let Some((_, allowed)) = self.0.iter().find(|(name, _)| name == module) else {
            return vec![format!(
                "module `{module}` is not on the map: give it a row in the table of src/lib.rs"
            )];
        };
        let is_wrong =
            |to: &String| to != module && self.modules().any(|known| known == to) && !allowed.contains(to);
        let used = source.paths.iter().filter(|path| path.names[0] == "crate" && path.names.len() > 1);
        let mut wrong: Vec<_> = used
            .map(|path| (path.line, &path.names[1]))
            .filter(|(_, to)| is_wrong(to))
            .map(|(line, to)| {
                format!("line {line}: `{module}` must not use `{to}`: pass a value or an event instead, or move the code")
            })
            .collect();
        wrong.dedup();
        wrong
    }
}

/// What is impure in a module that must be pure. `dependencies` are the crates that there are.
pub(crate) fn purity(source: &Source, dependencies: &[String]) -> Vec<String> {
    if !source.module.first().is_some_and(|module| PURE.contains(&module.as_str())) {
        return Vec::new();
    }
    let is_crate = |name: &String| dependencies.contains(name) && !PURE_CRATES.contains(&name.as_str());
    let is_std = |names: &[String]| IMPURE_STD.iter().any(|path| starts_with(names, path));
    let used = source.paths.iter().filter(|path| is_crate(&path.names[0]) || is_std(&path.names));
    used.map(|path| {
        let name = path.names.join("::");
        let line = path.line;
        format!(
            "line {line}: `{name}` in a pure module: take what it gives as an argument, or do it in `proxy`"
        )
    })
    .collect()
}

fn starts_with(names: &[String], path: &[&str]) -> bool {
    path.len() <= names.len() && path.iter().zip(names).all(|(wanted, name)| wanted == name)
}

/// Whether a root of the crate forbids `unsafe` by itself, whatever the manifest says.
pub(crate) fn unsafe_code(source: &Source) -> Vec<String> {
    let forbidden = source.attributes.iter().any(|attribute| attribute == "forbid(unsafe_code)");
    if forbidden { Vec::new() } else { vec!["write `#![forbid(unsafe_code)]` at its beginning".to_owned()] }
}

/// What would end the process where an error or a refusal belongs.
pub(crate) fn panics(source: &Source) -> Vec<String> {
    const MACROS: [&str; 5] = ["panic", "todo", "dbg", "unimplemented", "unreachable"];
    let calls = source.macros.iter().filter(|call| MACROS.contains(&call.name.as_str()));
    let methods = source.methods.iter().filter(|call| call.name == "unwrap");
    let paths = source.paths.iter().filter(|path| path.names.last().is_some_and(|name| name == "unwrap"));
    let advice = "return an error, or say by `expect` why it cannot happen";
    calls
        .map(|call| format!("line {}: `{}!`: {advice}", call.line, call.name))
        .chain(methods.map(|call| format!("line {}: `unwrap()`: {advice}", call.line)))
        .chain(paths.map(|path| format!("line {}: `{}`: {advice}", path.line, path.names.join("::"))))
        .collect()
}

/// Functions that do too much.
pub(crate) fn function_lengths(source: &Source) -> Vec<String> {
    let long = source.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.map(|function| {
        let (name, line, lines) = (&function.name, function.line, function.lines);
        format!("line {line}: `{name}` has {lines} lines, {FUNCTION_LINES_MAX} are allowed: take a part out and name it")
    })
    .collect()
}

/// A file that does too much, or does not say what it does.
pub(crate) fn file(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        wrong.push(format!(
            "it has {lines} lines, {FILE_LINES_MAX} are allowed: give a part of it a file of its own"
        ));
    }
    if !text.starts_with("//! ") {
        wrong.push("its first line must say what it is for, behind `//!`".to_owned());
    }
    wrong
}

/// What was left behind while working. The words are put together here, so that this file has none of them.
pub(crate) fn leftovers(text: &str) -> Vec<String> {
    let words = [["TO", "DO"], ["FIX", "ME"], ["HA", "CK:"], ["<<<<", "<<<"], [">>>>", ">>>"]]
        .map(|halves| halves.concat());
    found(text, &words, "do it, or write an issue")
}

/// Places that only one machine has.
pub(crate) fn machine_paths(text: &str) -> Vec<String> {
    let folders = ["home", "root", "Users", "work", "tmp", "workspace", "mnt"];
    let quoted = folders.map(|folder| ["/", folder, "/"].concat());
    found(text, &quoted, "name it relative to the repository, or ask the system for it")
}

fn found(text: &str, words: &[String], advice: &str) -> Vec<String> {
    let starts_a_word =
        |line: &str, at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.');
    let has =
        |line: &str, word: &String| line.match_indices(word.as_str()).any(|(at, _)| starts_a_word(line, at));
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(at, line)| {
            words.iter().filter(move |word| has(line, word)).map(move |word| (at + 1, word))
        })
        .map(|(line, word)| format!("line {line}: `{word}`: {advice}"))
        .collect()
}
