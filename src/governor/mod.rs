//! The governor: of the transactions that contend with each other it lets so many run at a time as get the most done.
//!
//! Under contention a database drowns in lock waits, deadlocks and wasted attempts. Transactions of one contention class
//! pass a gate before their first statement, where they hold no lock and no snapshot; the width of the gate follows from what
//! is done and what is wasted behind it. Pure: no socket, clock, task or session. Time and outcomes go in, decisions come
//! out.
//!
//! ```text
//! transaction ──> class ──> queue    replays first, the oldest transaction first
//!                   │
//!                   ├─────> heat     whether one value of their statements is behind the conflicts
//!                   │
//!                   └─────> limit    how many may run: found by trying
//!                             └────> window    what was done and wasted in a while
//! ```

mod class;
mod heat;
mod limit;
mod policy;
mod queue;
mod window;

pub use class::{Class, Entry, STUCK};
pub use policy::{Mode, Policy};
pub use queue::Ticket;
pub use window::End;
