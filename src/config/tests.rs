//! The configuration as a whole: its layers, its problems, and that nothing is documented that is not so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::replay::Mode;

const COMMITTED: &str = include_str!("../../config.toml");

/// Another valid value for every option, such that all of them together are valid too.
fn other_value(key: &Key) -> &'static str {
    let others = BTreeMap::from([
        ("proxy.listen", "[::1]:7000"),
        ("proxy.threads", "7"),
        ("proxy.max_connections", "7"),
        ("proxy.max_connections_per_user", "7"),
        ("proxy.max_connections_per_address", "7"),
        ("proxy.unix_socket_directory", "/run/reprise"),
        ("proxy.idle_timeout", "7m"),
        ("proxy.idle_in_transaction_timeout", "7s"),
        ("proxy.half_closed_timeout", "7s"),
        ("proxy.tcp_keepalive", "7s"),
        ("proxy.allowed_clients", "10.0.0.0/8"),
        ("proxy.startup_timeout", "7s"),
        ("proxy.drain_timeout", "0s"),
        ("tls.mode", "allow"),
        ("tls.certificate", "server.crt"),
        ("tls.key", "server.key"),
        ("tls.client_ca", "clients.crt"),
        ("tls.client_certificate", "allow"),
        ("tls.client_user", "match"),
        ("tls.client_map", "names.txt"),
        ("tls.min_version", "1.3"),
        ("auth.file", "userlist.txt"),
        ("upstream.address", "db.example.com:5432"),
        ("upstream.connect_timeout", "7s"),
        ("upstream.tcp_keepalive", "0s"),
        ("upstream.dialect", "cockroach"),
        ("upstream.name_sessions", "true"),
        ("upstream.tls", "verify-full"),
        ("upstream.tls_ca", "ca.crt"),
        ("upstream.tls_server_name", "db.example.com"),
        ("upstream.tls_certificate", "client.crt"),
        ("upstream.tls_key", "client.key"),
        ("retry.mode", "observe"),
        ("retry.max_attempts", "7"),
        ("retry.initial_backoff", "7ms"),
        ("retry.max_backoff", "7s"),
        ("retry.max_concurrent_replays", "7"),
        ("retry.timeout", "7m"),
        ("retry.journal_bytes", "7KiB"),
        ("retry.journal_bytes_total", "7MiB"),
        ("retry.hold_bytes", "7KiB"),
        ("retry.hold_time", "7ms"),
        ("retry.begin", "immediate"),
        ("retry.deadlocks", "false"),
        ("compat.lock_table", "ignore"),
        ("governor.mode", "observe"),
        ("governor.max_wait", "7s"),
        ("governor.idle", "7ms"),
        ("governor.calm", "7s"),
        ("governor.max_classes", "7"),
        ("admin.file", "consolelist.txt"),
        ("admin.database", "console"),
        ("admin.viewers", "eve, bob"),
        ("admin.networks", "10.0.0.0/8"),
        ("report.max_entries", "7"),
        ("report.max_tables", "7"),
        ("report.adviser", "true"),
        ("report.lookup_user", "looker"),
        ("report.lookup_password_file", "looker.password"),
        ("privacy.show_keys", "true"),
        ("privacy.show_tags", "true"),
        ("http.listen", ""),
        ("traces.endpoint", "http://127.0.0.1:4318/v1/traces"),
        ("log.format", "json"),
        ("log.level", "warn,reprise=debug"),
    ]);
    others.get(key.path().as_str()).unwrap_or_else(|| panic!("another value for {}", key.path()))
}

