//! The governor before a model of a database: it finds the limit that gets the most done, keeps it, is fair, and nobody is
//! left behind.

mod claims;
mod database;
mod gate;
mod world;
