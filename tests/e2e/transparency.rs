//! Sessions without a conflict: the client's byte stream through the proxy is the server's.

use golden::notation::Target;
use golden::{Backend, Frontend};
use reprise::replay::{Dialect, Mode};

use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::wire::{Wire, bind, execute, extended, frame_end, parse};

/// Messages that a client sends in one write, and how many ReadyForQuery answer them.
type Turn = (Vec<Frontend>, usize);

fn texts(texts: &[&str]) -> Turn {
    (texts.iter().map(|sql| Frontend::Query((*sql).into())).collect(), texts.len())
}

fn batch(messages: impl IntoIterator<Item = Frontend>) -> Turn {
    (messages.into_iter().chain([Frontend::Sync]).collect(), 1)
}

/// The bytes of the frames, without those of the server's choice: process ids in notifications.
fn masked(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(end) = frame_end(&bytes, at) {
        if bytes[at] == b'A' {
            bytes[at + 5..at + 9].fill(0);
        }
        at = end;
    }
    bytes
}

async fn play(client: &mut Wire, turns: &[Turn]) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    for (messages, ready) in turns {
        client.send(messages.iter().cloned()).await;
        heard.push(masked(client.bytes_until_ready(*ready).await));
    }
    heard
}

/// Plays the turns past the proxy and through it, in each dialect and mode, on databases that are the same.
async fn expect_same(turns: &[Turn]) {
    let database = Database::create().await;
    let direct = play(&mut database.wire().await, turns).await;
    let setups = [
        (Dialect::Postgres, Mode::Transparent),
        (Dialect::Cockroach, Mode::Transparent),
        (Dialect::Cockroach, Mode::Observe),
        (Dialect::Postgres, Mode::Off),
    ];
    for (dialect, mode) in setups {
        let database = Database::create().await;
        let proxy = Proxy::before(&database, dialect, |config| config.retry.policy.mode = mode).await;
        let relayed = play(&mut proxy.wire().await, turns).await;
        for (turn, (direct, relayed)) in direct.iter().zip(&relayed).enumerate() {
            if direct != relayed {
                let setup = format!("{} {mode:?}, turn {turn}", dialect.name());
                panic!("{setup}: directly\n{}through the proxy\n{}", show(direct), show(relayed));
            }
        }
    }
}

/// Frames for people.
fn show(bytes: &[u8]) -> String {
    let (mut bytes, mut lines) = (bytes.to_vec(), String::new());
    while let Some(message) = Backend::read(&mut bytes).filter(|_| lines.len() < 10_000) {
        lines.extend(message.to_string().chars().take(300).chain(['\n']));
    }
    lines
}

#[tokio::test]
async fn simple_queries() {
    expect_same(&[
        texts(&["SELECT k, v, NULL::text, '' FROM kv ORDER BY k"]),
        texts(&[""]),
        texts(&[" ; -- nothing"]),
        texts(&["SELECT 1; SELECT 'two'; UPDATE kv SET v = v + 1"]),
        texts(&["SELECT 1; SELECT 1/0; SELECT 3"]),
        texts(&["SELEC 1"]),
        texts(&["SELECT remark()"]),
        texts(&["SELECT 'ünï', E'\\x41', $$;$$"]),
        texts(&["SELECT 1", "SELECT 2", "SELECT nothing", "SELECT 4"]),
        texts(&["CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (2)", "DROP TABLE t"]),
        texts(&["SET application_name = 'other'", "SET DateStyle = 'SQL, DMY'", "SHOW DateStyle"]),
    ])
    .await;
}

