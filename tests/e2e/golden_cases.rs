//! The recorded conversations of PostgreSQL, played through the proxy: it answers as the server did.

use std::collections::BTreeSet;
use std::time::Duration;

use golden::{Address, Case, Comparison, Player, Report, Selection, Server, recordings};
use reprise::config::DialectChoice;
use reprise::demo::server::Postgres;
use reprise::replay::{Begin, Dialect, Mode};

use crate::support::DIALECTS;
use crate::support::database::{APPLICATION, connect};
use crate::support::proxy::Proxy;

/// What the recordings were made with.
const SETTINGS: [(&str, &str); 2] = [("max_prepared_transactions", "20"), ("timezone", "UTC")];

/// Cases in which the proxy answers for itself, whatever the mode: it offers no GSSAPI encryption, and refuses protocols
/// other than 3 in words of its own.
const ANSWERED_BY_THE_PROXY: [&str; 2] = ["pu-02b", "pu-05"];

/// Whether a conflict was recorded in it: that is what the transparent mode hides or explains.
fn has_conflict(case: &Case) -> bool {
    let is_conflict =
        |answer: &String| ["C=\"40001\"", "C=\"40P01\""].iter().any(|code| answer.contains(code));
    case.steps.iter().any(|step| step.answers.iter().any(is_conflict))
}

/// Plays the cases that are wanted in a mode; those that came out otherwise than recorded.
async fn differing(
    server: &Postgres,
    mode: Mode,
    dialect: Dialect,
    wanted: fn(&Case) -> bool,
) -> (Report, BTreeSet<String>) {
    let proxy = Proxy::start(server.addr(), |config| {
        config.retry.policy.mode = mode;
        // A deferred BEGIN is not seen by the server while the client idles, as some cases have it.
        config.retry.policy.begin = Begin::Immediate;
        config.upstream.dialect = DialectChoice::Fixed(dialect);
    })
    .await;
    // Where rows come in the order of the heap, it must be as new.
    let name = format!("{}_{}", mode.name(), dialect.name());
    let admin = connect(server.addr(), "postgres", APPLICATION).await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
    let address = Address { database: Some(name), ..Address::local(proxy.address.port()) };
    let player = Player::new(address, Duration::from_secs(20));
    let report = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        for mut recording in recordings(Server::Postgres).expect("the recordings are in the notation") {
            recording.cases.retain(wanted);
            report.check(&player, &recording, &Selection::default(), Comparison::Strict);
        }
        report
    })
    .await
    .expect("no panic");
    let failed = report.failures.iter().map(|failure| failure.id.clone()).collect();
    (report, failed)
}

#[tokio::test]
async fn without_retries_every_case_is_as_recorded() {
    let server = Postgres::start(&SETTINGS).await.expect("a server");
    for mode in [Mode::Off, Mode::Observe] {
        let (report, failed) = differing(&server, mode, Dialect::Postgres, |_| true).await;
        assert_eq!(failed, ANSWERED_BY_THE_PROXY.map(str::to_owned).into(), "{mode:?}: {report}");
    }
}

#[tokio::test]
async fn with_retries_every_case_without_a_conflict_is_as_recorded() {
    let server = Postgres::start(&SETTINGS).await.expect("a server");
    for dialect in DIALECTS {
        let (report, failed) =
            differing(&server, Mode::Transparent, dialect, |case| !has_conflict(case)).await;
        assert_eq!(failed, ANSWERED_BY_THE_PROXY.map(str::to_owned).into(), "{}: {report}", dialect.name());
    }
}
