//! The shape of the code: the sources are held against the map in `src/lib.rs` and the rules in `rules.rs`.

mod rules;
mod source;

use std::fs;
use std::path::Path;

use rules::Arrows;
use source::Source;

/// What is written by people, besides `src`.
const WRITTEN: [&str; 17] = [
    "tests",
    "bench",
    "docs",
    "examples",
    "scripts",
    "grafana",
    "prometheus",
    "web",
    ".ci",
    "README.md",
    "Cargo.toml",
    "Makefile",
    "Dockerfile",
    "compose.yaml",
    "config.toml",
    "clippy.toml",
    "rustfmt.toml",
];

/// The files below `path`, relative to the repository, with their text; those that are no text are left out.
fn files(path: &str) -> Vec<(String, String)> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if full.is_dir() {
        let entries =
            fs::read_dir(&full).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        return names.iter().flat_map(|name| files(&format!("{path}/{name}"))).collect();
    }
    let text = fs::read_to_string(&full);
    text.into_iter().map(|text| (path.to_owned(), text)).collect()
}

/// The arrows as the documentation of the crate draws them.
fn map() -> Arrows {
    Arrows::read(include_str!("../../src/lib.rs"))
}

/// The sources of the crate, without the files that hold tests only.
fn sources() -> Vec<(String, String)> {
    let found = files("src").into_iter().filter(|(path, _)| !path.ends_with("/tests.rs"));
    let relative = found.map(|(path, text)| (path.trim_start_matches("src/").to_owned(), text));
    let sources: Vec<_> = relative.collect();
    assert!(sources.len() > 40, "only {} sources were found", sources.len());
    sources
}

