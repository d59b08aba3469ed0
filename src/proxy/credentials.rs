//! What is read from files besides the configuration: certificates, keys, authorities and passwords.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::auth::{self, Users};
use super::tls::{self, Acceptor, Connector};
use crate::config::Config;

/// Everything that was read.
#[derive(Clone)]
pub(super) struct Credentials {
    acceptor: Option<Arc<Acceptor>>,
    connector: Option<Arc<Connector>>,
    users: Option<Arc<Users>>,
    console: Option<Arc<Users>>,
}

/// Why a file that the configuration names cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// One of those of TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The one with the passwords.
    #[error(transparent)]
    Auth(#[from] auth::Error),
}

impl Credentials {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or does not fit another one.
    pub(super) fn load(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            acceptor: Acceptor::load(&config.tls)?.map(Arc::new),
            connector: Connector::load(&config.upstream.tls, &config.upstream.address)?.map(Arc::new),
            users: config.auth.file.as_deref().map(Users::load).transpose()?.map(Arc::new),
            console: config.admin.file.as_deref().map(Users::load).transpose()?.map(Arc::new),
        })
    }

    /// How clients are served with TLS, if they are.
    pub(super) fn acceptor(&self) -> Option<Arc<Acceptor>> {
        self.acceptor.clone()
    }

    /// How the database is reached with TLS, if it is.
    pub(super) fn connector(&self) -> Option<Arc<Connector>> {
        self.connector.clone()
    }

    /// Who may use the console, if there is one.
    pub(super) fn console(&self) -> Option<Arc<Users>> {
        self.console.clone()
    }

    /// Who may log in, if that is not left to the database.
    pub(super) fn users(&self) -> Option<Arc<Users>> {
        self.users.clone()
    }
}

/// The files with keys and passwords that everybody on this machine may read. They are used all the same: where files are
/// mounted, as secrets of containers are, their permissions may not be the operator's choice.
pub fn readable_by_others(config: &Config) -> Vec<PathBuf> {
    const OTHERS_READ: u32 = 0o004;
    let identities = [&config.tls.identity, &config.upstream.tls.identity].into_iter().flatten();
    let lookup = config.report.lookup.iter().flat_map(|lookup| &lookup.password_file);
    let passwords = config.auth.file.iter().chain(&config.admin.file).chain(lookup);
    let files = identities.map(|identity| &identity.key).chain(passwords);
    let is_exposed =
        |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0);
    files.filter(|path| is_exposed(path)).cloned().collect()
}
