//! What connections are served by: the configuration, and what was read from the files that it names.
//!
//! It can be replaced while connections are served: those that are open keep what they began with.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::credentials::{Credentials, Error, readable_by_others};
use super::upstream::Database;
use crate::config::Config;
use crate::replay::{LockTable, Mode, Policy};

/// What new connections are served by.
pub struct Live(ArcSwap<Setup>);

/// What a connection is served by to its end.
pub(super) struct Setup {
    /// The configuration.
    pub(super) config: Config,
    /// What was read from the files that it names.
    pub(super) credentials: Credentials,
    policy: Arc<Policy>,
}

impl Live {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or does not fit another one.
    pub fn load(config: Config) -> Result<Self, Error> {
        Ok(Self(ArcSwap::from_pointee(Setup::load(config)?)))
    }

    /// Replaces the configuration, and reads the files that it names. It counts for connections that begin from now on.
    ///
    /// # Errors
    /// As of [`Self::load`]; then everything stays as it is.
    pub fn reload(&self, config: Config) -> Result<(), Error> {
        self.0.store(Arc::new(Setup::load(config)?));
        Ok(())
    }

    /// What a connection that begins now is served by.
    pub(super) fn now(&self) -> Arc<Setup> {
        self.0.load_full()
    }
}

impl Setup {
    fn load(config: Config) -> Result<Self, Error> {
        let credentials = Credentials::load(&config)?;
        for path in readable_by_others(&config) {
            tracing::warn!(file = %path.display(), "everybody on this machine may read this file: chmod 600");
        }
        Ok(Self { policy: Arc::new(config.policy()), credentials, config })
    }

    /// Where the database is.
    pub(super) fn database(&self) -> Database<'_> {
        Database { options: &self.config.upstream, credentials: &self.credentials }
    }

    /// What is done with LOCK TABLE in a session with this mode. Where the wire is left as it is, nothing.
    pub(super) fn lock_table(&self, mode: Mode) -> LockTable {
        match mode {
            Mode::Transparent => self.policy.lock_table,
            Mode::Observe | Mode::Off => LockTable::Forward,
        }
    }

    /// The policy of the configuration, with what is different for one session.
    pub(super) fn policy(&self, mode: Mode, lock_table: LockTable) -> Arc<Policy> {
        if (mode, lock_table) == (self.policy.mode, self.policy.lock_table) {
            Arc::clone(&self.policy)
        } else {
            Arc::new(Policy { mode, lock_table, ..Policy::clone(&self.policy) })
        }
    }
}
