//! The thin shell around the engine: owns sockets, clock and tasks, and moves bytes. It decides nothing about transactions.
//!
//! ```text
//! sockets
//!    │
//! listener ──> handshake ──> session ──> connection (client) ──┬──> tls
//!                 │             │  └───> connection (server) ──┘
//!                 └── cancel ───┘
//! ```

mod cancel;
mod connection;
mod crowd;
mod handshake;
mod idle;
mod listener;
mod refusal;
mod session;
mod sockets;
pub mod tls;
mod upstream;

pub use listener::serve;
pub use sockets::Listeners;
pub use tls::Tls;
