//! What is read from files besides the configuration: certificates, keys, authorities and passwords.
//!
//! It can be read again while connections are served: those that are open keep what they began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::auth::{self, Users};
use super::tls::{self, Acceptor, Connector};
use crate::config::Config;

/// Everything that was read, and how it is read again.
pub struct Credentials {
    config: Config,
    current: ArcSwap<Read>,
}

/// What was read at one time.
struct Read {
    acceptor: Option<Arc<Acceptor>>,
    connector: Option<Arc<Connector>>,
    users: Option<Arc<Users>>,
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
    pub fn load(config: &Config) -> Result<Self, Error> {
        Ok(Self { config: config.clone(), current: ArcSwap::from_pointee(Read::now(config)?) })
    }

    /// Reads the files again. What is read counts for connections that begin from now on.
    ///
    /// # Errors
    /// As of [`Self::load`]; then everything stays as it is.
    pub fn reload(&self) -> Result<(), Error> {
        self.current.store(Arc::new(Read::now(&self.config)?));
        Ok(())
    }

    /// How clients are served with TLS, if they are.
    pub(super) fn acceptor(&self) -> Option<Arc<Acceptor>> {
        self.current.load().acceptor.clone()
    }

    /// How the database is reached with TLS, if it is.
    pub(super) fn connector(&self) -> Option<Arc<Connector>> {
        self.current.load().connector.clone()
    }

    /// Who may log in, if that is not left to the database.
    pub(super) fn users(&self) -> Option<Arc<Users>> {
        self.current.load().users.clone()
    }
}

impl Read {
    fn now(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            acceptor: Acceptor::load(&config.tls)?.map(Arc::new),
            connector: Connector::load(&config.upstream.tls, &config.upstream.address)?.map(Arc::new),
            users: config.auth.file.as_deref().map(Users::load).transpose()?.map(Arc::new),
        })
    }
}
