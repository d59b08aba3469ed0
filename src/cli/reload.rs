//! What SIGHUP does: configuration, certificates and passwords are read again.

use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::service;
use crate::config::{self, READ_AT_START, Settings, Sources};
use crate::proxy::Live;
use crate::telemetry;

/// What is in effect, and where it came from.
pub(super) struct Reload {
    /// Where the configuration is read.
    pub(super) sources: Sources,
    /// What the process began with.
    pub(super) at_start: Settings,
    /// What connections are served by.
    pub(super) live: Arc<Live>,
}

impl Reload {
    /// Reads everything again at each signal. If anything is wrong with it, nothing changes.
    pub(super) async fn at_each(self, mut hangup: Signal) {
        let mut settings = self.at_start.clone();
        while hangup.recv().await.is_some() {
            service::reloading();
            match self.again() {
                Ok(read) => {
                    let changed = read.differences(&settings);
                    let is_late = |name: &String| READ_AT_START.contains(&name.as_str());
                    let changed: Vec<_> = changed.into_iter().filter(|name| !is_late(name)).collect();
                    tracing::info!(changed = changed.join(", "), "configuration and files were read again");
                    let late = read.differences(&self.at_start);
                    let late: Vec<_> = late.into_iter().filter(is_late).collect();
                    if !late.is_empty() {
                        tracing::warn!(keys = late.join(", "), "these changes need a restart");
                    }
                    settings = read;
                }
                Err(error) => {
                    tracing::error!(error, "cannot read them again; everything stays as it was");
                }
            }
            service::ready();
        }
    }

    fn again(&self) -> Result<Settings, String> {
        let (config, settings) = config::load(self.sources.clone()).map_err(|error| error.to_string())?;
        let level = config.log.level.clone();
        self.live.reload(config).map_err(|error| error.to_string())?;
        telemetry::set_log_level(&level)?;
        Ok(settings)
    }
}
