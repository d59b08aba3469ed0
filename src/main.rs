//! The `reprise` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    reprise::cli::execute(std::env::args_os())
}
