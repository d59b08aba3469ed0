//! A small multi-version store with serializable transactions, where conflicts arise as they do in CockroachDB.
//!
//! A transaction reads at one moment (`read`) and writes at one that is the same or later (`write`):
//!
//! - Writes are *intents*: they lock their key until the transaction ends. Whoever wants the key meanwhile waits, unless
//!   one of the two has a priority that lets it push the other aside. A circle of waiting transactions is broken by
//!   aborting one.
//! - A write below a read of another transaction would change what that one saw, so it is moved above it (the
//!   timestamp cache remembers the reads).
//! - A write below a committed value is too old; it is moved above the value.
//! - Whenever `write` has moved, the transaction's reads must hold there too. They are *refreshed*: nothing that
//!   it read may have been written in between. Where that fails, the transaction must be tried again, and that is
//!   what the client sees as SQLSTATE 40001: at once for a write that is too old, at RELEASE or COMMIT for one
//!   that was only pushed.

mod clock;
mod conflict;
mod key;
mod locks;
mod reads;
mod state;
mod store;
mod transaction;

pub use clock::{Clock, Timestamp};
pub use conflict::{AbortReason, Conflict, Obstacle, Snapshot};
pub use key::{Key, Row, Span};
pub use state::Priority;
pub use store::Store;
pub use transaction::{Mark, Strength, Transaction};
