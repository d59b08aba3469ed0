//! Reprise: a PostgreSQL-wire proxy that makes transaction conflicts invisible to applications.

pub mod demo;
pub mod replay;
pub mod wire;
