//! tokio-postgres: prepared statements, requests that are pipelined by polling them together, portals, COPY, cancel.

use anyhow::{Context, Result, bail};
use conversation::{Conversation, sqlstate};
use futures_util::{SinkExt, StreamExt, TryFutureExt, TryStreamExt, future};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, GenericClient};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

mod conversation;

const BALANCES: &str = "SELECT balance FROM accounts ORDER BY id";
const COUNT: &str = "SELECT count(*) FROM accounts";
const CHANGE: &str = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";

#[tokio::main]
async fn main() -> Result<()> {
    let mut conversation = Conversation::default();
    while let Some(check) = conversation.next()? {
        let seen = run(&check, &mut conversation).await.context(check)?;
        println!("= {seen}");
    }
    Ok(())
}

async fn run(check: &str, conversation: &mut Conversation) -> Result<String> {
    let (config, tls) = login()?;
    let (client, connection) = config.connect(tls.clone()).await?;
    let connection = tokio::spawn(connection);
    let seen = with(client, tls, check, conversation).await;
    // The client is gone by now: what was still to be said to the server has been said when this ends.
    connection.await??;
    seen
}

async fn with(
    mut client: Client,
    tls: MakeRustlsConnect,
    check: &str,
    conversation: &mut Conversation,
) -> Result<String> {
    let client = &mut client;
    match check {
        "version" => Ok(conversation::version("tokio-postgres")),
        "connect" => Ok(client.query_one("SHOW application_name", &[]).await?.get(0)),
        "prepared" => prepared(client).await,
        "transaction" => transaction(client).await,
        "savepoint" => savepoint(client).await,
        "unique" => Ok(code(client.execute("INSERT INTO accounts VALUES (1, 0)", &[]).await)),
        "foreign_key" => Ok(code(client.execute("INSERT INTO payments VALUES (1, 99)", &[]).await)),
        "cancel" => cancel(client, tls, conversation).await,
        "copy_in" => copy_in(client).await,
        "copy_out" => copy_out(client).await,
        "pipeline" => pipeline(client).await,
        "cursor" => cursor(client).await,
        "hidden" => hidden(client, conversation, false).await,
        "hidden_pipeline" => hidden(client, conversation, true).await,
        "surfaced" => {
            let seen = code(spend(client, Some(conversation)).await);
            Ok(format!("{seen}, then {}", words(client, BALANCES).await?))
        }
        "retry_loop" => retry_loop(client, conversation).await,
        _ => bail!("there is no such check"),
    }
}

/// Its URLs know no file of authorities, and leave it to the connector what is verified: rustls verifies all.
fn login() -> Result<(Config, MakeRustlsConnect)> {
    let url = std::env::var("DATABASE_URL")?;
    let (address, options) = url.split_once('?').context("the URL has options")?;
    let mut authorities = RootCertStore::empty();
    let mut own = Vec::new();
    for option in options.split('&') {
        match option.split_once('=') {
            Some(("sslrootcert", file)) => authorities.add(CertificateDer::from_pem_file(file)?)?,
            Some(("sslmode", "verify-full")) => own.push("sslmode=require"),
            _ => own.push(option),
        }
    }
    let config = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
    Ok((format!("{address}?{}", own.join("&")).parse()?, MakeRustlsConnect::new(config)))
}

fn code<T>(outcome: Result<T, Error>) -> String {
    sqlstate(outcome, |error| error.code().map(|code| code.code().to_owned()))
}

async fn words(client: &impl GenericClient, query: &str) -> Result<String, Error> {
    let rows = client.query(query, &[]).await?;
    Ok(rows.iter().map(|row| row.get::<_, i64>(0).to_string()).collect::<Vec<_>>().join(" "))
}

async fn change(client: &impl GenericClient, amount: i64, id: i64) -> Result<u64, Error> {
    client.execute(CHANGE, &[&amount, &id]).await
}

async fn prepared(client: &Client) -> Result<String> {
    let statement = client.prepare("SELECT balance FROM accounts WHERE id = $1").await?;
    let mut seen = Vec::new();
    for id in 1_i64..=3 {
        seen.push(client.query_one(&statement, &[&id]).await?.get::<_, i64>(0).to_string());
    }
    Ok(seen.join(" "))
}

async fn transaction(client: &mut Client) -> Result<String> {
    let transaction = client.transaction().await?;
    change(&transaction, -10, 1).await?;
    change(&transaction, 10, 2).await?;
    transaction.commit().await?;
    let undone = client.transaction().await?;
    undone.execute("UPDATE accounts SET balance = 0", &[]).await?;
    undone.rollback().await?;
    Ok(words(client, BALANCES).await?)
}

