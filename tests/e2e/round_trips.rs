//! What Reprise costs on a slow network, in round trips to the database: less than nothing, and one for a replay.

use golden::Frontend;
use reprise::config::{Config, UpstreamTlsMode};
use reprise::replay::{Begin, Dialect};

use crate::support::DIALECTS;
use crate::support::database::Database;
use crate::support::network::{Network, RoundTrip};
use crate::support::proxy::Proxy;
use crate::support::wire::{Wire, extended};

const STATEMENTS: usize = 20;
/// What the last statement of a transaction is if it meets a conflict.
const CONFLICT: &str = "SELECT conflict('first', 1)";
const CALM: &str = "SELECT 'passed'";

/// A database at the other end of a slow network.
struct Far {
    network: Network,
    database: Database,
}

impl Far {
    async fn away() -> Self {
        let mut database = Database::create().await;
        let network = Network::before(database.address).await;
        database.address = network.address;
        Self { network, database }
    }

    /// A client through the proxy.
    async fn proxied(&self, dialect: Dialect, change: impl FnOnce(&mut Config)) -> Wire {
        // Asking for TLS takes a round trip of its own, when a connection is made.
        let plain = |config: &mut Config| {
            config.upstream.tls.mode = UpstreamTlsMode::Disable;
            change(config);
        };
        let client = Proxy::before(&self.database, dialect, plain).await.wire().await;
        self.network.round_trips();
        client
    }

    /// A client that has no proxy.
    async fn direct(&self) -> Wire {
        let client = self.database.wire().await;
        self.network.round_trips();
        client
    }

    fn count(&self) -> usize {
        self.network.round_trips().len()
    }
}

/// The statements of a transaction, the last one as given.
fn statements(last: &str) -> Vec<String> {
    let update = |n| format!("UPDATE kv SET v = v + {n} WHERE k = 1");
    (1..STATEMENTS).map(update).chain([last.to_owned()]).collect()
}

/// Runs a transaction with no loop around it.
async fn run(client: &mut Wire, last: &str) {
    client.query("BEGIN").await;
    for statement in statements(last) {
        assert_eq!(client.query(&statement).await.status(), Some('T'), "{statement}");
    }
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
}

/// Runs a transaction with the classic loop around it.
async fn run_in_a_loop(client: &mut Wire, last: &str) {
    loop {
        client.query("BEGIN").await;
        let mut failed = false;
        for statement in statements(last) {
            failed = client.query(&statement).await.status() == Some('E');
        }
        if !failed {
            break;
        }
        client.query("ROLLBACK").await;
    }
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
}

#[tokio::test]
async fn a_replay_is_one_where_a_loop_in_the_client_is_one_for_each_statement() {
    for dialect in DIALECTS {
        let far = Far::away().await;
        let mut client = far.proxied(dialect, |_| {}).await;
        run(&mut client, CALM).await;
        let calm = far.count();
        run(&mut client, CONFLICT).await;
        let with_conflict = far.network.round_trips();
        assert_eq!(with_conflict.len(), calm + 1, "{dialect:?}");

        // That one is one write, with the way back to the beginning and everything behind it.
        let replay = &with_conflict[with_conflict.len() - 2];
        let back = match dialect {
            Dialect::Cockroach => "ROLLBACK TO SAVEPOINT cockroach_restart",
            Dialect::Postgres => "ROLLBACK AND CHAIN",
        };
        let journal = statements(CONFLICT);
        let sent: Vec<_> = [back].into_iter().chain(journal.iter().map(String::as_str)).collect();
        assert_eq!((replay.queries(), replay.writes), (sent, 1));
    }
    let far = Far::away().await;
    let mut client = far.direct().await;
    run_in_a_loop(&mut client, CALM).await;
    let calm = far.count();
    run_in_a_loop(&mut client, CONFLICT).await;
    let again = STATEMENTS + ["ROLLBACK", "BEGIN"].len();
    assert_eq!(far.count(), calm + again);
}

