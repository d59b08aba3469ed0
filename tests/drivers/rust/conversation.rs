//! How a program of the suite is told what to do, and tells what it saw: lines on standard input and output.
//!
//! It reads the name of a check, runs it, and answers with "= " and its observation. In the middle of a check it may
//! say "rival", and another client of the database changes the balance of account 1, or "running", and is answered
//! when the server runs its statement. Either is answered with a line.

use std::io;

/// The suite at the other end of standard input and output.
#[derive(Default)]
pub(crate) struct Conversation(());

impl Conversation {
    /// The name of the next check.
    pub(crate) fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let length = io::stdin().read_line(&mut line)?;
        Ok((length > 0).then(|| line.trim().to_owned()))
    }

    /// Lets another client add 1 to the balance of account 1, and commit.
    pub(crate) async fn rival(&mut self) -> io::Result<()> {
        ask("rival").await
    }

    /// Waits until the server runs the statement that is to be cancelled.
    pub(crate) async fn running(&mut self) -> io::Result<()> {
        ask("running").await
    }
}

/// Says a word and waits for the answer, while the connection is served.
async fn ask(word: &'static str) -> io::Result<()> {
    tokio::task::spawn_blocking(move || {
        println!("{word}");
        io::stdin().read_line(&mut String::new()).map(drop)
    })
    .await?
}

/// The SQLSTATE with which something failed.
pub(crate) fn sqlstate<T, E: std::fmt::Debug>(
    outcome: Result<T, E>,
    code: impl FnOnce(&E) -> Option<String>,
) -> String {
    match outcome {
        Ok(_) => "nothing".into(),
        Err(error) => code(&error).unwrap_or_else(|| format!("{error:?}")),
    }
}

/// The version of a package that this program was built with, by the workspace's lock file.
pub(crate) fn version(package: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let start = format!("name = \"{package}\"\nversion = \"");
    let version = LOCK.split_once(&start).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or_default().to_owned()
}
