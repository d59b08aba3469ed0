//! TLS on both sides: what each is shown, whom it trusts, and how a connection is encrypted.

mod accept;
mod binding;
mod connect;
mod files;
mod names;
mod stream;
mod verify;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub(super) use accept::{Acceptor, Negotiation};
pub(super) use connect::{Connector, Failure};
pub use files::Error;
pub(super) use stream::Stream;

/// The name of PostgreSQL's protocol in ALPN.
const ALPN: &[u8] = b"postgresql";

/// The cryptography, named where it is used: there is no global choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
