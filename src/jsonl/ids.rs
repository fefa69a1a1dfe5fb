//! Ids of rows: those that rows without one get, and tables of ids, kept as 128-bit hashes in a
//! sorted vector.
//!
//! An entry with a number takes 24 bytes, less than half of what a hash map takes. The hash stands
//! for the id: among n ids two share one by chance with a probability of n² / 2¹²⁹, for ten million
//! ids once in some 10²⁴ files.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::format::InputRow;
use super::hash::LineHash;
use crate::escape::printable;

/// How many of a list a message names.
pub(crate) const NAMED: usize = 20;

/// What a message lists: the first few of so many, each on a line.
pub(crate) fn listed(lines: impl IntoIterator<Item = String>, all: u64) -> String {
    let mut named: Vec<String> = lines.into_iter().take(NAMED).collect();
    let more = all.saturating_sub(named.len() as u64);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join("\n  ")
}

/// An id as a message shows it.
pub(super) fn quoted(id: &str) -> String {
    format!("\"{}\"", printable(id, 100))
}

/// Values by id, each id once: sorted when it is made, then only searched.
#[derive(Debug)]
pub(super) struct IdTable<V> {
    entries: Vec<(LineHash, V)>,
    /// Where the entries of each bucket begin; one more at the end. A bucket is the ids whose first
    /// bits are the same. Hashes are spread evenly, so it holds some eight: a plain binary search
    /// over a million ids waits for memory ten times, and took a third of a resume's time.
    starts: Vec<usize>,
    /// How many bits of a hash's first half do not choose its bucket.
    shift: u32,
}

impl<V> Default for IdTable<V> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<V> IdTable<V> {
    /// Of several entries with one id the last holds.
    pub(super) fn new(entries: Vec<(LineHash, V)>) -> Self {
        Self::of_best(entries, |_| 0)
    }

    /// Of several entries with one id, the last of the highest rank holds.
    pub(super) fn of_best(mut entries: Vec<(LineHash, V)>, rank: impl Fn(&V) -> u8) -> Self {
        keep_best(&mut entries, rank);
        Self::sorted(entries)
    }

    /// Of entries that are sorted by their ids, which are there once.
    pub(super) fn sorted(entries: Vec<(LineHash, V)>) -> Self {
        let bits = (entries.len() / 8).max(1).ilog2();
        let shift = u64::BITS - bits;
        let start = |bucket| entries.partition_point(|(id, _)| bucket_of(*id, shift) < bucket);
        let starts = (0..=1 << bits).map(start).collect();
        Self {
            entries,
            starts,
            shift,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, id: LineHash) -> Option<&V> {
        self.find(id).map(|at| &self.entries[at].1)
    }

    pub(super) fn get_mut(&mut self, id: LineHash) -> Option<&mut V> {
        self.find(id).map(|at| &mut self.entries[at].1)
    }

    fn find(&self, id: LineHash) -> Option<usize> {
        let bucket = bucket_of(id, self.shift);
        let start = self.starts[bucket];
        let same_bits = &self.entries[start..self.starts[bucket + 1]];
        let position = same_bits.binary_search_by_key(&id, |(id, _)| *id);
        position.ok().map(|position| start + position)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(LineHash, V)> {
        self.entries.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }
}

/// Sorts entries by their ids, and keeps of those with one id the last of the highest rank.
pub(super) fn keep_best<V>(entries: &mut Vec<(LineHash, V)>, rank: impl Fn(&V) -> u8) {
    // The sort is stable, so the last one comes first, and is the one that stays.
    entries.reverse();
    entries.sort_by_key(|(id, value)| (*id, Reverse(rank(value))));
    entries.dedup_by_key(|(id, _)| *id);
}

fn bucket_of(id: LineHash, shift: u32) -> usize {
    // A single bucket is chosen by no bit, and the number of buckets is a `usize`.
    let bits = id.high.checked_shr(shift).unwrap_or(0);
    usize::try_from(bits).unwrap_or(0)
}

/// Every line whose id an earlier line has, in the order of the file: the first line with the id,
/// and this one. `lines` are all ids with their physical lines.
pub(super) fn duplicates(mut lines: Vec<(LineHash, u64)>) -> Vec<(u64, u64)> {
    lines.sort_unstable();
    let mut duplicates = Vec::new();
    for same in lines.chunk_by(|one, other| one.0 == other.0) {
        let first = same[0].1;
        duplicates.extend(same[1..].iter().map(|&(_, again)| (first, again)));
    }
    duplicates.sort_unstable_by_key(|&(_, again)| again);
    duplicates
}

/// Ids for rows that have none of their own: the hash of the request, and how often it has come.
/// It is counted in the order of the input. The rows of an input are named alike in every pass
/// over it, as long as their order stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Occurrences {
    /// By half of the hash, which takes a third less memory. Should two share it, one of them has a
    /// number that it does not need.
    counts: HashMap<u64, u32>,
    /// The requests that come more than once are known: no others are counted.
    only_repeated: bool,
}

impl Occurrences {
    /// Those for a further pass over the same input. It takes memory for requests that come more
    /// than once, and for no others.
    pub(super) fn again(self) -> Self {
        let repeated = self.counts.into_iter().filter(|(_, count)| *count > 1);
        Self {
            counts: repeated.map(|(hash, _)| (hash, 0)).collect(),
            only_repeated: true,
        }
    }

    /// Whether a row can be passed over without being read.
    pub(super) fn are_none(&self) -> bool {
        self.only_repeated && self.counts.is_empty()
    }

    /// The id of the next row, if it differs from the hash of its request.
    pub(super) fn id(&mut self, hash: LineHash) -> Option<String> {
        let count = if self.only_repeated {
            self.counts.get_mut(&hash.low)?
        } else {
            self.counts.entry(hash.low).or_default()
        };
        *count += 1;
        (*count > 1).then(|| format!("{hash}-{count}"))
    }

    /// Names the next row.
    pub(super) fn name(&mut self, row: &mut InputRow<'_>) {
        if let Some(id) = row.hash.and_then(|hash| self.id(hash)) {
            row.custom_id = Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u64) -> LineHash {
        LineHash::of(number.to_le_bytes())
    }

    #[test]
    fn an_entry_with_a_number_takes_24_bytes() {
        assert_eq!(size_of::<(LineHash, u64)>(), 24);
    }

    proptest! {
        #[test]
        fn a_table_answers_as_a_map_does(entries in prop::collection::vec((0..500_u64, any::<u64>()), 0..600)) {
            let map: HashMap<u64, u64> = entries.iter().copied().collect();
            let table = entries.iter().map(|(key, value)| (id(*key), *value));
            let table = IdTable::new(table.collect());
            prop_assert_eq!(table.len(), map.len());
            for key in 0..510 {
                prop_assert_eq!(table.get(id(key)), map.get(&key));
            }
        }
    }
}
