//! Logins that Reprise decides itself: a client proves to it that it knows its password, and it logs in to the database
//! for the client.
//!
//! The mechanism is SCRAM-SHA-256, over TLS with channel binding. What a client proves is enough to log in to the database by the
//! same mechanism, with no password kept anywhere, if the secret in the file is the database's own.

mod client;
mod exchange;
mod failures;
mod scram;
mod userlist;

pub(super) use client::{Login, LoginFailure};
pub(super) use exchange::authenticate;
pub(super) use failures::{Attempts, Failures};
pub use userlist::Error;
pub(super) use userlist::{Users, pairs};
