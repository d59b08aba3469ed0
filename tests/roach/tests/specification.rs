//! Cases of the written specification that no recording covers, most of them about newer releases.
//!
//! The conversations are in the notation of the recordings, but were written by hand after the specification.

use std::path::Path;
use std::time::Duration;

use golden::{Address, Comparison, Player, Recording, Report, Selection};
use roach::{Options, Server, Version};

async fn play(version: Version) {
    let server = Server::start(Options { version, ..Options::default() }).await.expect("a port is free");
    let player = Player::new(Address::local(server.address().port()), Duration::from_secs(20));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specification");
    let recording =
        Recording::load(&folder.join(format!("{}.txt", version.name()))).expect("it is in the notation");
    let played = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        report.check(&player, &recording, &Selection::default(), Comparison::Strict);
        (report, recording.cases.len())
    });
    let (report, cases) = played.await.expect("the player does not panic");
    assert!(report.failures.is_empty(), "{report}");
    assert_eq!(report.passed.len(), cases);
}

#[tokio::test(flavor = "multi_thread")]
async fn release_20_2() {
    play(Version::V20_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_23_1() {
    play(Version::V23_1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_25_2() {
    play(Version::V25_2).await;
}
