//! The first packet of a connection: it has no type byte.
//!
//! Source: [Start-up](https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP).

use thiserror::Error;

/// The longest startup packet that PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// An SSLRequest.
pub const SSL_REQUEST_PACKET: [u8; 8] = {
    let [a, b, c, d] = SSL_REQUEST.to_be_bytes();
    [0, 0, 0, 8, a, b, c, d]
};

/// What a client can begin a connection with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial<'a> {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel what runs in the session with this key (process id and secret, 8 to 260 bytes).
    Cancel {
        /// The bytes behind the request code.
        key: &'a [u8],
    },
    /// Starts a session.
    Startup(Startup<'a>),
}

/// A StartupMessage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup<'a> {
    /// Major protocol version.
    pub major: u16,
    /// Minor protocol version.
    pub minor: u16,
    parameters: &'a [u8],
}

impl<'a> Startup<'a> {
    /// Whether the parameters are whole pairs, and end where the packet does.
    fn is_terminated(self) -> bool {
        let mut pairs = Pairs(self.parameters);
        pairs.by_ref().for_each(drop);
        pairs.0 == [0]
    }

    /// Names and values of the parameters, in wire order.
    pub fn parameters(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        Pairs(self.parameters)
    }
}

/// Walks pairs of zero-terminated strings up to an empty name.
struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = super::frame::split_cstr(self.0)?;
        if name.is_empty() {
            return None;
        }
        let (value, rest) = super::frame::split_cstr(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// A first packet that cannot be one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadStartup {
    /// The length is not between 8 and [`STARTUP_BYTES_MAX`].
    #[error("invalid length of startup packet")]
    Length(u32),
    /// A cancel request without a key of 8 to 260 bytes.
    #[error("invalid length of cancel request")]
    CancelLength,
    /// The parameters are not pairs of strings with a terminator.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
}

impl<'a> Initial<'a> {
    /// Length of the packet that begins with these bytes; `None` while fewer than four are there.
    ///
    /// # Errors
    /// When the length is out of bounds: nothing is read or allocated for it.
    pub fn packet_bytes(bytes: &[u8]) -> Result<Option<usize>, BadStartup> {
        let Some(&length) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(length);
        if !(8..=STARTUP_BYTES_MAX as u32).contains(&length) {
            return Err(BadStartup::Length(length));
        }
        Ok(Some(length as usize))
    }

    /// Reads a whole packet, of the length that [`Self::packet_bytes`] told.
    ///
    /// # Errors
    /// When it is none of the four kinds.
    pub fn parse(packet: &'a [u8]) -> Result<Self, BadStartup> {
        let (Some(&code), Some(rest)) =
            (packet.get(4..8).and_then(|c| c.first_chunk::<4>()), packet.get(8..))
        else {
            return Err(BadStartup::Length(packet.len() as u32));
        };
        match u32::from_be_bytes(code) {
            SSL_REQUEST => Ok(Self::SslRequest),
            GSSENC_REQUEST => Ok(Self::GssEncRequest),
            CANCEL_REQUEST if (8..=260).contains(&rest.len()) => Ok(Self::Cancel { key: rest }),
            CANCEL_REQUEST => Err(BadStartup::CancelLength),
            version => {
                let (major, minor) = ((version >> 16) as u16, version as u16);
                let startup = Startup { major, minor, parameters: rest };
                if major == 3 && !startup.is_terminated() {
                    return Err(BadStartup::Layout);
                }
                Ok(Self::Startup(startup))
            }
        }
    }
}

/// A CancelRequest with this key.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + key.len()).expect("a key is short");
    [&length.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), key].concat()
}

/// A StartupMessage of protocol 3.0 with these parameters.
pub fn startup_message<'a>(parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for text in parameters.flat_map(|(name, value)| [name, value]) {
        packet.extend_from_slice(text);
        packet.push(0);
    }
    packet.push(0);
    let length = u32::try_from(packet.len()).expect("it is made of a packet of limited length");
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        [&(8 + rest.len() as u32).to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
    }

    #[test]
    fn the_four_kinds_are_told_apart() {
        assert_eq!(Initial::parse(&packet(SSL_REQUEST, b"")), Ok(Initial::SslRequest));
        assert_eq!(Initial::parse(&packet(GSSENC_REQUEST, b"")), Ok(Initial::GssEncRequest));
        assert_eq!(
            Initial::parse(&packet(CANCEL_REQUEST, b"12345678")),
            Ok(Initial::Cancel { key: b"12345678" })
        );
        let startup = packet(3 << 16 | 2, b"user\0ann\0database\0bank\0\0");
        let Ok(Initial::Startup(startup)) = Initial::parse(&startup) else { panic!("a startup message") };
        assert_eq!((startup.major, startup.minor), (3, 2));
        let parameters: Vec<_> = startup.parameters().collect();
        assert_eq!(parameters, [(&b"user"[..], &b"ann"[..]), (&b"database"[..], &b"bank"[..])]);
    }

    #[test]
    fn packets_that_are_written_can_be_read() {
        let cancel = cancel_request(b"12345678");
        assert_eq!(Initial::packet_bytes(&cancel), Ok(Some(cancel.len())));
        assert_eq!(Initial::parse(&cancel), Ok(Initial::Cancel { key: b"12345678" }));
        assert_eq!(Initial::packet_bytes(&SSL_REQUEST_PACKET), Ok(Some(8)));
        assert_eq!(Initial::parse(&SSL_REQUEST_PACKET), Ok(Initial::SslRequest));
        let startup = startup_message([(&b"user"[..], &b"ann"[..])].into_iter());
        let Ok(Initial::Startup(read)) = Initial::parse(&startup) else { panic!("a startup message") };
        assert_eq!((read.major, read.minor), (3, 0));
        assert_eq!(read.parameters().collect::<Vec<_>>(), [(&b"user"[..], &b"ann"[..])]);
    }

    #[test]
    fn lengths_are_checked_before_they_are_used() {
        assert_eq!(Initial::packet_bytes(&[0, 0, 0]), Ok(None));
        assert_eq!(Initial::packet_bytes(&[0, 0, 0, 7]), Err(BadStartup::Length(7)));
        assert_eq!(Initial::packet_bytes(&u32::MAX.to_be_bytes()), Err(BadStartup::Length(u32::MAX)));
        assert_eq!(Initial::packet_bytes(&[0, 0, 0, 8]), Ok(Some(8)));
        assert_eq!(Initial::parse(&packet(CANCEL_REQUEST, b"123")), Err(BadStartup::CancelLength));
        for parameters in [&b"user\0ann"[..], b"user\0ann\0", b"user\0ann\0\0more", b""] {
            assert_eq!(Initial::parse(&packet(3 << 16, parameters)), Err(BadStartup::Layout));
        }
        assert!(Initial::parse(&packet(3 << 16, b"\0")).is_ok());
    }
}
