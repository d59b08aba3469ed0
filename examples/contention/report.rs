//! The table for people, and the JSON for everything else.

use comfy_table::{Table, presets};

use serde_json::json;

use crate::workload::{Contender, Slice};

/// All slices before one server with so many rows.
pub(crate) struct Cell {
    pub(crate) server: String,
    pub(crate) rows: u32,
    pub(crate) slices: Vec<Slice>,
}

impl Cell {
    fn of(&self, contender: Contender) -> Vec<&Slice> {
        self.slices.iter().filter(|slice| slice.contender == contender).collect()
    }

    /// The mean of its slices.
    fn rate(&self, contender: Contender) -> Option<f64> {
        let slices = self.of(contender);
        let sum: f64 = slices.iter().map(|slice| slice.rate).sum();
        (!slices.is_empty()).then(|| sum / slices.len() as f64)
    }

    fn text(&self, contender: Contender) -> String {
        let Some(rate) = self.rate(contender) else { return String::new() };
        let p99 = self.of(contender).iter().map(|slice| slice.latency.value_at_quantile(0.99)).max();
        format!("{rate:.1} (p99 {} ms)", p99.unwrap_or(0) / 1000)
    }

    fn best_gate(&self) -> Option<f64> {
        let gates = Contender::all().into_iter().filter(|contender| matches!(contender, Contender::Gate(_)));
        gates.filter_map(|gate| self.rate(gate)).reduce(f64::max)
    }
}

fn ratio(numerator: Option<f64>, denominator: Option<f64>) -> String {
    match (numerator, denominator) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}", a / b),
        _ => String::new(),
    }
}

/// Committed transactions per second.
pub(crate) fn table(clients: usize, network_ms: f64, cells: &[Cell]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    let names = Contender::all().into_iter().map(Contender::name);
    let head = ["server".to_owned(), "rows".to_owned()].into_iter().chain(names);
    let ratios = ["governed / loop", "governed / replay", "governed / best gate"].map(str::to_owned);
    table.set_header(head.chain(ratios));
    for cell in cells {
        let mut row = vec![cell.server.clone(), cell.rows.to_string()];
        row.extend(Contender::all().into_iter().map(|contender| cell.text(contender)));
        let governed = cell.rate(Contender::Governed);
        row.push(ratio(governed, cell.rate(Contender::Loop)));
        row.push(ratio(governed, cell.rate(Contender::Replay)));
        row.push(ratio(governed, cell.best_gate()));
        table.add_row(row);
    }
    format!("Transactions committed per second, {clients} clients, network {network_ms} ms\n\n{table}\n")
}

/// Every slice.
pub(crate) fn json(clients: usize, network_ms: f64, cells: &[Cell]) -> Result<String, serde_json::Error> {
    let slices: Vec<_> = cells
        .iter()
        .flat_map(|cell| cell.slices.iter().map(move |slice| (cell, slice)))
        .map(|(cell, slice)| {
            let ms = |quantile| slice.latency.value_at_quantile(quantile) as f64 / 1000.0;
            json!({
                "server": cell.server,
                "rows": cell.rows,
                "contender": slice.contender.name(),
                "committed_per_second": slice.rate,
                "p50_ms": ms(0.5),
                "p99_ms": ms(0.99),
                "errors": slice.errors,
                "fairness": slice.fairness,
            })
        })
        .collect();
    serde_json::to_string_pretty(&json!({ "clients": clients, "network_ms": network_ms, "slices": slices }))
}
