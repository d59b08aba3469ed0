//! The transfers that every row runs: the same ones for the same seed.

/// Names a transfer: the client that makes it, and its number among that client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TransferId {
    pub(super) client: i64,
    pub(super) number: i64,
}

/// Money that is to go from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) id: TransferId,
    pub(super) source: i64,
    pub(super) target: i64,
    pub(super) amount: i64,
}

/// The transfers of each client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    clients: Vec<Vec<Transfer>>,
}

impl Plan {
    /// Deals `transfers` out to `clients`, between accounts 1 to `accounts`, of which there are two at least.
    pub(super) fn new(clients: u32, accounts: u32, transfers: u32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut plan = vec![Vec::new(); clients as usize];
        for (client, number) in (0..clients).cycle().zip(0..transfers) {
            let id = TransferId { client: client.into(), number: (number / clients).into() };
            plan[client as usize].push(transfer(id, accounts, &mut random));
        }
        Self { clients: plan }
    }

    /// One list for each client.
    pub(super) fn clients(&self) -> &[Vec<Transfer>] {
        &self.clients
    }
}

fn transfer(id: TransferId, accounts: u32, random: &mut fastrand::Rng) -> Transfer {
    const AMOUNT_MAX: i64 = 100;
    let accounts = i64::from(accounts);
    let source = random.i64(1..=accounts);
    // A step around the circle of accounts that never comes back to the source.
    let target = (source - 1 + random.i64(1..accounts)) % accounts + 1;
    Transfer { id, source, target, amount: random.i64(1..=AMOUNT_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_transfers() {
        assert_eq!(Plan::new(16, 10, 100, 7), Plan::new(16, 10, 100, 7));
        assert_ne!(Plan::new(16, 10, 100, 7), Plan::new(16, 10, 100, 8));
    }

    #[test]
    fn every_transfer_is_dealt_once_and_moves_money_between_two_accounts() {
        let plan = Plan::new(3, 2, 100, 1);
        let mut all: Vec<_> = plan.clients().concat();
        assert!(all.iter().all(|t| t.source != t.target && t.amount > 0));
        assert!(all.iter().all(|t| [t.source, t.target].iter().all(|account| (1..=2).contains(account))));
        all.sort_by_key(|transfer| transfer.id);
        all.dedup_by_key(|transfer| transfer.id);
        assert_eq!(all.len(), 100);
        assert_eq!(plan.clients().iter().map(Vec::len).collect::<Vec<_>>(), [34, 33, 33]);
    }
}
