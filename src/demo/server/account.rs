//! The operating system's account that a server runs as: database servers refuse to run as root.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User};
use tempfile::TempDir;

use super::Error;

/// Accounts without privileges that are tried in turn when this process is root's.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Who runs the server and owns its files.
#[derive(Clone, Debug)]
pub(super) enum Account {
    /// The user that runs this process.
    Own,
    /// A user without privileges, because this process is root's.
    Unprivileged(Uid, Gid),
}

impl Account {
    /// The user that runs this process, unless that is root.
    pub(super) fn choose() -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self::Own);
        }
        UNPRIVILEGED
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Unprivileged(user.uid, user.gid))
            .ok_or(Error::NoAccount)
    }

    /// A command that will run as this account.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        if let Self::Unprivileged(uid, gid) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// A new directory of this account, at a place that it can reach.
    pub(super) fn create_directory(&self) -> io::Result<TempDir> {
        let parent = self.reachable_parent()?;
        let private = Permissions::from_mode(0o700);
        let directory =
            tempfile::Builder::new().prefix("reprise-").permissions(private).tempdir_in(parent)?;
        if let Self::Unprivileged(uid, gid) = self {
            chown(directory.path(), Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        Ok(directory)
    }

    fn reachable_parent(&self) -> io::Result<PathBuf> {
        [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")]
            .into_iter()
            .filter_map(|parent| parent.canonicalize().ok())
            .find(|parent| self.reaches(parent))
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::PermissionDenied, "no temporary directory can be used")
            })
    }

    /// Root's own temporary directory may lie below a directory that others cannot enter.
    fn reaches(&self, directory: &Path) -> bool {
        const OTHERS_ENTER: u32 = 0o001;
        match self {
            Self::Own => true,
            Self::Unprivileged(..) => directory
                .ancestors()
                .all(|ancestor| ancestor.metadata().is_ok_and(|found| found.mode() & OTHERS_ENTER != 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(bits: u32) -> Permissions {
        Permissions::from_mode(bits)
    }

    #[test]
    fn a_directory_below_a_closed_one_is_not_reachable_for_others() {
        let closed = tempfile::Builder::new().permissions(mode(0o700)).tempdir().unwrap();
        let inner = closed.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(&inner, mode(0o755)).unwrap();
        let nobody = Account::Unprivileged(Uid::from_raw(65534), Gid::from_raw(65534));
        assert!(!nobody.reaches(&inner));
        assert!(Account::Own.reaches(&inner));
        std::fs::set_permissions(closed.path(), mode(0o755)).unwrap();
        assert!(nobody.reaches(&inner));
    }
}
