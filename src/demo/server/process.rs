//! A server process that cannot outlive this one, and that takes its directory along when it ends.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;

use super::account::Account;

/// Runs the server beside a watch that reads this process's end of a pipe. The pipe closes on a drop as on a
/// crash, a signal or a `kill -9` of this process, or at its exit with the server in a static: each of
/// them ends the server.
const WATCH: &str = r#"
directory=$1 signal=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
( read -r closed <&3; kill -s "$signal" "$server" ) 2>/dev/null &
watch=$!
wait "$server"
kill "$watch" 2>/dev/null
cd /
rm -rf "$directory"
"#;

/// A running server. Dropping it stops the server and removes its directory.
#[derive(Debug)]
pub(super) struct Process {
    shell: Child,
    lifeline: Option<ChildStdin>,
    log: File,
    directory: PathBuf,
}

impl Process {
    /// Starts `server` as `account` in `directory`, to be ended by `signal` (its name, as `kill -s` takes it).
    pub(super) fn spawn(
        account: &Account,
        directory: TempDir,
        signal: &str,
        server: &Command,
    ) -> io::Result<Self> {
        let log = tempfile::tempfile()?;
        let mut shell = account.command("/bin/sh");
        shell
            .args(["-c", WATCH, "sh"])
            .arg(directory.path())
            .arg(signal)
            .arg(server.get_program())
            .args(server.get_args())
            .envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            // A Ctrl-C at the terminal is for us; the server's end follows from ours.
            .process_group(0);
        let mut shell = shell.spawn()?;
        let lifeline = shell.stdin.take();
        // From here on the shell removes it.
        Ok(Self { shell, lifeline, log, directory: directory.keep() })
    }

    /// Whether the server still runs.
    pub(super) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.shell.try_wait()?.is_none())
    }

    /// What the server wrote to its standard output and error.
    pub(super) fn log(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.log.seek(SeekFrom::Start(0)).and_then(|_| self.log.read_to_end(&mut text));
        match read {
            Ok(_) => String::from_utf8_lossy(&text).trim_end().to_owned(),
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }

    /// Where the server keeps its files.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nothing can be done about a failure here: the shell has its order, or is gone.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_ends_the_server_and_removes_its_directory() {
        let account = Account::choose().unwrap();
        let directory = account.create_directory().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let mut process = Process::spawn(&account, directory, "TERM", &sleep).unwrap();
        let directory = process.directory().to_owned();
        assert!(process.is_running().unwrap());
        assert!(directory.exists());
        drop(process);
        assert!(!directory.exists());
    }

    #[test]
    fn a_server_that_ends_by_itself_is_noticed_and_leaves_its_words() {
        let account = Account::choose().unwrap();
        let directory = account.create_directory().unwrap();
        let mut echo = Command::new("echo");
        echo.arg("cannot bind");
        let mut process = Process::spawn(&account, directory, "TERM", &echo).unwrap();
        process.shell.wait().unwrap();
        assert!(!process.is_running().unwrap());
        assert_eq!(process.log(), "cannot bind");
        assert!(!process.directory().exists());
    }
}
