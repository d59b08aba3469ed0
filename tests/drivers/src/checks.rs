//! What the programs are told to do, and what they must see: directly, and through Reprise.

/// A check that a program runs by its name.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// What it must tell on a connection to the database.
    pub(crate) direct: &'static str,
    /// What it must tell on a connection through Reprise.
    pub(crate) through: &'static str,
    /// How many conflicts Reprise hides meanwhile.
    pub(crate) hidden: u32,
    /// How many transactions have a conflict surfaced meanwhile.
    pub(crate) surfaced: u32,
    /// Whether every byte must be the same on either way.
    pub(crate) is_compared: bool,
}

const fn calm(name: &'static str, seen: &'static str) -> Check {
    Check { name, direct: seen, through: seen, hidden: 0, surfaced: 0, is_compared: true }
}

/// No conflict, and rows that differ from one connection to the next.
const fn differing(name: &'static str, seen: &'static str) -> Check {
    Check { is_compared: false, ..calm(name, seen) }
}

/// A conflict that the client meets without Reprise, and does not meet with it.
const fn hidden(name: &'static str, direct: &'static str, through: &'static str) -> Check {
    Check { name, direct, through, hidden: 1, surfaced: 0, is_compared: false }
}

/// A conflict that the client must meet either way, because of what it was shown.
const fn surfaced(name: &'static str, seen: &'static str) -> Check {
    Check { name, direct: seen, through: seen, hidden: 0, surfaced: 1, is_compared: false }
}

/// Every check: first those whose bytes are compared.
///
/// Each begins with three accounts that hold 100, 200 and 300. A payment of account 1 to account 2 is of 10, and the
/// rival adds 1 to account 1.
pub(crate) static CHECKS: [Check; 35] = [
    // What the application was called in the startup packet, asked of the server.
    calm("connect", "drivers"),
    calm("prepared", "100 200 300"),
    // One transaction is committed and another one rolled back.
    calm("transaction", "90 210 300"),
    // A violated constraint is undone by a savepoint, in a transaction that is committed.
    calm("savepoint", "23505, then 90 210 300"),
    calm("unique", "23505"),
    calm("foreign_key", "23503"),
    calm("cancel", "57014"),
    // The driver gives up a statement, cancels it without showing its error, and uses the connection again.
    calm("abandon", "100 200 300"),
    calm("timeout", "57014"),
    calm("copy_in", "100 200 300 400 500"),
    calm("copy_out", "100 200 300"),
    // Several statements go out before the first is answered.
    calm("pipeline", "90 210 300"),
    calm("batch", "100 200 300 400 500"),
    // A cursor or a portal that is fetched from in parts.
    calm("cursor", "100 200 300"),
    // pgbench, in each of its ways to speak.
    calm("simple", "1 of 1, then 90 200 300"),
    calm("extended", "1 of 1, then 90 200 300"),
    calm("pipelined", "1 of 1, then 90 200 300"),
    calm("prepared_script", "1 of 1, then 90 200 300"),
    calm("basic_sample", "1000 250, then 900 350"),
    // The process id of BackendKeyData is the server's.
    differing("pid", "same"),
    differing("cancel_by_pid", "57014"),
    // What was counted was the same after the rival as before, though a row of it had changed.
    hidden("hidden", "40001", "3 accounts, then 91 200 300"),
    hidden("hidden_pipeline", "40001", "3 accounts, then 91 200 300"),
    hidden("hidden_batch", "40001", "3 accounts, then 91 210 300"),
    hidden("hidden_simple", "0 of 1, then 101 200 300", "1 of 1, then 91 200 300"),
    hidden("hidden_extended", "0 of 1, then 101 200 300", "1 of 1, then 91 200 300"),
    hidden("hidden_prepared", "0 of 1, then 101 200 300", "1 of 1, then 91 200 300"),
    hidden("hidden_pipelined", "0 of 1, then 101 200 300", "1 of 1, then 91 200 300"),
    hidden("hidden_wrapped", "2 attempts, then 91 200 300", "1 attempts, then 91 200 300"),
    // The client was shown the balance that the rival changed.
    surfaced("surfaced", "40001, then 101 200 300"),
    surfaced("surfaced_simple", "0 of 1, then 101 200 300"),
    surfaced("retry_loop", "2 attempts, then 91 200 300"),
    // The client begins again at a savepoint `cockroach_restart` of its own.
    surfaced("restart_savepoint", "2 attempts, then 91 200 300"),
    hidden(
        "withdrawal",
        "2 withdrawals, payment 40001, credit 10",
        "2 withdrawals, payment nothing, credit 15",
    ),
    // CockroachDB knows no LOCK TABLE. A proxy that answers it in its place lets both withdrawals begin, and surfaces to
    // the second that it was shown what the first one spent.
    Check { direct: "42601", ..surfaced("withdrawal_unlocked", "1 withdrawals, second 40001, credit 40") },
];

/// The check of a name.
pub(crate) fn check(name: &str) -> &'static Check {
    CHECKS.iter().find(|check| check.name == name).expect("the catalogue names checks that there are")
}
