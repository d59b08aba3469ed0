//! The PostgreSQL protocol as far as Reprise reads it. Pure: bytes in, views out.

pub mod backend;
pub mod encode;
mod frame;
pub mod frontend;
pub mod options;
pub mod sasl;
mod sqlstate;
pub mod startup;

pub use frame::{BadLength, HEADER_BYTES, Header, MESSAGE_BYTES_MAX, frames};
pub use sqlstate::SqlState;
