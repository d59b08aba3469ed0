//! One TCP connection of a player, with deadlines instead of blocking reads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::notation::{Backend, CancelKey};

/// What a read came back with.
pub(super) enum Received {
    Message(Backend),
    Timeout,
    Closed,
}

/// A connection and what is known of it.
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    closed: bool,
    /// The numbers of the last BackendKeyData.
    pub(super) key: CancelKey,
}

impl Connection {
    pub(super) fn open(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            closed: false,
            key: CancelKey::default(),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends bytes, together with those held back before; or holds them back if more follow in the same write.
    pub(super) fn send(&mut self, bytes: Vec<u8>, more: bool) {
        self.unsent.extend(bytes);
        if !more {
            let sent = self.stream.write_all(&self.unsent);
            self.closed |= sent.is_err();
            self.unsent.clear();
        }
    }

    /// The next message, if it comes in time. What was received before the end of the stream is still delivered.
    pub(super) fn receive(&mut self, deadline: Instant) -> Received {
        loop {
            if let Some(message) = Backend::read(&mut self.received) {
                if let Backend::BackendKeyData { pid, key } = message {
                    self.key = CancelKey { pid, key };
                }
                return Received::Message(message);
            }
            if self.closed {
                return Received::Closed;
            }
            if !self.fill(deadline) && !self.closed {
                return Received::Timeout;
            }
        }
    }

    /// Up to `count` bytes that are no message.
    pub(super) fn receive_raw(&mut self, count: usize, deadline: Instant) -> Vec<u8> {
        while self.received.len() < count && !self.closed && self.fill(deadline) {}
        let count = count.min(self.received.len());
        self.received.drain(..count).collect()
    }

    /// Reads what is there; false at the deadline and at the end of the stream.
    fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(count) if count > 0 => {
                self.received.extend(&chunk[..count]);
                true
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                error.kind() == ErrorKind::Interrupted
            }
            _ => {
                self.closed = true;
                false
            }
        }
    }
}
