//! Known bugs of the engine that the simulator stays clear of: each switch names one, and goes with its mending.

use reprise::replay::Dialect;

use crate::scenario::Scenario;

/// A RELEASE in a batch that fails, with another batch pipelined behind it.
const RELEASE_WITH_A_PIPELINE_BEHIND: bool = false;
/// A cancel that strikes a replay without a Sync is reported twice.
const CANCEL_IN_A_REPLAY: bool = false;
/// The end of a transaction that is passed through is reported as committed.
pub(crate) const OUTCOMES: bool = true;
/// A string that fails before its COMMIT is surfaced with the status of a failed COMMIT.
pub(crate) const STATUS_OF_STRINGS: bool = true;
/// A pipelined transaction's conflict is surfaced with the reason of the one before.
pub(crate) const REASON_OF_THE_LAST: bool = false;

/// Leaves out of a scenario what would meet a known bug.
pub(crate) const fn mask(scenario: &mut Scenario) {
    let cockroach = matches!(scenario.traits.dialect, Dialect::Cockroach);
    let habits = &mut scenario.habits;
    if RELEASE_WITH_A_PIPELINE_BEHIND && habits.extended > 0 && cockroach {
        habits.pipelined = 0;
    }
    if CANCEL_IN_A_REPLAY && habits.extended > 0 {
        scenario.rates.cancel = 0;
    }
}
