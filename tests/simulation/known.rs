//! Known faults of the engine that the checks pass over: each switch names one, and goes with its mending.

/// A COMMIT that has nothing to commit, behind a ROLLBACK in the same string or batch, is reported as one that has: for what may be
/// run again it must count as one.
pub(crate) const OUTCOMES: bool = true;
