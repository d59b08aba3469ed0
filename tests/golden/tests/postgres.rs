//! The recordings of PostgreSQL against a PostgreSQL of this machine.

use std::time::Duration;

use golden::{Address, Comparison, Player, Report, Selection, Server, recordings};

/// Where the server listens: `HOST:PORT[/DB[?user=U]]`. It must be a PostgreSQL 15 with trust authentication and
/// `timezone=UTC`, and be used by nobody else meanwhile.
const SERVER: &str = "GOLDEN_POSTGRES";

#[test]
fn a_real_postgres_answers_as_recorded() {
    let address: Address = std::env::var(SERVER)
        .unwrap_or_else(|_| {
            panic!("{SERVER} is not set: start a PostgreSQL 15 with trust authentication and timezone=UTC, and set it to HOST:PORT[/DB[?user=U]]")
        })
        .parse()
        .expect("the address of a server");
    let player = Player::new(address, Duration::from_secs(20));
    let mut report = Report::default();
    for recording in recordings(Server::Postgres).expect("the recordings are in the notation") {
        report.check(&player, &recording, &Selection::default(), Comparison::Strict);
    }
    assert!(report.failures.is_empty(), "{report}");
    assert!(!report.passed.is_empty());
}
