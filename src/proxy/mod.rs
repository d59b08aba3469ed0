//! The thin shell around the engine: owns sockets, clock and tasks, and moves bytes. It decides nothing about transactions.
//!
//! ```text
//! listener ──> handshake ──> session ──> connection (client) ──┬──> tls
//!                 │             │  └───> connection (server) ──┘
//!                 └── cancel ───┘
//! ```

mod cancel;
mod connection;
mod handshake;
mod listener;
mod refusal;
mod session;
pub mod tls;
mod upstream;

pub use listener::serve;
pub use tls::Tls;
