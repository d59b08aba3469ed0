//! A program of the suite, run as a process that is told check by check what to do.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::target::{PATIENCE, Target};

/// A running program.
pub(crate) struct Program {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts a program before the database that this URL names.
    pub(crate) fn start(command: &mut Command, url: &str, target: &Target) -> Result<Self> {
        command.env("DATABASE_URL", url).env("TARGET", target.kind.name());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let orders = child.stdin.take().context("it has a standard input")?;
        let answers = child.stdout.take().context("it has a standard output")?;
        Ok(Self { child, orders, answers: BufReader::new(answers).lines() })
    }

    /// Whatever a program says of its failures, where it is to fail, is of no interest.
    pub(crate) fn start_to_fail(mut command: Command, url: &str, target: &Target) -> Result<Self> {
        Self::start(command.stderr(Stdio::null()), url, target)
    }

    /// Runs a check, and tells what the program saw.
    pub(crate) async fn run(&mut self, check: &str, target: &Target) -> Result<String> {
        let seen = tokio::time::timeout(PATIENCE, self.converse(check, target)).await;
        seen.with_context(|| format!("{check}: not within {PATIENCE:?}"))?.with_context(|| check.to_owned())
    }

    async fn converse(&mut self, check: &str, target: &Target) -> Result<String> {
        let struck = target.struck();
        self.tell(check).await?;
        loop {
            let line = self.answers.next_line().await?.context("the program ended")?;
            match line.split_once(' ') {
                Some(("=", seen)) => return Ok(seen.to_owned()),
                None if line == "rival" => target.interfere().await?,
                None if line == "running" => target.until_running(struck).await?,
                _ => bail!("the program says {line:?}"),
            }
            self.tell("done").await?;
        }
    }

    async fn tell(&mut self, line: &str) -> Result<()> {
        Ok(self.orders.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Lets the program end.
    pub(crate) async fn end(self) -> Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        const END_DURATION_MAX: Duration = Duration::from_secs(10);
        let status = tokio::time::timeout(END_DURATION_MAX, child.wait()).await;
        let status = status.context("the program does not end")??;
        if status.success() { Ok(()) } else { bail!("the program ended with {status}") }
    }
}
