//! Finds PostgreSQL's server binaries, on PATH and where distributions put them.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::account::Account;

/// Directories in which versions are installed side by side: the parent, what the name of a version's
/// directory begins with, and the rest of the path.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
];

/// Where PostgreSQL's own build installs.
const PLAIN: &str = "/usr/local/pgsql/bin";

/// A pair of `initdb` and `postgres` that belong together and run.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    /// Creates a data directory.
    pub(super) initdb: PathBuf,
    /// The server.
    pub(super) postgres: PathBuf,
    /// As `postgres --version` prints it.
    pub(super) version: String,
}

impl Binaries {
    /// Those on PATH if they work, else the newest elsewhere.
    pub(super) fn find(account: &Account) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .find_map(|directory| Self::probe(&directory, account))
            .or_else(|| newest(installed().filter_map(|directory| Self::probe(&directory, account))))
    }

    /// The pair in `directory`, unless it is incomplete or cannot be run by `account`.
    ///
    /// Links are followed first: PATH may hold a link to `postgres` alone, and the server looks for its
    /// own files beside the real binary.
    fn probe(directory: &Path, account: &Account) -> Option<Self> {
        let postgres = directory.join("postgres").canonicalize().ok()?;
        let initdb = postgres.with_file_name("initdb");
        let version = version(&postgres, account).filter(|version| version.starts_with("postgres "))?;
        self::version(&initdb, account)?;
        Some(Self { initdb, postgres, version })
    }
}

/// Finds an executable on PATH.
pub(super) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

fn version(program: &Path, account: &Account) -> Option<String> {
    let output = account.command(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn installed() -> impl Iterator<Item = PathBuf> {
    VERSIONED
        .into_iter()
        .flat_map(|(parent, prefix, rest)| {
            fs::read_dir(parent)
                .into_iter()
                .flatten()
                .flatten()
                .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(move |entry| entry.path().join(rest))
        })
        .chain([PathBuf::from(PLAIN)])
}

fn newest(found: impl Iterator<Item = Binaries>) -> Option<Binaries> {
    found.min_by_key(|binaries| Reverse(version_numbers(&binaries.version)))
}

/// The numbers of a version, so that 9.6 comes before 15.18 and that before 17beta1.
fn version_numbers(version: &str) -> Vec<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(version: &str) -> Binaries {
        Binaries { initdb: PathBuf::new(), postgres: PathBuf::new(), version: version.to_owned() }
    }

    #[test]
    fn the_newest_version_is_chosen_by_number() {
        let versions = ["9.6.24", "15.18 (Debian 15.18-0+deb12u1)", "17beta1", "15.2"];
        let found = versions.map(|version| binaries(&format!("postgres (PostgreSQL) {version}")));
        assert_eq!(newest(found.into_iter()).unwrap().version, "postgres (PostgreSQL) 17beta1");
        assert_eq!(version_numbers("postgres (PostgreSQL) 15.18 (Debian 15.18-0)"), [15, 18]);
    }

    #[test]
    fn a_directory_without_a_working_pair_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("postgres"), "not a program").unwrap();
        assert!(Binaries::probe(directory.path(), &Account::Own).is_none());
    }
}
