//! Which value the transactions of a class have in common that waste their attempts: the key of a hot row, if it is one.
//!
//! Each transaction comes with some numbers that stand for the values of its first statement. Where one of them is behind a good
//! part of the waste, and transactions without it hardly waste anything, those with it are to be a class of their own: the others
//! have nobody to wait for. Where all values fare alike, as when rows are drawn from a few, there is nothing to be told apart.

use super::window::End;

/// Values that are watched at a time.
const WATCHED: usize = 32;
/// Attempts after which what was counted so far counts half.
const FADES: u32 = 512;
/// Attempts in vain before a value is blamed.
const PROOF: u32 = 8;
/// Attempts of others before a value is blamed.
const OTHERS: u32 = 16;
/// The share of the waste that must be of one value.
const SHARE: f64 = 0.3;
/// How much more of its attempts it must waste than the others.
const TIMES: f64 = 2.0;

/// Attempts, and how many of them were in vain.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    attempts: u32,
    wasted: u32,
}

impl Tally {
    const fn count(&mut self, wasted: u32) {
        self.attempts += 1;
        self.wasted += wasted;
    }

    const fn fade(&mut self) {
        self.attempts /= 2;
        self.wasted /= 2;
    }
}

/// A value, and how those with it and those without it fared since it is watched.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    value: u64,
    with: Tally,
    without: Tally,
}

impl Suspect {
    fn is_hot(&self) -> bool {
        let Self { with, without, .. } = self;
        let (wasted, in_vain) = (f64::from(with.wasted), f64::from(without.wasted));
        // Counts spread by their square root: so many for certain, and so many at most.
        let (least, most) = (wasted - wasted.sqrt(), in_vain + in_vain.sqrt() + 1.0);
        with.wasted >= PROOF
            && without.attempts >= OTHERS
            && wasted >= SHARE * (wasted + in_vain)
            && least / f64::from(with.attempts) >= TIMES * most / f64::from(without.attempts)
    }
}

/// What is known of the values of one class.
#[derive(Debug)]
pub(super) struct Heat {
    suspects: Vec<Suspect>,
    /// Attempts since the counts were halved.
    attempts: u32,
}

impl Heat {
    pub(super) const fn new() -> Self {
        Self { suspects: Vec::new(), attempts: 0 }
    }

    /// An attempt with these values has ended; zeros are none. Returns a value that is to be told apart from the others, once.
    pub(super) fn note(&mut self, values: &[u64], end: End) -> Option<u64> {
        let wasted = match end {
            End::Done => 0,
            End::Wasted => 1,
            End::Unknown => return None,
        };
        for suspect in &mut self.suspects {
            let tally =
                if values.contains(&suspect.value) { &mut suspect.with } else { &mut suspect.without };
            tally.count(wasted);
        }
        self.attempts += 1;
        if self.attempts >= FADES {
            self.fade();
        }
        // Only what is wasted makes a value worth watching.
        if wasted == 0 {
            return None;
        }
        values.iter().filter(|value| **value != 0).for_each(|value| self.watch(*value));
        let hot =
            self.suspects.iter().position(|suspect| values.contains(&suspect.value) && suspect.is_hot());
        hot.map(|at| self.suspects.swap_remove(at).value)
    }

    /// Watches a value that an attempt was wasted with.
    fn watch(&mut self, value: u64) {
        if self.suspects.iter().any(|suspect| suspect.value == value) {
            return;
        }
        if self.suspects.len() == WATCHED {
            let least = (0..WATCHED).min_by_key(|at| self.suspects[*at].with.wasted).unwrap_or(0);
            self.suspects.swap_remove(least);
        }
        let with = Tally { attempts: 1, wasted: 1 };
        self.suspects.push(Suspect { value, with, without: Tally::default() });
    }

    fn fade(&mut self) {
        self.attempts = 0;
        for suspect in &mut self.suspects {
            suspect.with.fade();
            suspect.without.fade();
        }
        self.suspects.retain(|suspect| suspect.with.wasted > 0);
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    #[test]
    fn the_value_that_all_waste_has_in_common_is_told_once() {
        let (mut heat, mut rng, mut told) = (Heat::new(), Rng::with_seed(1), Vec::new());
        for _ in 0..200 {
            let hot = rng.bool();
            let values = [if hot { 7 } else { rng.u64(100..10_000) }, 0];
            let end = if hot && rng.bool() { End::Wasted } else { End::Done };
            told.extend(heat.note(&values, end));
            told.iter().for_each(|value| assert_eq!(*value, 7));
            if !told.is_empty() {
                break;
            }
        }
        assert_eq!(told, [7]);
        assert!(heat.suspects.iter().all(|suspect| suspect.value != 7));
    }

    #[test]
    fn where_all_values_fare_alike_none_is_told() {
        for seed in 0..200 {
            let (mut heat, mut rng) = (Heat::new(), Rng::with_seed(seed));
            let values = [1, 2, 3, 10, 100][seed as usize % 5];
            for _ in 0..2000 {
                // One value is in every statement.
                let drawn = [99, 1000 + rng.u64(0..values)];
                let end = if rng.u32(0..10) < 4 { End::Wasted } else { End::Done };
                assert_eq!(heat.note(&drawn, end), None, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_was_long_ago_fades() {
        let mut heat = Heat::new();
        (0..4).for_each(|_| assert_eq!(heat.note(&[7], End::Wasted), None));
        (0..4 * FADES).for_each(|_| assert_eq!(heat.note(&[8], End::Done), None));
        assert_eq!(heat.note(&[7], End::Wasted), None, "four were long ago");
        assert_eq!(heat.note(&[7], End::Unknown), None);
        assert!(heat.attempts < FADES && heat.suspects.len() == 1);
    }
}
