//! Where clients come from: a TCP port, and a Unix-domain socket if there is one.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::tls::Stream;

/// How often a silent peer is probed before it is given up.
const PROBES: u32 = 6;

/// The sockets that clients connect to.
pub struct Listeners {
    tcp: TcpListener,
    local: Option<Local>,
}

/// A Unix-domain socket; its file goes when this is dropped, unless somebody else has made it.
struct Local {
    listener: UnixListener,
    path: Option<PathBuf>,
}

/// Who a client is, as far as its socket tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// One that came by TCP.
    Remote(SocketAddr),
    /// One that came by the Unix-domain socket.
    Local,
}

/// A client's connection that belongs to no thread's runtime yet.
pub(super) enum Arrival {
    /// It came by TCP.
    Tcp(std::net::TcpStream),
    /// It came by the Unix-domain socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Arrival {
    /// The connection, in the runtime of this thread.
    pub(super) fn open(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(socket) => TcpStream::from_std(socket).map(Stream::Tcp),
            Self::Unix(socket) => UnixStream::from_std(socket).map(Stream::Unix),
        }
    }
}

impl From<TcpListener> for Listeners {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, local: None }
    }
}

impl Listeners {
    /// Listens on a Unix-domain socket besides. Who may connect to it is up to the permissions of its directory.
    ///
    /// # Errors
    /// When the socket cannot be made, or somebody listens on it already.
    pub fn with_local(self, path: PathBuf) -> io::Result<Self> {
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(&path) => {
                std::fs::remove_file(&path)?;
                UnixListener::bind(&path)?
            }
            bound => bound?,
        };
        let local = Local { listener, path: Some(path.clone()) };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        Ok(Self { local: Some(local), ..self })
    }

    /// Takes clients from a Unix-domain socket besides that somebody else listens on already, and keeps in order.
    pub fn with_handed(self, listener: UnixListener) -> Self {
        Self { local: Some(Local { listener, path: None }), ..self }
    }

    /// The next client. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Arrival, Peer)> {
        let local = async {
            match &self.local {
                Some(local) => local.listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => {
                let (stream, peer) = accepted?;
                Ok((Arrival::Tcp(stream.into_std()?), Peer::Remote(peer)))
            }
            accepted = local => Ok((Arrival::Unix(accepted?.0.into_std()?), Peer::Local)),
        }
    }
}

/// Whether a socket belongs to a process that is no more: nobody listens on it.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let knock = || std::os::unix::net::UnixStream::connect(path);
    is_socket && knock().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Whatever prevents it will be told to whoever listens there next.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Peer {
    /// Its address, if it has one: that of IPv4 where a socket of IPv6 has taken it.
    pub(super) const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Remote(address) => Some(address.ip().to_canonical()),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

/// Sends what is written at once, and notices when the peer is gone: after `keepalive` without a word it is probed, and after
/// twice that time it is given up, whether something was sent to it or not. Zero leaves that to the operating system.
pub(super) fn tune(socket: &TcpStream, keepalive: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if keepalive.is_zero() {
        return Ok(());
    }
    let interval = (keepalive / PROBES).max(Duration::from_secs(1));
    let probes = TcpKeepalive::new().with_time(keepalive).with_interval(interval).with_retries(PROBES);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(keepalive * 2))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tcp() -> Listeners {
        TcpListener::bind("127.0.0.1:0").await.unwrap().into()
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".s.PGSQL.6432");
        // A process that was killed leaves its socket behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listeners = tcp().await.with_local(path.clone()).unwrap();
        let refused = tcp().await.with_local(path.clone()).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists(), "who was refused leaves it alone");
        drop(listeners);
        assert!(!path.exists());
        std::fs::write(&path, "no socket").unwrap();
        assert!(tcp().await.with_local(path.clone()).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "no socket");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_noticed_after_twice_the_time() {
        let listeners = tcp().await;
        let address = listeners.tcp.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listeners.accept());
        let (arrival, Peer::Remote(peer)) = accepted.unwrap() else { panic!("it came by TCP") };
        let Stream::Tcp(socket) = arrival.open().unwrap() else { panic!("it came by TCP") };
        assert_eq!(peer, client.unwrap().local_addr().unwrap());
        tune(&socket, Duration::from_secs(60)).unwrap();
        let options = SockRef::from(&socket);
        assert!(options.keepalive().unwrap() && socket.nodelay().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(options.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(options.tcp_keepalive_retries().unwrap(), 6);
    }
}
