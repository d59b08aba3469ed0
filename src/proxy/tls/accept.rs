//! The side of the clients: what they are shown, and which of their certificates are taken.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::Ticketer;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig, SupportedProtocolVersion};

use super::files::{self, Error};
use super::names::Names;
use super::{ALPN, Stream, binding, provider};
use crate::config::{ClientCertificate, Tls, TlsMode, TlsVersion};

/// Encrypts the connections of clients.
pub(in crate::proxy) struct Acceptor {
    acceptor: TlsAcceptor,
    is_required: bool,
    /// What the logins of clients can be bound to: a hash of the certificate.
    binding: Option<Arc<[u8]>>,
    /// Which users a certificate is good for; `None` for any.
    names: Option<Names>,
}

/// How a client came to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Negotiation {
    /// It asked for it by an SSLRequest.
    Asked,
    /// It began with it, as `sslnegotiation=direct` does. Only ALPN tells then which protocol it is about to speak.
    Direct,
}

impl Acceptor {
    /// Reads what the options name; `None` where TLS is declined.
    pub(in crate::proxy) fn load(options: &Tls) -> Result<Option<Self>, Error> {
        let Some(identity) = options.identity.as_ref().filter(|_| options.mode != TlsMode::Disable) else {
            return Ok(None);
        };
        let (chain, key) = files::identity(identity)?;
        let binding = chain.first().and_then(binding::end_point).map(Arc::from);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(options.min_version))
            .map_err(Error::Unusable)?
            .with_client_cert_verifier(client_verifier(options)?);
        let mut config = config
            .with_single_cert(chain, key)
            .map_err(|error| Error::Identity { path: identity.certificate.clone(), error })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session is resumed only with the tickets of this very configuration: whoever was let in under older files
        // shows its certificate again.
        config.ticketer = Ticketer::new().map_err(Error::Unusable)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let names = Names::load(options)?;
        Ok(Some(Self { acceptor, binding, names, is_required: options.mode == TlsMode::Require }))
    }

    /// What a login over a connection that it has encrypted can be bound to.
    pub(in crate::proxy) fn binding(&self) -> Option<Arc<[u8]>> {
        self.binding.clone()
    }

    /// Whether a client must use TLS.
    pub(in crate::proxy) const fn is_required(&self) -> bool {
        self.is_required
    }

    /// Whether a client may be this user as far as its certificate goes. Without one that is left to its login.
    pub(in crate::proxy) fn vouches_for(&self, client: &Stream, user: &[u8]) -> bool {
        let (Some(names), Some(certificate)) = (&self.names, client.certificate()) else { return true };
        names.fit(certificate, user)
    }

    /// Encrypts a connection of which nothing but requests for that has been read.
    pub(in crate::proxy) async fn accept(
        &self,
        stream: &mut Stream,
        negotiation: Negotiation,
    ) -> io::Result<()> {
        let socket = stream.take_tcp().ok_or(io::ErrorKind::NotConnected)?;
        let encrypted = self.acceptor.accept(socket).await?;
        if negotiation == Negotiation::Direct && encrypted.get_ref().1.alpn_protocol() != Some(ALPN) {
            let why = "direct TLS without the ALPN protocol \"postgresql\"";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        *stream = Stream::Tls(Box::new(encrypted.into()));
        Ok(())
    }
}

/// The versions from the oldest that is allowed on.
fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ONLY_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];
    match oldest {
        TlsVersion::V1_2 => DEFAULT_VERSIONS,
        TlsVersion::V1_3 => &ONLY_1_3,
    }
}

fn client_verifier(options: &Tls) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let Some(path) = &options.client_ca else { return Ok(Arc::new(NoClientAuth)) };
    let authorities = Arc::new(files::authorities(path)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider());
    let verifier = match options.client_certificate {
        ClientCertificate::Allow => verifier.allow_unauthenticated(),
        ClientCertificate::Require => verifier,
    };
    Ok(verifier.build().expect("there are authorities, and no revocation lists that could be wrong"))
}