fn from_environment(variables: impl IntoIterator<Item = (String, &'static str)>) -> Result<Config, Error> {
    let environment = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    load(Sources { environment, ..Sources::default() }).map(|(config, _)| config)
}

fn from_file(text: &str) -> Result<(Config, Settings), Vec<String>> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("to write it");
    let path = file.path().to_path_buf();
    let prefix = path.display().to_string();
    match load(Sources { file: Some(path), ..Sources::default() }) {
        Ok(loaded) => Ok(loaded),
        Err(Error::Invalid(problems)) => {
            Err(problems.iter().map(|problem| problem.to_string().replace(&prefix, "f")).collect())
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_committed_file_is_the_table_of_options() {
    let mut expected = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            write!(expected, "\n[{section}]\n").unwrap();
        }
        write!(expected, "# {}\n{} = {}\n", key.help, key.name, key.form.literal(key.default)).unwrap();
    }
    expected.push_str(
        "\n# Rules: what is different for some clients. Of those that fit the first that says something decides it.\n\
         # [[rules]]\n",
    );
    for key in RULE_KEYS {
        let value = if key.name == "mode" { "off" } else { key.default };
        write!(expected, "# # {}\n# {} = {}\n", key.help, key.name, key.form.literal(value)).unwrap();
    }
    let (introduction, options) = COMMITTED.split_at(COMMITTED.find("\n[").expect("a section"));
    assert!(introduction.lines().all(|line| line.starts_with('#')), "{introduction}");
    assert_eq!(options, expected);
}

#[test]
fn the_committed_file_says_the_defaults() {
    let (config, settings) = from_file(COMMITTED).expect("it is valid");
    assert_eq!(config, Config::default());
    for (key, setting) in settings.iter() {
        assert!(matches!(setting.origin, Origin::File { .. }), "{} is not in the file", key.path());
    }
}

#[test]
fn the_defaults_of_the_engine_are_the_defaults_of_the_file() {
    assert_eq!(Config::default().policy(), Policy::default());
}

/// Options that are of use only together with others.
fn companions(path: &str) -> &'static [&'static str] {
    match path {
        "tls.mode" => &["tls.certificate", "tls.key"],
        "tls.certificate" => &["tls.key"],
        "tls.key" => &["tls.certificate"],
        "tls.client_user" => &["tls.client_ca"],
        "tls.client_map" => &["tls.client_ca", "tls.client_user"],
        "upstream.tls_ca" => &["upstream.tls"],
        "upstream.tls_certificate" => &["upstream.tls_key"],
        "upstream.tls_key" => &["upstream.tls_certificate"],
        "report.lookup_password_file" => &["report.lookup_user"],
        _ => &[],
    }
}

#[test]
fn every_option_has_a_variable_that_changes_the_configuration() {
    for key in KEYS {
        let needed = KEYS.iter().filter(|other| companions(&key.path()).contains(&other.path().as_str()));
        let others: Vec<_> = needed.map(|other| (other.variable(), other_value(other))).collect();
        let config = from_environment(others.iter().cloned().chain([(key.variable(), other_value(key))]));
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let without = from_environment(others).unwrap_or_default();
        assert_ne!(config, without, "{} changes nothing", key.variable());
    }
}

#[test]
fn a_configuration_that_was_written_out_reads_back_the_same() {
    let environment = KEYS.iter().map(|key| (key.variable().into(), other_value(key).into())).collect();
    let (config, settings) = load(Sources { environment, ..Sources::default() }).expect("valid");
    let (again, _) = from_file(&settings.to_string()).expect("valid");
    assert_eq!(again, config);
    for (key, line) in KEYS.iter().zip(settings.to_string().lines().filter(|line| line.contains(" = "))) {
        assert!(line.starts_with(key.name) && line.ends_with(&format!(" # {}", key.variable())), "{line}");
    }
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[retry]\nmode = \"off\"\nmax_attempts = 2\ntimeout = \"2s\"\n").unwrap();
    let variable = |name: &str, value: &str| (name.into(), value.into());
    let (config, _) = load(Sources {
        file: Some(file.path().to_path_buf()),
        environment: vec![variable("REPRISE_RETRY_MODE", "off"), variable("REPRISE_RETRY_MAX_ATTEMPTS", "3")],
        flags: vec![Flag { flag: "--mode", section: "retry", name: "mode", text: "observe".into() }],
    })
    .unwrap();
    let policy = config.policy();
    assert_eq!((policy.mode, policy.max_attempts), (Mode::Observe, 3));
    assert_eq!(policy.timeout, Duration::from_secs(2));
}

