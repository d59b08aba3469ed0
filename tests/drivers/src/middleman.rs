//! Stands between a program and a proxy that speak TLS, and speaks it with both: what passes between them can be recorded in
//! clear. The proxy's TLS is the real one; that of the program is tried without it, too.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reprise::config::Identity;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::recorder::{HANDSHAKE, SSL_REQUEST};

/// What a server of PostgreSQL's protocol is asked for by clients that begin with TLS.
const ALPN: &[u8] = b"postgresql";

/// Either side of a connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A program, and what it is connected with.
pub(crate) type Sides = (Box<dyn Socket>, Box<dyn Socket>);

/// Takes programs as the proxy would, and the proxy as they would.
#[derive(Clone)]
pub(crate) struct Middleman {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    host: &'static str,
}

impl Middleman {
    /// Shows programs this certificate, and connects to the proxy, at this host, by these settings.
    pub(crate) fn new(shown: &Identity, mut client: ClientConfig, host: &'static str) -> Self {
        let chain = CertificateDer::pem_file_iter(&shown.certificate).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        server.alpn_protocols = vec![ALPN.to_vec()];
        client.alpn_protocols = vec![ALPN.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Self { acceptor, connector: TlsConnector::from(Arc::new(client)), host }
    }

    /// Lets a program in and connects to the proxy for it, in the same way as it came: with TLS from the first byte, asked
    /// for, or not at all.
    pub(crate) async fn open(&self, mut program: TcpStream, to: SocketAddr) -> io::Result<Sides> {
        let mut proxy = TcpStream::connect(to).await?;
        proxy.set_nodelay(true)?;
        let mut first = [0; SSL_REQUEST.len()];
        while program.peek(&mut first).await? < first.len() && first[0] != HANDSHAKE {
            if program.peek(&mut [0]).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            tokio::task::yield_now().await;
        }
        if first[0] != HANDSHAKE && first != SSL_REQUEST {
            return Ok((Box::new(program), Box::new(proxy)));
        }
        if first == SSL_REQUEST {
            program.read_exact(&mut first).await?;
            proxy.write_all(&SSL_REQUEST).await?;
            program.write_u8(proxy.read_u8().await?).await?;
        }
        let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
        let program = self.acceptor.accept(program).await?;
        Ok((Box::new(program), Box::new(self.connector.connect(name, proxy).await?)))
    }
}
