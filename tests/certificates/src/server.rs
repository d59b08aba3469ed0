//! TLS on a PostgreSQL that runs already.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::time::{Duration, Instant};

use reprise::config::Identity;
use reprise::demo::server::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::{Authority, restrict};

/// The length and code of an SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How long a server may take to read its settings again.
const RELOAD_DURATION_MAX: Duration = Duration::from_secs(30);

/// Lets a server offer TLS with this certificate, and take client certificates of this authority. `admin` is its
/// superuser. The server reads its rules for logins again, too.
pub async fn offer_tls(server: &Postgres, admin: &Client, identity: &Identity, clients: &Authority) {
    let data = server.data_directory();
    let owner = fs::metadata(&data).expect("the directory");
    let files =
        [(&identity.certificate, "server.crt"), (&identity.key, "server.key"), (&clients.file(), "root.crt")];
    for (from, to) in files {
        let to = data.join(to);
        fs::copy(from, &to).expect("to copy it");
        restrict(&to);
        chown(&to, Some(owner.uid()), Some(owner.gid())).expect("to give it away");
    }
    for (setting, value) in [("ssl_ca_file", "root.crt"), ("ssl", "on")] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{value}'")).await.expect("a setting");
    }
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("to read them");
    let start = Instant::now();
    while !offers_tls(server).await {
        assert!(start.elapsed() < RELOAD_DURATION_MAX, "the server does not offer TLS");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn offers_tls(server: &Postgres) -> bool {
    let mut stream = TcpStream::connect(server.addr()).await.expect("it listens");
    stream.write_all(&SSL_REQUEST).await.expect("to ask");
    stream.read_u8().await.is_ok_and(|answer| answer == b'S')
}
