//! Every recorded conversation with a real CockroachDB, against the double.

use std::thread;
use std::time::Duration;

use golden::notation::Server as Kind;
use golden::{Address, Comparison, Player, Recording, Report, Selection, recordings};
use roach::{Options, Server, State};

/// The recorded conversations that the double cannot match, and why.
const DIFFERENT: [(&str, &str); 0] = [];

fn recorded() -> Vec<Recording> {
    recordings(Kind::CockroachDb).expect("the recordings are in the notation")
}

fn player(server: &Server) -> Player {
    Player::new(Address::local(server.address().port()), Duration::from_secs(20))
}

/// Plays the cases of one tag, or those without a special one, in a thread that may block.
async fn play(server: &Server, name: &'static str, tag: Option<&'static str>) -> Report {
    let player = player(server);
    let selection = Selection { tags: tag.into_iter().map(str::to_owned).collect(), ..Selection::default() };
    let played = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        for recording in recorded().iter().filter(|recording| recording.name == name) {
            report.check(&player, recording, &selection, Comparison::Strict);
        }
        report
    });
    played.await.expect("the player does not panic")
}

fn assert_as_listed(report: &Report) {
    for (id, reason) in DIFFERENT {
        assert!(
            !report.passed.iter().any(|passed| passed == id),
            "{id} matches, although it is listed: {reason}"
        );
    }
    let unexpected =
        report.failures.iter().filter(|failure| !DIFFERENT.iter().any(|(id, _)| *id == failure.id));
    let unexpected: Vec<String> = unexpected.map(ToString::to_string).collect();
    assert!(unexpected.is_empty(), "{}\n{} match", unexpected.join("\n"), report.passed.len());
}

/// One test a file, so that they run side by side, each against a server of its own.
macro_rules! files {
    ($($test:ident $name:literal)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let server = Server::start(Options::default()).await.unwrap();
                let report = play(&server, $name, None).await;
                assert!(!report.passed.is_empty());
                assert_as_listed(&report);
            }
        )*

        #[test]
        fn no_file_is_forgotten() {
            let special = ["drain.txt", "uncertainty.txt"];
            let tested = [$($name),*];
            for recording in recorded() {
                let name = recording.name.as_str();
                assert!(tested.contains(&name) || special.contains(&name), "{name}");
            }
        }
    };
}

files! {
    cancel "cancel.txt"
    copy "copy.txt"
    manual_retry "manual_retry.txt"
    pipeline "pipeline.txt"
    portals "portals.txt"
    real_40001 "real_40001.txt"
    savepoints "savepoints.txt"
    sql_features "sql_features.txt"
    startup "startup.txt"
    survives "survives.txt"
    txn "txn.txt"
    wire "wire.txt"
}

/// The recording was made while a hand sent SIGTERM: here it is sent once its three clients are where they should be.
#[tokio::test(flavor = "multi_thread")]
async fn drain() {
    let server = Server::start(Options::default()).await.unwrap();
    let (report, ()) = tokio::join!(play(&server, "drain.txt", Some("manual")), async {
        while server.sessions_in(State::CommitWait) == 0 {
            tokio::task::yield_now().await;
        }
        server.drain();
    });
    assert_eq!(report.passed, ["dr-01"], "{report}");
}

/// The recording was made on three nodes, with the rows from k = 2 on kept by another one than the client's.
#[tokio::test(flavor = "multi_thread")]
async fn uncertainty() {
    let server = Server::start(Options::default()).await.unwrap();
    let player = player(&server);
    let recording = Recording::parse(
        "setup",
        "@server cockroachdb\n@case setup table\n\
         $ CREATE TABLE kv (k INT PRIMARY KEY, v INT)\n$ INSERT INTO kv VALUES (1, 10), (2, 20), (3, 30)\n",
    );
    let recording = recording.unwrap();
    let played = thread::spawn(move || player.play(Kind::CockroachDb, &recording.cases[0])).join().unwrap();
    assert!(!played.iter().any(|line| line.starts_with('<')), "{played:?}");
    assert!(server.place_remotely("kv", 2));
    let report = play(&server, "uncertainty.txt", Some("cluster")).await;
    assert_eq!(report.passed, ["un-01", "un-02"], "{report}");
}
