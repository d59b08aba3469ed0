//! Clients that mean harm, at every point of a connection, plain and over TLS: after all of them the proxy serves as before,
//! keeps no session and no socket of theirs, and has not grown.

use certificates::Authority;
use golden::Frontend;
use reprise::demo::server::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::database::Database;
use crate::support::program::Program;
use crate::support::secure::encrypt;
use crate::support::wire::{Socket, Wire, extended};
use crate::support::{eventually, within};

/// Random bytes that are the same in each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // The generator splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
    }

    fn bytes(&mut self, longest: u64) -> Vec<u8> {
        let length = 1 + self.next() % longest;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// What is sent before the harm begins.
fn phases(database: &str) -> Vec<Vec<u8>> {
    let startup = Frontend::startup([("user", "postgres"), ("database", database)]).encode();
    let query = |sql: &str| Frontend::Query(sql.into()).encode();
    let messages = |messages: &[Frontend]| messages.iter().flat_map(Frontend::encode).collect::<Vec<_>>();
    let opened = [startup.clone(), query("BEGIN"), query("UPDATE kv SET v = v")].concat();
    vec![
        Vec::new(),
        startup.clone(),
        opened.clone(),
        [opened.clone(), messages(&extended("SELECT 1", &[]))].concat(),
        [opened, query("COPY journal FROM STDIN"), b"d\0\0\0\x08abcd".to_vec()].concat(),
        [startup, query("SELECT repeat('x', 100000) FROM generate_series(1, 200)")].concat(),
    ]
}

/// What is sent then. Nothing of it is a message that commits anything.
fn harms(dice: &mut Dice) -> Vec<Vec<u8>> {
    let whole = Frontend::Query("SELECT 1".into()).encode();
    let mut harms = vec![
        // Nothing: it just goes.
        Vec::new(),
        // Truncated.
        whole[..3].to_vec(),
        whole[..9].to_vec(),
        // Oversized, and impossible.
        b"Q\x3f\xff\xff\xff".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        b"B\0\0\0\0".to_vec(),
        // Out of order.
        Frontend::startup([("user", "postgres")]).encode(),
        Frontend::SslRequest.encode(),
        b"p\0\0\0\x09pass\0".to_vec(),
        b"c\0\0\0\x04E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04".to_vec(),
        b"D\0\0\0\x06S\0C\0\0\0\x06X\0H\0\0\0\x04".to_vec(),
    ];
    harms.extend((0..6).map(|_| dice.bytes(300)));
    harms
}

/// Does harm on a connection, reads for a while what comes of it or not at all, and goes away without a word.
async fn attack(mut stream: Box<dyn Socket>, phase: &[u8], harm: &[u8], reads: bool) {
    // A server that has had enough closes in the middle of it.
    let _ = stream.write_all(phase).await;
    let _ = stream.flush().await;
    if reads {
        let _ = stream.read(&mut [0; 4096]).await;
    }
    let _ = stream.write_all(harm).await;
    let _ = stream.flush().await;
    if reads {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), stream.read(&mut [0; 4096])).await;
    }
}

/// A connection, encrypted or not.
async fn connect(program: &Program, authority: Option<&Authority>) -> Box<dyn Socket> {
    let address = program.listens().await;
    match authority {
        Some(authority) => Box::new(encrypt(address, authority.trusting(None)).await.expect("TLS")),
        None => Box::new(TcpStream::connect(address).await.expect("it listens")),
    }
}

/// One round of everything.
async fn round(program: &Program, database: &str, authority: Option<&Authority>, dice: &mut Dice) {
    for phase in phases(database) {
        let harms = harms(dice);
        let attacks = harms.iter().enumerate().map(|(number, harm)| {
            let phase = &phase;
            async move { attack(connect(program, authority).await, phase, harm, number % 3 != 2).await }
        });
        within("a phase", futures_util::future::join_all(attacks)).await;
    }
    // Cancels of nobody.
    let cancels = (0..200).map(|_| dice.next().to_be_bytes()).collect::<Vec<_>>();
    let cancels = cancels.iter().map(|key| async {
        let request = [&16u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), key].concat();
        let _ = connect(program, None).await.write_all(&request).await;
    });
    futures_util::future::join_all(cancels).await;
    eventually("all of them are gone", async || {
        program.http("/metrics").await.contains("\nreprise_sessions 1\n")
    })
    .await;
}

async fn survives(authority: Option<&Authority>) {
    // More memory than one round of buffers may not be kept of any number of rounds.
    const GROWTH_BYTES: usize = 16 << 20;
    let database = Database::create().await;
    let upstream = database.address.to_string();
    let identity = authority.map(|authority| authority.server("localhost"));
    let paths = identity.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
    let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
    let mut variables = vec![("REPRISE_PROXY_STARTUP_TIMEOUT", "2s")];
    if let [certificate, key] = &paths[..] {
        variables.extend([
            ("REPRISE_TLS_MODE", "allow"),
            ("REPRISE_TLS_CERTIFICATE", certificate.as_str()),
            ("REPRISE_TLS_KEY", key.as_str()),
        ]);
    }
    let program = Program::start(&["--upstream", &upstream], &variables).await;
    let mut witness = Wire::over(connect(&program, authority).await);
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    assert_eq!(witness.begin(&parameters).await.status(), Some('I'));
    let mut dice = Dice(7);
    round(&program, &database.name, authority, &mut dice).await;
    let (memory, files) = (program.status("VmRSS") * 1024, program.open_files());
    for _ in 0..3 {
        round(&program, &database.name, authority, &mut dice).await;
    }
    let grown = (program.status("VmRSS") * 1024).saturating_sub(memory);
    assert!(grown < GROWTH_BYTES, "{grown} bytes more");
    eventually("its sockets are closed", async || program.open_files() <= files + 2).await;
    // It serves as before: conflicts are hidden, and nothing that was not committed has stayed.
    assert_eq!(witness.query("BEGIN").await, "BEGIN T");
    assert_eq!(witness.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(witness.query("COMMIT").await, "COMMIT I");
    assert_eq!(database.query("SELECT count(*) FROM journal").await, "0");
    let left = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name <> 'observer'";
    database.until(left, "1").await;
    assert!(!program.log().iter().any(|line| line.contains("panicked")), "{:?}", program.log());
}

#[tokio::test]
async fn attacks_without_tls() {
    survives(None).await;
}

#[tokio::test]
async fn attacks_over_tls() {
    survives(Some(&Authority::create())).await;
}

#[tokio::test]
async fn who_says_nothing_takes_no_place_for_long() {
    let server = Postgres::start(&[]).await.expect("a server");
    let upstream = server.addr().to_string();
    let variables = [("REPRISE_PROXY_MAX_CONNECTIONS", "4"), ("REPRISE_PROXY_STARTUP_TIMEOUT", "500ms")];
    let program = Program::start(&["--upstream", &upstream], &variables).await;
    let address = program.listens().await;
    // A byte now and then keeps none of them alive.
    let mut slow = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let _ = stream.write_all(b"\0").await;
        slow.push(stream);
    }
    eventually("somebody else gets in", async || {
        let greeting = Wire::start(address, &[("user", "postgres"), ("database", "postgres")]).await.1;
        greeting.status() == Some('I')
    })
    .await;
    for mut stream in slow {
        let _ = stream.write_all(b"\0").await;
        let mut rest = Vec::new();
        let _ = within("its end", stream.read_to_end(&mut rest)).await;
    }
}
