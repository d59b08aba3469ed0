//! The audit: holds the accounts, the journal and what the clients were told against each other. Pure.
//!
//! Balances alone would not tell a lost transfer from one that was never asked for, nor two errors that cancel each
//! other out. The journal tells which transfers took effect, so that every balance can be computed again from it.

use std::collections::{BTreeMap, HashMap};

use super::plan::{Transfer, TransferId};
use super::workload::{Style, Tally};

/// What the database holds after a row's last transfer.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) initial_balance: i64,
    pub(super) accounts: Vec<Account>,
    pub(super) journal: Vec<Entry>,
}

/// An account as it is at the end.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) id: i64,
    pub(super) balance: i64,
}

/// A transfer that took effect, and for read-modify-write what it did to either account.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) transfer: Transfer,
    pub(super) source: Option<Change>,
    pub(super) target: Option<Change>,
}

/// The version and the balance that were read, and the balance that was written as the next version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) version: i64,
    pub(super) read: i64,
    pub(super) written: i64,
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Money at the end less money at the beginning.
    pub(super) money_created: i64,
    /// Transfers whose COMMIT succeeded and that are not in the journal.
    pub(super) lost_commits: u64,
    /// Transfers that took effect more often than once, counted without the first time.
    pub(super) repeated: u64,
    /// Transfers that took effect although the client was told that they had failed.
    pub(super) unreported: u64,
    /// Transfers that took effect although their COMMIT got no clear answer: allowed, the client knows of the doubt.
    pub(super) in_doubt: u64,
    /// Updates whose effect is not in the balance that the next one read, or that the account has at the end.
    pub(super) lost_updates: u64,
}

impl Findings {
    /// Whether the sum of all money is what it was.
    pub(super) fn is_money_conserved(&self) -> bool {
        self.money_created == 0
    }

    /// Updates lost in any way: overwritten, or gone with their transfer.
    pub(super) fn lost(&self) -> u64 {
        self.lost_commits + self.lost_updates
    }

    /// Whether the database did what the clients were told, once, and kept all of it.
    pub(super) fn is_clean(&self) -> bool {
        self.is_money_conserved() && self.lost() == 0 && self.repeated == 0 && self.unreported == 0
    }
}

/// Examines the ledger that the clients of `tally` left behind.
pub(super) fn examine(style: Style, ledger: &Ledger, tally: &Tally) -> Findings {
    let total: i64 = ledger.accounts.iter().map(|account| account.balance).sum();
    let mut findings = Findings {
        money_created: total - ledger.initial_balance * ledger.accounts.len() as i64,
        lost_updates: lost_updates(style, ledger),
        ..Findings::default()
    };
    compare_with_answers(&ledger.journal, tally, &mut findings);
    findings
}

/// Compares the transfers in the journal with those that the clients were told of.
fn compare_with_answers(journal: &[Entry], tally: &Tally, findings: &mut Findings) {
    let mut times: HashMap<TransferId, u64> = HashMap::new();
    for entry in journal {
        *times.entry(entry.transfer.id).or_default() += 1;
    }
    for (id, times) in &times {
        findings.repeated += times - 1;
        match (tally.committed.contains(id), tally.in_doubt.contains(id)) {
            (true, _) => {}
            (false, true) => findings.in_doubt += 1,
            (false, false) => findings.unreported += 1,
        }
    }
    findings.lost_commits = tally.committed.iter().filter(|id| !times.contains_key(id)).count() as u64;
}

fn lost_updates(style: Style, ledger: &Ledger) -> u64 {
    match style {
        Style::Blind => unbalanced_accounts(ledger),
        Style::ReadModifyWrite => broken_links(ledger),
    }
}

/// Accounts whose balance is not the initial one and all that the journal moved: additions commute, so that any
/// order serves. At least one update of each such account was lost, or not written down.
fn unbalanced_accounts(ledger: &Ledger) -> u64 {
    let mut moved: HashMap<i64, i64> = HashMap::new();
    for Entry { transfer, .. } in &ledger.journal {
        *moved.entry(transfer.source).or_default() -= transfer.amount;
        *moved.entry(transfer.target).or_default() += transfer.amount;
    }
    let computed = |account: &Account| ledger.initial_balance + moved.get(&account.id).unwrap_or(&0);
    ledger.accounts.iter().filter(|account| account.balance != computed(account)).count() as u64
}

/// Updates that do not follow from the one before. In a serial order each version of an account is read by exactly
/// one update, the first one the initial balance, and the last one's balance is the account's.
fn broken_links(ledger: &Ledger) -> u64 {
    let mut chains: BTreeMap<i64, Vec<(Change, i64)>> = BTreeMap::new();
    let mut unrecorded = 0;
    for Entry { transfer, source, target } in &ledger.journal {
        let sides = [(transfer.source, source, -transfer.amount), (transfer.target, target, transfer.amount)];
        for (account, change, amount) in sides {
            match change {
                Some(change) => chains.entry(account).or_default().push((*change, amount)),
                None => unrecorded += 1,
            }
        }
    }
    let broken: u64 = ledger
        .accounts
        .iter()
        .map(|account| {
            let chain = chains.remove(&account.id).unwrap_or_default();
            broken_links_of(account, chain, ledger.initial_balance)
        })
        .sum();
    unrecorded + broken
}

fn broken_links_of(account: &Account, mut chain: Vec<(Change, i64)>, initial_balance: i64) -> u64 {
    chain.sort_by_key(|(change, _)| change.version);
    let mut expected = (0, initial_balance);
    let mut broken = 0;
    for (change, amount) in chain {
        let follows = (change.version, change.read) == expected;
        let adds_up = change.written == change.read + amount;
        broken += u64::from(!(follows && adds_up));
        expected = (change.version + 1, change.written);
    }
    broken + u64::from(account.balance != expected.1)
}

#[cfg(test)]
mod tests;
