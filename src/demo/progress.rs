//! The progress bar: on standard error, and only at a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use super::workload::{Style, Way};

/// How far the demonstration is. The bar disappears at its drop.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Shows an empty bar for `transfers`.
    pub(super) fn start(transfers: u64) -> Self {
        let bar = ProgressBar::new(transfers);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
        bar.set_style(style.expect("the template is a constant and well formed"));
        Self(bar)
    }

    /// Names the row under way.
    pub(super) fn show(&self, style: Style, way: Way) {
        self.0.set_message(format!("{}, {}", style.name(), way.name()));
    }

    /// Counts a transfer, whatever came of it.
    pub(super) fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
