//! Replication: its connections are relayed as they are, whatever the mode of the others.

use reprise::demo::server::Postgres;
use tokio::process::Command;

use crate::support::database::{APPLICATION, connect};
use crate::support::proxy::Proxy;
use crate::support::secure::psql;
use crate::support::{eventually, within};

#[tokio::test]
async fn a_replica_streams_through_the_proxy() {
    let settings = [("wal_level", "replica"), ("max_wal_senders", "4")];
    let server = Postgres::start(&settings).await.expect("a server");
    let rule = "host replication all 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 trust\n";
    std::fs::write(server.data_directory().join("pg_hba.conf"), rule).expect("the rules");
    let admin = connect(server.addr(), "postgres", APPLICATION).await;
    admin.batch_execute("SELECT pg_reload_conf(); CREATE TABLE t (n int)").await.expect("to reload");
    let proxy = Proxy::start(server.addr(), |_| {}).await;
    let port = proxy.address.port();
    let parameters = |replication: &str| {
        format!("host=127.0.0.1 port={port} user=postgres dbname=postgres replication={replication}")
    };
    for replication in ["database", "true"] {
        let identified = psql(&parameters(replication), "IDENTIFY_SYSTEM").await.expect("it is known");
        assert_eq!(identified.split('|').count(), 4, "{identified}");
    }
    // What is written is streamed by a CopyBoth that does not end.
    let directory = tempfile::tempdir().expect("a directory");
    let mut receiver = Command::new("pg_receivewal");
    receiver.arg("-D").arg(directory.path()).args(["--synchronous", "-d", &parameters("true")]);
    let mut receiver = receiver.kill_on_drop(true).spawn().expect("pg_receivewal is installed");
    admin.batch_execute("INSERT INTO t SELECT generate_series(1, 1000)").await.expect("rows");
    let written: String =
        admin.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.expect("a place").get(0);
    let streamed = format!(
        "SELECT count(*) = 1 FROM pg_stat_replication WHERE flush_lsn >= '{written}' AND state = 'streaming'"
    );
    eventually("the replica has it all", async || {
        admin.query_one(&streamed, &[]).await.expect("an answer").get(0)
    })
    .await;
    assert_eq!(proxy.metric("reprise_sessions"), 1.0);
    receiver.start_kill().expect("it runs");
    within("its end", receiver.wait()).await.expect("its end");
    proxy.until_idle().await;
    let counted =
        "reprise_transactions_total{dialect=\"postgres\",kind=\"autocommit\",outcome=\"committed\"}";
    assert_eq!(proxy.metric(counted), 0.0, "nothing of it is taken for a transaction");
}
