//! A client without a retry loop: it connects, speaks in its own way, and connects again when it was cut off.

use std::collections::HashMap;
use std::net::SocketAddr;

use futures_util::future::{join, join_all};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls, Row, SimpleQueryMessage, Statement};

/// The name under which the clients of a test connect.
pub(crate) const APPLICATION: &str = "history";

/// Where a database is, and who asks.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) address: SocketAddr,
    pub(crate) user: &'static str,
    pub(crate) database: String,
}

/// Connects; the connection ends with the client.
pub(crate) async fn connect(login: &Login) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(login.address.ip().to_string()).port(login.address.port());
    config.user(login.user).dbname(&login.database).application_name(APPLICATION);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// How a client sends its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Each as one text.
    Simple,
    /// Prepared where they are first used, which is inside a transaction, and kept.
    Prepared,
    /// Prepared, used once, and closed.
    Fleeting,
    /// Parse, Bind, Describe and Execute in one batch.
    Batch,
    /// Prepared, and sent before the one before it is answered, COMMIT included.
    Pipelined,
}

impl Speech {
    pub(crate) const ALL: [Self; 5] =
        [Self::Simple, Self::Prepared, Self::Fleeting, Self::Batch, Self::Pipelined];
}

/// A value of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
}

impl Value {
    fn literal(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => format!("'{text}'"),
        }
    }

    fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Int(number) => (number, Type::INT8),
            Self::Text(text) => (text, Type::TEXT),
        }
    }
}

/// A statement with its values.
pub(crate) type Request<'a> = (&'a str, Vec<Value>);
/// The rows that a statement gave, as text.
pub(crate) type Rows = Vec<Vec<String>>;

/// A client.
pub(crate) struct Session {
    login: Login,
    speech: Speech,
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Session {
    pub(crate) async fn open(login: Login, speech: Speech) -> Result<Self, Error> {
        let client = connect(&login).await?;
        Ok(Self { login, speech, client, statements: HashMap::new() })
    }

    /// Connects again if the connection is gone.
    pub(crate) async fn mend(&mut self) -> Result<(), Error> {
        if self.client.is_closed() {
            self.client = connect(&self.login).await?;
            self.statements.clear();
        }
        Ok(())
    }

    /// Runs a text by the simple protocol, whatever the client's speech is: BEGIN and its like.
    pub(crate) async fn control(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Runs a statement.
    pub(crate) async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Rows, Error> {
        match self.speech {
            Speech::Simple => return simple(&self.client, sql, values).await,
            Speech::Prepared | Speech::Pipelined => self.prepare(sql).await?,
            Speech::Fleeting | Speech::Batch => {}
        }
        self.execute(sql, values).await
    }

    /// Runs statements one after the other, or, if the client pipelines, without waiting in between.
    pub(crate) async fn query_all(&mut self, requests: &[Request<'_>]) -> Result<Vec<Rows>, Error> {
        let mut answers = Vec::new();
        if self.speech != Speech::Pipelined {
            for (sql, values) in requests {
                answers.push(self.query(sql, values).await?);
            }
            return Ok(answers);
        }
        for (sql, _) in requests {
            self.prepare(sql).await?;
        }
        let requests = requests.iter().map(|(sql, values)| self.execute(sql, values));
        join_all(requests).await.into_iter().collect()
    }

    /// Runs the last statement of a transaction and its COMMIT, and tells what came of either. Nothing comes of a
    /// COMMIT that was not sent.
    pub(crate) async fn commit(
        &mut self,
        sql: &str,
        values: &[Value],
    ) -> (Result<Rows, Error>, Option<Result<(), Error>>) {
        if self.speech == Speech::Pipelined {
            if let Err(error) = self.prepare(sql).await {
                return (Err(error), None);
            }
            let (last, commit) = join(self.execute(sql, values), self.control("COMMIT")).await;
            return (last, Some(commit));
        }
        match self.query(sql, values).await {
            Ok(rows) => (Ok(rows), Some(self.control("COMMIT").await)),
            Err(error) => (Err(error), None),
        }
    }

    async fn prepare(&mut self, sql: &str) -> Result<(), Error> {
        if !self.statements.contains_key(sql) {
            let statement = self.client.prepare(sql).await?;
            self.statements.insert(sql.to_owned(), statement);
        }
        Ok(())
    }

    async fn execute(&self, sql: &str, values: &[Value]) -> Result<Rows, Error> {
        let parameters: Vec<_> = values.iter().map(Value::parameter).collect();
        let rows = match self.statements.get(sql) {
            None if self.speech == Speech::Batch => self.client.query_typed(sql, &parameters).await?,
            prepared => {
                let parameters: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
                match prepared {
                    Some(statement) => self.client.query(statement, &parameters).await?,
                    None => self.client.query(sql, &parameters).await?,
                }
            }
        };
        Ok(rows.iter().map(texts).collect())
    }
}

async fn simple(client: &Client, sql: &str, values: &[Value]) -> Result<Rows, Error> {
    let mut text = sql.to_owned();
    for (index, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", index + 1), &value.literal());
    }
    query_text(client, &text).await
}

/// Runs a text by the simple protocol.
pub(crate) async fn query_text(client: &Client, sql: &str) -> Result<Rows, Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}

fn texts(row: &Row) -> Vec<String> {
    let text = |column: usize| match *row.columns()[column].type_() {
        Type::INT8 => row.get::<_, i64>(column).to_string(),
        _ => row.get::<_, String>(column),
    };
    (0..row.len()).map(text).collect()
}
