//! The instructions that a round trip may take, as committed in `bench/budget.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How much more than the budget is too much, in percent; so much less is told.
pub const TOLERANCE_PERCENT: u64 = 5;

/// Instructions for each round trip, by session and mode.
pub type Figures = BTreeMap<String, u64>;

/// The file: figures, and whose code they were counted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The version of the compiler. That of another one may be lighter or heavier by more than is tolerated.
    pub compiler: String,
    /// What is allowed.
    pub instructions: Figures,
}

/// What there is to say of figures that were measured.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong: each of it fails the check.
    pub wrong: Vec<String>,
    /// What is better than the budget: as long as it stays as it is, that much can be lost again unnoticed.
    pub lighter: Vec<String>,
}

/// Compares what was measured with what is allowed.
pub fn judge(allowed: &Figures, measured: &Figures) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, &figure) in measured {
        let Some(&allowed) = allowed.get(name) else {
            verdict.wrong.push(format!("{name} has no budget"));
            continue;
        };
        let percent = (figure as f64 / allowed as f64 - 1.0) * 100.0;
        let told = format!("{name}: {figure} instructions, {percent:+.1} % against {allowed}");
        if figure * 100 > allowed * (100 + TOLERANCE_PERCENT) {
            verdict.wrong.push(told);
        } else if figure * 100 < allowed * (100 - TOLERANCE_PERCENT) {
            verdict.lighter.push(told);
        }
    }
    let unknown = allowed.keys().filter(|name| !measured.contains_key(*name));
    verdict.wrong.extend(unknown.map(|name| format!("{name} has a budget and is not measured")));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[(&str, u64)]) -> Figures {
        figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    #[test]
    fn a_few_per_cent_are_tolerated_and_no_more() {
        let allowed = of(&[("a", 1000)]);
        for within in [950, 1000, 1050] {
            assert_eq!(judge(&allowed, &of(&[("a", within)])), Verdict::default(), "{within}");
        }
        let heavier = judge(&allowed, &of(&[("a", 1051)]));
        assert_eq!(heavier.wrong, ["a: 1051 instructions, +5.1 % against 1000"]);
        let lighter = judge(&allowed, &of(&[("a", 949)]));
        assert_eq!(
            (lighter.wrong.len(), lighter.lighter),
            (0, vec!["a: 949 instructions, -5.1 % against 1000".to_owned()])
        );
    }

    #[test]
    fn every_figure_has_a_budget_and_every_budget_a_figure() {
        let verdict = judge(&of(&[("a", 1)]), &of(&[("b", 1)]));
        assert_eq!(verdict.wrong, ["b has no budget", "a has a budget and is not measured"]);
    }
}
