//! The program as a user starts it: messages, exit codes, signals.

mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;
use std::{iter, thread};

use program::reprise;

/// Exit code, standard output and standard error.
fn finished(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("to write it");
    let path = file.path().display().to_string();
    (file, path)
}

#[test]
fn check_prints_the_configuration_in_effect_and_where_it_comes_from() {
    let (_file, path) = file("[retry]\nmax_attempts = 7\ntimeout = \"15s\"\n");
    let mut command = reprise(&["check", "--config", &path, "--mode", "observe"]);
    command.env("REPRISE_LOG_LEVEL", "debug").env("REPRISE_RETRY_MODE", "off");
    let (code, stdout, stderr) = finished(command);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let line = |start: &str| stdout.lines().find(|line| line.starts_with(start)).expect("its line");
    assert_eq!(line("max_attempts"), format!("max_attempts = 7 # {path}:2"));
    assert_eq!(line("timeout"), "timeout = \"15s\"");
    assert!(stdout.contains("\nmode = \"observe\" # --mode\n"), "{stdout}");
    assert_eq!(line("level"), "level = \"debug\" # REPRISE_LOG_LEVEL");
}

#[test]
fn check_tells_every_problem_with_line_and_key() {
    let (_file, path) = file("[retry]\nmax_attempts = 0\n\n[htpp]\n");
    let mut command = reprise(&["check", "--config", &path]);
    command.env("REPRISE_UPSTREAM_ADDRESS", "nowhere");
    let (code, stdout, stderr) = finished(command);
    assert_eq!((code, stdout.as_str()), (1, ""));
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert!(lines[0].starts_with(&format!("{path}:2: retry.max_attempts: 0 is out of range")), "{stderr}");
    assert_eq!(lines[1], format!("{path}:4: htpp: unknown section; did you mean [http]?"));
    assert!(lines[2].starts_with("REPRISE_UPSTREAM_ADDRESS: upstream.address: "), "{stderr}");
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let (_file, path) = file("[retry]\nmax_attempts = 7\n");
    for arguments in [["check"].as_slice(), &["check", "--mode", "off"]] {
        let mut command = reprise(arguments);
        command.env("REPRISE_CONFIG", &path);
        let (code, stdout, stderr) = finished(command);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(&format!("max_attempts = 7 # {path}:2")), "{stdout}");
    }
}

#[test]
fn no_file_is_read_unless_it_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("config.toml"), "nonsense").expect("to write it");
    let mut command = reprise(&["check"]);
    command.current_dir(directory.path());
    assert_eq!(finished(command).0, 0);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let cases: [(&[&str], &str); 7] = [
        (&["check", "--config", "no/such/file"], "cannot read no/such/file"),
        (&["--config", "no/such/file"], "cannot read no/such/file"),
        (&["check", "--listen", "nowhere"], "--listen: proxy.listen: \"nowhere\" is not IP:PORT"),
        (&["--upstream", "nowhere"], "--upstream: upstream.address: \"nowhere\" is not HOST:PORT"),
        (&["--mode", "blind"], "[possible values: transparent, observe, off]"),
        (&["--colour"], "unexpected argument '--colour'"),
        (&["chek"], "unrecognized subcommand 'chek'"),
    ];
    for (arguments, message) in cases {
        let (code, stdout, stderr) = finished(reprise(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_bad_configuration_stops_the_start_with_exit_code_1() {
    let mut command = reprise(&[]);
    command.env("REPRISE_RETRY_TIMEOUT", "soon");
    let (code, _, stderr) = finished(command);
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("REPRISE_RETRY_TIMEOUT: retry.timeout: \"soon\" is not a duration"),
        "{stderr}"
    );
}

#[test]
fn help_tells_flags_subcommands_variables_and_exit_codes() {
    let (code, stdout, _) = finished(reprise(&["--help"]));
    assert_eq!(code, 0);
    let flags = ["--config", "--listen", "--upstream", "--http", "--mode", "--help", "--version"];
    let variables = reprise::config::KEYS.iter().map(|key| format!("{}={}", key.variable(), key.default));
    let told = flags.map(str::to_owned).into_iter().chain(variables);
    for text in told.chain(["\n  check ", "Examples:", "Exit codes:"].map(str::to_owned)) {
        assert!(stdout.contains(&text), "{text} is not in\n{stdout}");
    }
    let (code, stdout, _) = finished(reprise(&["--version"]));
    assert_eq!((code, stdout), (0, format!("reprise {}\n", env!("CARGO_PKG_VERSION"))));
}

/// How long the program may take for anything before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy, ended with the test.
struct Running {
    child: Child,
    log: Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = reprise(arguments);
        command.env("REPRISE_LOG_FORMAT", "json").stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("its standard error"));
        let (sender, log) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, log }
    }

    /// Waits for the line of the log with this message.
    fn logged(&self, message: &str) -> serde_json::Value {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("\"{message}\" was not logged: {error}"));
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if line["message"] == message {
                return line;
            }
        }
    }

    /// Waits for the end, which closes standard error.
    fn exit_code(mut self) -> Option<i32> {
        let end = iter::repeat_with(|| self.log.recv_timeout(PATIENCE)).find_map(Result::err);
        assert_eq!(end, Some(RecvTimeoutError::Disconnected), "it did not end");
        self.child.wait().expect("it has ended").code()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: reprise\r\nConnection: close\r\n\r\n").expect("to ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn it_runs_until_a_signal() {
    for signal in ["TERM", "INT"] {
        let running = Running::start(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let http = running.logged("serving metrics and health")["address"].as_str().expect("text").to_owned();
        let accepting = running.logged("accepting connections");
        assert_eq!(accepting["upstream"], "127.0.0.1:26257");
        TcpStream::connect(accepting["address"].as_str().expect("text")).expect("it listens");
        assert!(http_get(&http, "/readyz").starts_with("HTTP/1.1 200 "));
        assert!(http_get(&http, "/metrics").contains("\nreprise_sessions_total "));
        running.signal(signal);
        running.logged("shutting down; a second signal ends it at once");
        assert_eq!(running.exit_code(), Some(0), "{signal}");
    }
}

#[test]
fn an_address_in_use_is_exit_code_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for (arguments, key) in [
        (["--listen", &address, "--http", ""], "proxy.listen"),
        (["--http", &address, "--listen", "127.0.0.1:0"], "http.listen"),
    ] {
        let (code, _, stderr) = finished(reprise(&arguments));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&format!("cannot listen on {address} ({key})")), "{stderr}");
    }
}
