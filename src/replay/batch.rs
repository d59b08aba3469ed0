//! A batch that is one request: it comes whole, and what it does is known.
//!
//! Such a batch is to a transaction what a Query is. Its answer is what comes up to a ReadyForQuery; where a part of it fails, the
//! server passes over the rest of it; and nothing in it is sent again without the other. To keep its messages apart would take four
//! times the memory, and an end to be found for each.

use crate::wire::frontend;

/// What stands for the type byte of such a batch: no message has it.
pub(super) const BATCH: u8 = 0;

/// Whether a request of this type runs a statement.
pub(super) const fn runs_statement(tag: u8) -> bool {
    tag == BATCH || frontend::runs_statement(tag)
}

/// Whether a ReadyForQuery ends the answer to a request of this type.
pub(super) const fn ends_cycle(tag: u8) -> bool {
    tag == BATCH || frontend::ends_cycle(tag)
}
