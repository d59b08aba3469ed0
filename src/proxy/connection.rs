//! One side of a session: a socket, what was read from it and not used yet, and what is to be written to it.
//!
//! Reads go through `poll_read`, which clears the readiness on a short read, so that no read is tried in vain; everything
//! for one side goes out in one write a turn, but for what is so long that a write costs less than to copy it first. Buffers
//! come from a list of the thread and go back when they are empty: an idle session holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::Stream;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// Buffers that a thread keeps for its sessions.
const SPARE_BUFFERS: usize = 64;
/// Bytes of requests that are read ahead from a client that has to wait.
pub(super) const WAITING_BYTES: usize = 64 << 10;
/// Bytes that are worth a system call of their own, to be spared a copy.
const AT_ONCE_BYTES: usize = 16 << 10;
/// Unwritten bytes above which nothing more is read from the other side.
const BACKLOG_BYTES: usize = 256 << 10;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static SPARE_OUTBOXES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES].into())
}

fn give_buffer(buffer: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if buffer.len() == BUFFER_BYTES && spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    });
}

fn take_outbox() -> Vec<u8> {
    SPARE_OUTBOXES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

fn give_outbox(mut outbox: Vec<u8>) {
    outbox.clear();
    if outbox.capacity() > BUFFER_BYTES {
        outbox.shrink_to(BUFFER_BYTES);
    }
    SPARE_OUTBOXES.with_borrow_mut(|spare| {
        if spare.len() < SPARE_BUFFERS {
            spare.push(outbox);
        }
    });
}

/// Bytes that were read and are not used yet.
#[derive(Default)]
struct Inbox {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Makes room for a read: at the end of the buffer, by moving what is left to its start, or by a larger buffer.
    fn make_room(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = take_buffer();
        } else if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.end == self.buffer.len() {
            let mut larger = vec![0; self.buffer.len() * 2].into_boxed_slice();
            larger[..self.end].copy_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.end {
            self.release();
        }
    }

    fn release(&mut self) {
        give_buffer(std::mem::take(&mut self.buffer));
        (self.start, self.end) = (0, 0);
    }
}

/// A socket with its buffers.
pub(super) struct Connection<S> {
    stream: S,
    inbox: Inbox,
    outbox: Vec<u8>,
    written: usize,
    /// The last read took less than there was room for.
    read_all: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, inbox: Inbox::default(), outbox: Vec::new(), written: 0, read_all: false }
    }

    /// What it reads from and writes to.
    pub(super) const fn stream(&self) -> &S {
        &self.stream
    }

    /// The same, to put something else in its place.
    pub(super) const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What it reads from and writes to, and what was read and not used yet. What is unwritten is lost.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        let received = self.received().to_vec();
        (self.stream, received)
    }

    /// What was read and not used yet.
    pub(super) fn received(&self) -> &[u8] {
        self.inbox.bytes()
    }

    /// The first so many bytes of [`Self::received`] are used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.inbox.consume(bytes);
    }

    /// Whether everything is written.
    pub(super) const fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    /// What is to be written: append to it.
    pub(super) fn outbox(&mut self) -> &mut Vec<u8> {
        if self.outbox.capacity() == 0 {
            self.outbox = take_outbox();
        }
        &mut self.outbox
    }

    /// Whether so much is unwritten that the other side should wait.
    pub(super) const fn is_backed_up(&self) -> bool {
        self.outbox.len() - self.written > BACKLOG_BYTES
    }

    /// Reads once. Ready with the number of bytes, zero at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.make_room();
        let mut buffer = ReadBuf::new(&mut self.inbox.buffer[self.inbox.end..]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.read_all = buffer.remaining() > 0;
        self.inbox.end += read;
        if self.inbox.start == self.inbox.end {
            self.inbox.release();
        }
        polled.map_ok(|()| read)
    }

    /// Whether the last read took everything that was there.
    pub(super) const fn has_read_all(&self) -> bool {
        self.read_all
    }

    /// Writes what is to be written. Ready when all of it is.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outbox.is_empty() {
            self.release_outbox();
            return Poll::Ready(Ok(()));
        }
        while self.written < self.outbox.len() {
            let Poll::Ready(written) =
                Pin::new(&mut self.stream).poll_write(cx, &self.outbox[self.written..])?
            else {
                self.forget_written();
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        // A socket has nothing to flush; TLS may hold what the socket did not take.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.written = 0;
        self.release_outbox();
        Poll::Ready(Ok(()))
    }

    /// Gives up what is written, where that is more than what is not: a peer that never takes everything that there is would
    /// otherwise keep all of it here. No byte is moved more than once for each byte that was written.
    fn forget_written(&mut self) {
        if self.written > self.outbox.len() - self.written {
            self.outbox.drain(..self.written);
            self.written = 0;
        }
    }

    /// Writes everything and ends the stream. Ready when all of it is done.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn release_outbox(&mut self) {
        if self.outbox.capacity() > 0 {
            give_outbox(std::mem::take(&mut self.outbox));
        }
    }

    /// Reads once. Cancel safe: what was read stays in the inbox.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Writes everything. Cancel safe: what is unwritten stays in the outbox.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Writes everything and ends the stream. Not cancel safe.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_close(cx)).await
    }
}

