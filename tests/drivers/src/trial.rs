//! One driver's program on all databases, directly, through Reprise, and through Reprise with TLS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reprise::demo::server::Postgres;

use crate::catalogue::Driver;
use crate::checks::{Check, check};
use crate::encryption::{Certificates, Settings, Tls};
use crate::program::Program;
use crate::proxy::Proxy;
use crate::recorder::{Opening, Recorder, difference};
use crate::target::{Kind, PATIENCE, Target};

/// What the server sent to a program on each of its connections, as messages.
type Recording = Vec<Vec<Vec<u8>>>;

/// What a driver's program came to: its driver's version, and everything that was not as it must be.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) version: String,
    pub(crate) checks: usize,
    pub(crate) wrong: Vec<String>,
    /// Whether it cancels with TLS, of those that send such requests.
    pub(crate) cancel: Option<Cancel>,
}

/// How a driver whose sessions are encrypted sends its requests to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    Encrypted,
    Plain,
}

/// By which way a program reaches the database.
#[derive(Clone, Copy)]
enum Way<'a> {
    Direct,
    Through(&'a Proxy),
    Encrypted(&'a Proxy, &'a Certificates),
    /// The same, by a relay that sees what is said within TLS; only what is compared is done by this way.
    Unwrapped(&'a Proxy, &'a Certificates),
}

impl Way<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "directly",
            Self::Through(_) => "through Reprise",
            Self::Encrypted(..) => "through Reprise with TLS",
            Self::Unwrapped(..) => "through Reprise with TLS that is looked into",
        }
    }

    fn address(self, target: &Target) -> SocketAddr {
        match self {
            Self::Direct => target.address,
            Self::Through(proxy) | Self::Encrypted(proxy, _) | Self::Unwrapped(proxy, _) => proxy.address,
        }
    }

    /// What every program connects with, by a relay on this port.
    fn url(self, driver: &Driver, target: &Target, port: u16) -> String {
        let (host, tls) = match self {
            Self::Direct | Self::Through(_) => ("127.0.0.1", "sslmode=disable".into()),
            Self::Encrypted(_, certificates) | Self::Unwrapped(_, certificates) => {
                certificates.url(driver.tls)
            }
        };
        let (user, database) = (target.kind.user(), &target.database);
        format!("postgres://{user}@{host}:{port}/{database}?{tls}&application_name=drivers")
    }

    fn expected(self, check: &Check) -> &str {
        match self {
            Self::Direct => check.direct,
            Self::Through(_) | Self::Encrypted(..) | Self::Unwrapped(..) => check.through,
        }
    }

    /// Whether it does a check.
    fn does(self, check: &Check) -> bool {
        check.is_compared || !matches!(self, Self::Unwrapped(..))
    }
}

/// A driver that is tried out on one database.
struct Trial<'a> {
    driver: &'a Driver,
    target: Target,
    checks: Vec<&'static Check>,
    outcome: &'a mut Outcome,
}

