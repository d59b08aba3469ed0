//! One driver's program on all databases, directly and through Reprise.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reprise::demo::server::Postgres;

use crate::catalogue::Driver;
use crate::checks::{Check, check};
use crate::program::Program;
use crate::proxy::Proxy;
use crate::recorder::{Recorder, difference};
use crate::target::{Kind, PATIENCE, Target};

/// What the server sent to a program on each of its connections, as messages.
type Recording = Vec<Vec<Vec<u8>>>;

/// What a driver's program came to: its driver's version, and everything that was not as it must be.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) version: String,
    pub(crate) checks: usize,
    pub(crate) wrong: Vec<String>,
}

/// By which way a program reaches the database.
#[derive(Clone, Copy)]
enum Way<'a> {
    Direct,
    Through(&'a Proxy),
}

impl Way<'_> {
    fn expected(self, check: &Check) -> &str {
        match self {
            Self::Direct => check.direct,
            Self::Through(_) => check.through,
        }
    }
}

/// Runs everything that a driver is listed with.
pub(crate) async fn run(driver: &Driver, server: &Postgres) -> Outcome {
    let mut outcome = Outcome { version: String::new(), checks: 0, wrong: Vec::new() };
    for kind in [Kind::Postgres, Kind::Double] {
        let checks: Vec<_> = driver.checks(kind).map(check).collect();
        if checks.is_empty() {
            continue;
        }
        if let Err(error) = on(kind, driver, &checks, server, &mut outcome).await {
            outcome.wrong.push(format!("on {}: {error:#}", kind.name()));
        }
    }
    outcome
}

async fn on(
    kind: Kind,
    driver: &Driver,
    checks: &[&'static Check],
    server: &Postgres,
    outcome: &mut Outcome,
) -> Result<()> {
    let target = match kind {
        Kind::Postgres => Target::postgres(server, driver.name).await?,
        Kind::Double => Target::double().await?,
    };
    let proxy = Proxy::start(target.address, driver.setting(kind)).await?;
    let mut recordings = Vec::new();
    for way in [Way::Direct, Way::Through(&proxy)] {
        recordings.push(travel(way, driver, checks, &target, outcome).await?);
    }
    if let Some(difference) = difference(&recordings[0], &recordings[1]) {
        outcome.wrong.push(format!("on {}: other bytes: {difference}", kind.name()));
    }
    Ok(())
}

/// Runs the checks by one way. The recording is that of those whose bytes are compared, which come first.
async fn travel(
    way: Way<'_>,
    driver: &Driver,
    checks: &[&'static Check],
    target: &Target,
    outcome: &mut Outcome,
) -> Result<Recording> {
    let recorder = Recorder::start(match way {
        Way::Direct => target.address,
        Way::Through(proxy) => proxy.address,
    })
    .await?;
    let url = url(target, recorder.address);
    let mut program = Program::start(&mut driver.command(), &url, target)?;
    outcome.version = program.run("version", target).await?;
    let mut recording = None;
    let mut conflicts = (0, 0);
    for check in checks {
        if !check.is_compared && recording.is_none() {
            recording = Some(recorder.frames().await?);
        }
        target.reset().await?;
        let (seen, expected) = (program.run(check.name, target).await?, way.expected(check));
        outcome.checks += 1;
        if seen != expected {
            let way = if matches!(way, Way::Direct) { "directly" } else { "through Reprise" };
            let (kind, name) = (target.kind.name(), check.name);
            outcome.wrong.push(format!("on {kind}, {name} {way}: {seen:?}, not {expected:?}"));
        }
        if let Way::Through(proxy) = way {
            conflicts = (conflicts.0 + check.hidden, conflicts.1 + check.surfaced);
            until_counted(proxy, conflicts).await.with_context(|| check.name)?;
        }
    }
    program.end().await?;
    match recording {
        Some(recording) => Ok(recording),
        None => recorder.frames().await,
    }
}

/// Waits until the proxy has counted so many conflicts as hidden, and so many as surfaced: no less, and no more.
async fn until_counted(proxy: &Proxy, expected: (u32, u32)) -> Result<()> {
    let start = Instant::now();
    loop {
        let counted = proxy.conflicts().await?;
        if counted == expected {
            return Ok(());
        }
        let is_more = counted.0 > expected.0 || counted.1 > expected.1;
        ensure!(
            !is_more && start.elapsed() < PATIENCE / 6,
            "Reprise counts {counted:?} conflicts as hidden and surfaced, not {expected:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What every program connects with. The variant with TLS differs here: by `sslmode` and `sslrootcert`.
fn url(target: &Target, address: SocketAddr) -> String {
    let (user, database) = (target.kind.user(), &target.database);
    format!("postgres://{user}@{address}/{database}?sslmode=disable&application_name=drivers")
}
