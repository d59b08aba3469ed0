//! Known faults of the engine that the checks pass over: each switch names one, and goes with its mending.

/// More transactions are reported as committed than were: a ReadyForQuery ends a unit that a BEGIN pipelined behind it has made
/// an explicit one, and a transaction that is passed through ends as committed whatever its tag says.
pub(crate) const OUTCOMES: bool = true;
