//! The dashboards and alerts are true: every metric in them exists, and on a real Prometheus that scrapes a proxy under load
//! every query gives data.

mod program;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use program::reprise;
use reprise::demo::server::Postgres;
use reprise::telemetry::{METRICS, PROCESS_METRICS};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

const ALERTS: &str = include_str!("../prometheus/alerts.yml");
const TESTS_OF_ALERTS: &str = include_str!("../prometheus/alerts.test.yml");
const README: &str = include_str!("../README.md");

/// What Prometheus scrapes in the committed configuration, and how often.
const TARGET: &str = "reprise:9432";
const INTERVAL: &str = "5s";
/// How long it may take until every query gives data.
const PATIENCE: Duration = Duration::from_secs(120);
/// Clients of the load, and the rows that they fight for.
const CLIENTS: usize = 8;
const ROWS: usize = 2;
/// Transactions of a client on one connection.
const TRANSACTIONS: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The dashboards, by the names of their files.
fn dashboards() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(root().join("grafana/dashboards")).expect("the dashboards");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        (path.display().to_string(), serde_json::from_str(&text).expect("JSON"))
    };
    entries.map(|entry| read(entry.expect("an entry").path())).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every query of every panel, with where it stands.
fn panel_queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in list(&dashboard, "panels") {
            let place = format!("{file}, \"{}\"", text(panel, "title"));
            queries
                .extend(list(panel, "targets").iter().map(|t| (place.clone(), text(t, "expr").to_owned())));
        }
    }
    queries
}

/// The metrics that are named in a text.
fn metrics_named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("reprise_") || word.starts_with("process_")).collect()
}

/// The metric that a series belongs to.
fn metric_of(series: &str) -> Option<&'static str> {
    let parts = |name: &str| ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}"));
    let is_of = |name: &str, kind: &str| {
        if kind == "histogram" { parts(name).iter().any(|part| part == series) } else { name == series }
    };
    let own = METRICS.iter().find(|metric| is_of(metric.name, metric.kind.name())).map(|metric| metric.name);
    own.or_else(|| PROCESS_METRICS.iter().copied().find(|name| *name == series))
}

#[test]
fn every_metric_that_is_named_exists_and_every_one_is_shown() {
    let mut shown = BTreeSet::new();
    let queries = panel_queries();
    let alerts = ALERTS.lines().filter(|line| !line.contains("summary:") && !line.contains("description:"));
    let alerts: String = alerts.collect::<Vec<_>>().join("\n");
    let texts = queries.iter().map(|(place, query)| (place.as_str(), query.as_str()));
    for (place, text) in texts.chain([("alerts.yml", alerts.as_str())]) {
        for name in metrics_named(text) {
            shown.insert(metric_of(name).unwrap_or_else(|| panic!("{place}: there is no metric {name}")));
        }
    }
    let hidden: Vec<_> = METRICS.iter().filter(|metric| !shown.contains(metric.name)).collect();
    assert!(hidden.is_empty(), "in no panel and no alert: {hidden:?}");
}

#[test]
fn every_dashboard_is_whole() {
    let mut names = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert!(names.insert(text(&dashboard, "uid").to_owned()), "{file}: its uid is another's too");
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64()), "{file}, {title}: its id is another's too");
            assert!(text(panel, "description").ends_with('.'), "{file}, {title}: says what it shows");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{file}, {title}: no unit");
            assert!(!list(panel, "targets").is_empty(), "{file}, {title}: asks nothing");
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            assert!(place("x") + place("w") <= 24, "{file}, {title}: is cut off");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{file}, {title}: lies on another panel");
                }
            }
        }
    }
    assert_eq!(names.len(), 3);
}

