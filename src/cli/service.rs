//! The service manager, if there is one: the sockets that it hands over, and what it is told.
//!
//! Sources: [sd_listen_fds](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html) and
//! [sd_notify](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).

use std::io;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};

/// The name (`FileDescriptorName=`) of the socket for metrics and health; any other TCP socket is for clients.
const HTTP: &str = "http";

/// Sockets that were opened by somebody else.
#[derive(Default)]
pub(super) struct Sockets {
    /// In the place of `proxy.listen`.
    pub(super) clients: Option<TcpListener>,
    /// In the place of `proxy.unix_socket_directory`.
    pub(super) local: Option<UnixListener>,
    /// In the place of `http.listen`.
    pub(super) http: Option<TcpListener>,
}

impl Sockets {
    /// Takes what was handed over.
    ///
    /// # Errors
    /// If it is no socket that connections can be accepted from, or one too many.
    pub(super) fn take() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..handed.len() {
            let is_http = names.next() == Some(HTTP);
            let is_second = match handed.take_tcp_listener(index) {
                Ok(Some(socket)) => {
                    socket.set_nonblocking(true)?;
                    let place = if is_http { &mut sockets.http } else { &mut sockets.clients };
                    place.replace(TcpListener::from_std(socket)?).is_some()
                }
                Ok(None) => false,
                Err(_) => {
                    let Some(socket) = handed.take_unix_listener(index)? else { continue };
                    socket.set_nonblocking(true)?;
                    sockets.local.replace(UnixListener::from_std(socket)?).is_some()
                }
            };
            if is_second {
                let why = "one TCP socket and one Unix-domain socket for clients can be handed over, and one TCP \
                           socket of the name \"http\"";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        Ok(sockets)
    }
}

/// Clients are served, or again served by what was read again.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "there is no clock for the service manager"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells again and again that the process is alive, if that is asked for: twice as often as it must be told.
pub(super) async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(limit / 2);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Without a service manager this does nothing.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
