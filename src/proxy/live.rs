//! What connections are served by: the configuration, and what was read from the files that it names.
//!
//! It can be replaced while connections are served: those that are open keep what they began with.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::auth::Users;
use super::credentials::{Credentials, Error, readable_by_others};
use super::refusal::Refusal;
use super::sockets::Peer;
use super::upstream::Database;
use crate::config::{Client, Config, Settings};
use crate::governor;
use crate::replay::{LockTable, Mode, Policy};

/// What new connections are served by.
pub struct Live {
    setup: ArcSwap<Setup>,
    operator: OnceLock<Arc<dyn Operator>>,
}

/// Whoever runs the proxy, as far as the console may ask it for something.
pub trait Operator: Send + Sync {
    /// Every option with its value, and where that comes from.
    fn settings(&self) -> Settings;

    /// Reads the configuration and its files again.
    ///
    /// # Errors
    /// When something is wrong with them: then everything stays as it is.
    fn reload(&self) -> Result<(), String>;

    /// Begins the end: as at SIGTERM.
    fn drain(&self);
}

/// What a connection is served by to its end.
pub(super) struct Setup {
    /// The configuration.
    pub(super) config: Config,
    /// What was read from the files that it names.
    pub(super) credentials: Credentials,
    policy: Arc<Policy>,
    governor: Arc<governor::Policy>,
}

impl Live {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or does not fit another one.
    pub fn load(config: Config) -> Result<Self, Error> {
        Ok(Self { setup: ArcSwap::from_pointee(Setup::load(config)?), operator: OnceLock::new() })
    }

    /// Replaces the configuration, and reads the files that it names. It counts for connections that begin from now on.
    ///
    /// # Errors
    /// As of [`Self::load`]; then everything stays as it is.
    pub fn reload(&self, config: Config) -> Result<(), Error> {
        self.setup.store(Arc::new(Setup::load(config)?));
        Ok(())
    }

    /// What a connection that begins now is served by.
    pub(super) fn now(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// Says who runs the proxy; the first to say so stays.
    pub fn set_operator(&self, operator: Arc<dyn Operator>) {
        let _ = self.operator.set(operator);
    }

    /// Who runs the proxy, if anybody has said so.
    pub(super) fn operator(&self) -> Option<&dyn Operator> {
        self.operator.get().map(|operator| &**operator)
    }

    /// Sets `retry.mode`, until the configuration is read again.
    pub(super) fn set_mode(&self, mode: Mode) {
        self.setup.rcu(|setup| {
            let mut config = setup.config.clone();
            config.retry.policy.mode = mode;
            Setup::new(config, setup.credentials.clone())
        });
    }
}

impl Setup {
    fn load(config: Config) -> Result<Self, Error> {
        let credentials = Credentials::load(&config)?;
        for path in readable_by_others(&config) {
            tracing::warn!(file = %path.display(), "everybody on this machine may read this file: chmod 600");
        }
        Ok(Self::new(config, credentials))
    }

    fn new(config: Config, credentials: Credentials) -> Self {
        let (policy, governor) = (Arc::new(config.policy()), Arc::new(config.governor.clone()));
        Self { config, credentials, policy, governor }
    }

    /// Where the database is.
    pub(super) fn database(&self) -> Database<'_> {
        Database { options: &self.config.upstream, credentials: &self.credentials }
    }

    /// The users of the console, if that is what a client asks for.
    ///
    /// # Errors
    /// If it may not do so from where it is.
    pub(super) fn console(&self, client: &Client, peer: Peer) -> Result<Option<Arc<Users>>, Refusal> {
        let admin = &self.config.admin;
        let users = self.credentials.console().filter(|_| *client.database == *admin.database.as_bytes());
        match peer.address() {
            Some(address) if users.is_some() && !admin.is_open_to(address) => Err(Refusal::ConsoleClosed),
            _ => Ok(users),
        }
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

    /// What the governor may do to one session, with a mode of its own.
    pub(super) fn governor(&self, mode: governor::Mode) -> Arc<governor::Policy> {
        if mode == self.governor.mode {
            Arc::clone(&self.governor)
        } else {
            Arc::new(governor::Policy { mode, ..governor::Policy::clone(&self.governor) })
        }
    }
}
