//! Reprise before a real PostgreSQL, and before fake databases that do what a real one seldom does: everything from the
//! first byte of a connection to its last, with nothing of it replaced.
//!
//! No test waits for time to pass. Where the order of two sessions matters it is made by locks, and by asking the server
//! whether a session waits; conflicts that do not come from another session come from functions that count their calls
//! in sequences, which no rollback undoes.

mod admission;
mod authentication;
mod bad_input;
mod bad_upstream;
mod cancel;
mod cockroach_dialect;
mod connection_limits;
mod console;
mod departures;
mod golden_cases;
mod governor;
mod half_closed;
mod hidden;
mod hostile;
mod idle;
mod limits;
mod lock_table;
mod measures;
mod names;
mod nametag;
mod operations;
mod own_logins;
mod page;
mod postgres_dialect;
mod privacy;
#[path = "../program/mod.rs"]
mod program;
mod replication;
mod report;
mod reports;
mod round_trips;
mod service;
mod sockets;
mod support;
mod surfaced;
mod switches;
mod threads;
mod tls_clients;
mod tls_upstream;
mod traces;
mod transparency;
mod turns;
mod wire_edges;
