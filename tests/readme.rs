//! The README is true: its tables are those of the code, its commands run, and its example of an error is a real one.

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use program::reprise;
use reprise::config::{KEYS, READ_AT_START, RULE_KEYS};
use reprise::demo::server::Postgres;
use reprise::replay::Reason;
use reprise::telemetry::{METRICS, PROCESS_METRICS, Telemetry};
use tokio_postgres::{Client, NoTls};

const README: &str = include_str!("../README.md");
const MAKEFILE: &str = include_str!("../Makefile");
const CI: &str = include_str!("../.ci/run");
const LICENSE: &str = include_str!("../LICENSE");
const PACKAGE: &str = include_str!("../Cargo.toml");

/// Where the README says that things are by default.
const CLIENTS: &str = "127.0.0.1:6432";
const DATABASE: &str = "127.0.0.1:5432";
const HTTP: &str = "127.0.0.1:9432";

/// The rows of the table with this header, as cells.
fn table(header: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = README.lines().skip_while(|line| !line.starts_with('|') || cells(line) != header);
    assert!(lines.next().is_some(), "the README has no table with the columns {header:?}");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Compares a table with the rows that the code gives, and tells what the README must say.
#[track_caller]
fn assert_table(header: &[&str], expected: &[Vec<String>]) {
    let shown = |rows: &[Vec<String>]| {
        rows.iter().map(|row| format!("| {} |", row.join(" | "))).collect::<Vec<_>>().join("\n")
    };
    let (found, expected) = (shown(&table(header)), shown(expected));
    assert!(found == expected, "the README has\n{found}\n\nand the code gives\n{expected}\n");
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

#[test]
fn every_option_is_documented_as_it_is() {
    let default = |text: &str| code(if text.is_empty() { "\"\"" } else { text });
    let rows: Vec<_> = KEYS
        .iter()
        .map(|key| vec![code(&key.path()), default(key.default), code(&key.variable()), key.help.to_owned()])
        .collect();
    assert_table(&["Key", "Default", "Variable", "Meaning"], &rows);
}

#[test]
fn the_options_that_need_a_restart_are_named() {
    let named: Vec<_> = READ_AT_START.iter().map(|path| code(path)).collect();
    assert!(README.split_whitespace().collect::<Vec<_>>().join(" ").contains(&named.join(", ")), "{named:?}");
    assert!(READ_AT_START.iter().all(|path| KEYS.iter().any(|key| key.path() == *path)));
}

#[test]
fn every_key_of_a_rule_is_documented_as_it_is() {
    let default = |text: &str| if text.is_empty() { "none".to_owned() } else { code(text) };
    let rows: Vec<_> =
        RULE_KEYS.iter().map(|key| vec![code(key.name), default(key.default), key.help.to_owned()]).collect();
    assert_table(&["Key of a rule", "Default", "Meaning"], &rows);
}

#[test]
fn the_rule_of_the_readme_is_valid() {
    let rule = README.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a rule");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rule).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let printed = stdout(&mut reprise(&["check", "--config", path]));
    assert!(printed.contains("[[rules]]\nuser = \"batch-*\""), "{printed}");
}

#[test]
fn every_option_that_is_mentioned_exists() {
    let is_option = |word: &str| KEYS.iter().any(|key| word.starts_with(&format!("{}.", key.section)));
    for mention in README.split('`').skip(1).step_by(2).filter(|word| is_option(word)) {
        let name = mention.split(' ').next().unwrap_or_default();
        assert!(KEYS.iter().any(|key| key.path() == name), "{mention}");
    }
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let labels = |labels: &[&str]| labels.iter().map(|label| code(label)).collect::<Vec<_>>().join(", ");
    let rows: Vec<_> = METRICS
        .iter()
        .map(|metric| {
            let kind = metric.kind.name().to_owned();
            vec![code(metric.name), kind, labels(metric.labels), metric.help.to_owned()]
        })
        .collect();
    assert_table(&["Metric", "Kind", "Labels", "Meaning"], &rows);
    assert!(PROCESS_METRICS.iter().all(|name| README.contains(&code(name))));
}

/// The values of each label, read from what a proxy that has just started shows.
fn label_values() -> BTreeMap<String, BTreeSet<String>> {
    let mut values = BTreeMap::<_, BTreeSet<_>>::new();
    let metrics = Telemetry::new(0).render();
    for series in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = series.split_once('{') else { continue };
        let (labels, _) = labels.split_once('}').expect("labels end");
        for (label, value) in labels.split(',').filter_map(|pair| pair.split_once('=')) {
            values.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    values
}

#[test]
fn every_label_is_documented_with_its_values() {
    let mut values = label_values();
    values.remove("le");
    let version = values.remove("version").expect("the version is a label");
    assert_eq!(version, BTreeSet::from([env!("CARGO_PKG_VERSION").to_owned()]));
    let reasons = values.remove("reason").expect("the reason is a label");
    assert_eq!(reasons, Reason::ALL.map(|reason| reason.name().to_owned()).into());
    let mut documented = BTreeMap::new();
    for row in table(&["Label", "Values"]) {
        let listed: BTreeSet<_> =
            row[1].split(", ").map(|value| value.trim_matches('`').to_owned()).collect();
        documented.insert(row[0].trim_matches('`').to_owned(), listed);
    }
    documented.retain(|label, _| label != "version" && label != "reason");
    assert_eq!(documented, values);
}

#[test]
fn every_reason_is_documented_in_order() {
    let rows = table(&["Reason", "What it means", "What the application can do"]);
    let names: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(names, Reason::ALL.map(|reason| code(reason.name())));
    for row in &rows {
        assert!(row.len() == 3 && row.iter().all(|cell| cell.ends_with(['.', '`'])), "{row:?}");
    }
}

#[tokio::test]
async fn every_command_of_the_console_is_documented_as_it_is() {
    let users = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(users.path(), "\"ann\" \"secret\"").expect("written");
    let file = users.path().display().to_string();
    let proxy = Running::start_with(&["--upstream", DATABASE], DATABASE, &[("REPRISE_ADMIN_FILE", &file)]);
    let console = connect(&format!("postgres://ann:secret@{}/reprise", proxy.clients)).await;
    let rows = console.query("SHOW HELP", &[]).await.expect("rows");
    let rows: Vec<_> = rows.iter().map(|row| vec![code(row.get(0)), row.get(1)]).collect();
    assert_table(&["Command", "What it does"], &rows);
}

#[test]
fn every_flag_is_documented() {
    let documented: BTreeSet<_> = table(&["Flag", "Sets"])
        .iter()
        .flat_map(|row| row[0].split(", ").map(flag_name).collect::<Vec<_>>())
        .collect();
    let help = stdout(&mut reprise(&["--help"]));
    let told: BTreeSet<_> = help.lines().filter_map(told_flag).collect();
    assert_eq!(documented, told);
    for flag in stdout(&mut reprise(&["demo", "--help"])).lines().filter_map(told_flag) {
        assert!(README.contains(&code(&flag)) || README.contains(&format!("`{flag} ")), "{flag}");
    }
}

/// `--flag` of a cell such as `` `--flag VALUE` ``.
fn flag_name(cell: &str) -> String {
    cell.trim_matches('`').split(' ').next().unwrap_or_default().to_owned()
}

/// The flag that a line of `--help` is about.
fn told_flag(line: &str) -> Option<String> {
    let line = line.trim_start();
    let flag = line.strip_prefix("-h, ").or_else(|| line.strip_prefix("-V, ")).unwrap_or(line);
    flag.starts_with("--").then(|| flag_name(flag))
}

#[test]
fn what_the_readme_says_of_the_package_is_so() {
    let rust = PACKAGE.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a version");
    assert!(README.contains(&format!("needs Rust {}.", rust.trim_end_matches('"'))));
    assert!(PACKAGE.contains("license = \"Apache-2.0\"") && README.contains("[Apache-2.0](LICENSE)"));
    assert!(LICENSE.contains("Apache License"));
}

#[test]
fn every_link_leads_somewhere() {
    let anchors: Vec<_> = README.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
    for link in README.split("](").skip(1) {
        let target = link.split(')').next().unwrap_or_default();
        let found = match target.strip_prefix('#') {
            Some(name) => anchors.iter().any(|anchor| anchor == name),
            None => root().join(target).exists(),
        };
        assert!(found, "{target}");
    }
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-").replace(',', "")
}

/// Each command of the README, as one of those that a test here knows how to run.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Make(&'static str),
    Reprise(Vec<&'static str>),
    Psql(&'static str),
    Curl(&'static str),
}

fn commands() -> BTreeSet<Shown> {
    let blocks = README.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    lines.map(shown).collect()
}

fn shown(line: &'static str) -> Shown {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["make", target] => Shown::Make(target),
        ["target/release/reprise", ref arguments @ ..] => Shown::Reprise(arguments.to_vec()),
        ["psql", url] => Shown::Psql(url.trim_matches('\'')),
        ["curl", url] => Shown::Curl(url),
        _ => panic!("no test runs this command of the README: {line}"),
    }
}

#[test]
fn the_readme_has_the_commands_that_the_tests_here_run() {
    let expected = [
        Shown::Make("demo"),
        Shown::Make("test"),
        Shown::Reprise(vec!["--upstream", DATABASE]),
        Shown::Reprise(vec!["check", "--config", "config.toml"]),
        Shown::Psql("postgres://postgres@127.0.0.1:6432/postgres?sslmode=disable"),
        Shown::Curl("http://127.0.0.1:9432/metrics"),
    ];
    assert_eq!(commands(), expected.into());
}

#[test]
fn make_has_its_targets_and_ci_runs_the_tests() {
    for command in commands() {
        if let Shown::Make(target) = command {
            assert!(MAKEFILE.contains(&format!("\n{target}: ")), "make {target}");
        }
    }
    assert!(CI.lines().any(|line| line.starts_with("exec make ") && line.contains(" test")), "{CI}");
    assert!(MAKEFILE.contains("run --release --locked --bin reprise -- demo"), "target/release/reprise");
}

#[test]
fn the_demonstration_has_the_table_that_the_readme_describes() {
    let report = stdout(&mut reprise(&["demo", "--clients", "4", "--accounts", "4", "--transfers", "40"]));
    let row = |style: &str, way: &str| {
        let line = report.lines().find(|line| line.contains(style) && line.contains(way));
        let cells = line.unwrap_or_else(|| panic!("{style}, {way}: {report}")).split('|').map(str::trim);
        cells.map(str::to_owned).collect::<Vec<_>>()
    };
    for style in ["blind", "read-modify-write"] {
        for way in ["no retries", "client's loop", "Reprise"] {
            let row = row(style, way);
            assert_eq!((row[3].as_str(), &row[10..12]), ("40", &["yes".to_owned(), "0".to_owned()][..]));
        }
    }
    let errors_the_app_saw = &row("blind", "Reprise")[5];
    assert_eq!(errors_the_app_saw, "0", "{report}");
}

#[test]
fn the_committed_configuration_is_valid() {
    let printed = stdout(reprise(&["check", "--config", "config.toml"]).current_dir(root()));
    assert!(KEYS.iter().all(|key| printed.contains(&format!("\n{} = ", key.name))), "{printed}");
    assert!(!printed.contains('#'), "{printed}");
}

#[tokio::test]
async fn the_proxy_of_the_readme_serves_what_the_readme_connects_to_it() {
    let database = Postgres::start(&[]).await.expect("a database");
    let proxy = Running::start(&["--upstream", DATABASE], &database.addr().to_string());
    for command in commands() {
        match command {
            Shown::Psql(url) => {
                let client = connect(&url.replace(CLIENTS, &proxy.clients)).await;
                let row = client.query_one("SELECT 1", &[]).await.expect("a row");
                assert_eq!(row.get::<_, i32>(0), 1);
            }
            Shown::Curl(url) => {
                let path = url.strip_prefix("http://").and_then(|url| url.strip_prefix(HTTP));
                let metrics = http_get(&proxy.http, path.expect("the default address"));
                assert!(metrics.contains("\nreprise_sessions_total "), "{metrics}");
            }
            Shown::Make(_) | Shown::Reprise(_) => {}
        }
    }
}

#[tokio::test]
async fn the_error_of_the_readme_is_what_a_client_gets() {
    let database = Postgres::start(&[]).await.expect("a database");
    let proxy = Running::start(&["--upstream", DATABASE], &database.addr().to_string());
    let direct = connect(&database.url("postgres")).await;
    let seats =
        "CREATE TABLE seats (id int, taken bool); INSERT INTO seats SELECT generate_series(1, 3), false";
    direct.batch_execute(seats).await.expect("a table");
    let client = connect(&format!("postgres://postgres@{}/postgres", proxy.clients)).await;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("a transaction");
    assert_eq!(client.query("SELECT id FROM seats", &[]).await.expect("rows").len(), 3);
    let other = "UPDATE seats SET taken = true; INSERT INTO seats VALUES (4, true)";
    direct.batch_execute(other).await.expect("another client's change");
    let error = client.batch_execute("UPDATE seats SET taken = true").await.expect_err("a conflict");
    let error = error.as_db_error().expect("the database's own error");
    assert_eq!(error.code().code(), "40001");
    let told = format!(
        "ERROR:  {}\nDETAIL:  {}\nHINT:  {}\n",
        error.message(),
        error.detail().unwrap_or_default(),
        error.hint().unwrap_or_default()
    );
    assert!(README.contains(&with_the_time_of_the_example(&told)), "the client got\n{told}");
    client.batch_execute("ROLLBACK").await.expect("the session goes on");
}

/// The text with the time of the README's example in place of the time that was taken.
fn with_the_time_of_the_example(text: &str) -> String {
    let (before, rest) = text.split_once(" attempts in ").expect("the attempts");
    let (_, after) = rest.split_once(" ms;").expect("the time");
    format!("{before} attempts in 2 ms;{after}")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn stdout(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: reprise\r\nConnection: close\r\n\r\n").expect("to ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A running proxy, ended with the test.
struct Running {
    child: Child,
    clients: String,
    http: String,
}

impl Running {
    /// Starts the proxy as the README does, with the database where it is, on free ports.
    fn start(arguments: &[&str], database: &str) -> Self {
        Self::start_with(arguments, database, &[])
    }

    /// The same, with these variables besides.
    fn start_with(arguments: &[&str], database: &str, variables: &[(&str, &str)]) -> Self {
        assert!(commands().contains(&Shown::Reprise(vec!["--upstream", DATABASE])));
        let moved = arguments.iter().map(|argument| if *argument == DATABASE { database } else { argument });
        let mut command = reprise(&moved.collect::<Vec<_>>());
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        let mut child =
            command.env("REPRISE_LOG_FORMAT", "json").stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("its standard error")).lines();
        let mut address_of = |message: &str| {
            let line = log.next().expect("a line of the log").expect("UTF-8");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(line["message"], message);
            line["address"].as_str().expect("an address").to_owned()
        };
        let http = address_of("serving metrics and health");
        let clients = address_of("accepting connections");
        // What it logs from now on must be read, or the pipe would fill up and stop it.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        Self { child, clients, http }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
