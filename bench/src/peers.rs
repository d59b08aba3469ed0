//! The proxies that are compared: each started as its users would, on a free port, and ended with the value.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reprise::config::Identity;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The peer that all others are compared with.
pub(crate) const MEASURE: &str = "relay";

/// The peer that hides conflicts.
pub(crate) const HIDES: &str = "reprise transparent";

/// Every peer, in the order of the table.
pub(crate) const NAMES: [&str; 6] =
    [MEASURE, "pgbouncer", "haproxy", HIDES, "reprise observe", "reprise off"];

/// How long a peer may take until it listens.
const START_DURATION_MAX: Duration = Duration::from_secs(20);
/// Pause between two looks at a peer that starts.
const READINESS_INTERVAL: Duration = Duration::from_millis(20);

/// A running proxy.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    /// The `sslmode` of its clients.
    pub(crate) ssl_mode: &'static str,
    _child: Child,
    _directory: TempDir,
}

impl Peer {
    /// Starts the peer of this name in front of a database. With an identity, those that read what they pass on encrypt both of
    /// their sides, which the database must offer; the others pass TLS on as it is.
    pub(crate) async fn start(
        name: &'static str,
        upstream: SocketAddr,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let directory = readable_directory()?;
        let mut command = match name.strip_prefix("reprise ") {
            Some(mode) => reprise(mode, address, upstream, identity)?,
            None => match name {
                MEASURE => relay(address, upstream)?,
                "pgbouncer" => pgbouncer(directory.path(), address, upstream, identity)?,
                "haproxy" => haproxy(directory.path(), address, upstream)?,
                _ => bail!("there is no peer {name}, but these: {}", NAMES.join(", ")),
            },
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{name}: {command:?}"))?;
        let begin = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{name} does not start: {status}: {command:?}");
            }
            ensure!(begin.elapsed() < START_DURATION_MAX, "{name} does not listen: {command:?}");
            tokio::time::sleep(READINESS_INTERVAL).await;
        }
        let pid = child.id().context("it runs")?;
        let ssl_mode = if identity.is_some() { "require" } else { "disable" };
        Ok(Self { name, address, pid, ssl_mode, _child: child, _directory: directory })
    }

    /// Where a driver connects to.
    pub(crate) fn url(&self) -> String {
        url(self.address)
    }
}

/// Where a driver connects to, on this address.
pub(crate) fn url(address: SocketAddr) -> String {
    format!("postgres://postgres@{address}/postgres?sslmode=disable")
}

/// PgBouncer gives its privileges up before it reads all of its files.
fn readable_directory() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// A program that was built with this one.
fn built(relative: &str) -> Result<PathBuf> {
    let folder = std::env::current_exe()?;
    let path = folder.parent().context("a folder")?.join(relative);
    ensure!(path.exists(), "{} is not built: start this by `make bench`", path.display());
    Ok(path)
}

fn relay(listen: SocketAddr, upstream: SocketAddr) -> Result<Command> {
    let mut command = Command::new(built("examples/relay")?);
    command.args([listen.to_string(), upstream.to_string()]);
    Ok(command)
}

fn reprise(
    mode: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
    identity: Option<&Identity>,
) -> Result<Command> {
    let mut command = Command::new(built("reprise")?);
    let (listen, upstream) = (listen.to_string(), upstream.to_string());
    command.args(["--listen", &listen, "--upstream", &upstream, "--http", "", "--mode", mode]);
    command.env("REPRISE_PROXY_MAX_CONNECTIONS", "12000");
    command.env("REPRISE_UPSTREAM_TLS", if identity.is_some() { "require" } else { "disable" });
    if let Some(identity) = identity {
        command.env("REPRISE_TLS_MODE", "require").env("REPRISE_TLS_KEY", &identity.key);
        command.env("REPRISE_TLS_CERTIFICATE", &identity.certificate);
    }
    Ok(command)
}

fn pgbouncer(
    directory: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    identity: Option<&Identity>,
) -> Result<Command> {
    let users = directory.join("users.txt");
    fs::write(&users, "\"postgres\" \"\"\n")?;
    let config = directory.join("pgbouncer.ini");
    let mut text = format!(
        "[databases]\n* = host={} port={}\n\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
         auth_type = trust\nauth_file = {}\npool_mode = session\nmax_client_conn = 12000\ndefault_pool_size = 12000\n",
        upstream.ip(),
        upstream.port(),
        listen.ip(),
        listen.port(),
        users.display()
    );
    if let Some(identity) = identity {
        let (certificate, key) = (directory.join("certificate"), directory.join("key"));
        for (from, to) in [(&identity.certificate, &certificate), (&identity.key, &key)] {
            fs::write(to, fs::read(from)?)?;
        }
        let (certificate, key) = (certificate.display(), key.display());
        writeln!(text, "client_tls_sslmode = require\nserver_tls_sslmode = require")?;
        writeln!(text, "client_tls_cert_file = {certificate}\nclient_tls_key_file = {key}")?;
    }
    fs::write(&config, text)?;
    let mut command = Command::new("pgbouncer");
    command.arg("--quiet").arg(config);
    if nix::unistd::geteuid().is_root() {
        command.args(["--user", "postgres"]);
    }
    Ok(command)
}

fn haproxy(directory: &Path, listen: SocketAddr, upstream: SocketAddr) -> Result<Command> {
    let config = directory.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 9900\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    \
         timeout server 1h\nlisten postgres\n    bind {listen}\n    server database {upstream}\n"
    );
    fs::write(&config, text)?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(config);
    Ok(command)
}
