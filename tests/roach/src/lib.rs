//! A CockroachDB that fits in a test: an in-process server with its exact transaction states on the wire.
//!
//! Read it in this order to learn CockroachDB's retry protocol:
//!
//! 1. [`transaction`]: the states of a transaction and the moves between them, as one table;
//! 2. [`savepoints`]: which savepoints survive a restart, and which commit on RELEASE;
//! 3. [`kv`]: the multi-version store in which conflicts arise, and [`kv::Conflict`]: their exact texts;
//! 4. [`retry`]: when the server retries by itself, and the client never learns of a conflict;
//! 5. [`session`]: what each statement means in each state, and what each error does;
//! 6. [`faults`]: what can be made to go wrong;
//! 7. [`version`]: what differs between releases.
//!
//! ```text
//!    client ==bytes==> session/intake --commands--> retry --> session --plans--> sql --reads, writes--> kv
//!    client <=bytes==  output  <--answers----------------------+
//! ```
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let server = roach::Server::start(roach::Options::default()).await?;
//! println!("a CockroachDB listens on {}", server.address());
//! # Ok(())
//! # }
//! ```

pub mod catalog;
pub mod errors;
pub mod faults;
pub mod kv;
mod output;
pub mod retry;
pub mod savepoints;
mod server;
pub mod session;
pub mod sql;
mod startup;
pub mod transaction;
pub mod version;

pub use faults::Faults;
pub use server::{Handle, Options, Server, Shared};
pub use transaction::State;
pub use version::Version;
