//! The status page in a real browser.

use std::process::Stdio;

use tokio::process::Command;

use crate::console::Operated;
use crate::support::wire::Wire;
use crate::support::within;

/// What a browser shows of the page once it has asked for the figures twice, as HTML.
async fn shown(address: &str, size: &str) -> String {
    let profile = tempfile::tempdir().expect("a folder");
    let mut browser = Command::new("chromium");
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]);
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    browser.args([&format!("--window-size={size}"), "--virtual-time-budget=5000", "--dump-dom"]);
    browser.arg(format!("http://{address}/")).stderr(Stdio::null()).kill_on_drop(true);
    let output = within("the browser", browser.output()).await;
    let output = output.expect("chromium: scripts/install-chromium.sh installs it");
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn a_browser_shows_what_happened_and_takes_no_name_for_markup() {
    let scene = Operated::start(&[]).await;
    let name = "<img src=x onerror=document.body.remove()>";
    let parameters = [("user", "postgres"), ("database", &scene.database.name), ("application_name", name)];
    let mut wire = Wire::start(scene.address, &parameters).await.0;
    assert_eq!(wire.query("SELECT conflict('first', 2) FROM kv WHERE k = 1").await, "(passed) SELECT 1 I");
    let page = shown(&scene.program.serves_http().await.to_string(), "390,844").await;
    for part in [
        "<span id=\"state\" class=\"state\">accepting clients</span>",
        "<b class=\"hidden\">2</b><span class=\"faint\">conflicts hidden</span>",
        "SELECT conflict(?) FROM kv WHERE k = ?",
        &scene.database.name,
        "&lt;img src=x onerror=document.body.remove()&gt;",
        "<th class=\"number\">replayable, %</th>",
        "What could be run again, by what the transactions run (a sample)</h2><div class=\"scroll\"><table><thead>",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!page.contains("<img"), "{page}");
}
