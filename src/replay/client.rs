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

/// A Query.
pub(super) fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

/// A Parse without types of parameters.
pub(super) fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// A Bind without parameters.
pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    frame(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

/// An Execute without a limit on rows.
pub(super) fn execute(portal: &str) -> Vec<u8> {
    frame(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

/// A Describe of `S` or `P` and a name.
pub(super) fn describe(target: &str) -> Vec<u8> {
    frame(b'D', format!("{target}\0").as_bytes())
}

/// A Sync.
pub(super) fn sync() -> Vec<u8> {
    frame(b'S', b"")
}
