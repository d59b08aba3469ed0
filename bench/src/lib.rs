//! What the engine is measured with, without a socket: recorded sessions, and the instructions that they may take.

#![forbid(unsafe_code)]

pub mod budget;
pub mod recorded;
