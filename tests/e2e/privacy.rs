//! Nothing of what clients say and are shown gets out: secrets go through in every way, and every output is searched for them.

use golden::Frontend;

use crate::console::Operated;
use crate::support::eventually;
use crate::support::wire::{Wire, bind, execute, parse};
use crate::traces::Collector;

/// Part of every secret that is sent here.
const SECRET: &str = "hush";

/// Sends secrets as literals, parameters, rows, names of nothing, comments and errors, in transactions that are calm,
/// hidden and surfaced.
async fn tell_secrets(scene: &Operated, wire: &mut Wire) {
    let conflict =
        |counter: &str| format!("SELECT conflict('{counter}', 1), 'hush 1' /* hush 2 */ -- hush 3");
    wire.query("CREATE TABLE secrets (k text PRIMARY KEY, v text)").await;
    wire.query("INSERT INTO secrets VALUES ('hush 4', E'hush\\'5'), ($$hush 6$$, 'it''s hush 7')").await;
    wire.query("BEGIN").await;
    assert_eq!(wire.query("SELECT v FROM secrets WHERE k = 'hush 4'").await, "(hush'5) SELECT 1 T");
    assert_eq!(wire.query(&conflict("first")).await, "(passed,hush 1) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    wire.send([
        parse(
            "hidden",
            "UPDATE secrets SET v = $1, k = 'hush 8' WHERE k = $2 AND conflict('second', 1) = 'passed'",
        ),
        bind("", "hidden", vec![Some(b"hush 9".to_vec()), Some(b"hush 4".to_vec())]),
        execute("", 0),
        Frontend::Sync,
    ])
    .await;
    assert_eq!(wire.until_ready().await, "UPDATE 1 I");
    wire.query("INSERT INTO secrets VALUES ('hush 8', 'a key that is there')").await;
    wire.query("SELECT 'hush 10'::int").await;
    wire.query("SELECT 'hush 11").await;
    wire.query("BEGIN").await;
    wire.query("SELECT v FROM secrets WHERE k = 'hush 8'").await;
    scene.database.run("UPDATE secrets SET v = 'hush 12'").await;
    let raised = "DO $$ BEGIN RAISE EXCEPTION 'hush 13: write for key /Table/106/1/\"hush 14\"/0 at timestamp 1' \
                  USING ERRCODE = '40001', DETAIL = 'hush 15', HINT = 'hush 16'; END $$";
    assert_eq!(wire.query(raised).await, "40001 E");
    wire.query("ROLLBACK").await;
    wire.query(raised).await;
}

#[tokio::test]
async fn no_output_has_a_secret() {
    for mode in ["transparent", "observe"] {
        let variables = [("REPRISE_LOG_LEVEL", "trace,hyper=info,mio=info"), ("REPRISE_RETRY_MODE", mode)];
        let collector = Collector::default();
        let endpoint = format!("http://{}/v1/traces", collector.start().await);
        let more = [
            ("REPRISE_REPORT_ADVISER", "true"),
            ("REPRISE_TRACES_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ];
        let variables = [&variables[..], &more].concat();
        let scene = Operated::start(&variables).await;
        let mut wire = scene.application().await;
        if mode == "observe" {
            wire.query("CREATE TABLE secrets (k text, v text)").await;
            assert_eq!(wire.query("SELECT conflict('first', 1), 'hush 1'").await, "40001 I");
        } else {
            tell_secrets(&scene, &mut wire).await;
        }
        scene.program.logged("transaction met a conflict").await;
        let mut outputs = vec![("the log".to_owned(), scene.program.log().join("\n"))];
        for path in ["/metrics", "/status.json", "/", "/readyz"] {
            outputs.push((path.to_owned(), scene.program.http(path).await));
        }
        eventually("spans come", async || collector.text().contains("reprise.outcome")).await;
        outputs.push(("the spans".to_owned(), collector.text()));
        let help = scene.psql("SHOW HELP").await;
        for command in help.lines().filter_map(|line| line.strip_prefix("SHOW ")?.split('\t').next()) {
            outputs.push((command.to_owned(), scene.psql(&format!("SHOW {command}")).await));
        }
        assert!(outputs.len() > 10);
        for (output, text) in &outputs {
            assert!(!text.to_lowercase().contains(SECRET), "{output} in mode {mode}:\n{text}");
        }
        let told = |wanted: &str| outputs.iter().any(|(_, text)| text.contains(wanted));
        assert!(told("SELECT conflict(?), ?"), "what is no secret is told");
    }
}
