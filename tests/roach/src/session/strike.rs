//! Lets injected faults strike.

use std::io;

use super::{Flow, Health, Session, Stop};
use crate::errors::SqlError;
use crate::faults::{Effect, Opportunity, Outcome, Point};

impl Session {
    /// Lets an injected fault strike, if there is one for this place.
    pub(super) async fn strike(&mut self, point: &Point) -> Flow {
        let is_replay = self.txn.as_ref().is_some_and(|txn| txn.attempt > 0);
        let Some(effect) = self.shared.faults.strike(&Opportunity { point, is_replay }) else {
            return Ok(());
        };
        match effect {
            Effect::Delay(pause) => tokio::time::sleep(pause).await,
            Effect::Cut(bytes) => self.output.cut_after(bytes),
            Effect::ShutDown => {
                self.say_goodbye().await?;
                return Err(Stop::Io(io::ErrorKind::ConnectionAborted.into()));
            }
            Effect::Retry(reason) => {
                let version = self.version();
                if let Some(txn) = &mut self.txn {
                    let conflict = reason.conflict(&mut txn.kv);
                    return Err(SqlError::conflict(conflict, version).into());
                }
            }
            Effect::Disconnect(outcome) => {
                self.settle(outcome);
                return Err(Stop::Io(io::ErrorKind::ConnectionReset.into()));
            }
            Effect::Ambiguous(outcome) => {
                self.settle(outcome);
                if let Some(txn) = &mut self.txn {
                    txn.health = Health::Finalized;
                }
                self.savepoints.clear();
                return Err(SqlError::ambiguous(self.version()).into());
            }
        }
        Ok(())
    }

    /// Commits behind the client's back, or loses what it wrote.
    fn settle(&mut self, outcome: Outcome) {
        let Some(txn) = &mut self.txn else { return };
        match outcome {
            Outcome::Committed if txn.kv.commit().is_ok() => {
                self.shared.catalog.apply(std::mem::take(&mut txn.changes));
            }
            _ => txn.kv.rollback(),
        }
    }
}
