//! The texts of statements, by fingerprint and without their data: read once, for as long as there is room.

use std::sync::Arc;

use dashmap::DashMap;

use crate::replay::{Fingerprint, Reason, Statement, normalised, target};

/// Texts that are kept at most.
const TEXTS_MAX: usize = 4096;

/// What is known of a statement.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// What it says, without its data.
    pub(super) text: String,
    /// The table that it works on, as far as that is known.
    pub(super) table: Option<Box<str>>,
    /// Why a transaction with it could not be run again, if only a conflict tells: [`Statement::late_obstacle`].
    pub(super) late_obstacle: Option<Reason>,
}

/// The texts of statements.
#[derive(Debug, Default)]
pub(super) struct Statements(DashMap<u64, Arc<Text>>);

impl Statements {
    /// Keeps the text of a statement, unless it is known.
    pub(super) fn learn(&self, statement: Statement<'_>) {
        let Some(sql) = statement.sql else { return };
        let number = u64::from(statement.fingerprint);
        if self.0.contains_key(&number) {
            return;
        }
        let Some(text) = normalised(sql) else { return };
        if self.0.len() >= TEXTS_MAX {
            // Which one goes does not matter much: what is met again is learned again.
            let any = self.0.iter().next().map(|entry| *entry.key());
            any.into_iter().for_each(|any| drop(self.0.remove(&any)));
        }
        let (table, late_obstacle) = (target(sql).map(Into::into), statement.late_obstacle());
        self.0.insert(number, Arc::new(Text { text, table, late_obstacle }));
    }

    /// What is known of a statement.
    pub(super) fn get(&self, statement: Fingerprint) -> Option<Arc<Text>> {
        self.0.get(&u64::from(statement)).map(|text| Arc::clone(&text))
    }

    /// The text of a statement, or the number that stands for it.
    pub(super) fn text(&self, statement: Fingerprint) -> String {
        self.get(statement).map_or_else(|| format!("({})", label(statement)), |known| known.text.clone())
    }
}

/// A statement by its number.
pub(super) fn label(statement: Fingerprint) -> String {
    format!("{:016x}", u64::from(statement))
}
