//! A client for unit tests of the engine: it keeps what it gets, and nobody counts anything.

use super::{Event, Output};

/// What the client got.
#[derive(Default)]
pub(super) struct Client(pub(super) Vec<u8>);

impl Output for Client {
    fn frontend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn backend(&mut self, _: &[u8]) {}

    fn report(&mut self, _: Event) {}

    fn hold(&mut self, _: usize) -> bool {
        true
    }

    fn close(&mut self) {}
}

/// One message.
pub(super) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}
