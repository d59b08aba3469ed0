//! The governor in figures.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::Metric;
use prometheus::{GaugeVec, Histogram, IntCounter, IntGauge, IntGaugeVec};

use super::catalogue::Maker;
use crate::insight::{Column, Report, Value, count, number, text};

/// How a transaction of a contention class got to its first statement, or to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// There was a place for it.
    AtOnce,
    /// It waited for its turn.
    Waited,
    /// It waited for as long as is allowed.
    Overdue,
    /// It began beside others of a class that needs a limit, and nobody is made to wait.
    Observed,
}

impl Admission {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::AtOnce, Self::Waited, Self::Overdue, Self::Observed];

    /// The stable name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Waited => "waited",
            Self::Overdue => "overdue",
            Self::Observed => "observed",
        }
    }
}

/// The label under which all classes together are shown.
const ALL_CLASSES: &str = "all";

const COLUMNS: &[Column] =
    &[text("class"), count("limit"), count("running"), count("waiting"), number("gained_per_second")];

impl super::Telemetry {
    /// The columns of [`GovernorMetrics::report`].
    pub const GOVERNOR: &'static [Column] = COLUMNS;
}

/// A contention class at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassFigures {
    /// How many of its transactions may run at a time; `None` for any number.
    pub limit: Option<u32>,
    /// How many run.
    pub running: u32,
    /// How many wait.
    pub waiting: usize,
    /// How many more are done per second than before there was a limit; an estimate.
    pub gained: f64,
}

/// The metrics of the governor.
pub struct GovernorMetrics {
    classes: IntGauge,
    limit: IntGaugeVec,
    running: IntGaugeVec,
    waiting: IntGaugeVec,
    gained: GaugeVec,
    admissions: [IntCounter; 4],
    wait_seconds: Histogram,
    idle: IntCounter,
}

impl GovernorMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let admissions = make.counters("reprise_governor_admissions_total");
        let metrics = Self {
            classes: make.gauge("reprise_governor_classes"),
            limit: make.gauges("reprise_governor_limit"),
            running: make.gauges("reprise_governor_running"),
            waiting: make.gauges("reprise_governor_waiting"),
            gained: make.fractions("reprise_governor_gained_per_second"),
            admissions: Admission::ALL.map(|how| admissions.with_label_values(&[how.name()])),
            wait_seconds: make.histogram("reprise_governor_wait_seconds"),
            idle: make.counter("reprise_governor_idle_total"),
        };
        metrics.set_class(ALL_CLASSES, ClassFigures::default());
        metrics
    }

    /// Counts an admission, and the wait before it if there was one.
    pub fn admitted(&self, how: Admission, wait: Option<Duration>) {
        if let Some(at) = Admission::ALL.iter().position(|known| *known == how) {
            self.admissions[at].inc();
        }
        wait.into_iter().for_each(|wait| self.wait_seconds.observe(wait.as_secs_f64()));
    }

    /// Counts a transaction that lost its place because it was idle.
    pub fn idled(&self) {
        self.idle.inc();
    }

    /// Notes how many classes there are, and their sums.
    pub fn set_classes(&self, classes: usize, sums: ClassFigures) {
        self.classes.set(as_gauge(classes));
        self.set_class(ALL_CLASSES, sums);
    }

    /// Notes how a class is doing.
    pub fn set_class(&self, class: &str, figures: ClassFigures) {
        let ClassFigures { limit, running, waiting, gained } = figures;
        self.limit.with_label_values(&[class]).set(limit.map_or(0, i64::from));
        self.running.with_label_values(&[class]).set(running.into());
        self.waiting.with_label_values(&[class]).set(as_gauge(waiting));
        self.gained.with_label_values(&[class]).set(gained);
    }

    /// The classes as of the last second, and their sum.
    pub fn report(&self) -> Report {
        let [limits, waiting, gained] =
            [by_class(&self.limit), by_class(&self.waiting), by_class(&self.gained)];
        let row = |(class, running): (String, f64)| {
            // A class may have been forgotten meanwhile.
            let of = |figures: &BTreeMap<String, f64>| figures.get(&class).copied().unwrap_or(0.0);
            let [limit, waiting, gained] = [&limits, &waiting, &gained].map(of);
            let limit = (limit > 0.0).then_some(limit as u64);
            vec![
                class.into(),
                limit.into(),
                (running as u64).into(),
                (waiting as u64).into(),
                Value::Number(gained),
            ]
        };
        Report { columns: COLUMNS, rows: by_class(&self.running).into_iter().map(row).collect() }
    }

    /// A class is no more.
    pub fn forget_class(&self, class: &str) {
        for gauges in [&self.limit, &self.running, &self.waiting] {
            // It may never have been noted.
            let _ = gauges.remove_label_values(&[class]);
        }
        let _ = self.gained.remove_label_values(&[class]);
    }
}

/// The values of gauges at this moment, by their class.
fn by_class(gauges: &impl Collector) -> BTreeMap<String, f64> {
    let families = gauges.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    let of = |metric: &Metric| {
        let label = metric.get_label().iter().find(|label| label.name() == "class")?;
        Some((label.value().to_owned(), metric.get_gauge().get_value()))
    };
    metrics.filter_map(of).collect()
}

fn as_gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
