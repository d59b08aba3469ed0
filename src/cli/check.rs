//! `reprise check`: is the configuration valid, and what is in effect?

use std::io::Write;
use std::process::ExitCode;

use super::{FAILURE, refuse};
use crate::config::{self, Sources};

pub(super) fn check(sources: Sources) -> ExitCode {
    match config::load(sources) {
        Ok((_, settings)) => match write!(std::io::stdout().lock(), "{settings}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(FAILURE),
        },
        Err(error) => refuse(&error),
    }
}
