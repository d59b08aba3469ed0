//! Recorded sessions: what client and server sent to each other, in the order and in the pieces in which it came.
//!
//! A file is a list of pieces: a byte that says who sent it (`F` frontend, `B` backend), four bytes of length, the bytes.
//! It begins behind the ReadyForQuery that ends the startup.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use reprise::replay::{Dialect, Engine, Event, Mode, Output, Policy};

/// Who sent a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Frontend,
    /// The server.
    Backend,
}

/// A session as it was recorded.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pieces: Vec<(Side, Vec<u8>)>,
}

/// The sessions of `bench/recorded`, by the name of their file.
pub const RECORDED: [(&str, &[u8]); 5] = [
    ("select-simple", include_bytes!("../recorded/select-simple")),
    ("select-extended", include_bytes!("../recorded/select-extended")),
    ("select-prepared", include_bytes!("../recorded/select-prepared")),
    ("tpcb-simple", include_bytes!("../recorded/tpcb-simple")),
    ("tpcb-prepared", include_bytes!("../recorded/tpcb-prepared")),
];

/// The name of [`Session::bulk`].
pub const BULK: &str = "bulk-rows";

impl Session {
    /// The session of this name.
    pub fn named(name: &str) -> Option<Self> {
        if name == BULK {
            return Some(Self::bulk());
        }
        let (_, bytes) = RECORDED.iter().find(|(known, _)| *known == name)?;
        Self::read(bytes)
    }

    /// One statement with many rows, as they come from a socket: in pieces of 64 KiB that are cut anywhere.
    pub fn bulk() -> Self {
        let frame = |tag: u8, body: &[u8]| {
            let length = body.len() as u32 + 4;
            [&[tag][..], &length.to_be_bytes(), body].concat()
        };
        let row = frame(b'D', &[&[0, 1, 0, 0, 0, 200][..], &[b'x'; 200]].concat());
        let column = b"\0\x01text\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        let mut answer = frame(b'T', column);
        answer.extend(row.repeat(5000));
        answer.extend(frame(b'C', b"SELECT 5000\0"));
        answer.extend(frame(b'Z', b"I"));
        let mut session = Self::default();
        session.push(Side::Frontend, &frame(b'Q', b"SELECT text FROM source\0"));
        answer.chunks(64 << 10).for_each(|piece| session.push(Side::Backend, piece));
        session
    }

    /// Reads a file; `None` if it is cut off.
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut session = Self::default();
        while let Some((side, rest)) = bytes.split_first() {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (piece, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let side = if *side == b'F' { Side::Frontend } else { Side::Backend };
            session.push(side, piece);
            bytes = rest;
        }
        Some(session)
    }

    /// The bytes of a file.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (side, piece) in &self.pieces {
            bytes.push(if *side == Side::Frontend { b'F' } else { b'B' });
            bytes.extend((piece.len() as u32).to_be_bytes());
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    /// Appends what a side sent.
    pub fn push(&mut self, side: Side, piece: &[u8]) {
        self.pieces.push((side, piece.to_vec()));
    }

    /// How often the client waited for an answer.
    pub fn round_trips(&self) -> usize {
        self.pieces
            .windows(2)
            .filter(|pair| (pair[0].0, pair[1].0) == (Side::Frontend, Side::Backend))
            .count()
    }

    /// Hands all of it to an engine, as the proxy does: bytes that were not taken come again with those behind them.
    ///
    /// # Panics
    /// When the engine does not pass on what was recorded: then something else was measured.
    pub fn play(&self, mode: Mode) {
        let policy = Arc::new(Policy { mode, ..Policy::default() });
        let mut engine = Engine::new(policy, Dialect::Postgres, 1);
        let (mut outboxes, mut inboxes) = (Outboxes::default(), [Vec::new(), Vec::new()]);
        let (mut now, mut received) = (Duration::ZERO, [0, 0]);
        for (side, piece) in &self.pieces {
            now += Duration::from_micros(50);
            let inbox = &mut inboxes[*side as usize];
            received[*side as usize] += piece.len();
            let joined = !inbox.is_empty();
            if joined {
                inbox.extend_from_slice(piece);
            }
            let bytes = if joined { &inbox[..] } else { &piece[..] };
            let taken = match side {
                Side::Frontend => engine.handle_frontend(now, bytes, &mut outboxes),
                Side::Backend => engine.handle_backend(now, bytes, &mut outboxes),
            };
            let taken = taken.expect("what was recorded is well framed");
            if joined {
                inbox.drain(..taken);
            } else {
                inbox.extend_from_slice(&piece[taken..]);
            }
            outboxes.send();
        }
        assert_eq!(outboxes.sent, received, "everything is passed on, and nothing is added");
    }
}

/// Where the engine's bytes go, as in the proxy: into buffers that are written at the end of a turn.
#[derive(Default)]
struct Outboxes {
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// Bytes of the client that were sent to the server, and the other way round.
    sent: [usize; 2],
}

impl Outboxes {
    fn send(&mut self) {
        black_box((&self.to_client, &self.to_server));
        self.sent[0] += self.to_server.len();
        self.sent[1] += self.to_client.len();
        self.to_client.clear();
        self.to_server.clear();
    }
}

impl Output for Outboxes {
    fn frontend(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
    }

    fn backend(&mut self, bytes: &[u8]) {
        self.to_server.extend_from_slice(bytes);
    }

    fn report(&mut self, event: Event) {
        black_box(event);
    }

    fn hold(&mut self, journal_bytes: usize) -> bool {
        black_box(journal_bytes);
        true
    }

    fn close(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_is_passed_on_in_every_mode() {
        for name in RECORDED.map(|(name, _)| name).into_iter().chain([BULK]) {
            let session = Session::named(name).expect(name);
            assert!(session.round_trips() > 0, "{name}");
            Mode::ALL.into_iter().for_each(|mode| session.play(mode));
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        for (name, bytes) in RECORDED {
            assert_eq!(Session::read(bytes).expect(name).write(), bytes);
            assert!(Session::read(&bytes[..bytes.len() - 1]).is_none(), "{name} is cut off");
        }
    }
}