async fn savepoint(client: &mut Client) -> Result<String> {
    let mut transaction = client.transaction().await?;
    change(&transaction, -10, 1).await?;
    let inner = transaction.savepoint("before").await?;
    let seen = code(inner.execute("INSERT INTO accounts VALUES (1, 0)", &[]).await);
    inner.rollback().await?;
    change(&transaction, 10, 2).await?;
    transaction.commit().await?;
    Ok(format!("{seen}, then {}", words(client, BALANCES).await?))
}

async fn cancel(client: &Client, tls: MakeRustlsConnect, conversation: &mut Conversation) -> Result<String> {
    let token = client.cancel_token();
    let stop = async {
        conversation.running().await?;
        Ok::<_, anyhow::Error>(token.cancel_query(tls).await?)
    };
    let (seen, stopped) = future::join(client.batch_execute("SELECT pg_sleep(60)"), stop).await;
    stopped?;
    Ok(code(seen))
}

async fn copy_in(client: &Client) -> Result<String> {
    let sink = client.copy_in::<_, &[u8]>("COPY accounts (id, balance) FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(b"4\t400\n5\t500\n").await?;
    sink.finish().await?;
    Ok(words(client, BALANCES).await?)
}

async fn copy_out(client: &Client) -> Result<String> {
    let chunks = client.copy_out(&format!("COPY ({BALANCES}) TO STDOUT")).await?;
    let copied: Vec<_> = chunks.try_collect().await?;
    let text = String::from_utf8(copied.concat())?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Both changes are on their way before the first is answered.
async fn both(client: &impl GenericClient) -> Result<(), Error> {
    let statement = client.prepare(CHANGE).await?;
    let values: [[i64; 2]; 2] = [[-10, 1], [10, 2]];
    let [first, second] = values.each_ref().map(|[amount, id]| [amount as &(dyn ToSql + Sync), id]);
    future::try_join(client.execute(&statement, &first), client.execute(&statement, &second)).await?;
    Ok(())
}

async fn pipeline(client: &Client) -> Result<String> {
    both(client).await?;
    Ok(words(client, BALANCES).await?)
}

async fn cursor(client: &mut Client) -> Result<String> {
    let transaction = client.transaction().await?;
    let portal = transaction.bind(BALANCES, &[]).await?;
    let mut seen = Vec::new();
    loop {
        let rows: Vec<_> = transaction.query_portal_raw(&portal, 1).await?.collect().await;
        let Some(row) = rows.into_iter().next().transpose()? else { break };
        seen.push(row.get::<_, i64>(0).to_string());
    }
    transaction.commit().await?;
    Ok(seen.join(" "))
}

async fn hidden(client: &mut Client, conversation: &mut Conversation, pipelined: bool) -> Result<String> {
    let transaction = client.transaction().await?;
    let count = words(&transaction, COUNT).await?;
    conversation.rival().await?;
    let outcome = if pipelined {
        let statement = transaction.prepare(CHANGE).await?;
        let change = transaction.execute(&statement, &[&-10_i64, &1_i64]);
        let look = transaction.query(COUNT, &[]);
        future::try_join(change, look).map_ok(drop).await
    } else {
        change(&transaction, -10, 1).await.map(drop)
    };
    let outcome = match outcome {
        Ok(()) => transaction.commit().await,
        Err(error) => transaction.rollback().await.and(Err(error)),
    };
    if outcome.is_err() {
        return Ok(code(outcome));
    }
    Ok(format!("{count} accounts, then {}", words(client, BALANCES).await?))
}

/// Reads a balance, and writes what it computed from it.
async fn spend(client: &mut Client, rival: Option<&mut Conversation>) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let balance: i64 = transaction.query_one("SELECT balance FROM accounts WHERE id = 1", &[]).await?.get(0);
    if let Some(conversation) = rival {
        conversation.rival().await.expect("the suite answers");
    }
    let update = "UPDATE accounts SET balance = $1 WHERE id = 1";
    match transaction.execute(update, &[&(balance - 10)]).await {
        Ok(_) => transaction.commit().await,
        Err(error) => transaction.rollback().await.and(Err(error)),
    }
}

async fn retry_loop(client: &mut Client, conversation: &mut Conversation) -> Result<String> {
    let mut attempts = 1;
    let mut outcome = spend(client, Some(conversation)).await;
    while outcome.as_ref().is_err_and(|error| error.code().is_some_and(|code| code.code() == "40001")) {
        attempts += 1;
        outcome = spend(client, None).await;
    }
    outcome?;
    Ok(format!("{attempts} attempts, then {}", words(client, BALANCES).await?))
}
