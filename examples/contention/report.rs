//! The table for people, and the JSON for everything else.

use comfy_table::{Table, presets};
use serde_json::json;

use crate::contender::Contender;
use crate::work::Work;
use crate::workload::{Slice, ms};

/// All slices of one kind of work before one server.
pub(crate) struct Cell {
    pub(crate) server: String,
    pub(crate) work: Work,
    pub(crate) clients: usize,
    pub(crate) rows: u32,
    pub(crate) slices: Vec<Slice>,
}

impl Cell {
    fn of(&self, contender: Contender) -> impl Iterator<Item = &Slice> {
        self.slices.iter().filter(move |slice| slice.contender == contender)
    }

    /// The mean of a figure over the slices of a contender.
    fn mean(&self, contender: Contender, figure: impl Fn(&Slice) -> f64) -> Option<f64> {
        let (sum, count) =
            self.of(contender).fold((0.0, 0.0), |(sum, count), slice| (sum + figure(slice), count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    fn rate(&self, contender: Contender) -> Option<f64> {
        self.mean(contender, |slice| slice.rate)
    }

    /// Of all its transactions, in milliseconds.
    fn p99(&self, contender: Contender) -> Option<f64> {
        let histograms = self.of(contender).map(|slice| slice.latency.clone());
        histograms.reduce(|sum, more| sum + more).map(|all| ms(&all, 0.99))
    }

    fn text(&self, contender: Contender) -> String {
        match (self.rate(contender), self.p99(contender)) {
            (Some(rate), Some(p99)) => format!("{rate:.1} ({p99:.0} ms)"),
            _ => String::new(),
        }
    }

    fn best_gate(&self) -> Option<f64> {
        let gates = Contender::all().into_iter().filter(|contender| matches!(contender, Contender::Gate(_)));
        gates.filter_map(|gate| self.rate(gate)).reduce(f64::max)
    }

    fn fairness(&self) -> Option<f64> {
        self.of(Contender::Governed).map(|slice| slice.fairness).reduce(f64::min)
    }

    /// Whether it is the same work before the same server, whatever the number of clients.
    fn is_like(&self, other: &Self) -> bool {
        (&self.server, self.work, self.rows) == (&other.server, other.work, other.rows)
    }
}

fn ratio(numerator: Option<f64>, denominator: Option<f64>) -> String {
    match (numerator, denominator) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}", a / b),
        _ => String::new(),
    }
}

/// Transactions committed per second by every contender, and how the governed ones compare.
pub(crate) fn table(network_ms: f64, cells: &[Cell]) -> String {
    use Contender::{Governed, Loop, Replay};
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    let names = Contender::all().into_iter().map(Contender::name);
    let head = ["server", "work", "rows", "clients"].map(str::to_owned).into_iter().chain(names);
    let ratios =
        ["/ loop", "/ replay", "/ best gate", "/ fewest clients", "p99 / loop", "CPU / replay", "fairness"];
    table.set_header(head.chain(ratios.map(str::to_owned)));
    for cell in cells.iter().filter(|cell| cell.work != Work::Calm) {
        let mut row =
            vec![cell.server.clone(), cell.work.name(), cell.rows.to_string(), cell.clients.to_string()];
        row.extend(Contender::all().into_iter().map(|contender| cell.text(contender)));
        let governed = cell.rate(Governed);
        let fewest = cells.iter().filter(|other| other.is_like(cell)).min_by_key(|other| other.clients);
        let fewest = fewest.filter(|fewest| fewest.clients < cell.clients);
        row.push(ratio(governed, cell.rate(Loop)));
        row.push(ratio(governed, cell.rate(Replay)));
        row.push(ratio(governed, cell.best_gate()));
        row.push(ratio(governed, fewest.and_then(|fewest| fewest.rate(Governed))));
        row.push(ratio(cell.p99(Governed), cell.p99(Loop)));
        let cpu = |contender| cell.mean(contender, |slice| slice.cpu_micros);
        row.push(ratio(cpu(Governed), cpu(Replay)));
        row.push(cell.fairness().map(|fairness| format!("{fairness:.2}")).unwrap_or_default());
        table.add_row(row);
    }
    format!(
        "Transactions committed per second (p99 from first BEGIN to commit), network {network_ms} ms; behind them the \
         governed ones by others, and the fewest commits of a governed client by the average\n\n{table}\n"
    )
}

/// The latency of transactions that contend with nobody, beside a hot spot and alone.
pub(crate) fn calm_table(cells: &[Cell]) -> Option<String> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_header(["server", "work", "clients", "contender", "p50 ms", "p99 ms", "p50 / alone"]);
    for mixed in cells.iter().filter(|cell| matches!(cell.work, Work::Mixed | Work::OneRow)) {
        let alone = |cell: &&Cell| {
            (&cell.server, cell.clients, cell.work) == (&mixed.server, mixed.clients, Work::Calm)
        };
        let alone = cells.iter().find(alone);
        for contender in Contender::all() {
            let p50 = |cell: &Cell, contender| cell.mean(contender, |slice| ms(&slice.calm, 0.5));
            let Some(median) = p50(mixed, contender) else { continue };
            let p99 = mixed.mean(contender, |slice| ms(&slice.calm, 0.99)).unwrap_or_default();
            table.add_row([
                mixed.server.clone(),
                mixed.work.name(),
                mixed.clients.to_string(),
                contender.name(),
                format!("{median:.1}"),
                format!("{p99:.1}"),
                ratio(Some(median), alone.and_then(|alone| p50(alone, Contender::Replay))),
            ]);
        }
    }
    (!table.is_empty())
        .then(|| format!("Transactions that contend with nobody, beside a hot spot\n\n{table}\n"))
}

/// Every slice.
pub(crate) fn json(network_ms: f64, cells: &[Cell]) -> Result<String, serde_json::Error> {
    let slices: Vec<_> = cells
        .iter()
        .flat_map(|cell| cell.slices.iter().map(move |slice| (cell, slice)))
        .map(|(cell, slice)| {
            json!({
                "server": cell.server,
                "work": cell.work.name(),
                "rows": cell.rows,
                "clients": cell.clients,
                "contender": slice.contender.name(),
                "committed_per_second": slice.rate,
                "p50_ms": ms(&slice.latency, 0.5),
                "p99_ms": ms(&slice.latency, 0.99),
                "calm_p50_ms": ms(&slice.calm, 0.5),
                "calm_p99_ms": ms(&slice.calm, 0.99),
                "errors": slice.errors,
                "fairness": slice.fairness,
                "cpu_us": slice.cpu_micros,
            })
        })
        .collect();
    serde_json::to_string_pretty(&json!({ "network_ms": network_ms, "slices": slices }))
}
