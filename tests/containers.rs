//! Dockerfile and compose.yaml are held to what they mount, run and name: no container engine is needed for that.

mod program;

use std::path::{Path, PathBuf};

use program::reprise;
use reprise::config::KEYS;

const COMPOSE: &str = include_str!("../compose.yaml");
const DOCKERFILE: &str = include_str!("../Dockerfile");
const PROMETHEUS: &str = include_str!("../prometheus/prometheus.yml");
const DATA_SOURCE: &str = include_str!("../grafana/provisioning/datasources/prometheus.yaml");
const DASHBOARDS: &str = include_str!("../grafana/provisioning/dashboards/reprise.yaml");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The services of compose.yaml.
fn services() -> Vec<&'static str> {
    let section = COMPOSE.split_once("services:\n").expect("services").1;
    let names = section.lines().filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    names.filter(|name| !name.starts_with(' ')).collect()
}

/// What is mounted, and where.
fn mounts() -> Vec<(&'static str, &'static str)> {
    let mounts = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.strip_suffix(":ro"));
    mounts.map(|mount| mount.split_once(':').expect("a place in the container")).collect()
}

#[test]
fn what_is_mounted_is_there_and_is_what_is_read_there() {
    let mounts = mounts();
    assert_eq!(mounts.len(), 3);
    for (path, _) in &mounts {
        assert!(root().join(path).is_dir(), "{path}");
    }
    let at = |place: &str| mounts.iter().find(|(_, at)| *at == place).unwrap_or_else(|| panic!("{place}")).0;
    assert!(root().join(at("/etc/prometheus")).join("prometheus.yml").is_file());
    assert!(root().join(at("/etc/grafana/provisioning")).join("datasources/prometheus.yaml").is_file());
    let dashboards = DASHBOARDS.lines().find_map(|line| line.trim().strip_prefix("path: ")).expect("a path");
    assert!(root().join(at(dashboards)).join("overview.json").is_file());
}

#[test]
fn whoever_is_named_is_a_service() {
    let services = services();
    assert!(services.contains(&"reprise") && services.len() == 6, "{services:?}");
    let named = |text: &'static str, before: &str, after: char| {
        text.split(before).nth(1).and_then(|rest| rest.split(after).next()).expect("a name")
    };
    let names = [
        named(PROMETHEUS, "targets: [\"", ':'),
        named(DATA_SOURCE, "url: http://", ':'),
        named(COMPOSE, "REPRISE_UPSTREAM_ADDRESS: ", ':'),
    ];
    for name in
        names.into_iter().chain(COMPOSE.split("root@").skip(2).filter_map(|rest| rest.split(':').next()))
    {
        assert!(services.contains(&name), "{name}");
    }
    let port = named(PROMETHEUS, "targets: [\"reprise:", '"');
    let exposed = DOCKERFILE.lines().find_map(|line| line.strip_prefix("EXPOSE ")).expect("ports");
    assert!(exposed.split(' ').any(|exposed| exposed == port), "{port} is not exposed");
}

#[test]
fn ports_are_for_this_machine_only() {
    let ports: Vec<_> =
        COMPOSE.split("ports:\n").skip(1).flat_map(|rest| rest.lines().map(str::trim)).collect();
    let ports: Vec<_> = ports.into_iter().filter_map(|line| line.strip_prefix("- \"")).collect();
    assert!(ports.len() > 2 && ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{ports:?}");
}

#[test]
fn variables_are_those_of_the_program() {
    let variables = COMPOSE.lines().filter_map(|line| line.trim().split_once(": "));
    let own: Vec<_> = variables.filter(|(name, _)| name.starts_with("REPRISE_")).collect();
    assert!(!own.is_empty());
    for (name, value) in own {
        assert!(KEYS.iter().any(|key| key.variable() == name), "{name}");
        let output = reprise(&["check"]).env(name, value).output().expect("it starts");
        assert!(output.status.success(), "{name}={value}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_image_runs_the_program_with_flags_and_a_file_that_it_takes() {
    let entry = DOCKERFILE.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).expect("an entry point");
    let words: Vec<String> = serde_json::from_str(entry).expect("a list");
    let copied = DOCKERFILE.lines().find(|line| line.ends_with("/etc/reprise/config.toml")).expect("a copy");
    assert_eq!(copied, "COPY config.toml /etc/reprise/config.toml");
    let config = root().join("config.toml").display().to_string();
    let arguments: Vec<_> = words[1..]
        .iter()
        .map(|word| if word == "/etc/reprise/config.toml" { &config } else { word })
        .collect();
    assert!(words[0] == "reprise" && arguments.contains(&&config), "{words:?}");
    let output = reprise(&["check"]).args(arguments).output().expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("0.0.0.0:6432") && printed.contains("0.0.0.0:9432"), "{printed}");
    assert!(DOCKERFILE.contains("\nUSER reprise\n") && DOCKERFILE.contains(":9432/healthz\""));
}
