//! The number of a session behind its application_name: it joins the proxy's log and the server's.

use golden::Backend;

use crate::console::Operated;
use crate::support::wire::{Answer, Wire};

/// Where the server says who a session is.
const WHO: &str = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";

/// The name that the client is told it has.
fn told(greeting: &Answer) -> &str {
    let mut names = greeting.0.iter().rev().filter_map(|message| match message {
        Backend::ParameterStatus { name, value } if name == "application_name" => Some(value.as_str()),
        _ => None,
    });
    names.next().expect("a ParameterStatus")
}

async fn start(scene: &Operated, parameters: &[(&str, &str)]) -> (Wire, Answer) {
    let session = [("user", "postgres"), ("database", &*scene.database.name)];
    Wire::start(scene.address, &[&session, parameters].concat()).await
}

#[tokio::test]
async fn a_session_of_the_log_is_found_on_the_server_and_the_client_sees_its_own_name() {
    let scene = Operated::start(&[("REPRISE_UPSTREAM_NAME_SESSIONS", "true")]).await;
    let (mut shop, greeting) = start(&scene, &[("application_name", "shop")]).await;
    assert_eq!(told(&greeting), "shop");
    assert_eq!(shop.query(WHO).await, "(shop reprise:1) SELECT 1 I");
    assert_eq!(shop.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
    // The transaction before it has the first number.
    let line = scene.program.logged("transaction met a conflict").await;
    assert_eq!((&line["session"], &line["reprise.txn"]), (&1.into(), &"1.2".into()));
    assert_eq!(line["application"], "shop");
    let (mut nameless, greeting) = start(&scene, &[]).await;
    assert_eq!(
        (told(&greeting), nameless.query(WHO).await.to_string()),
        ("", "(reprise:2) SELECT 1 I".into())
    );
    let (mut till, greeting) = start(&scene, &[("options", "-c application_name=till")]).await;
    assert_eq!(told(&greeting), "till");
    assert_eq!(till.query(WHO).await, "(till reprise:3) SELECT 1 I");
    let long = "l".repeat(80);
    let (mut longer, greeting) = start(&scene, &[("application_name", &long)]).await;
    assert_eq!(told(&greeting), long);
    assert_eq!(longer.query(WHO).await, &*format!("({} reprise:4) SELECT 1 I", "l".repeat(53)));
    let sessions = scene.psql("SHOW SESSIONS").await;
    assert!(sessions.contains("\n1\tpostgres\t") && sessions.contains("\tshop\t"), "{sessions}");
}

#[tokio::test]
async fn nobody_is_named_without_being_asked_for_or_where_sessions_are_not_followed() {
    let scene = Operated::start(&[]).await;
    let (mut shop, greeting) = start(&scene, &[("application_name", "shop")]).await;
    assert_eq!((told(&greeting), shop.query(WHO).await.to_string()), ("shop", "(shop) SELECT 1 I".into()));
    let scene = Operated::start(&[("REPRISE_UPSTREAM_NAME_SESSIONS", "true")]).await;
    let (mut off, _) = start(&scene, &[("application_name", "standby"), ("reprise.mode", "off")]).await;
    assert_eq!(off.query(WHO).await, "(standby) SELECT 1 I");
}