/// Two statements in a transaction, each answer awaited; what went over the network.
async fn two_statements(far: &Far, client: &mut Wire) -> Vec<RoundTrip> {
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("UPDATE kv SET v = 1 WHERE k = 1").await, "UPDATE 1 T");
    assert_eq!(client.query("UPDATE kv SET v = 2 WHERE k = 1").await, "UPDATE 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    far.network.round_trips()
}

#[tokio::test]
async fn the_savepoint_and_its_release_cost_none() {
    let far = Far::away().await;
    let mut direct = far.direct().await;
    let plain = two_statements(&far, &mut direct).await;
    let immediate = |config: &mut Config| config.retry.policy.begin = Begin::Immediate;
    let mut client = far.proxied(Dialect::Cockroach, immediate).await;
    let added = two_statements(&far, &mut client).await;
    assert_eq!((plain.len(), added.len()), (4, 4));
    assert_eq!(added[1].queries(), ["SAVEPOINT cockroach_restart", "UPDATE kv SET v = 1 WHERE k = 1"]);
    assert_eq!(added[3].queries(), ["RELEASE SAVEPOINT cockroach_restart; COMMIT"]);
}

#[tokio::test]
async fn nor_do_they_in_the_extended_protocol() {
    let far = Far::away().await;
    let mut counts = Vec::new();
    let immediate = |config: &mut Config| config.retry.policy.begin = Begin::Immediate;
    for mut client in [far.direct().await, far.proxied(Dialect::Cockroach, immediate).await] {
        for sql in ["BEGIN", "UPDATE kv SET v = 1 WHERE k = 1", "UPDATE kv SET v = 2 WHERE k = 1", "COMMIT"] {
            client.execute(sql, &[]).await;
        }
        let round_trips = far.network.round_trips();
        counts.push(round_trips.len());
        // A pipeline of the whole transaction is one.
        let texts = ["BEGIN", "UPDATE kv SET v = 1 WHERE k = 1", "UPDATE kv SET v = 2 WHERE k = 1", "COMMIT"];
        let batches =
            texts.into_iter().flat_map(|sql| extended(sql, &[]).into_iter().chain([Frontend::Sync]));
        client.send(batches).await;
        for _ in texts {
            client.until_ready().await;
        }
        counts.push(far.count());
    }
    assert_eq!(counts, [4, 1, 4, 1]);
}

#[tokio::test]
async fn a_deferred_begin_saves_one() {
    for dialect in DIALECTS {
        let far = Far::away().await;
        let deferred = |config: &mut Config| config.retry.policy.begin = Begin::Deferred;
        let mut client = far.proxied(dialect, deferred).await;
        assert_eq!(two_statements(&far, &mut client).await.len(), 3, "{dialect:?}");
    }
}

#[tokio::test]
async fn an_empty_transaction_costs_none() {
    let far = Far::away().await;
    let mut client = far.proxied(Dialect::Cockroach, |_| {}).await;
    for end in ["COMMIT", "ROLLBACK"] {
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query(end).await.status(), Some('I'));
    }
    assert_eq!(far.network.round_trips(), []);
}

/// BEGIN, the journal, and COMMIT: each may go only when the one before is known to have succeeded.
#[tokio::test]
async fn a_conflict_at_a_commit_that_ended_the_transaction_costs_three() {
    let far = Far::away().await;
    let mut client = far.proxied(Dialect::Postgres, |_| {}).await;
    let mut counts = Vec::new();
    // The first transaction counts as an attempt of the second, which fails once.
    for attempts_that_fail in ["0", "2"] {
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        for _ in 1..STATEMENTS {
            assert_eq!(client.query("UPDATE kv SET v = v + 1 WHERE k = 1").await, "UPDATE 1 T");
        }
        let last = format!("INSERT INTO late VALUES ({attempts_that_fail})");
        assert_eq!(client.query(&last).await, "INSERT 0 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        counts.push(far.count());
    }
    let calm = STATEMENTS + ["BEGIN", "COMMIT"].len();
    assert_eq!(counts, [calm, calm + 3]);
}