/// Fails with everything that is wrong, file by file.
#[track_caller]
fn judge(files: &[(String, String)], rule: impl Fn(&str, &str) -> Vec<String>) {
    let wrong = files
        .iter()
        .flat_map(|(path, text)| rule(path, text).into_iter().map(move |wrong| format!("{path}: {wrong}")));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_arrows_go_one_way() {
    let arrows = map();
    let mut modules: Vec<_> = arrows.modules().collect();
    modules.sort();
    let sources = sources();
    let mut folders: Vec<_> = sources.iter().filter_map(|(path, _)| Some(path.split_once('/')?.0)).collect();
    folders.dedup();
    assert_eq!(modules, folders, "the table in src/lib.rs has a row for each module");
    judge(&sources, |path, text| arrows.judge(&Source::read(path, text)));
}

#[test]
fn wire_and_replay_are_pure() {
    let manifest = include_str!("../../Cargo.toml").parse::<toml::Table>().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table").keys();
    let dependencies: Vec<_> = dependencies.map(|name| name.replace('-', "_")).collect();
    assert!(dependencies.iter().any(|name| name == "tokio"));
    judge(&sources(), |path, text| rules::purity(&Source::read(path, text), &dependencies));
}

#[test]
fn unsafe_code_is_forbidden() {
    let roots = sources().into_iter().filter(|(path, _)| matches!(path.as_str(), "lib.rs" | "main.rs"));
    judge(&roots.collect::<Vec<_>>(), |path, text| rules::unsafe_code(&Source::read(path, text)));
}

#[test]
fn nothing_panics_where_an_error_belongs() {
    judge(&sources(), |path, text| rules::panics(&Source::read(path, text)));
}

#[test]
fn functions_are_short() {
    judge(&sources(), |path, text| rules::function_lengths(&Source::read(path, text)));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    judge(&files("src"), |_, text| rules::file(text));
}

#[test]
fn nothing_is_left_behind_and_no_machine_is_named() {
    let written = WRITTEN.iter().chain(&["src"]).flat_map(|path| files(path));
    // What servers said is recorded as they said it.
    let own = written.filter(|(path, _)| !path.starts_with("tests/golden/") || !path.ends_with(".txt"));
    judge(&own.collect::<Vec<_>>(), |_, text| [rules::leftovers(text), rules::machine_paths(text)].concat());
}

/// The rules themselves, on snippets that break them.
mod rules_bite {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::read(path, text)
    }

    #[test]
    fn an_arrow_backwards_is_found_however_it_is_written() {
        for text in [
            "use crate::proxy::serve;",
            "use crate::{wire, telemetry::{METRICS, Metric}};",
            "use super::super::config::Config as Settings;",
            "fn f() { crate::proxy::serve(); }",
            "fn f() { log!(crate::telemetry::METRICS) }",
            "mod inner { use super::super::super::cli; }",
        ] {
            let wrong = map().judge(&source("replay/engine.rs", text));
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
        }
        for text in ["use crate::wire::SqlState;", "use super::{reason, state};", "use self::config::x;"] {
            assert_eq!(map().judge(&source("replay/mod.rs", text)), [""; 0], "{text}");
        }
        assert!(map().judge(&source("elsewhere/mod.rs", ""))[0].contains("is not on the map"));
    }

    #[test]
    fn tests_may_use_what_the_code_may_not() {
        let text = "#[cfg(test)] mod tests { use crate::proxy; fn f() { x.unwrap() } }\n#[cfg(test)] use crate::cli;";
        let source = source("wire/frame.rs", text);
        assert_eq!([map().judge(&source), rules::panics(&source)].concat(), [""; 0]);
    }

    #[test]
    fn impurity_is_found_however_it_is_written() {
        let dependencies = ["tokio", "tracing", "memchr"].map(str::to_owned);
        for text in [
            "use tokio::net::TcpStream;",
            "use std::{fmt, time::{Duration, Instant}};",
            "fn f() { let t = std::time::SystemTime::now(); }",
            "fn f() { tracing::info!(\"x\"); }",
            "fn f() { vec![std::thread::sleep(d)]; }",
        ] {
            let wrong = rules::purity(&source("wire/frame.rs", text), &dependencies);
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
        }
        let pure =
            source("wire/frame.rs", "use std::time::Duration; use memchr::memmem; use std::sync::Arc;");
        assert_eq!(rules::purity(&pure, &dependencies), [""; 0]);
        let shell = source("proxy/session.rs", "use tokio::net::TcpStream;");
        assert_eq!(rules::purity(&shell, &dependencies), [""; 0]);
    }

    #[test]
    fn unsafe_must_be_forbidden_and_not_only_denied() {
        assert_eq!(rules::unsafe_code(&source("lib.rs", "#![deny(unsafe_code)]")).len(), 1);
        assert_eq!(rules::unsafe_code(&source("lib.rs", "//! A.\n#![forbid(unsafe_code)]")), [""; 0]);
    }

    #[test]
    fn what_panics_is_found_however_it_is_written() {
        for text in [
            "fn f() { x.unwrap() }",
            "fn f() { select! { a => b.unwrap() } }",
            "fn f() { x.map(Option::unwrap) }",
            "fn f() { panic!(\"no\") }",
            "fn f() { std::unreachable!() }",
            "fn f() { dbg!(x) }",
        ] {
            assert_eq!(rules::panics(&source("wire/frame.rs", text)).len(), 1, "{text}");
        }
        let fine = "/// x.unwrap()\nfn f() { x.unwrap_or(1); x.expect(\"it is\"); a != b; \"panic!()\"; }";
        assert_eq!(rules::panics(&source("wire/frame.rs", fine)), [""; 0]);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_is() {
        let body = "x();\n".repeat(79);
        for (before, after) in [("", ""), ("impl A {\n", "}"), ("mod a { fn g<T>() where T: B {", "} }")] {
            let text = format!("{before}fn f() {{\n{body}}}{after}");
            let wrong = rules::function_lengths(&source("wire/frame.rs", &text));
            assert!(
                wrong.last().is_some_and(|wrong| wrong.contains("`f` has 81 lines")),
                "{before}: {wrong:?}"
            );
        }
        let text = format!("trait A {{ fn g(&self); fn f() {{\n{}}} }}", "x();\n".repeat(78));
        assert_eq!(rules::function_lengths(&source("wire/frame.rs", &text)), [""; 0]);
    }

    #[test]
    fn a_file_that_is_long_or_silent_is_found() {
        assert_eq!(rules::file(&format!("//! A.\n{}", "\n".repeat(500))).len(), 1);
        assert_eq!(rules::file("use a::b;\n").len(), 1);
        assert_eq!(rules::file(&format!("//! A.\n{}", "\n".repeat(499))), [""; 0]);
    }

    #[test]
    fn leftovers_and_places_of_one_machine_are_found() {
        let left = format!("// {}{}: later", "TO", "DO");
        assert_eq!(rules::leftovers(&left).len(), 1);
        assert_eq!(rules::leftovers("let todo = 1;"), [""; 0]);
        for folder in ["home", "work"] {
            assert_eq!(rules::machine_paths(&format!("open(\"/{folder}/me\")")).len(), 1);
        }
        for text in ["tests/farms/x", "https://example.com/home/x", "PathBuf::from(\"/srv\")", "/usr/lib/x"] {
            assert_eq!(rules::machine_paths(text), [""; 0], "{text}");
        }
    }
}
