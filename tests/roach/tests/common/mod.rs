//! What the tests of the double share: clients, and the retry loop that CockroachDB asks of them.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::ops::Deref;

use roach::Server;
use tokio_postgres::{Config, Error, NoTls};

/// A client of the double.
pub(crate) struct Client {
    inner: tokio_postgres::Client,
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

/// Connects a client.
pub(crate) async fn connect(server: &Server) -> Client {
    let address = server.address();
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("root").dbname("defaultdb");
    let (inner, connection) = config.connect(NoTls).await.expect("the double accepts connections");
    tokio::spawn(connection);
    Client { inner }
}

/// The SQLSTATE of an error of the server; nothing if the connection broke.
pub(crate) fn code(error: &Error) -> Option<&str> {
    error.code().map(|code| code.code())
}

/// Runs a transaction as CockroachDB's documentation demands: again from the savepoint after each 40001.
pub(crate) async fn retrying<W>(client: &Client, work: W) -> usize
where
    W: AsyncFn() -> Result<(), Error>,
{
    client.batch_execute("BEGIN; SAVEPOINT cockroach_restart").await.expect("it begins");
    let mut retries = 0;
    loop {
        let outcome = match work().await {
            Ok(()) => client.batch_execute("RELEASE SAVEPOINT cockroach_restart").await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => break,
            Err(error) if code(&error) == Some("40001") => {
                retries += 1;
                client
                    .batch_execute("ROLLBACK TO SAVEPOINT cockroach_restart")
                    .await
                    .expect("it can be retried");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    client.batch_execute("COMMIT").await.expect("it is committed already");
    retries
}

/// What the server says about the client's transaction.
pub(crate) async fn status(client: &Client) -> String {
    let messages =
        client.simple_query("SHOW TRANSACTION STATUS").await.expect("it is answered in every state");
    let row = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.expect("one row")
}
