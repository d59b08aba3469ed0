//! The built proxy, as an operator starts it.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::encryption::Settings;

/// A running `reprise`, ended with the value.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    http: SocketAddr,
    _child: Child,
}

impl Proxy {
    /// Starts the program that was built beside this one, on free ports, with the defaults and what is changed in them.
    pub(crate) async fn start(upstream: SocketAddr, settings: Settings) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("reprise");
        let mut command = Command::new(&program);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REPRISE_"))
        {
            command.env_remove(name);
        }
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--upstream",
            &upstream.to_string(),
        ]);
        command.env("REPRISE_LOG_FORMAT", "json").envs(settings).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{} does not start", program.display()))?;
        let mut log = BufReader::new(child.stderr.take().context("it has a standard error")?).lines();
        let mut addresses = Vec::new();
        for message in ["serving metrics and health", "accepting connections"] {
            let line = log.next_line().await?.context("the proxy ended")?;
            let line: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            ensure!(line["message"] == message, "the proxy logs {line} instead of {message}");
            addresses.push(line["address"].as_str().context("an address is logged")?.parse()?);
        }
        // What it logs from now on must be read, or the pipe would fill up and stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self { http: addresses[0], address: addresses[1], _child: child })
    }

    /// How many conflicts it has hidden, and how many transactions it has surfaced one to.
    pub(crate) async fn conflicts(&self) -> Result<(u32, u32)> {
        let metrics = self.metrics().await?;
        Ok((
            sum(&metrics, "reprise_conflicts_hidden_total"),
            sum(&metrics, "reprise_conflicts_surfaced_total"),
        ))
    }

    /// How many clients it has let begin a session.
    pub(crate) async fn sessions(&self) -> Result<u32> {
        Ok(sum(&self.metrics().await?, "reprise_sessions_total"))
    }

    async fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.http).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: reprise\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

/// The sum of a counter over its labels.
fn sum(metrics: &str, name: &str) -> u32 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let series = series.filter(|rest| rest.starts_with([' ', '{']));
    series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u32>().ok()).sum()
}
