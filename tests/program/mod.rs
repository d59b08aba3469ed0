//! The program, for the tests that start it as a user does.

use std::process::Command;

/// The program with these arguments, in an environment that configures nothing.
pub(crate) fn reprise(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reprise"));
    for (variable, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REPRISE_"))
    {
        command.env_remove(variable);
    }
    command.args(arguments);
    command
}
