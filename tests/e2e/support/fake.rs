//! Fake databases: each connection runs a small script of what a server might do wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use golden::notation::Fields;
use golden::{Backend, Frontend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server's end of a connection.
pub(crate) struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Starts a server that does `script` with each of its connections; a connection closes where its script ends.
pub(crate) async fn serve<F>(script: impl Fn(Peer) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(Peer { stream, received: Vec::new() }));
        }
    });
    address
}

impl Peer {
    /// The startup packet; `None` if the client went away. Encryption is declined.
    pub(crate) async fn startup(&mut self) -> Option<Frontend> {
        loop {
            match self.packet().await {
                Some(Frontend::SslRequest) => self.answer_bytes(b"N").await,
                packet => return packet,
            }
        }
    }

    /// The next packet of those that begin a connection; `None` if the client went away.
    pub(crate) async fn packet(&mut self) -> Option<Frontend> {
        self.read(Frontend::read_startup).await
    }

    /// The bytes of the packet that begins a connection; `None` if the client went away.
    pub(crate) async fn first_packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.received.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.received.len() >= length {
                    return Some(self.received.drain(..length).collect());
                }
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next message; `None` if the client went away.
    pub(crate) async fn request(&mut self) -> Option<Frontend> {
        self.read(Frontend::read).await
    }

    async fn read(&mut self, cut: fn(&mut Vec<u8>) -> Option<Frontend>) -> Option<Frontend> {
        loop {
            if let Some(message) = cut(&mut self.received) {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Sends messages in one write.
    pub(crate) async fn answer(&mut self, messages: impl IntoIterator<Item = Backend>) {
        let bytes: Vec<u8> = messages.into_iter().flat_map(|message| message.encode()).collect();
        self.answer_bytes(&bytes).await;
    }

    /// Sends bytes. Whether somebody takes them is not the server's concern.
    pub(crate) async fn answer_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Takes the startup, and admits the client.
    pub(crate) async fn admit(&mut self) {
        self.startup().await;
        self.welcome().await;
    }

    /// Says that a session begins.
    pub(crate) async fn welcome(&mut self) {
        let key = Backend::BackendKeyData { pid: 7, key: 11 };
        self.answer([Backend::AuthenticationOk, key, Backend::ReadyForQuery('I')]).await;
    }

    /// Answers the next query with a tag and a status; tells what was asked.
    pub(crate) async fn complete(&mut self, tag: &str, status: char) -> Option<Frontend> {
        let asked = self.request().await?;
        self.answer([Backend::CommandComplete(tag.into()), Backend::ReadyForQuery(status)]).await;
        Some(asked)
    }

    /// Counts the bytes that come, until the other side closes the connection.
    pub(crate) async fn count(&mut self, bytes: &AtomicUsize) {
        while let Ok(read @ 1..) = self.stream.read_buf(&mut self.received).await {
            bytes.fetch_add(read, Ordering::Relaxed);
            self.received.clear();
        }
    }

    /// Everything that comes until the other side closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while let Ok(1..) = self.stream.read_buf(&mut self.received).await {}
        std::mem::take(&mut self.received)
    }

    /// Waits until the other side closes the connection.
    pub(crate) async fn until_closed(&mut self) {
        while self.request().await.is_some() {}
    }
}

/// An ErrorResponse.
pub(crate) fn error(severity: &str, sqlstate: &str, message: &str) -> Backend {
    let fields = [('S', severity), ('V', severity), ('C', sqlstate), ('M', message)];
    Backend::ErrorResponse(Fields(fields.map(|(letter, text)| (letter, text.to_owned())).into()))
}