/// Where bytes for one side go.
pub(super) struct Sink<'a> {
    stream: &'a Stream,
    bytes: &'a mut Vec<u8>,
}

impl Sink<'_> {
    /// These bytes are to be written. Many are written at once, from where they are, as far as the socket takes them and nothing is to
    /// be written before them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let at_once = bytes.len() >= AT_ONCE_BYTES && self.bytes.is_empty();
        let written = if at_once { self.stream.try_write(bytes) } else { 0 };
        self.bytes.extend_from_slice(&bytes[written..]);
    }
}

impl Connection<Stream> {
    /// Where bytes for this side go.
    pub(super) fn sink(&mut self) -> Sink<'_> {
        self.both().1
    }

    /// What was read, and where bytes for this side go, at once.
    pub(super) fn both(&mut self) -> (&[u8], Sink<'_>) {
        self.outbox();
        (self.inbox.bytes(), Sink { stream: &self.stream, bytes: &mut self.outbox })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_not_used_stays_and_the_buffer_grows_for_it() {
        let (mut peer, stream) = duplex(BUFFER_BYTES * 4);
        let mut connection = Connection::new(stream);
        let sent: Vec<u8> = (0..BUFFER_BYTES * 3).map(|n| n as u8).collect();
        peer.write_all(&sent).await.unwrap();
        assert_eq!(connection.fill().await.unwrap(), BUFFER_BYTES);
        connection.consume(10);
        while connection.received().len() < sent.len() - 10 {
            assert!(connection.fill().await.unwrap() > 0);
        }
        assert_eq!(connection.received(), &sent[10..]);
    }

    #[tokio::test]
    async fn what_the_stream_itself_holds_back_is_flushed() {
        let (mut peer, stream) = duplex(1024);
        // As TLS does, it takes what it cannot pass on yet.
        let mut connection = Connection::new(tokio::io::BufWriter::new(stream));
        connection.outbox().extend_from_slice(b"hello");
        connection.drain().await.unwrap();
        let mut got = [0; 5];
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), peer.read_exact(&mut got)).await;
        assert!(read.is_ok_and(|read| read.is_ok()) && &got == b"hello");
    }

    #[tokio::test]
    async fn a_peer_that_never_takes_everything_does_not_make_the_outbox_grow() {
        let (mut peer, stream) = duplex(1024);
        let mut connection = Connection::new(stream);
        let (mut sent, mut got, mut longest) = (Vec::new(), Vec::new(), 0);
        let mut taken = [0; 1000];
        for round in 0..2000_u32 {
            while connection.outbox().len() - connection.written < 4000 {
                connection.outbox().extend(round.to_be_bytes());
                sent.extend(round.to_be_bytes());
            }
            assert!(futures_util::poll!(std::pin::pin!(connection.drain())).is_pending());
            longest = longest.max(connection.outbox.len());
            let read = peer.read(&mut taken).await.unwrap();
            got.extend_from_slice(&taken[..read]);
        }
        assert!(longest <= 2 * 4000, "{longest}");
        assert!(sent.starts_with(&got) && got.len() >= 1_000_000, "{}", got.len());
    }

    #[tokio::test]
    async fn many_bytes_go_out_at_once_and_in_order() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        let mut connection = Connection::new(Stream::Tcp(stream));
        let bytes: Vec<u8> = (0..AT_ONCE_BYTES).map(|n| (n % 251) as u8).collect();
        connection.sink().push(&bytes);
        assert!(connection.is_drained(), "nothing was before them");
        let mut sent = bytes.clone();
        // Until the socket takes no more, and beyond that.
        while connection.outbox.len() < 4 * AT_ONCE_BYTES {
            for bytes in [&b"few"[..], &bytes] {
                connection.sink().push(bytes);
                sent.extend_from_slice(bytes);
            }
            if connection.outbox.len() < 2 * AT_ONCE_BYTES {
                let _ = futures_util::poll!(std::pin::pin!(connection.drain()));
            }
        }
        let mut got = Vec::new();
        let (closed, read) = tokio::join!(connection.close(), peer.read_to_end(&mut got));
        assert!(closed.is_ok() && read.is_ok());
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut peer, stream) = duplex(1024);
        let mut connection = Connection::new(stream);
        peer.write_all(b"hello").await.unwrap();
        assert_eq!(connection.fill().await.unwrap(), 5);
        connection.consume(5);
        assert!(connection.inbox.buffer.is_empty());
        connection.outbox().extend_from_slice(b"bye");
        connection.close().await.unwrap();
        let mut got = String::new();
        peer.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "bye");
        assert!(connection.outbox.capacity() == 0 && !connection.is_backed_up());
    }
}
