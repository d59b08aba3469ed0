//! What SIGHUP does, and what the console asks of the process: configuration, certificates and passwords are read again,
//! or the end begins.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::Signal;
use tokio::sync::Notify;

use super::service;
use crate::config::{self, READ_AT_START, Settings, Sources};
use crate::proxy::{Live, Operator};
use crate::telemetry;

/// What is in effect, and where it came from.
pub(super) struct Reload {
    sources: Sources,
    at_start: Settings,
    settings: Mutex<Settings>,
    live: Arc<Live>,
    drain: Arc<Notify>,
}

impl Reload {
    /// Of a process that began with these settings from these sources. `drain` is told when it is to end.
    pub(super) fn new(sources: Sources, at_start: Settings, live: Arc<Live>, drain: Arc<Notify>) -> Self {
        Self { sources, settings: Mutex::new(at_start.clone()), at_start, live, drain }
    }

    /// Reads everything again at each signal.
    pub(super) async fn at_each(self: Arc<Self>, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            // What is wrong is in the log.
            let _ = self.reload();
        }
    }

    fn read_again(&self) -> Result<(), String> {
        let read = self.again()?;
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = read.differences(&settings);
        let is_late = |name: &String| READ_AT_START.contains(&name.as_str());
        let changed: Vec<_> = changed.into_iter().filter(|name| !is_late(name)).collect();
        tracing::info!(changed = changed.join(", "), "configuration and files were read again");
        let late = read.differences(&self.at_start);
        let late: Vec<_> = late.into_iter().filter(is_late).collect();
        if !late.is_empty() {
            tracing::warn!(keys = late.join(", "), "these changes need a restart");
        }
        *settings = read;
        Ok(())
    }

    fn again(&self) -> Result<Settings, String> {
        let (config, settings) = config::load(self.sources.clone()).map_err(|error| error.to_string())?;
        let level = config.log.level.clone();
        self.live.reload(config).map_err(|error| error.to_string())?;
        telemetry::set_log_level(&level)?;
        Ok(settings)
    }
}

impl Operator for Reload {
    fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reload(&self) -> Result<(), String> {
        service::reloading();
        let read = self.read_again();
        if let Err(error) = &read {
            tracing::error!(error, "cannot read them again; everything stays as it was");
        }
        service::ready();
        read
    }

    fn drain(&self) {
        self.drain.notify_one();
    }
}
