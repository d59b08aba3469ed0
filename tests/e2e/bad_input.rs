//! Clients that do not keep to the protocol: each is told why, with a SQLSTATE, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use golden::{Backend, Frontend};
use reprise::replay::Dialect;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::fake::{Peer, serve};
use crate::support::proxy::Proxy;
use crate::support::wire::{Answer, Wire};
use crate::support::{DIALECTS, Scene, eventually, within};

/// Sends bytes on a new connection; what comes until it is closed.
async fn answer_to(scene: &Scene, bytes: &[u8]) -> Answer {
    let mut wire = Wire::connect(scene.proxy.address).await;
    wire.send_bytes(bytes).await;
    wire.until_closed().await
}

/// The final error that ends a connection.
#[track_caller]
fn expect_fatal(answer: &Answer, sqlstate: &str, message: &str) {
    assert_eq!((answer.field('S'), answer.field('C')), ("FATAL", sqlstate), "{answer:?}");
    assert!(answer.field('M').contains(message), "{answer:?}");
    assert!(
        matches!(answer.0.last(), Some(Backend::ErrorResponse(_))),
        "nothing comes behind it: {answer:?}"
    );
}

/// The session that was there before goes on.
async fn expect_undisturbed(scene: &mut Scene) {
    assert_eq!(scene.client.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
    assert_eq!(scene.client.query("COMMIT").await, "COMMIT I");
    scene.proxy.until_metric("reprise_sessions", 1.0).await;
}

async fn start() -> Scene {
    let mut scene = Scene::start(Dialect::Postgres).await;
    assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
    scene
}

fn packet(length: u32, code: u32, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

#[tokio::test]
async fn startup_packets_that_are_none() {
    const PROTOCOL: u32 = 3 << 16;
    let mut scene = start().await;
    let malformed: [(Vec<u8>, &str); 8] = [
        (packet(0, PROTOCOL, b""), "invalid length of startup packet"),
        (packet(7, PROTOCOL, b""), "invalid length of startup packet"),
        (packet(10_001, PROTOCOL, b""), "invalid length of startup packet"),
        (packet(u32::MAX, PROTOCOL, b""), "invalid length of startup packet"),
        (packet(12, PROTOCOL, b"user"), "invalid startup packet layout"),
        (packet(12, 80_877_102, b"1234"), "invalid length of cancel request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "invalid length of startup packet"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "invalid length of startup packet"),
    ];
    let count = malformed.len();
    for (bytes, message) in malformed {
        expect_fatal(&answer_to(&scene, &bytes).await, "08P01", message);
    }
    let refused = "reprise_sessions_refused_total{cause=\"protocol_violation\"}";
    assert_eq!(scene.proxy.metric(refused), count as f64);
    expect_undisturbed(&mut scene).await;
}

#[tokio::test]
async fn protocols_that_are_not_spoken() {
    let mut scene = start().await;
    for (major, minor) in [(2, 0), (4, 0), (1, 0), (0, 0), (u16::MAX, u16::MAX)] {
        let code = u32::from(major) << 16 | u32::from(minor);
        let answer = answer_to(&scene, &packet(9, code, b"\0")).await;
        expect_fatal(&answer, "0A000", &format!("unsupported frontend protocol {major}.{minor}"));
    }
    expect_undisturbed(&mut scene).await;
}

#[tokio::test]
async fn clients_that_say_nothing_or_too_little() {
    let mut scene =
        Scene::with(Dialect::Postgres, |config| config.proxy.startup_timeout = Duration::from_millis(300))
            .await;
    assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
    for bytes in [&b""[..], b"\0", &packet(100, 3 << 16, b"user\0")] {
        expect_fatal(&answer_to(&scene, bytes).await, "57014", "timeout");
    }
    assert_eq!(scene.proxy.metric("reprise_sessions_refused_total{cause=\"startup_timeout\"}"), 3.0);
    // One that goes away instead leaves no trace.
    drop(Wire::connect(scene.proxy.address).await);
    expect_undisturbed(&mut scene).await;
}

/// Frames that cannot be: a length that is too small to count itself, or larger than any message.
fn impossible_frames() -> impl Iterator<Item = Vec<u8>> {
    let lengths = [0u32, 3, 0x4000_0000, u32::MAX];
    lengths.into_iter().map(|length| [&b"Q"[..], &length.to_be_bytes(), b"SELECT 1\0"].concat())
}

#[tokio::test]
async fn impossible_lengths_end_a_session() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        for frame in impossible_frames() {
            let mut wire = scene.proxy.wire().await;
            wire.send_bytes(&frame).await;
            expect_fatal(&wire.until_closed().await, "08P01", "impossible length");
            let mut wire = scene.proxy.wire().await;
            assert_eq!(wire.query("BEGIN").await, "BEGIN T");
            assert_eq!(wire.query("UPDATE kv SET v = 0").await, "UPDATE 3 T");
            // Behind a good request, in the same write.
            let good = Frontend::Query("SELECT 1".into()).encode();
            wire.send_bytes(&[good, frame].concat()).await;
            let answer = wire.until_closed().await;
            assert_eq!(answer.field('C'), "08P01");
        }
        expect_undisturbed(&mut scene).await;
    }
}

#[tokio::test]
async fn a_length_is_not_trusted_with_memory() {
    const SENT_BYTES: usize = 100 << 10;
    const CLIENTS: usize = 20;
    let arrived = Arc::new(AtomicUsize::new(0));
    let patient = serve({
        let arrived = Arc::clone(&arrived);
        move |mut peer| {
            let arrived = Arc::clone(&arrived);
            async move {
                peer.admit().await;
                peer.count(&arrived).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(patient, |_| {}).await;
    let before = virtual_bytes();
    let mut wires = Vec::new();
    for _ in 0..CLIENTS {
        // The largest message that there may be; of which only the beginning ever comes.
        let (mut wire, _) = Wire::start(proxy.address, &[("user", "postgres")]).await;
        wire.send_bytes(&[&b"Q\x3f\xff\xff\xff"[..], &[b' '; SENT_BYTES]].concat()).await;
        wires.push(wire);
    }
    let all = || async { arrived.load(Ordering::Relaxed) >= CLIENTS * SENT_BYTES };
    eventually("what came is passed on", all).await;
    assert!(virtual_bytes() < before + (8 << 30), "a length made the proxy allocate");
    drop(wires);
    proxy.until_idle().await;
}

#[tokio::test]
async fn requests_before_the_login_are_not_hoarded() {
    // More than the sockets on the way hold.
    const SENT_BYTES: usize = 64 << 20;
    let upstream = serve(async |mut peer: Peer| {
        peer.startup().await;
        peer.answer_bytes(b"R\0\0\0\x08\0\0\0\x03").await;
        peer.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(upstream, |_| {}).await;
    for request in [b"S\0\0\0\x04", b"Q\x3f\xff\xff\xff"] {
        let mut stream = TcpStream::connect(proxy.address).await.expect("it listens");
        stream.write_all(&Frontend::startup([("user", "postgres")]).encode()).await.expect("to send");
        stream.write_all(request).await.expect("to send");
        let (bytes, mut sent) = (request.repeat(100_000), 0);
        while let Ok(taken) = tokio::time::timeout(Duration::from_secs(1), stream.write(&bytes)).await {
            sent += taken.expect("it is not closed");
            assert!(sent < SENT_BYTES, "all of it is taken");
        }
    }
}

/// Memory that this process, in which the proxy runs, has asked for.
fn virtual_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4096
}

#[tokio::test]
async fn messages_that_the_server_does_not_know_are_its_own_affair() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        for bytes in
            [&b"z\0\0\0\x04"[..], b"P\0\0\0\x06ab", b"B\0\0\0\x05\0", b"E\0\0\0\x04", b"C\0\0\0\x05?"]
        {
            let mut direct = scene.database.wire().await;
            let mut wire = scene.proxy.wire().await;
            for wire in [&mut direct, &mut wire] {
                wire.send_bytes(&[bytes, b"S\0\0\0\x04"].concat()).await;
            }
            assert_eq!(wire.until_ready().await, direct.until_ready().await, "{bytes:?}");
        }
        expect_undisturbed(&mut scene).await;
    }
}

#[tokio::test]
async fn a_password_that_is_no_password() {
    // During authentication only an answer to it may come; the server waits for one.
    let silent = serve(|mut peer| async move {
        peer.startup().await;
        peer.answer([Backend::Authentication(3)]).await;
        peer.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(silent, |_| {}).await;
    for (bytes, message) in [
        (&b"d\0\0\0\x04"[..], "unexpected message"),
        (b"p\0\0\0\x03", "impossible length"),
        (b"p\x3f\0\0\0", "impossible length"),
    ] {
        let mut wire = Wire::connect(proxy.address).await;
        wire.send([Frontend::startup([("user", "postgres")])]).await;
        wire.until(|message| matches!(message, Backend::Authentication(3))).await;
        wire.send_bytes(bytes).await;
        expect_fatal(&within("the end", wire.until_closed()).await, "08P01", message);
    }
}
