//! The ids of a file, and which of them stand in more than one line.
//!
//! Kept as 128-bit hashes and sorted at the end: 24 bytes a row (twice that while the table is being
//! extended), less than half of what a hash set takes.

use super::hash::LineHash;

/// Ids with the lines they stand in.
#[derive(Debug, Default)]
pub(super) struct Ids(Vec<Id>);

/// Sorts by id, then by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    hash: (u64, u64),
    line: u64,
}

/// Two physical lines with one `custom_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duplicate {
    /// Where the id stands for the first time.
    pub(crate) first: u64,
    pub(crate) again: u64,
}

impl Ids {
    pub(super) fn note(&mut self, id: LineHash, line: u64) {
        let hash = id.halves();
        self.0.push(Id { hash, line });
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Every line whose id an earlier line has, in the order of the file.
    pub(super) fn duplicates(mut self) -> Vec<Duplicate> {
        self.0.sort_unstable();
        let mut duplicates: Vec<_> = self
            .0
            .chunk_by(|one, other| one.hash == other.hash)
            .flat_map(|same| {
                same[1..].iter().map(|id| Duplicate {
                    first: same[0].line,
                    again: id.line,
                })
            })
            .collect();
        duplicates.sort_unstable_by_key(|duplicate| duplicate.again);
        duplicates
    }
}
