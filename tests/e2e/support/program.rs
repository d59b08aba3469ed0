//! The program itself, as an operator starts it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{eventually, within};
use crate::program::reprise;

/// A running `reprise`, ended with the test.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it on free ports, with these arguments and variables, and a log in JSON.
    pub(crate) async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::from(reprise(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]));
        command.args(arguments);
        Self::spawn(command, variables).await
    }

    /// Starts it with sockets that are open already, as systemd hands them over.
    pub(crate) async fn start_with(
        [first, second]: [OwnedFd; 2],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let program = reprise(&[]);
        let mut command = Command::new("sh");
        // The process of the shell becomes the program's: its number is the one that the sockets are for.
        let handing = "exec 3<&0 4>&1; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$@\"";
        command.args(["-c", handing, "sh"]).arg(program.get_program()).args(arguments);
        command.stdin(first).stdout(second);
        Self::spawn(command, variables).await
    }

    async fn spawn(mut command: Command, variables: &[(&str, &str)]) -> Self {
        command.env("REPRISE_LOG_FORMAT", "json").envs(variables.iter().copied());
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its standard error")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    log.lock().expect("no panic").push(line);
                }
            }
        });
        let program = Self { child, log };
        program.logged("accepting connections").await;
        program
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits for the line of the log with this message.
    pub(crate) async fn logged(&self, message: &str) -> serde_json::Value {
        let find = || {
            let lines = self.log();
            let mut lines =
                lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            lines.find(|line| line["message"] == message)
        };
        eventually(message, async || find().is_some()).await;
        find().expect("it was there")
    }

    async fn address(&self, message: &str) -> SocketAddr {
        self.logged(message).await["address"].as_str().expect("text").parse().expect("an address")
    }

    /// Where clients connect.
    pub(crate) async fn listens(&self) -> SocketAddr {
        self.address("accepting connections").await
    }

    /// Where it serves metrics and health.
    pub(crate) async fn serves_http(&self) -> SocketAddr {
        self.address("serving metrics and health").await
    }

    /// The answer of its HTTP endpoint.
    pub(crate) async fn http(&self, path: &str) -> String {
        let address = self.serves_http().await;
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: reprise\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("to ask");
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
        answer
    }

    /// Sends SIGTERM.
    pub(crate) async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends a signal, by the name that `kill` has for it.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let killed = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(killed.expect("kill").success());
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        self.status("VmHWM") * 1024
    }

    /// A figure that Linux tells of it, by its name.
    pub(crate) fn status(&self, name: &str) -> usize {
        let path = format!("/proc/{}/status", self.child.id().expect("it runs"));
        let text = std::fs::read_to_string(path).expect("Linux");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number =
            line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
        number.expect("a number")
    }

    /// How many files and sockets it has open.
    pub(crate) fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id().expect("it runs"));
        std::fs::read_dir(path).expect("Linux").count()
    }

    /// Waits for its end.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        within("its end", self.child.wait()).await.expect("its end").code()
    }
}
