//! `reprise check`: is the configuration valid, and what is in effect?

use std::io::Write;
use std::process::ExitCode;

use super::{FAILURE, refuse};
use crate::config::{self, Settings, Sources};
use crate::proxy::Live;
use crate::proxy::credentials::readable_by_others;

pub(super) fn check(sources: Sources) -> ExitCode {
    match config::load(sources) {
        Ok((config, settings)) => match Live::load(config.clone()) {
            Ok(_) => {
                for path in readable_by_others(&config) {
                    eprintln!("reprise: everybody on this machine may read {}: chmod 600", path.display());
                }
                print(&settings)
            }
            Err(error) => {
                eprintln!("reprise: {error}");
                ExitCode::from(FAILURE)
            }
        },
        Err(error) => refuse(&error),
    }
}

fn print(settings: &Settings) -> ExitCode {
    match write!(std::io::stdout().lock(), "{settings}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}
