//! Many clients at once: whatever they do, the outcome must be one that a serial order explains.

mod common;

use common::{Client, connect, retrying};
use roach::{Options, Server, Version};
use tokio::task::LocalSet;

const CLIENTS: usize = 8;
const ROUNDS: usize = 12;

async fn server() -> Server {
    Server::start(Options::default()).await.expect("a loopback port is free")
}

/// Lets many clients do the same with a number of their own.
async fn together<F, W>(server: &Server, work: F)
where
    F: Fn(Client, usize) -> W,
    W: Future<Output = ()> + 'static,
{
    // The server has threads of its own; the clients need none.
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        tasks.push(local.spawn_local(work(connect(server).await, number)));
    }
    let all = async {
        for task in tasks {
            task.await.expect("no client fails");
        }
    };
    local.run_until(all).await;
}

async fn sum(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("the query is plain").get(0)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a small number")
}

/// A pair of different accounts that depends on client and round only.
fn pair(client: usize, round: usize) -> (i64, i64) {
    let (client, round) = (number(client), number(round));
    let from = (client * 7 + round * 3) % 5;
    (from, (from + 1 + (client + round) % 4) % 5)
}

async fn bank(server: &Server) -> Client {
    let client = connect(server).await;
    let setup = "CREATE TABLE accounts (id INT PRIMARY KEY, balance INT);
                 INSERT INTO accounts SELECT i, 100 FROM generate_series(0, 4) AS g(i)";
    client.batch_execute(setup).await.expect("the server is fresh");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn blind_transfers_keep_the_total() {
    let server = server().await;
    let client = bank(&server).await;
    together(&server, |client, number| async move {
        for round in 0..ROUNDS {
            let (from, to) = pair(number, round);
            retrying(&client, async || {
                let take = "UPDATE accounts SET balance = balance - 1 WHERE id = $1";
                let give = "UPDATE accounts SET balance = balance + 1 WHERE id = $1";
                client.execute(take, &[&from]).await?;
                client.execute(give, &[&to]).await?;
                Ok(())
            })
            .await;
        }
    })
    .await;
    assert_eq!(sum(&client, "SELECT sum(balance)::INT FROM accounts").await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_that_read_first_lose_no_update() {
    let server = server().await;
    let client = bank(&server).await;
    together(&server, |client, number| async move {
        for round in 0..ROUNDS {
            let (from, to) = pair(number, round);
            retrying(&client, async || {
                let read = "SELECT balance FROM accounts WHERE id = $1";
                let write = "UPDATE accounts SET balance = $2 WHERE id = $1";
                let first: i64 = client.query_one(read, &[&from]).await?.get(0);
                let second: i64 = client.query_one(read, &[&to]).await?.get(0);
                client.execute(write, &[&from, &(first - 1)]).await?;
                client.execute(write, &[&to, &(second + 1)]).await?;
                Ok(())
            })
            .await;
        }
    })
    .await;
    assert_eq!(sum(&client, "SELECT sum(balance)::INT FROM accounts").await, 500);
}

/// Each doctor goes off call only if another one stays; under write skew both of a pair would go.
#[tokio::test(flavor = "multi_thread")]
async fn write_skew_does_not_happen() {
    let server = server().await;
    let client = connect(&server).await;
    client.batch_execute("CREATE TABLE doctors (id INT PRIMARY KEY, on_call BOOL)").await.unwrap();
    for _ in 0..ROUNDS {
        client
            .batch_execute("UPSERT INTO doctors VALUES (0, true), (1, true), (2, true), (3, true)")
            .await
            .unwrap();
        together(&server, |client, number| async move {
            let doctor = i64::try_from(number % 4).expect("a small number");
            retrying(&client, async || {
                let count = "SELECT count(*) FROM doctors WHERE on_call";
                let others: i64 = client.query_one(count, &[]).await?.get(0);
                if others > 1 {
                    client.execute("UPDATE doctors SET on_call = false WHERE id = $1", &[&doctor]).await?;
                }
                Ok(())
            })
            .await;
        })
        .await;
        assert_eq!(sum(&client, "SELECT count(*) FROM doctors WHERE on_call").await, 1);
    }
}

/// The parent counts its children; every insert reads and writes the same parent.
#[tokio::test(flavor = "multi_thread")]
async fn parents_know_all_their_children() {
    let server = server().await;
    let client = connect(&server).await;
    let setup = "CREATE TABLE parent (id INT PRIMARY KEY, children INT);
                 CREATE TABLE child (id INT PRIMARY KEY DEFAULT unique_rowid(), parent INT REFERENCES parent (id));
                 INSERT INTO parent VALUES (1, 0)";
    client.batch_execute(setup).await.unwrap();
    together(&server, |client, _| async move {
        for _ in 0..ROUNDS {
            retrying(&client, async || {
                client.execute("INSERT INTO child (parent) VALUES (1)", &[]).await?;
                client.execute("UPDATE parent SET children = children + 1 WHERE id = 1", &[]).await?;
                Ok(())
            })
            .await;
        }
    })
    .await;
    let expected = number(CLIENTS * ROUNDS);
    assert_eq!(sum(&client, "SELECT children FROM parent").await, expected);
    assert_eq!(sum(&client, "SELECT count(*) FROM child").await, expected);
    let orphan = client.execute("INSERT INTO child (parent) VALUES (2)", &[]).await.unwrap_err();
    assert_eq!(orphan.code().map(|code| code.code()), Some("23503"));
}

/// Inserts of the next free number: a phantom would make two rows of one number, and one of them would fail for good.
#[tokio::test(flavor = "multi_thread")]
async fn counts_see_no_phantoms() {
    let server = server().await;
    let client = connect(&server).await;
    client.batch_execute("CREATE TABLE tickets (id INT PRIMARY KEY, taken INT)").await.unwrap();
    together(&server, |client, _| async move {
        for _ in 0..ROUNDS / 2 {
            retrying(&client, async || {
                let count: i64 = client.query_one("SELECT count(*) FROM tickets", &[]).await?.get(0);
                let row = format!("INSERT INTO tickets VALUES (unique_rowid(), {count})");
                client.execute(&row, &[]).await?;
                Ok(())
            })
            .await;
        }
    })
    .await;
    let total = number(CLIENTS * (ROUNDS / 2));
    assert_eq!(sum(&client, "SELECT count(*) FROM tickets").await, total);
    assert_eq!(sum(&client, "SELECT count(DISTINCT taken) FROM tickets").await, total);
}

/// Autocommit statements never show a conflict, whatever release it is.
#[tokio::test(flavor = "multi_thread")]
async fn single_statements_never_conflict() {
    for version in [Version::V20_2, Version::V23_1, Version::V25_2] {
        let server = Server::start(Options { version, ..Options::default() }).await.unwrap();
        let client = bank(&server).await;
        together(&server, |client, _| async move {
            for _ in 0..ROUNDS {
                let add = "UPDATE accounts SET balance = balance + 1 WHERE id = 0";
                assert_eq!(client.execute(add, &[]).await.ok(), Some(1));
            }
        })
        .await;
        let expected = 100 + number(CLIENTS * ROUNDS);
        assert_eq!(sum(&client, "SELECT balance FROM accounts WHERE id = 0").await, expected);
    }
}
