//! What an error means: the server begins the attempt anew, or the client is told.

use std::time::Duration;

use super::names::Names;
use super::{Health, Session, Settings, Skip};
use crate::errors::{Gravity, SqlError};
use crate::kv::Conflict;
use crate::retry::{Command, Received};
use crate::savepoints::Savepoints;
use crate::sql::statement::Statement;
use crate::transaction::{Event, State};

/// How long the server waits before it retries by itself.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// The beginning of the present attempt, and what the session looked like there.
#[derive(Debug)]
pub(super) struct RewindPoint {
    pub(super) position: u64,
    names: Names,
    savepoints: Savepoints,
    changes: usize,
    settings: Settings,
}

impl Session {
    /// Decides what an error means: the server retries, or the client is told.
    pub(super) async fn fail(&mut self, mut error: SqlError, command: &Command) {
        self.names.drop_suspended();
        if let Some(conflict) = error.as_conflict().cloned()
            && self.retry(&conflict)
        {
            tokio::time::sleep(RETRY_PAUSE).await;
            return;
        }
        self.mark_health(&mut error);
        let extended = !matches!(
            command,
            Command::Statement(_) | Command::Sync { ends_query: true } | Command::Fail { in_query: true, .. }
        );
        let is_sync = matches!(command, Command::Sync { .. });
        self.output.error(&error, self.version());
        self.apply(Event::Failed);
        if is_sync {
            // The error belongs to the batch that this Sync ends.
            self.output.ready(self.state.status());
            let _ = self.flush().await;
        } else {
            self.skip = Skip::ToSync { extended };
        }
    }

    /// Begins the attempt anew if nothing of it was shown: whether it does.
    fn retry(&mut self, conflict: &Conflict) -> bool {
        let is_open = matches!(self.state, State::Implicit | State::Open);
        let Some(txn) = self.txn.as_mut().filter(|txn| is_open && !txn.kv.is_over()) else {
            return false;
        };
        // The storage transaction begins anew at once, whoever is to repeat the statements.
        txn.kv.restart(conflict);
        let Some(rewind) = self.rewind.as_ref().filter(|rewind| !self.output.has_sent(rewind.position))
        else {
            return false;
        };
        txn.changes.truncate(rewind.changes);
        self.names = rewind.names.clone();
        self.savepoints = rewind.savepoints.clone();
        if self.settings.version().retries_restore_settings() {
            self.settings = rewind.settings.clone();
        }
        self.output.take_back(rewind.position);
        self.commands.rewind(rewind.position);
        self.state = self.state.after(Event::Rewound);
        true
    }

    fn mark_health(&mut self, error: &mut SqlError) {
        let recovers = self.version().recovers_from_cancellation();
        let Some(txn) = &mut self.txn else { return };
        if txn.kv.was_interrupted() && error.gravity == Gravity::Cancelled {
            error.gravity = Gravity::Broken;
        }
        match error.gravity {
            Gravity::Cancelled if !recovers && txn.health == Health::Sound => txn.health = Health::Cancelled,
            Gravity::Broken if !recovers => txn.health = Health::Broken,
            _ => {}
        }
    }

    /// Moves the rewind position behind a command that need not be repeated.
    pub(super) fn move_window(&mut self, received: &Received) {
        let is_open = matches!(self.state, State::Implicit | State::Open);
        let at_window = self.rewind.as_ref().is_some_and(|rewind| rewind.position == received.position);
        if !is_open || !at_window {
            return;
        }
        let leaves = |statement: &Statement| {
            statement.can_be_left_behind()
                || (statement.is_observer() && self.version().observers_keep_window())
        };
        let can_leave = match &received.command {
            Command::Statement(parsed) => leaves(&parsed.statement),
            Command::Execute { portal, .. } => {
                self.names.portal(portal).map_or(true, |portal| leaves(&portal.prepared.parsed.statement))
            }
            command => command.can_be_left_behind(),
        };
        if can_leave {
            self.set_rewind_point(received.position + 1);
        }
    }

    /// Lets the attempt begin at a position.
    pub(super) fn set_rewind_point(&mut self, position: u64) {
        self.rewind = Some(RewindPoint {
            position,
            names: self.names.clone(),
            savepoints: self.savepoints.clone(),
            changes: self.txn.as_ref().map_or(0, |txn| txn.changes.len()),
            settings: self.settings.clone(),
        });
    }
}
