//! The corners of the protocol at which proxies broke, each with the test that holds it.
//!
//! | case | tests |
//! |---|---|
//! | an error in the middle of a pipeline | `transparency::pipelines`, `wire_edges::an_error_comes_before_the_sync`, `wire_edges::a_query_in_the_middle_of_a_batch` |
//! | a pipeline is not split, and no Sync is added | `transparency::pipelines`, `wire_edges::a_pipeline_is_sent_before_anything_is_read` |
//! | Flush | `wire_edges::a_flush_gets_its_answers` |
//! | an error without Flush or Sync | `wire_edges::an_error_comes_before_the_sync` |
//! | the unnamed statement | `wire_edges::the_unnamed_statement_is_the_last_one_until_a_query` |
//! | names that are settled before the server has accepted them | `wire_edges::names_within_one_pipeline` |
//! | COPY by the extended protocol, with its Sync sent early | `wire_edges::copy_with_an_early_sync` |
//! | COPY that fails while rows are still sent | `wire_edges::copy_that_fails_halfway` |
//! | what the proxy says itself comes at the right place, once | `bad_upstream::its_farewell_is_the_last_word`, `bad_input::impossible_lengths_end_a_session` |
//! | a cancel that comes late, or to nobody | `cancel::a_request_that_comes_too_late_does_nothing`, `cancel::a_key_that_belongs_to_no_session_does_nothing` |
//! | a cancel with TLS and without | `tls_clients::where_tls_is_required_only_cancels_come_without` |
//! | protocol 3.2, and options that nobody knows | `authentication::newer_protocols_and_options_are_negotiated_down` |
//! | SCRAM with channel binding | `own_logins::libpq_logs_in_with_and_without_channel_binding_whatever_the_database_asks_for` |
//! | TLS from the first byte | `tls_clients::direct_tls_must_name_the_protocol` |
//! | GSSENCRequest, then SSLRequest, and what is smuggled in behind | `authentication::encryption_is_declined_once_each`, `tls_clients::encryption_is_granted_once_and_gssapi_never`, `tls_clients::what_is_smuggled_in_before_tls_is_refused` |
//! | startup parameters, and startup packets of any length | `authentication::startup_parameters_reach_the_server_and_its_greeting_the_client`, `bad_input::startup_packets_that_are_none` |
//! | a client that dies within a batch | `departures::in_the_middle_of_a_message`, `half_closed::what_they_have_begun_and_cannot_end_is_over_at_once` |
//! | a client that closes one half of its connection | `half_closed::they_hear_what_the_database_says`, `half_closed::they_are_served_for_as_long_as_answers_come_and_no_longer` |
//! | both sides write at once | `wire_edges::a_pipeline_is_sent_before_anything_is_read` |
//! | messages of any length | `wire_edges::large_messages_and_copies_pass_in_constant_memory`, `bad_input::a_length_is_not_trusted_with_memory` |
//! | a reader that is slow | `wire_edges::who_does_not_read_holds_up_the_server_and_not_the_memory` |
//! | notices, notifications, settings and errors while nothing is asked | `wire_edges::what_comes_unasked_arrives_at_once`, `wire_edges::a_notification_reaches_an_idle_session` |
//! | text that is not UTF-8 | `wire_edges::text_that_is_not_utf_8` |
//! | replication | `replication::a_replica_streams_through_the_proxy` |

use golden::notation::Target;
use golden::{Backend, Frontend};
use reprise::replay::Dialect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::database::Database;
use crate::support::fake::{error, serve};
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::wire::{Wire, bind, execute, extended, parse};
use crate::support::{DIALECTS, Scene, eventually, within};