#[test]
fn all_problems_are_told_in_the_order_of_the_file() {
    let text = "[retry]\nmax_attempts = 0\nmod = \"off\"\ntimeout = \"0s\"\n\n[proxy]\nlisten = \"nowhere\"\n\
                [upstream]\naddress = \"nowhere\"\ndialect = \"cockraoch\"\n[log]\nlevel = \"inof\"\n";
    assert_eq!(
        from_file(text).unwrap_err(),
        [
            "f:2: retry.max_attempts: 0 is out of range; allowed: 1 to 1000000",
            "f:3: retry.mod: unknown key; did you mean mode?",
            "f:4: retry.timeout: \"0s\" is out of range; allowed: 1ms to 1h",
            "f:7: proxy.listen: \"nowhere\" is not IP:PORT, such as 127.0.0.1:6432 or [::1]:6432",
            "f:9: upstream.address: \"nowhere\" is not HOST:PORT, such as localhost:26257 or [::1]:26257",
            "f:10: upstream.dialect: \"cockraoch\" is unknown; did you mean \"cockroach\"? \
             allowed: \"auto\", \"cockroach\", \"postgres\"",
            "f:12: log.level: \"inof\" is no level; allowed: off, error, warn, info, debug, trace, \
             and directives such as reprise=debug, separated by commas",
        ]
    );
}

#[test]
fn the_first_rule_that_fits_decides() {
    let text = "[governor]\nmode = \"on\"\n[retry]\nmode = \"observe\"\n[[rules]]\nuser = \"batch-*\"\ndatabase = \"bank\"\nmode = \"off\"\n\
                [[rules]]\napplication_name = \"report?\"\nmode = \"transparent\"\n\
                [[rules]]\nuser = \"batch-*\"\nmode = \"transparent\"\ngovernor = \"off\"\n";
    let (config, settings) = from_file(text).expect("valid");
    let modes = |user: &str, database: &str, application_name: &str| {
        let [user, database, application_name] =
            [user, database, application_name].map(|n| n.as_bytes().into());
        let client = Client { user, database, application_name };
        (config.mode_for(&client), config.governor_for(&client))
    };
    let (off, default) = (governor::Mode::Off, governor::Mode::On);
    assert_eq!(modes("batch-7", "bank", "report1"), (Mode::Off, off));
    assert_eq!(modes("batch-7", "shop", "report1"), (Mode::Transparent, off));
    assert_eq!(modes("ann", "bank", ""), (Mode::Observe, default));
    let (again, _) = from_file(&settings.to_string()).expect("it is written as it was read");
    assert_eq!(again, config);
}

#[test]
fn what_is_wrong_with_a_rule_is_told_with_its_line() {
    let text = "[[rules]]\nuser = \"a\"\n[[rules]]\nuser = \"a\"\nmode = \"oserve\"\n[[rules]]\nmode = \"off\"\n\
                [[rules]]\nusr = \"a\"\ndatabase = 1.5\nmode = \"off\"\n";
    assert_eq!(
        from_file(text).unwrap_err(),
        [
            "f:1: rules.mode: a rule must say its mode, or that of its governor",
            "f:5: rules.mode: \"oserve\" is unknown; did you mean \"observe\"? allowed: \"transparent\", \"observe\", \"off\"; \"\" for none",
            "f:7: rules.mode: the rule is for everybody: name a user, a database or an application_name, or set retry.mode or governor.mode",
            "f:9: rules.usr: unknown key; did you mean user?",
            "f:10: rules.database: expected a string, found float",
            "f:11: rules.mode: the rule is for everybody: name a user, a database or an application_name, or set retry.mode or governor.mode",
        ]
    );
    assert_eq!(
        from_file("[rules]\nmode = \"off\"\n").unwrap_err(),
        ["f:1: rules: expected tables, each headed [[rules]]"]
    );
}

