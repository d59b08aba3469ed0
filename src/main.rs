//! The `reprise` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    reprise::cli::execute(std::env::args_os())
}
