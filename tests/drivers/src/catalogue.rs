//! The drivers: how their programs are run, and which checks each can do.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::encryption::{Settings, Tls};
use crate::target::Kind;

/// A driver, and the program that uses it.
#[derive(Debug)]
pub(crate) struct Driver {
    /// The name of its program, by which it is chosen.
    pub(crate) name: &'static str,
    /// As the README calls it.
    pub(crate) title: &'static str,
    language: Language,
    /// The names of the checks on PostgreSQL, in order: those whose bytes are compared come first.
    checks: &'static str,
    double: Double,
    /// How it is told to come to TLS.
    pub(crate) tls: Tls,
}

/// What a program is written in, and where it is.
#[derive(Debug)]
enum Language {
    Shell(&'static str),
    Python(&'static str),
    Node(&'static str),
    /// The name of the class.
    Java(&'static str),
    /// The name of the package.
    Go(&'static str),
    /// The name of the binary.
    Rust(&'static str),
}

/// What of a program is run on the CockroachDB double.
#[derive(Debug)]
enum Double {
    /// Nothing: the driver asks for catalogs that the double does not have.
    Unable,
    /// All checks but these, and these in addition.
    Runs { without: &'static str, and: &'static str },
    /// Only these checks, by a proxy with a setting that is not the default.
    Set { checks: &'static str, variable: &'static str, value: &'static str },
}

/// CockroachDB's process ids are not what pg_backend_pid() shows, and the double knows COPY only to the server.
const ALIKE: Double = Double::Runs { without: "pid copy_out", and: "" };

/// All drivers, in the order of the README.
pub(crate) static DRIVERS: [Driver; 17] = [
    Driver {
        name: "psql",
        title: "psql",
        language: Language::Shell("psql.sh"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out cursor \
                 hidden surfaced retry_loop",
        double: Double::Runs { without: "copy_out cursor", and: "" },
        tls: Tls::Certificate,
    },
    Driver {
        name: "pgbench",
        title: "pgbench",
        language: Language::Shell("pgbench.sh"),
        checks: "simple extended prepared_script pipelined hidden_simple hidden_extended hidden_prepared \
                 hidden_pipelined surfaced_simple",
        double: ALIKE,
        tls: Tls::Asked,
    },
    Driver {
        name: "psycopg",
        title: "psycopg 3, libpq",
        language: Language::Python("with_psycopg.py"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out \
                 pipeline pid hidden hidden_pipeline surfaced retry_loop",
        double: ALIKE,
        tls: Tls::Direct,
    },
    Driver {
        name: "psycopg2",
        title: "psycopg2",
        language: Language::Python("with_psycopg2.py"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out pid \
                 hidden surfaced retry_loop",
        double: ALIKE,
        tls: Tls::Asked,
    },
    Driver {
        name: "asyncpg",
        title: "asyncpg",
        language: Language::Python("with_asyncpg.py"),
        checks: "connect prepared transaction savepoint unique foreign_key abandon timeout copy_in \
                 copy_out pipeline pid hidden surfaced retry_loop",
        // It copies in the binary format only.
        double: Double::Runs { without: "pid copy_in copy_out", and: "" },
        tls: Tls::Certificate,
    },
    Driver {
        name: "sqlalchemy",
        title: "SQLAlchemy",
        language: Language::Python("with_sqlalchemy.py"),
        checks: "connect prepared transaction savepoint unique foreign_key timeout batch hidden surfaced \
                 retry_loop",
        double: ALIKE,
        tls: Tls::Asked,
    },
    Driver {
        name: "django",
        title: "Django's ORM",
        language: Language::Python("with_django.py"),
        checks: "connect prepared transaction savepoint unique foreign_key timeout batch hidden surfaced \
                 retry_loop",
        double: Double::Unable,
        tls: Tls::Asked,
    },
    Driver {
        name: "node-postgres",
        title: "node-postgres",
        language: Language::Node("pg.js"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out pid \
                 hidden surfaced retry_loop",
        double: ALIKE,
        tls: Tls::Certificate,
    },
    Driver {
        name: "tutorial",
        title: "node-postgres, tutorial",
        language: Language::Node("tutorial.js"),
        checks: "basic_sample hidden hidden_wrapped surfaced retry_loop",
        double: Double::Runs { without: "", and: "restart_savepoint" },
        tls: Tls::Asked,
    },
    Driver {
        name: "legacy",
        title: "node-postgres, legacy",
        language: Language::Node("legacy.js"),
        checks: "withdrawal",
        double: Double::Set {
            checks: "withdrawal_unlocked",
            variable: "REPRISE_COMPAT_LOCK_TABLE",
            value: "ignore",
        },
        tls: Tls::Asked,
    },
    Driver {
        name: "postgres.js",
        title: "Postgres.js",
        language: Language::Node("postgres.js"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out \
                 pipeline cursor hidden surfaced retry_loop",
        double: Double::Runs { without: "copy_out", and: "" },
        tls: Tls::Asked,
    },
    Driver {
        name: "sequelize",
        title: "Sequelize",
        language: Language::Node("sequelize.js"),
        checks: "connect prepared transaction savepoint unique foreign_key timeout batch hidden surfaced \
                 retry_loop",
        double: Double::Unable,
        tls: Tls::Asked,
    },
    Driver {
        name: "pgjdbc",
        title: "pgjdbc",
        language: Language::Java("WithPgjdbc"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out cursor \
                 pipeline pid hidden hidden_batch surfaced retry_loop",
        double: ALIKE,
        tls: Tls::Asked,
    },
    Driver {
        name: "pgx",
        title: "pgx 4",
        language: Language::Go("with_pgx"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out \
                 pipeline pid hidden hidden_batch surfaced retry_loop",
        double: ALIKE,
        tls: Tls::Certificate,
    },
    Driver {
        name: "lib-pq",
        title: "lib/pq",
        language: Language::Go("with_pq"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in hidden surfaced \
                 retry_loop",
        double: ALIKE,
        tls: Tls::Certificate,
    },
    Driver {
        name: "tokio-postgres",
        title: "tokio-postgres",
        language: Language::Rust("with-tokio-postgres"),
        checks: "connect prepared transaction savepoint unique foreign_key cancel copy_in copy_out \
                 pipeline cursor hidden hidden_pipeline surfaced retry_loop",
        // It copies by the extended protocol, in which CockroachDB has no COPY.
        double: Double::Runs { without: "copy_in copy_out", and: "" },
        tls: Tls::Asked,
    },
    Driver {
        name: "sqlx",
        title: "sqlx",
        language: Language::Rust("with-sqlx"),
        checks: "connect prepared transaction savepoint unique foreign_key timeout copy_in cancel_by_pid \
                 hidden surfaced retry_loop",
        double: Double::Runs { without: "cancel_by_pid", and: "" },
        tls: Tls::Certificate,
    },
];

impl Driver {
    /// The checks on a database.
    pub(crate) fn checks(&self, kind: Kind) -> impl Iterator<Item = &'static str> {
        let (own, without, and) = match (kind, &self.double) {
            (Kind::Postgres, _) => (self.checks, "", ""),
            (Kind::Double, Double::Unable) => ("", "", ""),
            (Kind::Double, Double::Runs { without, and }) => (self.checks, *without, *and),
            (Kind::Double, Double::Set { checks, .. }) => (*checks, "", ""),
        };
        let is_left_out = |check: &&str| without.split(' ').any(|name| name == *check);
        let own = own.split(' ').filter(move |check| !is_left_out(check));
        own.chain(and.split(' ')).filter(|check| !check.is_empty())
    }

    /// What its program needs of the proxy, beyond the defaults.
    pub(crate) fn settings(&self, kind: Kind) -> Settings {
        match (kind, &self.double) {
            (Kind::Double, Double::Set { variable, value, .. }) => vec![(*variable, (*value).into())],
            _ => Vec::new(),
        }
    }

    /// Whether it sends requests to cancel.
    pub(crate) fn cancels(&self, kind: Kind) -> bool {
        self.does("cancel", kind) || self.does("abandon", kind)
    }

    /// Whether it does a check on a database.
    pub(crate) fn does(&self, check: &str, kind: Kind) -> bool {
        self.checks(kind).any(|name| name == check)
    }

    /// What starts its program.
    pub(crate) fn command(&self) -> Command {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (program, argument) = match self.language {
            Language::Shell(file) => ("bash".into(), Some(sources.join("shell").join(file))),
            Language::Python(file) => {
                (installed().join("venv/bin/python"), Some(sources.join("python").join(file)))
            }
            Language::Node(file) => ("node".into(), Some(sources.join("node").join(file))),
            Language::Java(class) => ("java".into(), Some(class.into())),
            Language::Go(package) => (installed().join("go").join(package), None),
            Language::Rust(binary) => (beside(binary), None),
        };
        let mut command = Command::new(program);
        if matches!(self.language, Language::Java(_)) {
            let classes = installed().join("java");
            let path = format!("{}:/usr/share/java/postgresql.jar", classes.display());
            // The program is short: a compiler that optimises for the long run would only take time.
            command.args(["-XX:TieredStopAtLevel=1", "-cp", &path]);
        }
        command.args(argument).env("NODE_PATH", installed().join("node/node_modules"));
        // Python is to leave nothing in the sources, and Node.js to say nothing of what its drivers do inside and to
        // reach a name as the others do: some of its versions try only the first address, which may be IPv6.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("NODE_OPTIONS", "--no-deprecation --dns-result-order=ipv4first");
        command
    }
}

/// Where `scripts/install-drivers.sh` puts what it installs and builds.
fn installed() -> PathBuf {
    beside("../drivers")
}

/// A path relative to the folder that this program was built into.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checks::{CHECKS, check};

    #[test]
    fn every_check_is_run_and_those_that_are_compared_come_first() {
        let mut run = BTreeSet::new();
        for (driver, kind) in
            DRIVERS.iter().flat_map(|driver| [(driver, Kind::Postgres), (driver, Kind::Double)])
        {
            let checks: Vec<_> = driver.checks(kind).map(check).collect();
            assert!(checks.is_sorted_by_key(|check| !check.is_compared), "{}", driver.name);
            run.extend(checks.iter().map(|check| check.name));
        }
        assert_eq!(run, CHECKS.iter().map(|check| check.name).collect());
    }

    #[test]
    fn what_is_left_out_on_the_double_is_there_to_be_left_out() {
        for driver in &DRIVERS {
            if let Double::Runs { without, .. } = driver.double
                && without != "pid copy_out"
            {
                let left_out = without.split(' ').filter(|name| !name.is_empty());
                assert!(
                    left_out.into_iter().all(|name| driver.does(name, Kind::Postgres)),
                    "{}",
                    driver.name
                );
            }
        }
    }
}