#[test]
fn every_case_has_its_tests() {
    let table = include_str!("wire_edges.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut rows = 0;
    for row in table.skip(1) {
        let names: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let (file, test) = name.split_once("::").expect("file::test");
            let path = format!("{}/tests/e2e/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect(&path);
            assert!(text.contains(&format!("fn {test}()")), "{name} is not there");
        }
        rows += 1;
    }
    assert_eq!(rows, 24);
}

/// Compares what two clients get, one past the proxy and one through it.
async fn expect_same<T: PartialEq + std::fmt::Debug>(conversation: impl AsyncFn(&mut Wire) -> T) {
    for dialect in DIALECTS {
        let Scene { database, mut client, .. } = Scene::start(dialect).await;
        let direct = conversation(&mut database.wire().await).await;
        assert_eq!(conversation(&mut client).await, direct, "{}", dialect.name());
    }
}

#[tokio::test]
async fn an_error_comes_before_the_sync() {
    expect_same(async |wire| {
        wire.send([parse("", "SELECT nonsense FROM nowhere"), bind("", "", vec![]), execute("", 0)]).await;
        let error = wire.until(|message| matches!(message, Backend::ErrorResponse(_))).await;
        wire.send(extended("SELECT 'skipped'", &[]).into_iter().chain([Frontend::Sync])).await;
        (error, wire.until_ready().await, wire.query("SELECT 1").await)
    })
    .await;
}

#[tokio::test]
async fn a_query_in_the_middle_of_a_batch() {
    let query = |sql: &str| Frontend::Query(sql.into());
    expect_same(async |wire| {
        // Behind an error everything up to the Sync is passed over, the query too: it gets no ReadyForQuery.
        let batch =
            extended("SELECT 1 / 0", &[]).into_iter().chain([query("SELECT 'skipped'"), Frontend::Sync]);
        wire.send(batch.chain([query("SELECT 'run'")])).await;
        let failed = (wire.until_ready().await, wire.until_ready().await);
        // Without one it runs, and both have their ReadyForQuery.
        let batch = extended("SELECT 1", &[]).into_iter().chain([query("SELECT 2")]);
        wire.send(batch.chain(extended("SELECT 3", &[])).chain([Frontend::Sync])).await;
        (failed, wire.until_ready().await, wire.until_ready().await, wire.query("SELECT 4").await)
    })
    .await;
}

#[tokio::test]
async fn the_unnamed_statement_is_the_last_one_until_a_query() {
    expect_same(async |wire| {
        let run = || [bind("", "", vec![]), execute("", 0)];
        let twice =
            [parse("", "SELECT 1")].into_iter().chain(run()).chain([parse("", "SELECT 2")]).chain(run());
        wire.send(twice.chain([Frontend::Sync])).await;
        let first = wire.until_ready().await;
        wire.send(run().into_iter().chain([Frontend::Sync])).await;
        let again = wire.until_ready().await;
        let query = wire.query("SELECT 3").await;
        wire.send(run().into_iter().chain([Frontend::Sync])).await;
        let gone = wire.until_ready().await;
        assert_eq!(gone, "26000 I");
        (first, again, query, gone)
    })
    .await;
}

#[tokio::test]
async fn a_flush_gets_its_answers() {
    expect_same(async |wire| {
        wire.send([
            parse("s", "SELECT 1"),
            Frontend::Describe(Target::Statement, "s".into()),
            Frontend::Flush,
        ])
        .await;
        let described = wire.until(|message| matches!(message, Backend::RowDescription(..))).await;
        wire.send([bind("", "s", vec![]), execute("", 0), Frontend::Flush]).await;
        let executed = wire.until(|message| matches!(message, Backend::CommandComplete(_))).await;
        wire.send([Frontend::Sync]).await;
        (described, executed, wire.until_ready().await)
    })
    .await;
}

#[tokio::test]
async fn names_within_one_pipeline() {
    expect_same(async |wire| {
        let deallocate = extended("DEALLOCATE ALL", &[]);
        let batch = [parse("kept", "SELECT 1")]
            .into_iter()
            .chain(deallocate)
            .chain([parse("kept", "SELECT 2"), parse("broken", "SELEC"), parse("skipped", "SELECT 3")])
            .chain([Frontend::Sync]);
        wire.send(batch).await;
        let mut answers = vec![wire.until_ready().await];
        for name in ["kept", "broken", "skipped"] {
            wire.send([bind("", name, vec![]), execute("", 0), Frontend::Sync]).await;
            answers.push(wire.until_ready().await);
        }
        let describe = |name: &str| Frontend::Describe(Target::Statement, name.into());
        let close = |name: &str| Frontend::Close(Target::Statement, name.into());
        // What is not there can be closed, and not described.
        for alone in [close("nothing"), describe("nothing"), describe("kept"), close("broken"), close("kept")]
        {
            wire.send([alone, Frontend::Sync]).await;
            answers.push(wire.until_ready().await);
        }
        // A name is free again in the batch in which it was closed.
        wire.send([
            parse("kept", "SELECT 4"),
            close("kept"),
            parse("kept", "SELECT 5"),
            describe("kept"),
            Frontend::Sync,
        ])
        .await;
        answers.push(wire.until_ready().await);
        answers
    })
    .await;
}

#[tokio::test]
async fn copy_with_an_early_sync() {
    expect_same(async |wire| {
        wire.send(extended("COPY journal FROM STDIN", &[]).into_iter().chain([Frontend::Sync])).await;
        let begun = wire.until(|message| matches!(message, Backend::CopyInResponse { .. })).await;
        wire.send([Frontend::CopyData(b"early\n".to_vec()), Frontend::CopyDone, Frontend::Sync]).await;
        let copied = wire.until_ready().await;
        (begun, copied, wire.query("SELECT count(*) FROM journal WHERE entry = 'early'").await.status())
    })
    .await;
}

#[tokio::test]
async fn copy_that_fails_halfway() {
    expect_same(async |wire| {
        wire.send([Frontend::Query("COPY kv FROM STDIN".into())]).await;
        wire.until(|message| matches!(message, Backend::CopyInResponse { .. })).await;
        wire.send([Frontend::CopyData(b"no number\n".to_vec())]).await;
        let failed = wire.until_ready().await;
        // The client learns of it only now.
        let late = [Frontend::CopyData(b"7\t7\n".to_vec()), Frontend::CopyDone];
        wire.send(late.into_iter().chain([Frontend::Query("SELECT 1".into())])).await;
        let next = wire.until_ready().await;
        // Nobody has asked for data at all.
        let unasked = [
            Frontend::CopyFail("never mind".into()),
            Frontend::CopyDone,
            Frontend::CopyData(b"8\t8\n".to_vec()),
        ];
        wire.send(unasked.into_iter().chain([Frontend::Query("SELECT 2".into())])).await;
        (failed, next, wire.until_ready().await, wire.query("SELECT 3").await)
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_is_sent_before_anything_is_read() {
    const REQUESTS: usize = 600;
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        // More than all buffers on the way hold, in both directions.
        let value = "x".repeat(50 << 10);
        let one = extended("SELECT $1::text", &[&value]);
        let all = (0..REQUESTS).flat_map(|_| one.clone()).chain([Frontend::Sync]);
        let bytes: Vec<u8> = all.flat_map(|message| message.encode()).collect();
        // The kernel would let its receive buffer grow to as much as it likes.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("a size");
        let direct = socket.connect(scene.proxy.address).await.expect("it listens");
        let (mut reading, mut writing) = direct.into_split();
        let startup = [("user", "postgres"), ("database", scene.database.name.as_str())];
        writing.write_all(&Frontend::startup(startup).encode()).await.expect("to send");
        let send = tokio::spawn(async move { writing.write_all(&bytes).await.map(|()| writing) });
        // Nothing is read until the server can write no more.
        let stuck = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event = 'ClientWrite'";
        scene.database.until(stuck, "1").await;
        let (mut received, mut total) = (vec![0; 64 << 10], 0);
        while total < REQUESTS * value.len() {
            let read = within("an answer", reading.read(&mut received)).await.expect("to read");
            assert!(read > 0, "closed behind {total} bytes");
            total += read;
        }
        send.await.expect("no panic").expect("to send");
        assert_eq!(scene.client.query("SELECT 1").await, "(1) SELECT 1 I");
    }
}

#[tokio::test]
async fn very_many_small_requests_cost_no_more_each() {
    // As many as are kept track of: were each to look at all others, that would take minutes.
    const REQUESTS: usize = 60_000;
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let mut other = scene.proxy.wire().await;
        for request in [Frontend::Sync, Frontend::Query(String::new())] {
            scene.client.send(std::iter::repeat_n(request, REQUESTS)).await;
            let answered = within("all answers", scene.client.bytes_until_ready(REQUESTS));
            let (answers, told) = tokio::join!(answered, other.query("SELECT 1"));
            assert!(answers.ends_with(b"Z\0\0\0\x05I"));
            assert_eq!(told, "(1) SELECT 1 I");
        }
    }
}

#[tokio::test]
async fn what_comes_unasked_arrives_at_once() {
    let setting = Backend::ParameterStatus { name: "TimeZone".into(), value: "Mars".into() };
    let upstream = serve({
        let setting = setting.clone();
        move |mut peer| {
            let setting = setting.clone();
            async move {
                peer.admit().await;
                peer.answer([setting]).await;
                peer.complete("SELECT 0", 'I').await;
                peer.answer([error("FATAL", "57P01", "terminating connection")]).await;
            }
        }
    })
    .await;
    for dialect in DIALECTS {
        let proxy = Proxy::start(upstream, |config| {
            config.upstream.dialect = reprise::config::DialectChoice::Fixed(dialect);
        })
        .await;
        let (mut wire, _) = Wire::start(proxy.address, &[("user", "postgres")]).await;
        assert_eq!(wire.receive().await, Some(setting.clone()));
        assert_eq!(wire.query("SELECT").await, "SELECT 0 I");
        let farewell = wire.until_closed().await;
        assert_eq!(farewell, "57P01");
        assert_eq!(farewell.field('M'), "terminating connection");
    }
}

#[tokio::test]
async fn a_notification_reaches_an_idle_session() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    assert_eq!(scene.client.query("LISTEN news").await, "LISTEN I");
    scene.database.run("NOTIFY news, 'hello'").await;
    let heard = scene.client.receive().await.map(|message| message.to_string()).unwrap_or_default();
    assert!(heard.contains("news") && heard.contains("hello"), "{heard}");
    // An administrator ends it: the server says so, though nothing was asked.
    scene
        .database
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN news'")
        .await;
    assert_eq!(scene.client.until_closed().await, "57P01");
}

#[tokio::test]
async fn text_that_is_not_utf_8() {
    for dialect in DIALECTS {
        let database = Database::create().await;
        let proxy = Proxy::before(&database, dialect, |_| {}).await;
        let parameters =
            [("user", "postgres"), ("database", database.name.as_str()), ("client_encoding", "LATIN1")];
        let mut heard = Vec::new();
        for address in [database.address, proxy.address] {
            let (mut wire, _) = Wire::start(address, &parameters).await;
            let mut bytes = Frontend::Query("BEGIN".into()).encode();
            for text in [&b"SELECT '\xe9\xff\xa0' AS \xe9"[..], b"SELECT \xff"] {
                bytes.push(b'Q');
                bytes.extend((text.len() as u32 + 5).to_be_bytes());
                bytes.extend([text, b"\0"].concat());
            }
            wire.send_bytes(&bytes).await;
            heard.push(wire.bytes_until_ready(3).await);
        }
        assert_eq!(heard[0], heard[1]);
        assert!(heard[1].windows(3).any(|bytes| bytes == b"\xe9\xff\xa0"), "the text as it was");
    }
}

/// More than the proxy may need for whatever passes: some buffers, and a journal.
const MEMORY_BYTES: usize = 24 << 20;

#[tokio::test]
async fn large_messages_and_copies_pass_in_constant_memory() {
    const MESSAGE_BYTES: usize = 48 << 20;
    let database = Database::create().await;
    let upstream = database.address.to_string();
    let program = Program::start(&["--upstream", &upstream], &[]).await;
    let mut wire = Wire::open(program.listens().await, &database.name).await;
    assert_eq!(wire.query("SELECT 1").await, "(1) SELECT 1 I");
    let before = program.peak_memory();
    wire.send([Frontend::Query(format!("SELECT repeat('x', {MESSAGE_BYTES})"))]).await;
    assert_eq!(wire.bytes_until_ready(1).await.len() / MESSAGE_BYTES, 1);
    let value = "y".repeat(MESSAGE_BYTES);
    let length = format!("({MESSAGE_BYTES}) SELECT 1 I");
    assert_eq!(wire.execute("SELECT length($1)", &[&value]).await, length.as_str());
    assert_eq!(wire.query(&format!("SELECT length('{value}')")).await, length.as_str());
    // Into a table, and out of it; within a transaction, too.
    for (begin, end) in [("SELECT 1", "SELECT 1"), ("BEGIN", "COMMIT")] {
        wire.query(begin).await;
        wire.send([Frontend::Query("COPY journal FROM STDIN".into())]).await;
        let row = [vec![b'z'; 1 << 20], b"\n".to_vec()].concat();
        for _ in 0..48 {
            wire.send([Frontend::CopyData(row.clone())]).await;
        }
        wire.send([Frontend::CopyDone]).await;
        assert_eq!(wire.until_ready().await.0.len(), 3);
        wire.send([Frontend::Query("COPY journal TO STDOUT".into())]).await;
        assert!(wire.bytes_until_ready(1).await.len() > MESSAGE_BYTES);
        wire.query(end).await;
    }
    let grown = program.peak_memory() - before;
    assert!(grown < MEMORY_BYTES, "{grown} bytes more");
}

#[tokio::test]
async fn who_does_not_read_holds_up_the_server_and_not_the_memory() {
    const ROWS: usize = 60_000;
    let database = Database::create().await;
    let upstream = database.address.to_string();
    let program = Program::start(&["--upstream", &upstream], &[]).await;
    let mut wire = Wire::open(program.listens().await, &database.name).await;
    let before = program.peak_memory();
    let sql = format!("SELECT repeat('x', 1000) FROM generate_series(1, {ROWS})");
    wire.send([Frontend::Query(sql)]).await;
    let stuck = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event = 'ClientWrite'";
    database.until(stuck, "1").await;
    let grown = program.peak_memory() - before;
    assert!(grown < MEMORY_BYTES, "{grown} bytes more");
    assert!(wire.bytes_until_ready(1).await.len() > ROWS * 1000);
    eventually("the session is idle", async || {
        database
            .query(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'",
            )
            .await
            == "1"
    })
    .await;
}
