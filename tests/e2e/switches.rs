//! Retries switched off: for a session, for some clients, for one transaction. The database hears nothing of it.

use reprise::config::{Config, Rule};
use reprise::replay::{Dialect, Mode};

use crate::support::wire::Wire;
use crate::support::{DIALECTS, Scene};

/// Two conflicts, then it passes.
const CONFLICT: &str = "SELECT conflict('first', 2)";

/// A session with startup parameters of its own.
async fn session(scene: &Scene, parameters: &[(&str, &str)]) -> Wire {
    let common = [("user", "postgres"), ("database", scene.database.name.as_str())];
    let (wire, greeting) = Wire::start(scene.proxy.address, &[&common[..], parameters].concat()).await;
    assert_eq!(greeting.status(), Some('I'), "{greeting}");
    wire
}

/// Runs a transaction that meets a conflict; what its statement is answered.
async fn conflict(client: &mut Wire, statement: &str) -> String {
    client.query("BEGIN").await;
    let answer = client.query(statement).await.to_string();
    client.query("ROLLBACK").await;
    answer
}

#[tokio::test]
async fn a_session_asks_for_its_mode() {
    for parameter in [("reprise.mode", "off"), ("options", "-c statement_timeout=77s -c reprise.mode=off")] {
        let scene = Scene::start(Dialect::Postgres).await;
        let mut client = session(&scene, &[parameter]).await;
        assert_eq!(conflict(&mut client, CONFLICT).await, "40001 E", "{parameter:?}");
        assert_eq!(scene.proxy.conflicts(), (0.0, 0.0), "in mode off nothing is counted");
        if parameter.0 == "options" {
            assert_eq!(client.query("SHOW statement_timeout").await, "(77s) SHOW I", "the rest is passed on");
        }
        // PostgreSQL takes any name with a dot for a parameter: it would know this one.
        assert_eq!(client.query("SHOW reprise.mode").await, "42704 I", "this is not passed on");
    }
}

#[tokio::test]
async fn a_session_may_ask_for_more_than_the_configuration_does() {
    let scene = Scene::with(Dialect::Postgres, |config| config.retry.policy.mode = Mode::Observe).await;
    let mut client = session(&scene, &[("options", "--reprise.mode=transparent")]).await;
    assert_eq!(conflict(&mut client, CONFLICT).await, "(passed) SELECT 1 T");
    let mut observed = session(&scene, &[]).await;
    assert_eq!(conflict(&mut observed, "SELECT conflict('second', 1)").await, "40001 E");
    assert_eq!(scene.proxy.conflicts(), (2.0, 1.0));
}

#[tokio::test]
async fn a_parameter_that_is_wrong_is_refused() {
    let scene = Scene::start(Dialect::Postgres).await;
    for (parameter, sqlstate) in [
        (("reprise.mode", "on"), "22023"),
        (("options", "-c reprise.mode="), "22023"),
        (("reprise.moed", "off"), "42704"),
    ] {
        let common = [("user", "postgres"), ("database", scene.database.name.as_str())];
        let (_, greeting) = Wire::start(scene.proxy.address, &[&common[..], &[parameter]].concat()).await;
        assert_eq!(greeting.field('C'), sqlstate, "{greeting}");
        assert_eq!(greeting.field('S'), "FATAL");
        assert!(!greeting.field('H').is_empty());
    }
    scene.proxy.until_metric("reprise_sessions_refused_total{cause=\"bad_parameter\"}", 3.0).await;
}

/// What is different for an application.
fn rule(application_name: &str, mode: Mode) -> impl FnOnce(&mut Config) {
    let pattern = |text: &str| text.parse().expect("a pattern");
    let (user, database) = (pattern("post*"), pattern("*"));
    let rule = Rule {
        user,
        database,
        application_name: pattern(application_name),
        mode: Some(mode),
        governor: None,
    };
    move |config| config.rules = vec![rule]
}

#[tokio::test]
async fn a_rule_is_for_those_whom_it_fits() {
    let scene = Scene::with(Dialect::Postgres, rule("report-?", Mode::Observe)).await;
    let mut report = session(&scene, &[("application_name", "report-1")]).await;
    assert_eq!(conflict(&mut report, CONFLICT).await, "40001 E");
    let mut other = session(&scene, &[("application_name", "shop")]).await;
    assert_eq!(conflict(&mut other, "SELECT conflict('second', 2)").await, "(passed) SELECT 1 T");
    let mut asks =
        session(&scene, &[("application_name", "report-2"), ("reprise.mode", "transparent")]).await;
    assert_eq!(conflict(&mut asks, "SELECT conflict('last', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(scene.proxy.conflicts(), (4.0, 1.0));
}

#[tokio::test]
async fn a_comment_switches_retries_off_for_its_transaction() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let answer = client.query("SELECT conflict('first', 1) /* reprise:off */").await;
        assert_eq!(answer, "40001 E");
        assert!(answer.field('D').contains("(switched_off)"), "{}", answer.field('D'));
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(client.query("/* reprise:off */ BEGIN").await, "BEGIN T");
        assert_eq!(client.execute("SELECT conflict('second', 1)", &[]).await, "40001 E");
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(conflict(client, "SELECT conflict('last', 1)").await, "(passed) SELECT 1 T");
        assert_eq!(scene.proxy.conflicts(), (1.0, 2.0));
        let reason = "reprise_not_replayable_total{reason=\"switched_off\"}";
        assert_eq!(scene.proxy.metric(reason), 2.0);
    }
}
