//! The thin shell around the engine: owns sockets, clock and tasks, and moves bytes. It decides nothing about transactions.
//!
//! ```text
//! listener ──> handshake ──> session ──> connection (client)
//!                 │             │  └───> connection (server)
//!                 └── cancel ───┘
//! ```

mod cancel;
mod connection;
mod handshake;
mod isolation;
mod listener;
mod parameters;
mod refusal;
mod session;
mod turns;
mod upstream;

pub use listener::serve;
