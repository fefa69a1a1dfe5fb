//! A table of ids, as small as can be: sorted once, then only asked.
//!
//! An entry is 16 bytes of hash and its value, so 24 bytes for a number; a hash map of the same
//! takes twice that or more, and is slower to fill. The hash of the id stands for the id: among
//! n ids, two share one by chance with a probability of n² / 2¹²⁹: for ten million, once in some
//! 10²⁴ files.

use super::super::hash::LineHash;

/// An id and what there is to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct IdEntry<V> {
    id: (u64, u64),
    pub(super) value: V,
}

impl<V> IdEntry<V> {
    pub(in super::super) fn new(id: LineHash, value: V) -> Self {
        Self {
            id: id.halves(),
            value,
        }
    }
}

/// Entries by their id, each once.
#[derive(Debug)]
pub(in super::super) struct IdTable<V>(Vec<IdEntry<V>>);

impl<V> Default for IdTable<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Copy> IdTable<V> {
    /// Of several entries with one id the last holds.
    pub(in super::super) fn new(mut entries: Vec<IdEntry<V>>) -> Self {
        // Stable: what comes later stays behind.
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by(|later, kept| {
            let same = later.id == kept.id;
            if same {
                *kept = *later;
            }
            same
        });
        Self(entries)
    }

    /// Keeps the entries that `keep` holds for.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&IdEntry<V>) -> bool) {
        self.0.retain(|entry| keep(entry));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of the hashes.
    pub(super) fn into_entries(self) -> impl Iterator<Item = IdEntry<V>> {
        self.0.into_iter()
    }

    /// What this table has for the id of another's entry.
    pub(super) fn value_of(&self, entry: &IdEntry<impl Copy>) -> Option<V> {
        self.place(entry.id).map(|place| self.0[place].value)
    }

    pub(super) fn get(&self, id: LineHash) -> Option<V> {
        self.find(id).map(|(_, value)| value)
    }

    /// The value, and its place among all.
    pub(super) fn find(&self, id: LineHash) -> Option<(usize, V)> {
        let place = self.place(id.halves())?;
        Some((place, self.0[place].value))
    }

    /// Hashes are uniform, so a place is known from the hash alone, give or take the square root of
    /// the number of entries, and from a neighbour the better the nearer it is: after a few steps
    /// there is little left to search. A search of all would touch memory far apart, which is what
    /// costs time.
    fn place(&self, id: (u64, u64)) -> Option<usize> {
        let entries = &self.0;
        let last = entries.len().checked_sub(1)?;
        let spread = |hashes: u64| {
            let entries = (u128::from(hashes) * entries.len() as u128) >> 64;
            usize::try_from(entries).unwrap_or(usize::MAX)
        };
        let mut at = spread(id.0);
        for _ in 0..4 {
            let here = entries[at].id.0;
            let away = spread(id.0.abs_diff(here));
            at = if here < id.0 {
                at.saturating_add(away).min(last)
            } else {
                at.saturating_sub(away)
            };
        }
        let mut reach = 4;
        loop {
            let from = at.saturating_sub(reach);
            let to = at.saturating_add(reach).min(entries.len());
            let not_below = from == 0 || entries[from].id <= id;
            let not_above = to == entries.len() || entries[to].id > id;
            if not_below && not_above {
                let within = entries[from..to].binary_search_by_key(&id, |entry| entry.id);
                return within.ok().map(|place| from + place);
            }
            reach = reach.saturating_mul(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn id(number: u64) -> LineHash {
        LineHash::of(&number.to_le_bytes())
    }

    #[test]
    fn an_entry_of_a_number_takes_24_bytes() {
        assert_eq!(size_of::<IdEntry<u64>>(), 24);
    }

    #[test]
    fn all_of_many_are_found_and_no_others() {
        for count in [0, 1, 2, 3, 1_000, 50_000] {
            let entries = (0..count).map(|number| IdEntry::new(id(number), number));
            let table = IdTable::new(entries.collect());
            assert_eq!(table.len() as u64, count);
            for number in 0..count {
                assert_eq!(table.get(id(number)), Some(number), "of {count}");
            }
            for number in count..count + 1_000 {
                assert_eq!(table.get(id(number)), None, "of {count}");
            }
        }
    }

    #[test]
    fn ids_that_are_not_spread_evenly_are_found_too() {
        // As somebody might choose them who knows the hash: all at one end.
        for high in [0, u64::MAX] {
            let entries: Vec<_> = (0..10_000)
                .map(|low| IdEntry {
                    id: (high, low),
                    value: low,
                })
                .collect();
            let table = IdTable::new(entries);
            for low in 0..10_000 {
                let place = table.place((high, low)).map(|place| place as u64);
                assert_eq!(place, Some(low));
            }
            assert_eq!(table.place((high, 10_000)), None);
            assert_eq!(table.place((5, 5)), None);
        }
    }

    proptest! {
        #[test]
        fn it_answers_as_a_map_does(entries in prop::collection::vec((0..50_u64, any::<u64>()), 0..200)) {
            let map: HashMap<u64, u64> = entries.iter().copied().collect();
            let table = entries.iter().map(|(key, value)| IdEntry::new(id(*key), *value));
            let table = IdTable::new(table.collect());
            prop_assert_eq!(table.len(), map.len());
            for key in 0..60 {
                prop_assert_eq!(table.get(id(key)), map.get(&key).copied());
            }
        }
    }
}
