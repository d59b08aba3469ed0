//! What the rounds came to: ratios to the plain relay with their spread, as tables and as JSON.

use comfy_table::Table;
use serde::Serialize;

use crate::cells::Sample;
use crate::latency::Latency;
use crate::peers::MEASURE;
use crate::replays::Replay;
use crate::scale::{Idle, Scale};

/// All rounds of one cell.
pub(crate) struct Measured {
    pub(crate) cell: String,
    /// For each round the sample of each peer, in the order of the peers.
    pub(crate) rounds: Vec<Vec<Sample>>,
}

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) peers: Vec<&'static str>,
    pub(crate) cells: Vec<Row>,
    /// In the order of the peers; empty if it was not asked for.
    pub(crate) scale: Vec<Scale>,
    /// Of the mode that hides conflicts.
    pub(crate) replays: Vec<Replay>,
    /// `None` if it was not asked for.
    pub(crate) latency: Option<Latency>,
}

/// One cell.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) cell: String,
    /// Processor time of the plain relay for each transaction, the median.
    relay_cpu_us: f64,
    /// Processor time for each transaction relative to the plain relay, in the order of the peers.
    pub(crate) cpu: Vec<Ratio>,
    /// Transactions a second relative to the plain relay.
    rate: Vec<Ratio>,
}

/// A figure of several rounds, each compared within its round.
#[derive(Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Ratio {
    pub(crate) fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let (min, max) = (ratios[0], ratios[ratios.len() - 1]);
        Self { median: median(&ratios), min, max }
    }

    fn shown(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.min, self.max)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

impl Report {
    /// The first of the peers is what the others are compared with.
    pub(crate) fn new(
        peers: Vec<&'static str>,
        measured: Vec<Measured>,
        scale: Vec<Scale>,
        replays: Vec<Replay>,
        latency: Option<Latency>,
    ) -> Self {
        let cells = measured.into_iter().map(|measured| row(peers.len(), measured)).collect();
        Self { peers, cells, scale, replays, latency }
    }

    /// The tables for people.
    pub(crate) fn print(&self) {
        let mut head = vec![String::new(), format!("{MEASURE}, us")];
        head.extend(self.peers.iter().skip(1).map(ToString::to_string));
        println!(
            "\nCPU of the proxy for each transaction, relative to {MEASURE}: median (min-max) of the rounds"
        );
        let mut cpu = table(&head);
        for row in &self.cells {
            let mut cells = vec![row.cell.clone(), format!("{:.1}", row.relay_cpu_us)];
            cells.extend(row.cpu.iter().skip(1).map(|ratio| ratio.shown(2)));
            cpu.add_row(cells);
        }
        println!("{cpu}\n\nTransactions a second, relative to {MEASURE}");
        head.remove(1);
        let mut rate = table(&head);
        for row in &self.cells {
            let ratios = row.rate.iter().skip(1).map(|ratio| ratio.shown(2));
            rate.add_row([row.cell.clone()].into_iter().chain(ratios));
        }
        println!("{rate}");
        self.print_latency();
        self.print_scale();
    }

    fn print_latency(&self) {
        let Some(Latency { direct_us, added_us }) = &self.latency else { return };
        println!(
            "\nA prepared select of one client takes {direct_us:.0} us without a proxy; added to that, in us: median (min-max)"
        );
        let mut latency = table(&self.peers.iter().map(ToString::to_string).collect::<Vec<_>>());
        latency.add_row(added_us.iter().map(|added| added.shown(1)));
        println!("{latency}");
    }

    fn print_scale(&self) {
        if !self.scale.is_empty() {
            println!(
                "\nMemory in KiB, and processor time for each statement in microseconds, of busy sessions and of a long transaction"
            );
            let head = [
                "",
                "idle session",
                "busy alone",
                "beside idle",
                "1 GiB result",
                "1 GiB COPY",
                "transaction",
                "first tenth",
                "last tenth",
            ];
            let mut scale = table(&head.map(str::to_owned));
            for (peer, figures) in self.peers.iter().zip(&self.scale) {
                let Scale { idle, result_kib, copy_kib, transaction_kib, .. } = figures;
                let Idle { idle_sessions, idle_kib, alone_us, beside_us } = idle;
                scale.add_row([
                    (*peer).to_owned(),
                    format!("{idle_kib:.1} (of {idle_sessions})"),
                    format!("{alone_us:.1}"),
                    format!("{beside_us:.1}"),
                    result_kib.to_string(),
                    copy_kib.to_string(),
                    transaction_kib.to_string(),
                    format!("{:.1}", figures.first_us),
                    format!("{:.1}", figures.last_us),
                ]);
            }
            println!("{scale}");
        }
        for Replay { statements, calm_us, conflict_us } in &self.replays {
            println!(
                "The last of {statements} statements: {calm_us:.0} us, and {conflict_us:.0} us if all are run again"
            );
        }
    }
}

fn row(peers: usize, measured: Measured) -> Row {
    let rounds = &measured.rounds;
    let of = |figure: &dyn Fn(&Sample) -> f64| {
        let ratio = |peer: usize| rounds.iter().map(|r| figure(&r[peer]) / figure(&r[0])).collect();
        (0..peers).map(|peer| Ratio::of(ratio(peer))).collect::<Vec<_>>()
    };
    let mut relay: Vec<_> = rounds.iter().map(|round| round[0].cpu_us).collect();
    relay.sort_by(f64::total_cmp);
    let (cpu, rate) = (of(&|sample| sample.cpu_us), of(&|sample| sample.rate));
    Row { relay_cpu_us: median(&relay), cpu, rate, cell: measured.cell }
}

fn table(head: &[String]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(head);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round =
            |relay, other| vec![Sample { cpu_us: relay, rate: 1.0 }, Sample { cpu_us: other, rate: 2.0 }];
        let rounds = vec![round(10.0, 20.0), round(100.0, 100.0), round(10.0, 5.0)];
        let row = row(2, Measured { cell: "c".into(), rounds });
        assert_eq!((row.cpu[1].median, row.cpu[1].min, row.cpu[1].max), (1.0, 0.5, 2.0));
        assert_eq!((row.rate[1].median, row.relay_cpu_us, row.cpu[0].max), (2.0, 10.0, 1.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
