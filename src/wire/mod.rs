//! The PostgreSQL protocol as far as Reprise reads it. Pure: bytes in, views out.

mod sqlstate;

pub use sqlstate::SqlState;
