//! The thin shell around the engine: owns sockets, clock and tasks, and moves bytes. It decides nothing about transactions.
//!
//! ```text
//! sockets
//!    │       workers: a thread each for what is right of here; balance: how many of them are at work
//! listener ──> admission ──> session ──> connection (client) ──┬──> tls
//!              handshake        │  └───> connection (server) ──┘
//!                 │             │  └───> member ──> classes (what contends)
//!                 ├── cancel ───┘
//!                 └── console
//! ```

mod admission;
pub mod auth;
mod balance;
mod bell;
mod cancel;
mod classes;
mod connection;
mod console;
pub mod credentials;
mod crowd;
mod ending;
mod handshake;
mod idle;
mod isolation;
mod ledger;
mod listener;
mod live;
mod member;
mod names;
mod nametag;
mod parameters;
mod refusal;
mod sample;
mod session;
mod shutdown;
mod sockets;
pub mod tls;
mod turns;
mod upstream;
mod workers;

pub use listener::serve;
pub use live::{Live, Operator};
pub use sockets::Listeners;
