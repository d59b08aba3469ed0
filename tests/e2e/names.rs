//! Names and transactions that are meant to break what tells of them: reports, page, metrics and log.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::console::Operated;
use crate::support::wire::Wire;
use crate::support::{eventually, within};

/// Names that end rows, move cursors, are markup, labels or formulas, or are no text at all.
const HOSTILE: [&[u8]; 6] = [
    b"tab\there\nand a row\r\n",
    b"\x1b[2J\x1b]0;title\x07\xc2\x9bcursor",
    b"\"quoted\\\" {label=\"x\"} 1 # EOF",
    b"<script>document.body.remove()</script>",
    b"=cmd|' /C calc'!A0",
    b"\xff\xfe not UTF-8 \xc3",
];

/// A session of an application with this name, which need not be text.
async fn session(scene: &Operated, application: &[u8]) -> Wire {
    let parameters = [("user", "postgres"), ("database", &*scene.database.name)];
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for (name, value) in parameters.map(|(name, value)| (name, value.as_bytes())) {
        packet.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
    }
    packet.extend([b"application_name\0", application, b"\0\0"].concat());
    let length = u32::try_from(packet.len()).expect("short");
    packet[..4].copy_from_slice(&length.to_be_bytes());
    let mut wire = Wire::connect(scene.address).await;
    wire.send_bytes(&packet).await;
    assert_eq!(wire.until_ready().await.status(), Some('I'));
    wire
}

/// Runs a transaction of so many statements, the last of which meets a conflict.
async fn conflict(wire: &mut Wire, counter: &str, statements: usize) {
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    for number in 1..statements {
        assert_eq!(
            wire.query(&format!("SELECT {number} AS n{number}")).await,
            &*format!("({number}) SELECT 1 T")
        );
    }
    assert_eq!(
        wire.query(&format!("SELECT conflict('{counter}', 1) AS \"a\tb\"")).await,
        "(passed) SELECT 1 T"
    );
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
}

async fn promtool(metrics: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool: scripts/install-prometheus.sh installs it");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(metrics.as_bytes()).await.expect("to write");
    drop(input);
    let output = within("promtool", child.wait_with_output()).await.expect("promtool");
    assert!(output.status.success(), "{}\n{metrics}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn hostile_names_break_no_output() {
    let scene = Operated::start(&[("REPRISE_LOG_LEVEL", "debug")]).await;
    scene.database.run("CREATE TABLE \"a\tb\x1b[2J\" (k int); INSERT INTO \"a\tb\x1b[2J\" VALUES (1)").await;
    for (at, name) in HOSTILE.into_iter().enumerate() {
        let mut wire = session(&scene, name).await;
        assert_eq!(wire.query("SELECT k AS \"x\ny\" FROM \"a\tb\x1b[2J\"").await, "(1) SELECT 1 I");
        if at == 1 {
            conflict(&mut wire, "first", 1000).await;
        }
    }
    let huge = "x".repeat(9_900);
    conflict(&mut session(&scene, huge.as_bytes()).await, "second", 1).await;
    for report in ["SESSIONS", "TRANSACTIONS", "CONFLICTS", "STATEMENTS", "COVERAGE", "ADVICE"] {
        let told = scene.psql(&format!("SHOW {report}")).await;
        let rows: Vec<_> =
            told.lines().filter(|line| !line.ends_with(" rows)") && !line.ends_with(" row)")).collect();
        let columns = rows[0].split('\t').count();
        for row in &rows {
            assert_eq!(row.split('\t').count(), columns, "{report}: {row:?}");
            assert!(
                row.len() < 8_000 && !row.contains(|c: char| c.is_control() && c != '\t'),
                "{report}: {row:?}"
            );
        }
    }
    let coverage = scene.psql("SHOW COVERAGE").await;
    for name in ["tab\u{fffd}here", "<script>", "{label=", "=cmd|", "\u{fffd} not UTF-8", "xxx"] {
        assert!(coverage.contains(name), "{name:?} is not in\n{coverage}");
    }
    let transactions = scene.psql("SHOW TRANSACTIONS").await;
    assert!(transactions.contains("; SELECT ? AS n12; ...\n"), "{transactions}");
    let status = scene.program.http("/status.json").await;
    let body = status.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    promtool(scene.program.http("/metrics").await.split_once("\r\n\r\n").expect("a body").1).await;
    for line in scene.program.log() {
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
        assert!(line.len() < 2_000 && !line.contains(char::is_control), "{line:?}");
    }
}

#[tokio::test]
async fn many_applications_and_shapes_fill_no_memory() {
    let scene = Operated::start(&[("REPRISE_REPORT_MAX_ENTRIES", "20")]).await;
    for number in 0..60 {
        let mut wire = session(&scene, format!("application {number}").as_bytes()).await;
        assert_eq!(wire.query(&format!("SELECT 1 AS shape{number}")).await, "(1) SELECT 1 I");
    }
    let rows = |told: &str, kind: &str| told.lines().filter(|line| line.starts_with(kind)).count();
    let all_ended = async || scene.psql("SHOW SESSIONS").await.ends_with("(0 rows)\n");
    eventually("all sessions have ended", all_ended).await;
    let coverage = scene.psql("SHOW COVERAGE").await;
    assert_eq!((rows(&coverage, "client\t"), rows(&coverage, "transaction\t")), (21, 21), "{coverage}");
    for others in ["client\t(others)\t(others)\t(others)\t40\t", "transaction\t(others)\t\t(others)\t40\t"] {
        assert!(coverage.lines().any(|line| line.starts_with(others)), "{others} is not in\n{coverage}");
    }
}
