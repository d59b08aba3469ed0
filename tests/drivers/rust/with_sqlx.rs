//! sqlx: a pool, statements cached by connection, COPY.

use anyhow::{Context, Result, bail};
use conversation::{Conversation, sqlstate};
use sqlx::postgres::{PgConnection, PgPool, PgPoolCopyExt, PgPoolOptions};
use sqlx::{Acquire, Connection, Error, Executor};

mod conversation;

const BALANCES: &str = "SELECT balance FROM accounts ORDER BY id";

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")?;
    let mut conversation = Conversation::default();
    while let Some(check) = conversation.next()? {
        let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
        let seen = run(&pool, &check, &mut conversation).await.context(check)?;
        // A connection that comes back is tried out in the background: here that ends before the check does.
        pool.close().await;
        println!("= {seen}");
    }
    Ok(())
}

async fn run(pool: &PgPool, check: &str, conversation: &mut Conversation) -> Result<String> {
    match check {
        "version" => Ok(conversation::version("sqlx")),
        "connect" => Ok(sqlx::query_scalar("SHOW application_name").fetch_one(pool).await?),
        "prepared" => prepared(pool).await,
        "transaction" => transaction(pool).await,
        "savepoint" => savepoint(pool).await,
        "unique" => Ok(code(sqlx::query("INSERT INTO accounts VALUES (1, 0)").execute(pool).await)),
        "foreign_key" => Ok(code(sqlx::query("INSERT INTO payments VALUES (1, 99)").execute(pool).await)),
        "timeout" => timeout(pool).await,
        "cancel_by_pid" => cancel_by_pid(pool, conversation).await,
        "copy_in" => copy_in(pool).await,
        "hidden" => hidden(pool, conversation).await,
        "surfaced" => {
            let seen = code(spend(pool, Some(conversation)).await);
            Ok(format!("{seen}, then {}", balances(pool).await?))
        }
        "retry_loop" => retry_loop(pool, conversation).await,
        _ => bail!("there is no such check"),
    }
}

fn code<T>(outcome: Result<T, Error>) -> String {
    sqlstate(outcome, |error| Some(error.as_database_error()?.code()?.into_owned()))
}

async fn balances(pool: &PgPool) -> Result<String, Error> {
    let balances: Vec<i64> = sqlx::query_scalar(BALANCES).fetch_all(pool).await?;
    Ok(balances.iter().map(i64::to_string).collect::<Vec<_>>().join(" "))
}

async fn change(connection: &mut PgConnection, amount: i64, id: i64) -> Result<(), Error> {
    let update = sqlx::query("UPDATE accounts SET balance = balance + $1 WHERE id = $2");
    update.bind(amount).bind(id).execute(connection).await.map(drop)
}

async fn prepared(pool: &PgPool) -> Result<String> {
    let mut seen = Vec::new();
    for id in 1_i64..=3 {
        let query = sqlx::query_scalar::<_, i64>("SELECT balance FROM accounts WHERE id = $1");
        seen.push(query.bind(id).fetch_one(pool).await?.to_string());
    }
    Ok(seen.join(" "))
}

async fn transaction(pool: &PgPool) -> Result<String> {
    let mut transaction = pool.begin().await?;
    change(&mut transaction, -10, 1).await?;
    change(&mut transaction, 10, 2).await?;
    transaction.commit().await?;
    let mut undone = pool.begin().await?;
    undone.execute("UPDATE accounts SET balance = 0").await?;
    undone.rollback().await?;
    Ok(balances(pool).await?)
}

async fn savepoint(pool: &PgPool) -> Result<String> {
    let mut transaction = pool.begin().await?;
    change(&mut transaction, -10, 1).await?;
    let mut inner = transaction.begin().await?;
    let seen = code(inner.execute("INSERT INTO accounts VALUES (1, 0)").await);
    inner.rollback().await?;
    change(&mut transaction, 10, 2).await?;
    transaction.commit().await?;
    Ok(format!("{seen}, then {}", balances(pool).await?))
}

async fn timeout(pool: &PgPool) -> Result<String> {
    let mut transaction = pool.begin().await?;
    transaction.execute("SET LOCAL statement_timeout = 50").await?;
    let seen = code(transaction.execute("SELECT pg_sleep(60)").await);
    transaction.rollback().await?;
    Ok(seen)
}

async fn cancel_by_pid(pool: &PgPool, conversation: &mut Conversation) -> Result<String> {
    let mut connection = pool.acquire().await?;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await?;
    let stop = async {
        conversation.running().await?;
        let mut other = PgConnection::connect_with(&pool.connect_options()).await?;
        let cancel = sqlx::query_scalar::<_, bool>("SELECT pg_cancel_backend($1)");
        Ok::<_, anyhow::Error>(cancel.bind(pid).fetch_one(&mut other).await?)
    };
    let (seen, stopped) = tokio::join!(connection.execute("SELECT pg_sleep(60)"), stop);
    stopped?;
    Ok(code(seen))
}

async fn copy_in(pool: &PgPool) -> Result<String> {
    let mut copy = pool.copy_in_raw("COPY accounts (id, balance) FROM STDIN").await?;
    copy.send(&b"4\t400\n5\t500\n"[..]).await?;
    copy.finish().await?;
    Ok(balances(pool).await?)
}

async fn hidden(pool: &PgPool, conversation: &mut Conversation) -> Result<String> {
    let mut transaction = pool.begin().await?;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&mut *transaction).await?;
    conversation.rival().await?;
    let outcome = match change(&mut transaction, -10, 1).await {
        Ok(()) => transaction.commit().await,
        Err(error) => transaction.rollback().await.and(Err(error)),
    };
    if outcome.is_err() {
        return Ok(code(outcome));
    }
    Ok(format!("{count} accounts, then {}", balances(pool).await?))
}

/// Reads a balance, and writes what it computed from it.
async fn spend(pool: &PgPool, rival: Option<&mut Conversation>) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let query = sqlx::query_scalar::<_, i64>("SELECT balance FROM accounts WHERE id = 1");
    let balance = query.fetch_one(&mut *transaction).await?;
    if let Some(conversation) = rival {
        conversation.rival().await?;
    }
    let update = sqlx::query("UPDATE accounts SET balance = $1 WHERE id = 1").bind(balance - 10);
    match update.execute(&mut *transaction).await {
        Ok(_) => transaction.commit().await,
        Err(error) => transaction.rollback().await.and(Err(error)),
    }
}

async fn retry_loop(pool: &PgPool, conversation: &mut Conversation) -> Result<String> {
    let mut attempts = 1;
    let mut outcome = spend(pool, Some(conversation)).await;
    while outcome.is_err() && code(outcome) == "40001" {
        attempts += 1;
        outcome = spend(pool, None).await;
    }
    Ok(format!("{attempts} attempts, then {}", balances(pool).await?))
}