#[test]
fn every_alert_is_documented_and_tested() {
    let alerts: Vec<_> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let documented: Vec<_> = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `Reprise")?.split('`').next())
        .map(|rest| format!("Reprise{rest}"))
        .collect();
    assert_eq!(documented, alerts);
    for alert in alerts {
        let tests: Vec<_> =
            TESTS_OF_ALERTS.split("      - eval_time: ").filter(|t| t.contains(alert)).collect();
        let calm = tests.iter().any(|test| test.contains("exp_alerts: []"));
        let fires = tests.iter().any(|test| test.contains("exp_labels:"));
        assert!(calm && fires, "{alert} is not shown to fire and to be calm");
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let output = Command::new("promtool").args(arguments).current_dir(root().join("prometheus")).output();
        let output = output.expect("promtool: scripts/install-prometheus.sh installs it");
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "promtool {arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_gives_data_on_a_real_prometheus() {
    let database = Postgres::start(&[]).await.expect("a database");
    let proxy = Proxy::start(&database.addr().to_string());
    let load = start_load(&proxy.clients, &database.url("postgres")).await;
    promtool_takes(&http_get(&proxy.http, "/metrics"));
    let prometheus = Prometheus::start(&proxy.http);

    let mut waiting: Vec<_> =
        panel_queries().into_iter().map(|(place, query)| (place, interpolated(&query))).collect();
    waiting
        .extend(prometheus.alerts().into_iter().map(|(alert, query)| (alert, measured(&query).to_owned())));
    assert!(waiting.len() > 40, "{waiting:?}");
    let start = Instant::now();
    while !waiting.is_empty() {
        waiting.retain(|(place, query)| !prometheus.gives_data(place, query));
        assert!(start.elapsed() < PATIENCE, "no data within {PATIENCE:?}: {waiting:#?}");
        assert!(!load.iter().any(tokio::task::JoinHandle::is_finished), "the load has failed");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    load.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A query as Grafana sends it.
fn interpolated(query: &str) -> String {
    let query = query.replace("$__rate_interval", "10s").replace("$__range", "1m").replace("$instance", ".*");
    assert!(!query.contains('$'), "{query}");
    query
}

/// What an alert compares, without the comparison at its end.
fn measured(query: &str) -> &str {
    let cut = query.rsplit_once(" > ").or_else(|| query.rsplit_once(" < "));
    let (measured, limit) = cut.unwrap_or_else(|| panic!("{query} does not end with a comparison"));
    assert!(limit.parse::<f64>().is_ok(), "{query} is not compared with a number");
    measured
}

/// Checks the metrics as `promtool check metrics` does.
fn promtool_takes(metrics: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool: scripts/install-prometheus.sh installs it");
    child.stdin.take().expect("its input").write_all(metrics.as_bytes()).expect("to write");
    let output = child.wait_with_output().expect("its end");
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && told.is_empty(), "{told}");
}

/// Clients that fight for a few rows, blindly and by what they have read. They go on until the test ends.
async fn start_load(clients: &str, database: &str) -> Vec<tokio::task::JoinHandle<()>> {
    let direct = connect(database).await;
    let rows = format!(
        "CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL);
         INSERT INTO counters SELECT id, 0 FROM generate_series(1, {ROWS}) id"
    );
    direct.batch_execute(&rows).await.expect("a table");
    let work = |client: usize| {
        let url = format!("postgres://postgres@{clients}/postgres");
        tokio::spawn(async move {
            loop {
                let session = connect(&url).await;
                for number in 0..TRANSACTIONS {
                    transaction(&session, 1 + (client + number) % ROWS, number % 4 == 0).await;
                }
            }
        })
    };
    (0..CLIENTS).map(work).collect()
}

/// One transaction. What it reads may have changed in a replay: then it is shown the conflict, and gives up.
async fn transaction(session: &Client, row: usize, reads: bool) {
    session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("a transaction");
    if reads {
        session.query("SELECT n FROM counters WHERE id = $1", &[&(row as i32)]).await.expect("a row");
    }
    let update = format!("UPDATE counters SET n = n + 1 WHERE id = {row}");
    match session.batch_execute(&update).await {
        Ok(()) => session.batch_execute("COMMIT").await.expect("a commit"),
        Err(error) => {
            assert_eq!(error.code().map(|code| code.code()), Some("40001"), "{error}");
            session.batch_execute("ROLLBACK").await.expect("a rollback");
        }
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    // Of HTTP 1.0, so that the answer comes in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("to ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

/// A process that ends with the test, and what it logs in JSON.
struct Running(Child);

impl Running {
    /// Starts it, and waits for these messages of its log, in order; gives the addresses that stand in them.
    fn start<const N: usize>(command: &mut Command, field: &str, messages: [&str; N]) -> (Self, [String; N]) {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("its standard error")).lines();
        let running = Self(child);
        let addresses = messages.map(|message| {
            let mut lines = log.by_ref().map(|line| line.expect("UTF-8"));
            let read = |line: String| serde_json::from_str::<Value>(&line).expect("JSON");
            let found = lines.find_map(|line| Some(read(line)).filter(|line| line[field] == message));
            text(&found.unwrap_or_else(|| panic!("it ended before \"{message}\"")), "address").to_owned()
        });
        // What it logs from now on must be read, or the pipe would fill up and stop it.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        (running, addresses)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The proxy, which runs one transaction at a time again, so that others wait.
struct Proxy {
    clients: String,
    http: String,
    _process: Running,
}

impl Proxy {
    fn start(database: &str) -> Self {
        let arguments = ["--upstream", database, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let mut command = reprise(&arguments);
        command.env("REPRISE_LOG_FORMAT", "json").env("REPRISE_RETRY_MAX_CONCURRENT_REPLAYS", "1");
        command.env("REPRISE_GOVERNOR_MODE", "on");
        let messages = ["serving metrics and health", "accepting connections"];
        let (process, [http, clients]) = Running::start(&mut command, "message", messages);
        Self { clients, http, _process: process }
    }
}

/// A Prometheus with the committed configuration, but for where the proxy is and how often it is asked.
struct Prometheus {
    address: String,
    _process: Running,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let committed = std::fs::read_to_string(root().join("prometheus/prometheus.yml")).expect("UTF-8");
        assert!(committed.contains(TARGET) && committed.contains(INTERVAL), "{committed}");
        let config = committed.replace(TARGET, target).replace(INTERVAL, "1s");
        std::fs::write(directory.path().join("prometheus.yml"), config).expect("written");
        std::fs::write(directory.path().join("alerts.yml"), ALERTS).expect("written");
        let mut command = Command::new("prometheus");
        command.current_dir(directory.path()).args(["--log.format=json", "--web.listen-address=127.0.0.1:0"]);
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        let messages = ["Listening on", "Server is ready to receive web requests."];
        let (process, [address, _]) = Running::start(&mut command, "msg", messages);
        Self { address, _process: process, _directory: directory }
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&http_get(&self.address, path)).expect("JSON")
    }

    /// The alerts as Prometheus has read them, once it has.
    fn alerts(&self) -> Vec<(String, String)> {
        let start = Instant::now();
        loop {
            let answer = self.get("/api/v1/rules");
            let groups = list(&answer["data"], "groups").iter();
            let rules = groups.flat_map(|group| list(group, "rules"));
            let found: Vec<_> =
                rules.map(|r| (text(r, "name").to_owned(), text(r, "query").to_owned())).collect();
            if !found.is_empty() {
                assert_eq!(found.len(), ALERTS.matches("- alert: ").count());
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "{answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether a query, which must be a valid one, gives a number.
    fn gives_data(&self, place: &str, query: &str) -> bool {
        let answer = self.get(&format!("/api/v1/query?query={}", escaped(query)));
        assert_eq!(answer["status"], "success", "{place}: {query}: {answer}");
        let values = list(&answer["data"], "result").iter().map(|series| number(&series["value"][1]));
        values.flatten().any(|value| !value.is_nan())
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}

/// A text as it stands in a URL.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
