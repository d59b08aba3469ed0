//! The figures as a picture: for each cell a bar for each peer, with a line from the smallest round to the largest.

use std::fmt::Write as _;

use crate::report::{Ratio, Report};

const COLOURS: [&str; 6] = ["#888888", "#4e79a7", "#f28e2b", "#59a14f", "#8cd17d", "#b6d7a8"];
/// Pixels of a bar, of the names, and of a ratio of one.
const BAR: usize = 12;
const NAMES: usize = 190;
const ONE: f64 = 260.0;
/// Ratios above this are cut off.
const RATIO_MAX: f64 = 3.0;

/// Processor time for each transaction, relative to the first peer, as SVG.
pub(crate) fn svg(report: &Report) -> String {
    let group = (report.peers.len() + 1) * BAR;
    let (width, height) = (NAMES + (RATIO_MAX * ONE) as usize + 20, 60 + report.cells.len() * group);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"16\">Processor time of the proxy for each transaction, relative to the first</text>\n"
    );
    for (at, peer) in report.peers.iter().enumerate() {
        let (x, colour) = (8 + at * 140, COLOURS[at % COLOURS.len()]);
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"26\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"35\">{peer}</text>", x + 14);
    }
    for (row, cell) in report.cells.iter().enumerate() {
        let top = 50 + row * group;
        let _ = writeln!(svg, "<text x=\"8\" y=\"{}\">{}</text>", top + group / 2, cell.cell);
        for (at, ratio) in cell.cpu.iter().enumerate() {
            bar(&mut svg, top + at * BAR, COLOURS[at % COLOURS.len()], ratio);
        }
    }
    let one = NAMES as f64 + ONE;
    let _ = writeln!(svg, "<line x1=\"{one}\" x2=\"{one}\" y1=\"44\" y2=\"{height}\" stroke=\"black\"/>");
    svg + "</svg>\n"
}

fn bar(svg: &mut String, y: usize, colour: &str, ratio: &Ratio) {
    let pixels = |ratio: f64| ratio.min(RATIO_MAX) * ONE;
    let (width, height) = (pixels(ratio.median), BAR - 2);
    let (from, to) = (NAMES as f64 + pixels(ratio.min), NAMES as f64 + pixels(ratio.max));
    let middle = y + height / 2;
    let _ = writeln!(
        svg,
        "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>\n\
         <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\" stroke-opacity=\"0.5\"/>"
    );
}
