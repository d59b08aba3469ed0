//! A real PostgreSQL, one for all tests, in it a database for each, and the trigger that fails COMMITs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use reprise::demo::server::Postgres;
use tokio::sync::OnceCell;

use crate::client::{Login, connect};

/// Deadlocks are looked for soon: the clients are there to meet them.
const SETTINGS: [(&str, &str); 1] = [("deadlock_timeout", "20ms")];

/// A quarter of all COMMITs fail, by a sequence, which no rollback undoes and which reads nothing that conflicts.
const FAILING_COMMITS: &str = "
    CREATE FUNCTION strike() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF abs(hashint8(nextval('opportunities'))::bigint) % 100 < 25 THEN
        RAISE EXCEPTION 'could not serialize access due to a conflict injected at COMMIT' USING ERRCODE = '40001';
      END IF;
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER strike AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION strike()";

/// The one server; it ends with this process.
static SERVER: OnceCell<Postgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Makes a database, and tells where it is.
pub(crate) async fn create_database() -> Login {
    let server = SERVER.get_or_init(async || Postgres::start(&SETTINGS).await.expect("a server")).await;
    let name = format!("history_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let admin = connect(&login(server.addr(), "postgres")).await.expect("the server answers");
    // Only one session at a time may copy the template.
    static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = COPYING.lock().await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
    login(server.addr(), &name)
}

fn login(address: SocketAddr, database: &str) -> Login {
    Login { address, user: "postgres", database: database.to_owned() }
}

/// What lets COMMITs fail from here on.
pub(crate) fn failing_commits(seed: u64) -> String {
    format!("CREATE SEQUENCE opportunities START {seed}; {FAILING_COMMITS}")
}
