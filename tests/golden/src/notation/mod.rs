//! The text form of conversations: files, lines, and the messages of both directions.
//!
//! Every message has four faces and can be turned from any into any other: the line of a recording (`parse`,
//! `Display`), the typed value, and the bytes on the wire (`encode`, `decode`).

mod backend;
mod body;
mod case;
mod frontend;
mod token;

pub use backend::{Backend, Column, Fields, Values};
pub use case::{Action, Case, Recording, Server, Step, Until};
pub use frontend::{CancelKey, Frontend, Target};
pub use token::{Token, quote, quote_bytes, tokens};
pub(crate) use token::{printable, to_hex};

use std::fmt::Display;

/// A line that is not in the notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {line}")]
pub struct NotationError {
    line: String,
    reason: String,
}

impl NotationError {
    /// Says what is wrong with which line.
    pub fn new(line: impl Display, reason: impl Display) -> Self {
        Self { line: line.to_string(), reason: reason.to_string() }
    }
}
