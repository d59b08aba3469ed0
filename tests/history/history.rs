//! What the clients were told of each transaction, held against what took effect.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Error;

/// Codes after which the outcome of a COMMIT is not known.
const IN_DOUBT: [&str; 3] = ["40003", "08", "57P0"];

/// Failures that the weather explains: conflicts that could not be hidden, and connections that were lost.
const EXPLAINED: [&str; 5] = ["40001", "40P01", "40003", "08", "57P0"];

/// What a client was told in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is committed.
    Committed,
    /// It failed, and nothing of it took effect.
    Refused,
    /// Nobody said whether it took effect.
    InDoubt,
}

impl Fate {
    /// After a COMMIT, or after a statement behind which a COMMIT was sent already.
    pub(crate) fn of_commit<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Committed,
            Err(error) => Self::of_failure(error.code().map(|code| code.code())),
        }
    }

    fn of_failure(sqlstate: Option<&str>) -> Self {
        let is_clear = |sqlstate: &str| !IN_DOUBT.iter().any(|prefix| sqlstate.starts_with(prefix));
        if sqlstate.is_some_and(is_clear) { Self::Refused } else { Self::InDoubt }
    }
}

/// A transaction as its client saw it.
#[derive(Debug)]
pub(crate) struct Transaction<N> {
    /// Its row in the ledger.
    pub(crate) id: i64,
    /// What the client was told in the end.
    pub(crate) fate: Fate,
    /// What its statements showed, if all of them succeeded.
    pub(crate) note: Option<N>,
    /// SQLSTATE of its failure.
    pub(crate) sqlstate: Option<String>,
}

/// All transactions, and which of them took effect.
#[derive(Debug)]
pub(crate) struct History<N> {
    pub(crate) transactions: Vec<Transaction<N>>,
    effects: HashMap<i64, usize>,
}

impl<N> History<N> {
    /// `ledger` holds the id of a transaction as often as it took effect.
    pub(crate) fn new(transactions: Vec<Transaction<N>>, ledger: &[i64]) -> Self {
        let mut effects = HashMap::new();
        ledger.iter().for_each(|id| *effects.entry(*id).or_default() += 1);
        Self { transactions, effects }
    }

    /// How often a transaction took effect.
    pub(crate) fn effects(&self, id: i64) -> usize {
        self.effects.get(&id).copied().unwrap_or_default()
    }

    /// How many transactions ended so.
    pub(crate) fn count(&self, fate: Fate) -> usize {
        self.transactions.iter().filter(|transaction| transaction.fate == fate).count()
    }

    /// How often transactions failed, by SQLSTATE.
    pub(crate) fn failures(&self) -> BTreeMap<&str, usize> {
        let mut failures = BTreeMap::new();
        for transaction in self.transactions.iter().filter(|transaction| transaction.fate != Fate::Committed)
        {
            *failures.entry(transaction.sqlstate.as_deref().unwrap_or("silence")).or_default() += 1;
        }
        failures
    }

    /// The transactions that took effect, with what they showed.
    pub(crate) fn effective(&self) -> impl Iterator<Item = (i64, &N)> {
        let happened = self.transactions.iter().filter(|transaction| self.effects(transaction.id) > 0);
        happened.filter_map(|transaction| Some((transaction.id, transaction.note.as_ref()?)))
    }

    /// Where the ledger and what the clients were told cannot both be true.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let known = self.transactions.iter().filter_map(|transaction| {
            let wrong = match (transaction.fate, self.effects(transaction.id)) {
                (_, 2..) => "took effect more than once",
                (Fate::Committed, 0) => "was acknowledged and is lost",
                (Fate::Refused, 1) => "was refused and took effect",
                _ if !is_explained(transaction.sqlstate.as_deref()) => {
                    "failed, and nothing had happened to it"
                }
                _ => return None,
            };
            Some(format!("transaction {} {wrong} ({:?})", transaction.id, transaction.sqlstate))
        });
        let is_known = |id: &i64| self.transactions.iter().any(|transaction| transaction.id == *id);
        let unknown = self.effects.keys().filter(|id| !is_known(id));
        known.chain(unknown.map(|id| format!("transaction {id} was never begun"))).collect()
    }
}

/// Success is, and so is silence.
fn is_explained(sqlstate: Option<&str>) -> bool {
    sqlstate.is_none_or(|sqlstate| EXPLAINED.iter().any(|prefix| sqlstate.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(id: i64, fate: Fate) -> Transaction<()> {
        Transaction { id, fate, note: Some(()), sqlstate: None }
    }

    #[test]
    fn every_contradiction_is_told() {
        let transactions = [Fate::Committed, Fate::Refused, Fate::InDoubt, Fate::Committed];
        let transactions =
            transactions.into_iter().zip(1..).map(|(fate, id)| transaction(id, fate)).collect();
        let mut history = History::new(transactions, &[2, 3, 4, 4, 5]);
        let sqlstate = Some("42601".to_owned());
        history.transactions.push(Transaction { sqlstate, ..transaction(6, Fate::Refused) });
        let contradictions = history.contradictions();
        assert_eq!(
            contradictions.iter().map(|text| text.split(" (").next().unwrap()).collect::<Vec<_>>(),
            [
                "transaction 1 was acknowledged and is lost",
                "transaction 2 was refused and took effect",
                "transaction 4 took effect more than once",
                "transaction 6 failed, and nothing had happened to it",
                "transaction 5 was never begun",
            ]
        );
    }

    #[test]
    fn only_silence_and_its_codes_leave_doubt() {
        for (sqlstate, fate) in [
            (None, Fate::InDoubt),
            (Some("40003"), Fate::InDoubt),
            (Some("08007"), Fate::InDoubt),
            (Some("40001"), Fate::Refused),
            (Some("25P02"), Fate::Refused),
        ] {
            assert_eq!(Fate::of_failure(sqlstate), fate);
        }
    }
}
