//! TLS for tests: clients that speak it, and servers that do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use certificates::{Authority, offer_tls};
use reprise::config::Identity;
use reprise::demo::server::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::database::{APPLICATION, connect};
use super::wire::Wire;
use super::within;

/// The length and code of an SSLRequest.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A client's connection with TLS as it is asked for by an SSLRequest.
pub(crate) async fn encrypt(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&SSL_REQUEST).await?;
    assert_eq!(within("an answer", stream.read_u8()).await?, b'S');
    handshake(stream, config).await
}

/// The handshake of a client that connects to `localhost`.
pub(crate) async fn handshake(stream: TcpStream, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// A session of the superuser over TLS.
pub(crate) async fn open(address: SocketAddr, config: ClientConfig, database: &str) -> Wire {
    let mut wire = Wire::over(encrypt(address, config).await.expect("TLS"));
    let parameters = [("user", "postgres"), ("database", database), ("application_name", APPLICATION)];
    let greeting = wire.begin(&parameters).await;
    assert_eq!(greeting.status(), Some('I'), "{greeting}");
    wire
}

/// The server's side of TLS, for a fake database.
pub(crate) fn acceptor(identity: &Identity) -> TlsAcceptor {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(&identity.certificate).expect("a file");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// Who may log in to a server with TLS, and how.
const RULES: &str = "hostnossl all plain 127.0.0.1/32 trust
hostssl all certified 127.0.0.1/32 cert
hostssl all scrambled 127.0.0.1/32 scram-sha-256
hostssl all cleartext 127.0.0.1/32 password
hostssl all hashed 127.0.0.1/32 md5
host all postgres 127.0.0.1/32 trust
";

const ROLES: &str = "CREATE ROLE plain LOGIN;
CREATE ROLE certified LOGIN;
CREATE ROLE scrambled LOGIN PASSWORD 'secret';
CREATE ROLE cleartext LOGIN PASSWORD 'secret';
SET password_encryption = 'md5';
CREATE ROLE hashed LOGIN PASSWORD 'secret'";

/// A PostgreSQL that offers TLS with this certificate, and takes clients with certificates of this authority.
pub(crate) async fn postgres(identity: &Identity, clients: &Authority) -> Postgres {
    let server = Postgres::start(&[]).await.expect("a server");
    let admin = connect(server.addr(), "postgres", APPLICATION).await;
    admin.batch_execute(ROLES).await.expect("roles");
    std::fs::write(server.data_directory().join("pg_hba.conf"), RULES).expect("the rules");
    offer_tls(&server, &admin, identity, clients).await;
    server
}

/// Runs psql with a connection string and a statement: what it prints, or what it says of its failure.
pub(crate) async fn psql(parameters: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", parameters, "-c", sql]);
    command.env("PGPASSWORD", "secret").env("PGCONNECT_TIMEOUT", "15").kill_on_drop(true);
    // Nothing of whoever runs the tests.
    command.env("HOME", "/nonexistent");
    let output = within("psql", command.output()).await.expect("psql is installed");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8").trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
