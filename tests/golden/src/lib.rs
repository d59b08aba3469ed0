//! Conversations recorded from real servers: their notation, and a player that holds a server against them.
//!
//! A *recording* is a file of *cases*; a case is a script (what clients send, and when they wait) with the answers
//! that a real server gave. The folders `cockroachdb/` and `postgres/` beside this crate hold the recordings.
//!
//! ```text
//!   recording file --Recording::parse--> Case { steps } --Player--> transcript --report--> passed, failed, diff
//!                                           |
//!                                           +--> Frontend / Backend: the messages, to and from bytes and text
//! ```
//!
//! `notation` knows no socket: a state machine that has none can be driven with the very same conversations.
//!
//! `FORMAT.md` beside this crate describes the notation. To hold any server against the recordings:
//!
//! ```text
//!   cargo run -p golden -- --dsn 127.0.0.1:26257 tests/golden/cockroachdb/*.txt
//! ```

pub mod mask;
pub mod notation;
pub mod player;
pub mod report;

pub use mask::Mask;
pub use notation::{Backend, Case, Frontend, NotationError, Recording, Server};
pub use player::{Address, Player};
pub use report::{Comparison, Report, Selection};

use std::path::{Path, PathBuf};

/// The folder that holds the recordings of one kind of server.
pub fn folder(server: Server) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(server.folder())
}

/// All recordings of one kind of server, in the order of their file names.
pub fn recordings(server: Server) -> Result<Vec<Recording>, NotationError> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder(server))
        .map_err(|error| NotationError::new(folder(server).display(), error))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths.iter().map(|path| Recording::load(path)).collect()
}
