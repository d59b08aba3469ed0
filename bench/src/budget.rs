//! The instructions that a transaction may take, as committed in `bench/budget.toml`.

use std::collections::BTreeMap;

/// How much more than the budget is too much, in percent.
pub const TOLERANCE_PERCENT: u64 = 3;

/// Instructions for each round trip, by session and mode.
pub type Budget = BTreeMap<String, u64>;

/// What is wrong with figures that were measured, compared with the budget.
pub fn judge(budget: &Budget, measured: &Budget) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, &figure) in measured {
        match budget.get(name) {
            None => wrong.push(format!("{name} has no budget")),
            Some(&allowed) => {
                let percent = (figure as f64 / allowed as f64 - 1.0) * 100.0;
                if figure * 100 > allowed * (100 + TOLERANCE_PERCENT) {
                    wrong.push(format!(
                        "{name} takes {figure} instructions, {percent:.1} % more than {allowed}"
                    ));
                }
                if figure * 100 < allowed * (100 - TOLERANCE_PERCENT) {
                    wrong.push(format!(
                        "{name} takes only {figure} instructions of {allowed}: lower its budget"
                    ));
                }
            }
        }
    }
    let unknown = budget.keys().filter(|name| !measured.contains_key(*name));
    wrong.extend(unknown.map(|name| format!("{name} has a budget and is not measured")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[(&str, u64)]) -> Budget {
        figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    #[test]
    fn a_few_per_cent_are_tolerated_and_no_more() {
        let budget = of(&[("a", 1000)]);
        for within in [970, 1000, 1030] {
            assert!(judge(&budget, &of(&[("a", within)])).is_empty(), "{within}");
        }
        assert!(judge(&budget, &of(&[("a", 1031)]))[0].contains("3.1 % more than 1000"));
        assert!(judge(&budget, &of(&[("a", 969)]))[0].contains("lower its budget"));
    }

    #[test]
    fn every_figure_has_a_budget_and_every_budget_a_figure() {
        let wrong = judge(&of(&[("a", 1)]), &of(&[("b", 1)]));
        assert_eq!(wrong, ["b has no budget", "a has a budget and is not measured"]);
    }
}
