//! The messages of a client, cut out of its bytes.

use std::io;

use bytes::BytesMut;
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A connection: a TCP stream, or a pipe within the process.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A whole message, header included.
pub struct Frame {
    /// The byte that tells what it is.
    pub tag: u8,
    bytes: BytesMut,
}

impl Frame {
    /// The message, if its body is what its tag says.
    pub fn decode<M: Message>(mut self) -> Option<M> {
        M::decode(&mut self.bytes, &DecodeContext::new(ProtocolVersion::PROTOCOL3_0)).ok().flatten()
    }
}

/// The receiving side of a connection.
pub struct Frames {
    /// The connection itself.
    pub stream: Box<dyn Wire>,
    received: BytesMut,
}

/// Longer messages end the connection.
const MAX_LENGTH: usize = 1 << 26;

impl Frames {
    /// Reads from a connection of which these bytes were read already.
    pub fn new(stream: Box<dyn Wire>, received: BytesMut) -> Self {
        Self { stream, received }
    }

    /// The next message, or nothing at the end of the connection. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether bytes of the client wait to be understood.
    pub fn has_unread(&self) -> bool {
        !self.received.is_empty()
    }

    fn cut(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.received.get(..5) else {
            return Ok(None);
        };
        let tag = header[0];
        let length = header[1..].iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)) + 1;
        if !(5..=MAX_LENGTH).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.received.len() < length {
            return Ok(None);
        }
        Ok(Some(Frame { tag, bytes: self.received.split_to(length) }))
    }
}
