//! What the clients do.

use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

use crate::contender::Contender;

/// Rows that a transfer updates.
const UPDATES: usize = 5;
/// Rows that are hot, where the options do not say.
const HOT: u32 = 10;
/// Rows among which a hot spot moves, or one row is hot.
const MANY: u32 = 10_000;
/// How long a hot spot stays.
const STAY: Duration = Duration::from_secs(10);
/// What a client that thinks does between two statements.
const THINK: Duration = Duration::from_millis(20);

/// What the clients of a cell do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Five updates of rows that are drawn, in the order in which they are drawn.
    Transfers,
    /// The same on ten rows, and the client thinks for 20 ms before each further statement.
    Thinking,
    /// The same on ten rows, which are others every ten seconds.
    Moving,
    /// Half of the clients do the same on ten rows; the others each update rows of their own.
    Mixed,
    /// Those others alone.
    Calm,
    /// Two updates of five rows, and between them a transaction on five others over a second connection.
    Nested,
    /// Half of the clients begin with one and the same row; the others do the same with rows of their own.
    OneRow,
}

/// One thing that a client does in a transaction.
pub(crate) enum Step {
    Run(String),
    Think(Duration),
    /// A transaction of one statement on the client's second connection.
    Aside(String),
}

impl Work {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The numbers of rows with which it is measured.
    pub(crate) fn rows(self, chosen: &[u32]) -> Vec<u32> {
        match self {
            Self::Transfers => chosen.to_vec(),
            Self::Thinking | Self::Mixed | Self::Calm | Self::Nested => vec![HOT],
            Self::Moving | Self::OneRow => vec![MANY],
        }
    }

    /// Whether a contender takes part: gates of a fixed width would stop nested transactions for ever, and a client's own loop
    /// is not what calm ones are compared with.
    pub(crate) fn takes(self, contender: Contender) -> bool {
        match self {
            Self::Transfers | Self::Thinking | Self::Moving => true,
            Self::Mixed | Self::OneRow | Self::Nested => !matches!(contender, Contender::Gate(_)),
            Self::Calm => matches!(contender, Contender::Replay | Contender::Governed),
        }
    }

    /// Whether client `number` is one of the calm ones.
    pub(crate) const fn is_calm(self, number: usize) -> bool {
        matches!(self, Self::Mixed | Self::Calm | Self::OneRow) && number % 2 == 1
    }

    /// Whether client `number` has nothing to do.
    pub(crate) const fn is_absent(self, number: usize) -> bool {
        matches!(self, Self::Calm) && !self.is_calm(number)
    }

    /// The next transaction of a client, so long after the beginning.
    pub(crate) fn next(self, number: usize, rows: u32, since: Duration, rng: &mut Rng) -> Vec<Step> {
        if self.is_calm(number) {
            // Rows of its own, far from those of the others.
            let first = number as u32 * 16;
            // Where the row alone is to make the difference, the statement is that of the others.
            let table = if self == Self::OneRow { "hot" } else { "calm" };
            return (first..).take(UPDATES).map(|row| Step::Run(update(table, row))).collect();
        }
        let run = |row: u32| Step::Run(update("hot", row));
        match self {
            Self::Transfers | Self::Mixed | Self::Calm => draw(1..=rows, rng).map(run).collect(),
            Self::Thinking => {
                let steps = draw(1..=rows, rng).flat_map(|row| [Step::Think(THINK), run(row)]);
                steps.skip(1).collect()
            }
            Self::Moving => {
                let first = (since.as_secs() / STAY.as_secs()) as u32 * HOT % (rows - HOT) + 1;
                draw(first..=first + HOT - 1, rng).map(run).collect()
            }
            Self::Nested => {
                let half = rows / 2;
                let [first, last] = [(); 2].map(|()| run(rng.u32(1..=half)));
                vec![first, Step::Aside(update("hot", rng.u32(half + 1..=rows))), last]
            }
            Self::OneRow => {
                // The calm ones have rows up to the half.
                let others = draw(rows / 2..=rows, rng).take(UPDATES - 1);
                std::iter::once(1).chain(others).map(run).collect()
            }
        }
    }
}

fn draw(rows: std::ops::RangeInclusive<u32>, rng: &mut Rng) -> impl Iterator<Item = u32> + use<> {
    let mut drawn = rng.choose_multiple(rows, UPDATES);
    rng.shuffle(&mut drawn);
    drawn.into_iter()
}

fn update(table: &str, row: u32) -> String {
    format!("UPDATE {table} SET n = n + 1 WHERE id = {row}")
}