#[test]
fn options_that_exclude_each_other_are_told_where_the_later_was_set() {
    let text = "[retry]\ninitial_backoff = \"2s\"\njournal_bytes = \"1MiB\"\njournal_bytes_total = \"1KiB\"\n\
                [http]\nlisten = \"127.0.0.1:6432\"\n[upstream]\naddress = \"127.0.0.1:6432\"\n";
    assert_eq!(
        from_file(text).unwrap_err(),
        [
            "f:2: retry.initial_backoff: max_backoff must not be shorter than initial_backoff \
             (retry.max_backoff = \"1s\", retry.initial_backoff = \"2s\")",
            "f:4: retry.journal_bytes_total: journal_bytes must not be larger than journal_bytes_total \
             (retry.journal_bytes = \"1MiB\", retry.journal_bytes_total = \"1KiB\")",
            "f:6: http.listen: HTTP needs an address of its own \
             (http.listen = \"127.0.0.1:6432\", proxy.listen = \"127.0.0.1:6432\")",
            "f:8: upstream.address: the proxy would connect to itself \
             (upstream.address = \"127.0.0.1:6432\", proxy.listen = \"127.0.0.1:6432\")",
        ]
    );
    let text = "[tls]\nmode = \"require\"\nkey = \"server.key\"\n[upstream]\ntls_key = \"client.key\"\ntls = \"verify-ca\"\n";
    assert_eq!(
        from_file(text).unwrap_err(),
        [
            "f:2: tls.mode: TLS needs a certificate and its key (tls.certificate = \"\", tls.mode = \"require\")",
            "f:3: tls.key: a certificate and its key come together (tls.certificate = \"\", tls.key = \"server.key\")",
            "f:5: upstream.tls_key: a certificate and its key come together \
             (upstream.tls_certificate = \"\", upstream.tls_key = \"client.key\")",
            "f:6: upstream.tls: anyone can get a certificate of a public authority; name a file, or use \"verify-full\" \
             (upstream.tls_ca = \"system\", upstream.tls = \"verify-ca\")",
        ]
    );
    let told = from_file("[upstream]\ntls_ca = \"ca.crt\"\n").unwrap_err();
    assert!(told[0].starts_with("f:2: upstream.tls_ca: nothing would be verified"), "{told:?}");
    let text = "[upstream]\ndialect = \"postgres\"\n[compat]\nlock_table = \"ignore\"\n";
    let told = from_file(text).unwrap_err();
    assert!(told[0].starts_with("f:4: compat.lock_table: PostgreSQL has table locks"), "{told:?}");
    let text = "[retry]\ninitial_backoff = \"20ms\"\ntimeout = \"10ms\"\n";
    let told = from_file(text).unwrap_err();
    assert!(told[0].starts_with("f:3: retry.timeout: initial_backoff must not be longer"), "{told:?}");
}

#[test]
fn what_the_environment_gets_wrong_is_told_by_its_variable() {
    let told = from_environment([("REPRISE_RETRY_MAX_ATTEMPTS".to_owned(), "many")]).unwrap_err();
    assert_eq!(
        told.to_string(),
        "REPRISE_RETRY_MAX_ATTEMPTS: retry.max_attempts: \"many\" is not a whole number; allowed: 1 to 1000000"
    );
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_its_own() {
    let file = Some(PathBuf::from("no/such/file.toml"));
    let error = load(Sources { file, ..Sources::default() }).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }));
    assert!(error.to_string().starts_with("cannot read no/such/file.toml: "), "{error}");
}