/// Runs everything that a driver is listed with.
pub(crate) async fn run(driver: &Driver, server: &Postgres, certificates: &Certificates) -> Outcome {
    let mut outcome = Outcome::default();
    for kind in [Kind::Postgres, Kind::Double] {
        let checks: Vec<_> = driver.checks(kind).map(check).collect();
        if checks.is_empty() {
            continue;
        }
        let target = match kind {
            Kind::Postgres => Target::postgres(server, driver.name).await,
            Kind::Double => Target::double().await,
        };
        let ran = match target {
            Ok(target) => Trial { driver, target, checks, outcome: &mut outcome }.run(certificates).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ran {
            outcome.wrong.push(format!("on {}: {error:#}", kind.name()));
        }
    }
    outcome
}

impl Trial<'_> {
    async fn run(&mut self, certificates: &Certificates) -> Result<()> {
        let kind = self.target.kind;
        let plain = self.proxy(vec![("REPRISE_UPSTREAM_TLS", "disable".into())]).await?;
        let mut recordings = Vec::new();
        for way in [Way::Direct, Way::Through(&plain)] {
            let recorder = Recorder::start(way.address(&self.target)).await?;
            recordings.push(self.travel(way, &recorder).await.context(way.name())?);
        }
        let encrypted = self.proxy(certificates.settings(self.driver.tls, kind)).await?;
        let way = Way::Unwrapped(&encrypted, certificates);
        let middleman = certificates.middleman(self.driver.tls);
        let recorder = Recorder::within_tls(way.address(&self.target), middleman).await?;
        recordings.push(self.travel(way, &recorder).await.context(way.name())?);
        for (recording, tls) in recordings[1..].iter().zip(["without", "with"]) {
            if let Some(difference) = difference(&recordings[0], recording) {
                let told = format!("on {}: other bytes {tls} TLS: {difference}", kind.name());
                self.outcome.wrong.push(told);
            }
        }
        let way = Way::Encrypted(&encrypted, certificates);
        let recorder = Recorder::start(way.address(&self.target)).await?;
        self.travel(way, &recorder).await.context(way.name())?;
        self.judge(&recorder.openings());
        if kind == Kind::Postgres {
            self.meet_impostors(certificates).await?;
        }
        Ok(())
    }

    /// A proxy before the database.
    async fn proxy(&self, mut settings: Settings) -> Result<Proxy> {
        settings.extend(self.driver.settings(self.target.kind));
        Proxy::start(self.target.address, settings).await
    }

    /// Runs the checks by one way. The recording is that of those whose bytes are compared, which come first; of what the relay
    /// cannot read there is none.
    async fn travel(&mut self, way: Way<'_>, recorder: &Recorder) -> Result<Recording> {
        let (target, outcome) = (&self.target, &mut *self.outcome);
        let url = way.url(self.driver, target, recorder.address.port());
        let mut program = Program::start(&mut self.driver.command(), &url, target)?;
        outcome.version = program.run("version", target).await?;
        let mut recording = matches!(way, Way::Encrypted(..)).then(Recording::new);
        let mut conflicts = (0, 0);
        for check in self.checks.iter().filter(|check| way.does(check)) {
            if !check.is_compared && recording.is_none() {
                recording = Some(recorder.frames().await?);
            }
            target.reset().await?;
            let (seen, expected) = (program.run(check.name, target).await?, way.expected(check));
            outcome.checks += 1;
            if seen != expected {
                let (way, kind, name) = (way.name(), target.kind.name(), check.name);
                outcome.wrong.push(format!("on {kind}, {name} {way}: {seen:?}, not {expected:?}"));
            }
            if let Way::Through(proxy) | Way::Encrypted(proxy, _) | Way::Unwrapped(proxy, _) = way {
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

    /// Holds how the connections began against how the driver was told to come to TLS.
    fn judge(&mut self, openings: &BTreeSet<Opening>) {
        let kind = self.target.kind;
        let expected = if self.driver.tls == Tls::Direct { Opening::Direct } else { Opening::Asked };
        let is_cancelled_in_clear = openings.contains(&Opening::PlainCancel);
        let others: Vec<_> =
            openings.iter().filter(|opening| ![expected, Opening::PlainCancel].contains(opening)).collect();
        if !others.is_empty() || !openings.contains(&expected) {
            let told = format!("on {}, with TLS: connections began as {openings:?}", kind.name());
            self.outcome.wrong.push(told);
        }
        if self.driver.cancels(kind) {
            let cancel = if is_cancelled_in_clear { Cancel::Plain } else { Cancel::Encrypted };
            if self.outcome.cancel.replace(cancel).is_some_and(|before| before != cancel) {
                self.outcome.wrong.push(format!("on {}, it does not cancel as before", kind.name()));
            }
        }
    }

    /// Leads the driver to proxies whose certificates it must refuse.
    async fn meet_impostors(&mut self, certificates: &Certificates) -> Result<()> {
        for (wrong, settings) in certificates.impostors() {
            let impostor = self.proxy(settings).await?;
            let recorder = Recorder::start(impostor.address).await?;
            let way = Way::Encrypted(&impostor, certificates);
            let url = way.url(self.driver, &self.target, recorder.address.port());
            let mut program = Program::start_to_fail(self.driver.command(), &url, &self.target)?;
            // How a program fails is its own affair. What counts is that it came, and never began a session.
            let _ = program.run(self.checks[0].name, &self.target).await;
            ensure!(!recorder.openings().is_empty(), "the impostor with another {wrong} was not tried");
            if impostor.sessions().await? != 0 {
                self.outcome.wrong.push(format!("it takes a certificate with another {wrong}"));
            }
        }
        Ok(())
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
