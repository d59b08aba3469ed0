//! The side of the database: asking it for TLS.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{ALPN, Error, Stream, files, provider, verify};
use crate::config::{HostPort, UpstreamTls, UpstreamTlsMode};
use crate::wire::startup::SSL_REQUEST_PACKET;

/// Encrypts connections to the database.
pub(in crate::proxy) struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
    is_optional: bool,
}

/// Why a connection to the database is not encrypted.
#[derive(Debug, Error)]
pub(in crate::proxy) enum Failure {
    /// The database has no TLS.
    #[error("the database does not offer TLS, and upstream.tls requires it")]
    Declined,
    /// It answered neither yes nor no: as an error, perhaps. What it says unencrypted is not worth reading.
    #[error("the database did not answer the request for TLS")]
    Unanswered,
    /// The handshake failed, or the certificate was not accepted.
    #[error("TLS to the database failed: {0}")]
    Handshake(io::Error),
    /// The connection failed.
    #[error("{0}")]
    Socket(#[from] io::Error),
}

impl Connector {
    /// Reads what the options name; `None` where TLS is not used, as on a Unix-domain socket.
    pub(in crate::proxy) fn load(options: &UpstreamTls, host: &HostPort) -> Result<Option<Self>, Error> {
        if options.mode == UpstreamTlsMode::Disable || host.unix_socket().is_some() {
            return Ok(None);
        }
        let name = options.server_name.as_deref().unwrap_or(&host.host);
        let invalid = |_| Error::ServerName(name.to_owned());
        let name = ServerName::try_from(name).map_err(invalid)?.to_owned();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verify::verifier(options)?);
        let mut config = match &options.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = files::identity(identity)?;
                let unfit = |error| Error::Identity { path: identity.certificate.clone(), error };
                config.with_client_auth_cert(chain, key).map_err(unfit)?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Some(Self { connector, name, is_optional: options.mode == UpstreamTlsMode::Prefer }))
    }

    /// Whether a connection that cannot be encrypted is used as it is.
    pub(in crate::proxy) const fn is_optional(&self) -> bool {
        self.is_optional
    }

    /// Asks for TLS on a new connection. One that may stay as it is comes back so when the database declines.
    pub(in crate::proxy) async fn encrypt(&self, mut socket: TcpStream) -> Result<Stream, Failure> {
        socket.write_all(&SSL_REQUEST_PACKET).await?;
        // One byte and no more: what follows an S belongs to TLS, and to nothing that came before it.
        match socket.read_u8().await? {
            b'S' => {
                let encrypted = self.connector.connect(self.name.clone(), socket).await;
                Ok(Stream::Tls(Box::new(encrypted.map_err(Failure::Handshake)?.into())))
            }
            b'N' if self.is_optional => Ok(Stream::Tcp(socket)),
            b'N' => Err(Failure::Declined),
            _ => Err(Failure::Unanswered),
        }
    }
}
