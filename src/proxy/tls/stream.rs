//! A connection of either side, encrypted or not.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::binding;

/// The first byte of a TLS connection: the type of the record that a ClientHello comes in.
const HANDSHAKE: u8 = 0x16;

/// A socket, and what encrypts it. The plain one costs no more than a branch.
pub(in crate::proxy) enum Stream {
    /// TCP as it is.
    Tcp(TcpStream),
    /// A Unix-domain socket, which is never encrypted.
    Unix(UnixStream),
    /// TCP within TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Nothing any more: its handshake failed, or was given up.
    Closed,
}

impl Stream {
    /// Whether it is encrypted.
    pub(in crate::proxy) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether it is a Unix-domain socket: nobody outside of the machine can listen or interfere.
    pub(in crate::proxy) const fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// The certificate that the other side has shown.
    pub(in crate::proxy) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.peer_certificates()?.first()
    }

    /// What a login to the other side can be bound to, if it has shown a certificate.
    pub(in crate::proxy) fn binding(&self) -> Option<Vec<u8>> {
        self.certificate().and_then(binding::end_point)
    }

    /// Waits for a client's first byte, and tells whether TLS begins with it. Nothing is taken from the socket.
    pub(in crate::proxy) async fn begins_with_tls(&self) -> io::Result<bool> {
        let Self::Tcp(socket) = self else { return Ok(false) };
        let mut first = [0];
        Ok(socket.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
    }

    /// Pending if nothing is there to be read, and the task is woken when something is; TLS may always have something.
    pub(in crate::proxy) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(socket) => socket.poll_read_ready(cx).map(drop),
            Self::Unix(socket) => socket.poll_read_ready(cx).map(drop),
            Self::Tls(_) | Self::Closed => Poll::Ready(()),
        }
    }

    /// Writes what the socket takes at once; how many bytes that was. What goes wrong shows in the next write that is polled. TLS
    /// takes nothing this way.
    pub(in crate::proxy) fn try_write(&self, bytes: &[u8]) -> usize {
        let written = match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
            Self::Tls(_) | Self::Closed => return 0,
        };
        written.unwrap_or(0)
    }

    /// From now on the runtime that this is called in tells when something can be read or written. Without success it stays
    /// with the one before, which is as good but for the cost.
    pub(in crate::proxy) fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => *socket = settled(socket)?,
            Self::Tls(stream) => {
                let (socket, _) = stream.get_mut();
                *socket = settled(socket)?;
            }
            Self::Unix(socket) => {
                let again = socket.as_fd().try_clone_to_owned()?;
                *socket = UnixStream::from_std(again.into())?;
            }
            Self::Closed => {}
        }
        Ok(())
    }

    /// The socket of an unencrypted TCP connection. The connection is closed until another one is put in its place.
    pub(super) fn take_tcp(&mut self) -> Option<TcpStream> {
        match std::mem::replace(self, Self::Closed) {
            Self::Tcp(socket) => Some(socket),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The same socket, with the runtime that this is called in.
fn settled(socket: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.as_fd().try_clone_to_owned()?.into())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer).map(end_of_tls),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// A peer that closes its socket without the farewell of TLS has left like any other. Nothing is lost by that: the
/// messages of PostgreSQL tell their own lengths, and whoever ends a session says so in one.
fn end_of_tls(read: io::Result<()>) -> io::Result<()> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        read => read,
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}
