//! The small SQL that the double understands: text, statements, plans, rows.

mod aggregate;
mod bind;
pub mod cast;
mod control;
mod data;
pub mod execute;
pub mod expr;
pub mod function;
pub mod lexer;
pub mod parser;
pub mod plan;
mod query;
mod scan;
pub mod schema;
mod settings;
pub mod statement;
mod syntax;
pub mod value;
pub mod write;
