//! Schemas: tables of one name in several of them, and what becomes of them together.

mod common;

use common::connect;
use roach::{Options, Server};

#[tokio::test]
async fn tables_of_one_name_are_told_apart_and_go_with_their_schema() {
    let server = Server::start(Options::default()).await.expect("a port is free");
    let client = connect(&server).await;
    let setup = "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (x INT); CREATE TABLE a.u (x INT);
                 CREATE TABLE b.t (x INT); CREATE TABLE defaultdb.public.t (x INT);
                 INSERT INTO a.t VALUES (1); INSERT INTO a.u VALUES (1), (2); INSERT INTO b.t VALUES (1), (2);
                 INSERT INTO t VALUES (1), (2), (3)";
    client.batch_execute(setup).await.unwrap();
    let count = async |table: &str| {
        let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
        row.map(|row| row.get::<_, i64>(0)).map_err(|error| error.code().map(|code| code.code().to_owned()))
    };
    assert_eq!(count("a.t").await, Ok(1));
    assert_eq!(count("public.t").await, Ok(3));
    client.batch_execute("TRUNCATE a.t, a.u").await.unwrap();
    assert_eq!((count("a.t").await, count("a.u").await, count("b.t").await), (Ok(0), Ok(0), Ok(2)));
    client.batch_execute("DROP SCHEMA IF EXISTS a CASCADE").await.unwrap();
    assert_eq!(count("a.u").await, Err(Some("42P01".into())));
    assert_eq!((count("b.t").await, count("t").await), (Ok(2), Ok(3)));
}
