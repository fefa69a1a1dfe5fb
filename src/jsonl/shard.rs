//! Shards: the rows of an input that one of several processes sends.
//!
//! The hash is CRC-32, which languages and databases have built in, so that others can tell where a
//! row is. It spreads ids that count up more evenly than chance would. It must
//! never change: a row that moves to another shard is paid for again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use flate2::Crc;

use crate::error::{Result, config};

/// One shard of several, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) index: u32,
    pub(crate) count: u32,
}

impl Shard {
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an index that is not below the count.
    pub(crate) fn new(index: u32, count: u32) -> Result<Self> {
        let why = match count.checked_sub(1) {
            Some(last) if index <= last => return Ok(Self { index, count }),
            Some(last) => format!("shards count from 0, so the last of {count} is {last}"),
            None => "there are no 0 shards: give 1 or more".to_owned(),
        };
        Err(config(why))
    }

    /// Whether the row with this id is in this shard. A row without an id goes by that of its
    /// record, `line-N`.
    pub(crate) fn has(self, id: Option<&str>, line: u64) -> bool {
        let hash = id.map_or_else(|| crc32(&format!("line-{line}")), crc32);
        hash % self.count == self.index
    }

    /// Its name in names of files.
    pub(crate) fn name(self) -> String {
        format!("shard-{}-of-{}", self.index, self.count)
    }

    /// What a file that is named after a shard has before the shard's name, and the shard.
    pub(crate) fn of_file(file: &str) -> Option<(&str, Self)> {
        let (stem, rest) = file.rsplit_once("shard-")?;
        let (index, rest) = rest.split_once("-of-")?;
        let (count, _) = rest.split_once('.')?;
        let shard = Self::new(index.parse().ok()?, count.parse().ok()?);
        Some((stem, shard.ok()?))
    }
}

/// Of the shards that these files are named after, those that have no file among them: how many,
/// and what the first few are called. If any file is named otherwise, it may have the rest.
pub(crate) fn missing<'a>(files: impl Iterator<Item = &'a str>, most: usize) -> (u64, Vec<String>) {
    let mut inputs = BTreeMap::<_, BTreeSet<u32>>::new();
    for file in files {
        let Some((stem, shard)) = Shard::of_file(file) else {
            return (0, Vec::new());
        };
        inputs
            .entry((stem, shard.count))
            .or_default()
            .insert(shard.index);
    }
    let (mut all, mut names) = (0, Vec::new());
    for ((stem, count), there) in inputs {
        all += u64::from(count) - there.len() as u64;
        let gaps = (0..count).filter(|index| !there.contains(index));
        let name = |index| format!("{stem}{}", Shard { index, count }.name());
        names.extend(gaps.map(name).take(most - names.len()));
    }
    (all, names)
}

/// `shard 0 of 8`
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.index, self.count)
    }
}

/// That of gzip, PNG and zlib: of `123456789` it is 0xcbf43926.
fn crc32(id: &str) -> u32 {
    let mut hash = Crc::new();
    hash.update(id.as_bytes());
    hash.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shards_with(id: &str, count: u32) -> Vec<u32> {
        let has = |index: &u32| Shard::new(*index, count).unwrap().has(Some(id), 0);
        (0..count).filter(has).collect()
    }

    /// From Python: `zlib.crc32(id.encode())`, and `% 8`, `% 1000`. Results are in files that are
    /// named by these numbers: a change here asks again for all that was paid for.
    #[test]
    fn the_shard_of_an_id_stays_what_it_was() {
        let long = "x".repeat(300);
        for (id, hash, of_8, of_1000) in [
            ("123456789", 0xcbf4_3926, 6, 262),
            ("a", 0xe8b7_be43, 3, 907),
            ("row-1", 0x063f_87e7, 7, 855),
            ("row-100000", 0xd9cb_c493, 3, 3),
            ("line-7", 0x57a4_0da5, 5, 189),
            ("b9cf1ab4-1c3b-4f0e-9d0e-1f2f3a4b5c6d", 0xcdbe_249a, 2, 490),
            ("Straße 7", 0x1520_0015, 5, 709),
            ("名前", 0xef1f_acb0, 0, 448),
            ("😀", 0x054d_b544, 4, 756),
            (" ", 0xe96c_cf45, 5, 277),
            (&long, 0x1b43_2d13, 3, 283),
        ] {
            assert_eq!(crc32(id), hash, "{id}");
            assert_eq!(shards_with(id, 8), [of_8], "{id}");
            assert_eq!(shards_with(id, 1_000), [of_1000], "{id}");
        }
    }

    #[test]
    fn a_row_without_an_id_goes_by_that_of_its_record() {
        for line in 1..100 {
            let [index] = shards_with(&format!("line-{line}"), 5)[..] else {
                panic!("one shard");
            };
            assert!(Shard::new(index, 5).unwrap().has(None, line));
        }
    }

    #[test]
    fn ids_that_count_up_are_spread_evenly() {
        for count in [2, 3, 7, 8, 10, 16] {
            let mut rows = vec![0; count];
            for n in 1..=100_000 {
                rows[crc32(&format!("row-{n}")) as usize % count] += 1;
            }
            let mean = 100_000 / count;
            let is_even = |rows: &usize| rows.abs_diff(mean) * 50 <= mean;
            assert!(rows.iter().all(is_even), "{count}: {rows:?}");
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn shards_without_a_file_are_told_by_the_names_of_the_others() {
        let told = |files: &str, named| missing(files.split(' '), named);
        let none = (0, Vec::new());
        let both = "p.shard-0-of-2.results.jsonl p.shard-1-of-2.errors.jsonl";
        assert_eq!(told(both, 9), none);
        let all = "p.shard-1-of-2.results.jsonl p.jsonl";
        assert_eq!(told(all, 9), none, "the other file may have the rest");
        let names = vec!["p.shard-0-of-2".to_owned(), "q.shard-1-of-4".to_owned()];
        let two = "q.shard-0-of-4.jsonl p.shard-1-of-2.jsonl q.shard-3-of-4.jsonl";
        assert_eq!(told(two, 2), (3, names));
        let (many, names) = told("p.shard-0-of-4294967295.jsonl", 1);
        assert_eq!((many, names.len()), (4_294_967_294, 1));
        assert_eq!(told("p.shard-8-of-8.jsonl", 9), none, "no shard");
    }

    #[test]
    fn a_shard_that_is_none_is_refused_with_the_last_one() {
        Shard::new(7, 8).unwrap();
        let told = Shard::new(8, 8).unwrap_err().to_string();
        assert!(told.contains("the last of 8 is 7"), "{told}");
        Shard::new(0, 0).unwrap_err();
    }

    proptest! {
        #[test]
        fn an_id_is_in_exactly_one_shard(id in ".{0,40}", count in 1_u32..40) {
            prop_assert_eq!(shards_with(&id, count).len(), 1);
        }
    }
}
