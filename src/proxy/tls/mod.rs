//! TLS on both sides: what each is shown, whom it trusts, and how a connection is encrypted.
//!
//! [`Tls`] holds what was read from the files that the configuration names. It can be read again while connections are
//! served: those that are open keep what they began with.

mod accept;
mod connect;
mod files;
mod stream;
mod verify;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub(super) use accept::{Acceptor, Negotiation};
pub(super) use connect::{Connector, Failure};
pub use files::Error;
pub(super) use stream::Stream;

use crate::config::{Config, HostPort, Tls as ClientSide, UpstreamTls};

/// The name of PostgreSQL's protocol in ALPN.
const ALPN: &[u8] = b"postgresql";

/// What TLS needs: certificates, keys and authorities, for both sides.
pub struct Tls {
    clients: ClientSide,
    upstream: UpstreamTls,
    host: HostPort,
    current: ArcSwap<Sides>,
}

/// What was read at one time.
struct Sides {
    acceptor: Option<Arc<Acceptor>>,
    connector: Option<Arc<Connector>>,
}

impl Tls {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or does not fit another one.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let (clients, upstream) = (config.tls.clone(), config.upstream.tls.clone());
        let host = config.upstream.address.clone();
        let current = ArcSwap::from_pointee(Sides::load(&clients, &upstream, &host)?);
        Ok(Self { clients, upstream, host, current })
    }

    /// Reads the files again. What is read counts for connections that begin from now on.
    ///
    /// # Errors
    /// As of [`Self::load`]; then everything stays as it is.
    pub fn reload(&self) -> Result<(), Error> {
        self.current.store(Arc::new(Sides::load(&self.clients, &self.upstream, &self.host)?));
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
}

impl Sides {
    fn load(clients: &ClientSide, upstream: &UpstreamTls, host: &HostPort) -> Result<Self, Error> {
        Ok(Self {
            acceptor: Acceptor::load(clients)?.map(Arc::new),
            connector: Connector::load(upstream, host)?.map(Arc::new),
        })
    }
}

/// The cryptography, named where it is used: there is no global choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
