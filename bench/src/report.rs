//! What the rounds came to: ratios to the plain relay with their spread, as tables and as JSON.

use comfy_table::Table;
use serde::Serialize;

use crate::cells::Sample;
use crate::peers::MEASURE;

/// All rounds of one cell.
pub(crate) struct Measured {
    pub(crate) cell: String,
    /// For each round the sample of each peer, in the order of the peers.
    pub(crate) rounds: Vec<Vec<Sample>>,
}

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    peers: Vec<&'static str>,
    cells: Vec<Row>,
    /// KiB for each idle session, in the order of the peers.
    idle_kib: Vec<f64>,
}

#[derive(Serialize)]
struct Row {
    cell: String,
    /// Processor time of the plain relay for each transaction, the median.
    relay_cpu_us: f64,
    /// Processor time for each transaction relative to the plain relay, in the order of the peers.
    cpu: Vec<Ratio>,
    /// Transactions a second relative to the plain relay.
    rate: Vec<Ratio>,
}

/// A ratio of samples of the same round.
#[derive(Serialize)]
struct Ratio {
    median: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let (min, max) = (ratios[0], ratios[ratios.len() - 1]);
        Self { median: median(&ratios), min, max }
    }

    fn shown(&self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

impl Report {
    /// The first of the peers is what the others are compared with.
    pub(crate) fn new(peers: Vec<&'static str>, measured: Vec<Measured>, idle_kib: Vec<f64>) -> Self {
        let cells = measured.into_iter().map(|measured| row(peers.len(), measured)).collect();
        Self { peers, cells, idle_kib }
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
            cells.extend(row.cpu.iter().skip(1).map(Ratio::shown));
            cpu.add_row(cells);
        }
        println!("{cpu}\n\nTransactions a second, relative to {MEASURE}");
        head.remove(1);
        let mut rate = table(&head);
        for row in &self.cells {
            let ratios = row.rate.iter().skip(1).map(Ratio::shown);
            rate.add_row([row.cell.clone()].into_iter().chain(ratios));
        }
        println!("{rate}\n\nMemory for each idle session, KiB");
        for (peer, kib) in self.peers.iter().zip(&self.idle_kib) {
            println!("  {peer:<20} {kib:.1}");
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
