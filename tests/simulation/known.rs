//! Known faults of the engine that the simulator stays clear of: each switch names one, and goes with its mending.

use reprise::replay::Dialect;

use crate::scenario::Scenario;

/// More transactions are reported as committed than were: a ReadyForQuery ends a unit that a BEGIN pipelined behind it has made
/// an explicit one, and a transaction that is passed through ends as committed whatever its tag says.
pub(crate) const OUTCOMES: bool = true;

/// What the client sends next overtakes the COMMIT that the engine owes after a RELEASE was refused: where a conflict is surfaced
/// with more in the pipeline.
const OVERTAKEN_COMMITS: bool = true;

/// Leaves out of a scenario what would meet a known fault.
pub(crate) const fn mask(scenario: &mut Scenario) {
    let cockroach = matches!(scenario.traits.dialect, Dialect::Cockroach);
    if OVERTAKEN_COMMITS && cockroach && scenario.policy.max_attempts < 50 {
        scenario.habits.pipelined = 0;
    }
}
