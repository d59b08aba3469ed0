//! Fabricated ledgers: honest ones pass, and each kind of fraud is found.

use super::*;

const INITIAL: i64 = 100;

fn id(number: i64) -> TransferId {
    TransferId { client: 1, number }
}

fn transfer(number: i64, source: i64, target: i64, amount: i64) -> Transfer {
    Transfer { id: id(number), source, target, amount }
}

fn blind(number: i64, source: i64, target: i64, amount: i64) -> Entry {
    Entry { transfer: transfer(number, source, target, amount), source: None, target: None }
}

/// A read-modify-write transfer from account 1 to 2 that read these versions and balances.
fn read(number: i64, amount: i64, from: (i64, i64), to: (i64, i64)) -> Entry {
    let change = |(version, read), amount| Some(Change { version, read, written: read + amount });
    Entry {
        transfer: transfer(number, 1, 2, amount),
        source: change(from, -amount),
        target: change(to, amount),
    }
}

fn ledger(balances: [i64; 2], journal: Vec<Entry>) -> Ledger {
    let accounts = balances.iter().zip(1..).map(|(balance, id)| Account { id, balance: *balance }).collect();
    Ledger { initial_balance: INITIAL, accounts, journal }
}

fn told(committed: &[i64], in_doubt: &[i64]) -> Tally {
    let mut tally = Tally::new();
    tally.committed.extend(committed.iter().copied().map(id));
    tally.in_doubt.extend(in_doubt.iter().copied().map(id));
    tally
}

#[test]
fn honest_blind_transfers_are_clean() {
    let ledger = ledger([95, 105], vec![blind(1, 1, 2, 10), blind(2, 2, 1, 5)]);
    let findings = examine(Style::Blind, &ledger, &told(&[1, 2], &[]));
    assert_eq!(findings, Findings::default());
    assert!(findings.is_clean());
}

#[test]
fn honest_reading_transfers_are_clean_in_whatever_order_the_journal_is_read() {
    let ledger = ledger([85, 115], vec![read(2, 5, (1, 90), (1, 110)), read(1, 10, (0, 100), (0, 100))]);
    assert!(examine(Style::ReadModifyWrite, &ledger, &told(&[1, 2], &[])).is_clean());
}

#[test]
fn an_update_that_another_one_overwrote_is_found_though_money_is_conserved() {
    // Both read version 0, so that the second overwrote the first.
    let ledger = ledger([95, 105], vec![read(1, 10, (0, 100), (0, 100)), read(2, 5, (0, 100), (0, 100))]);
    let findings = examine(Style::ReadModifyWrite, &ledger, &told(&[1, 2], &[]));
    assert!(findings.is_money_conserved());
    assert_eq!(findings.lost_updates, 2, "one of each account");
    assert!(!findings.is_clean());
}

#[test]
fn a_balance_that_is_not_the_last_one_written_is_found() {
    let ledger = ledger([100, 100], vec![read(1, 10, (0, 100), (0, 100))]);
    assert_eq!(examine(Style::ReadModifyWrite, &ledger, &told(&[1], &[])).lost_updates, 2);
}

#[test]
fn a_transfer_whose_arithmetic_is_wrong_is_found() {
    let mut entry = read(1, 10, (0, 100), (0, 100));
    entry.target.as_mut().unwrap().written = 111;
    let findings = examine(Style::ReadModifyWrite, &ledger([90, 111], vec![entry]), &told(&[1], &[]));
    assert_eq!((findings.lost_updates, findings.money_created), (1, 1));
}

#[test]
fn a_blind_update_that_is_missing_in_a_balance_is_found() {
    let ledger = ledger([90, 105], vec![blind(1, 1, 2, 10)]);
    let findings = examine(Style::Blind, &ledger, &told(&[1], &[]));
    assert_eq!((findings.lost_updates, findings.money_created), (1, -5));
    assert!(!findings.is_clean());
}

#[test]
fn a_transfer_that_was_run_twice_is_found_though_money_is_conserved() {
    let ledger = ledger([80, 120], vec![blind(1, 1, 2, 10), blind(1, 1, 2, 10)]);
    let findings = examine(Style::Blind, &ledger, &told(&[1], &[]));
    assert_eq!(findings, Findings { repeated: 1, ..Findings::default() });
    assert!(!findings.is_clean());
}

#[test]
fn a_commit_that_was_acknowledged_and_is_gone_is_found() {
    let findings = examine(Style::Blind, &ledger([100, 100], vec![]), &told(&[1], &[]));
    assert_eq!(findings, Findings { lost_commits: 1, ..Findings::default() });
    assert_eq!(findings.lost(), 1);
    assert!(!findings.is_clean());
}

#[test]
fn a_transfer_that_was_reported_failed_and_took_effect_is_found_unless_it_was_in_doubt() {
    let ledger = ledger([90, 110], vec![blind(1, 1, 2, 10)]);
    let findings = examine(Style::Blind, &ledger, &told(&[], &[]));
    assert_eq!(findings, Findings { unreported: 1, ..Findings::default() });
    assert!(!findings.is_clean());
    let findings = examine(Style::Blind, &ledger, &told(&[], &[1]));
    assert_eq!(findings, Findings { in_doubt: 1, ..Findings::default() });
    assert!(findings.is_clean());
}

#[test]
fn money_out_of_nothing_is_found() {
    let findings = examine(Style::Blind, &ledger([100, 101], vec![]), &told(&[], &[]));
    assert_eq!((findings.money_created, findings.is_money_conserved()), (1, false));
    assert!(!findings.is_clean());
}