#[tokio::test]
async fn transactions() {
    expect_same(&[
        texts(&["BEGIN", "SELECT 1", "INSERT INTO kv VALUES (4, 40)", "COMMIT"]),
        texts(&["BEGIN", "COMMIT"]),
        texts(&["BEGIN"]),
        texts(&["INSERT INTO kv VALUES (1, 0)"]),
        texts(&["SELECT 1"]),
        texts(&["COMMIT"]),
        texts(&["BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "SHOW transaction_isolation"]),
        texts(&["UPDATE kv SET v = 0"]),
        texts(&["ROLLBACK"]),
        texts(&["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "RELEASE a", "COMMIT"]),
        texts(&["BEGIN; INSERT INTO kv VALUES (5, 50); COMMIT"]),
        texts(&["BEGIN; SELECT 1/0; COMMIT"]),
        texts(&["ROLLBACK"]),
        texts(&["BEGIN", "BEGIN", "COMMIT", "COMMIT"]),
        texts(&["BEGIN", "SELECT 1", "COMMIT AND CHAIN", "SELECT 2", "ROLLBACK AND CHAIN", "END"]),
        texts(&["BEGIN", "INSERT INTO kv VALUES (9, 9)", "ABORT"]),
        texts(&["BEGIN", "SET LOCAL TimeZone = 'Asia/Tokyo'", "SET TimeZone = 'Asia/Seoul'", "ROLLBACK"]),
        texts(&["BEGIN", "SELECT 1; COMMIT; SELECT 2"]),
        texts(&["SELECT * FROM kv ORDER BY k"]),
    ])
    .await;
}

#[tokio::test]
async fn extended_protocol() {
    let one = || vec![Some(b"1".to_vec())];
    let statement = |name: &str| Frontend::Describe(Target::Statement, name.into());
    expect_same(&[
        batch(extended("SELECT v FROM kv WHERE k = $1", &["1"])),
        batch(extended("", &[])),
        batch(extended("SELECT 1/$1::int", &["0"])),
        batch(extended("SELECT $1::int", &["no number"])),
        batch([parse("named", "UPDATE kv SET v = v + 1 WHERE k = $1"), statement("named")]),
        batch([bind("", "named", one()), execute("", 0)]),
        batch([parse("named", "SELECT 1")]),
        batch([Frontend::Close(Target::Statement, "named".into()), bind("", "named", one())]),
        batch([]),
        (vec![Frontend::Flush, Frontend::Sync, Frontend::Flush, Frontend::Sync], 2),
        batch(extended("BEGIN", &[])),
        batch([
            parse("", "SELECT k FROM kv ORDER BY k"),
            bind("rows", "", Vec::new()),
            Frontend::Describe(Target::Portal, "rows".into()),
            execute("rows", 2),
            execute("rows", 2),
        ]),
        batch([Frontend::Close(Target::Portal, "rows".into()), execute("rows", 0)]),
        texts(&["SELECT 1"]),
        batch(extended("ROLLBACK", &[])),
        batch(["BEGIN", "INSERT INTO kv VALUES (4, 4)", "COMMIT"].iter().flat_map(|sql| extended(sql, &[]))),
        batch(["BEGIN", "SELECT 1/0", "COMMIT"].iter().flat_map(|sql| extended(sql, &[]))),
        texts(&["COMMIT"]),
        batch(["BEGIN", "UPDATE kv SET v = 1", "ROLLBACK"].iter().flat_map(|sql| extended(sql, &[]))),
    ])
    .await;
}

#[tokio::test]
async fn pipelines() {
    let insert = |k: u32| batch(extended("INSERT INTO kv VALUES ($1::int, 0)", &[k.to_string().as_str()])).0;
    let many: Vec<Frontend> = (0..200).flat_map(insert).collect();
    let begin = batch(extended("BEGIN", &[])).0;
    let commit = batch(extended("COMMIT", &[])).0;
    expect_same(&[
        // Two of them fail: the keys are there already.
        (many.clone(), 200),
        ([begin.clone(), (300..400).flat_map(insert).collect(), commit.clone()].concat(), 102),
        ([begin, many, commit].concat(), 202),
        texts(&["SELECT count(*), sum(k) FROM kv"]),
    ])
    .await;
}

#[tokio::test]
async fn copy() {
    let copy = |sql: &str, data: &[&str], end: Frontend| -> Turn {
        let data = data.iter().map(|data| Frontend::CopyData(data.as_bytes().to_vec()));
        (std::iter::once(Frontend::Query(sql.into())).chain(data).chain([end]).collect(), 1)
    };
    expect_same(&[
        copy("COPY kv FROM STDIN", &["4\t40\n5\t", "50\n"], Frontend::CopyDone),
        copy("COPY kv FROM STDIN", &["6\t60\n"], Frontend::CopyFail("enough".into())),
        copy("COPY kv FROM STDIN", &["1\t1\n"], Frontend::CopyDone),
        copy("COPY kv FROM STDIN", &["no row\n", "7\t70\n"], Frontend::CopyDone),
        copy("COPY nowhere FROM STDIN", &["7\t70\n"], Frontend::CopyDone),
        texts(&["COPY (SELECT * FROM kv ORDER BY k) TO STDOUT"]),
        texts(&["BEGIN"]),
        copy("COPY kv FROM STDIN", &["8\t80\n"], Frontend::CopyDone),
        texts(&["COPY (SELECT k FROM kv ORDER BY k) TO STDOUT WITH (FORMAT csv)", "COMMIT"]),
        (
            [
                extended("COPY kv FROM STDIN", &[]).to_vec(),
                vec![Frontend::CopyData(b"9\t90\n".to_vec()), Frontend::CopyDone, Frontend::Sync],
            ]
            .concat(),
            1,
        ),
        texts(&["SELECT * FROM kv ORDER BY k"]),
    ])
    .await;
}

#[tokio::test]
async fn large_messages() {
    let large = "x".repeat(3 << 20);
    expect_same(&[
        texts(&["SELECT repeat('x', 5 << 20)"]),
        texts(&["SELECT repeat('x', 100 << 10) FROM generate_series(1, 30)"]),
        batch(extended("SELECT length($1), $1::text", &[&large])),
        texts(&[&format!("SELECT length('{large}')")]),
        texts(&["BEGIN", &format!("SELECT length('{large}'), '{large}'"), "SELECT 1", "COMMIT"]),
        texts(&["COPY (SELECT repeat('x', 3 << 20)) TO STDOUT"]),
        texts(&["SELECT n, repeat('y', n % 7000) FROM generate_series(1, 3000) n"]),
    ])
    .await;
}

#[tokio::test]
async fn notifications_and_function_calls() {
    // FunctionCall of abs(int8), argument and result in binary.
    let mut call = vec![b'F', 0, 0, 0, 28];
    call.extend(1396u32.to_be_bytes());
    call.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 8]);
    call.extend((-5i64).to_be_bytes());
    call.extend([0, 1]);
    let call = || (vec![Frontend::Raw(call.clone())], 1);
    expect_same(&[
        texts(&["LISTEN news", "NOTIFY news, 'one'", "SELECT 1"]),
        texts(&["BEGIN", "NOTIFY news, 'two'", "SELECT 2", "COMMIT"]),
        texts(&["SELECT 3"]),
        call(),
        texts(&["BEGIN"]),
        call(),
        texts(&["SELECT 1/0"]),
        call(),
        texts(&["ROLLBACK", "UNLISTEN *"]),
    ])
    .await;
}

#[tokio::test]
async fn statements_that_rule_a_replay_out() {
    expect_same(&[
        texts(&["BEGIN", "PREPARE q AS SELECT $1::int", "EXECUTE q(1)", "DEALLOCATE q", "COMMIT"]),
        texts(&["BEGIN", "SELECT pg_advisory_lock(1)", "COMMIT", "SELECT pg_advisory_unlock(1)"]),
        texts(&[
            "BEGIN",
            "DECLARE c CURSOR WITH HOLD FOR SELECT k FROM kv ORDER BY k",
            "COMMIT",
            "FETCH 2 c",
        ]),
        texts(&["BEGIN", "SAVEPOINT cockroach_restart", "SELECT 1", "RELEASE cockroach_restart", "COMMIT"]),
        texts(&["BEGIN", "CREATE TEMP TABLE t (a int) ON COMMIT DROP", "INSERT INTO t VALUES (1)", "COMMIT"]),
        texts(&["BEGIN", "SELECT 'a\\'; COMMIT", "ROLLBACK"]),
        texts(&["BEGIN", "LOCK TABLE kv", "DROP TABLE journal", "COMMIT", "DISCARD ALL"]),
    ])
    .await;
}
