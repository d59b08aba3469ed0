//! The names of tables and indexes that conflicts name by numbers, and which of them are still to be looked up.
//!
//! Numbers are never used again, so a name stays for good. What could not be found is asked for again after a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Tables that are kept at most.
const TABLES_MAX: usize = 4096;
/// Time after which what was not found is looked up again.
const AGAIN: Duration = Duration::from_secs(60);

/// The names of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableNames {
    /// The table, with its schema unless that is `public`.
    pub table: String,
    /// Its indexes, by their numbers.
    pub indexes: BTreeMap<u32, String>,
}

/// What is known of a number.
#[derive(Debug)]
enum Known {
    Wanted,
    Missing(Instant),
    Names(Arc<TableNames>),
}

/// What is known of the numbers in each database.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<(Arc<str>, u32), Known>>);

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Arc<str>, u32), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of a table. If they are not known they are looked up.
    pub(super) fn get(&self, database: &Arc<str>, table: u32) -> Option<Arc<TableNames>> {
        let mut known = self.lock();
        let full = known.len() >= TABLES_MAX;
        match known.get_mut(&(Arc::clone(database), table)) {
            Some(Known::Names(names)) => return Some(Arc::clone(names)),
            Some(Known::Wanted) => {}
            Some(entry @ Known::Missing(_)) => {
                if matches!(entry, Known::Missing(since) if since.elapsed() > AGAIN) {
                    *entry = Known::Wanted;
                }
            }
            None if full => {}
            None => {
                known.insert((Arc::clone(database), table), Known::Wanted);
            }
        }
        None
    }

    /// The tables whose names are to be looked up, by their databases.
    pub(super) fn wanted(&self) -> BTreeMap<Arc<str>, Vec<u32>> {
        let mut wanted = BTreeMap::<_, Vec<_>>::new();
        for ((database, table), known) in self.lock().iter() {
            if matches!(known, Known::Wanted) {
                wanted.entry(Arc::clone(database)).or_default().push(*table);
            }
        }
        wanted
    }

    /// What a lookup has found; `None` if there is no such table, or nobody may see it.
    pub(super) fn learn(&self, database: &Arc<str>, table: u32, names: Option<TableNames>) {
        let known =
            names.map_or_else(|| Known::Missing(Instant::now()), |names| Known::Names(Arc::new(names)));
        self.lock().insert((Arc::clone(database), table), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_wanted_until_it_is_known_or_missing() {
        let (names, database) = (Names::default(), Arc::<str>::from("bank"));
        assert_eq!((names.get(&database, 106), names.get(&database, 107)), (None, None));
        let mut wanted = names.wanted().remove(&database).unwrap();
        wanted.sort();
        assert_eq!(wanted, [106, 107]);
        let accounts = TableNames { table: "accounts".into(), indexes: [(1, "accounts_pkey".into())].into() };
        names.learn(&database, 106, Some(accounts.clone()));
        names.learn(&database, 107, None);
        assert_eq!(names.get(&database, 106).as_deref(), Some(&accounts));
        assert_eq!(names.get(&database, 107), None);
        assert!(names.wanted().is_empty());
    }
}
