//! Ids for rows that have none of their own: the hash of the request, and how often it has come.

use std::collections::HashMap;

use super::format::InputRow;
use super::hash::LineHash;

/// Counts requests in the order of the input. The rows of an input are named alike in every pass
/// over it, as long as their order stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occurrences {
    /// By half of the hash, which takes a third less memory. Should two share it, one of them has a
    /// number that it does not need.
    counts: HashMap<u64, u32>,
    /// The requests that come more than once are known: no others are counted.
    only_repeated: bool,
}

impl Occurrences {
    pub(super) fn new() -> Self {
        Self {
            counts: HashMap::new(),
            only_repeated: false,
        }
    }

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

    #[test]
    fn a_request_that_comes_again_has_another_id_the_same_in_every_pass() {
        let rows = ["a", "b", "a", "c", "a", "b"].map(LineHash::of);
        let mut first = Occurrences::new();
        let ids = rows.map(|hash| first.id(hash));
        let [a, b] = [rows[0], rows[1]];
        let second = |hash, n| Some(format!("{hash}-{n}"));
        assert_eq!(
            ids,
            [None, None, second(a, 2), None, second(a, 3), second(b, 2)]
        );
        let mut again = first.again();
        assert_eq!(again.counts.len(), 2);
        assert_eq!(rows.map(|hash| again.id(hash)), ids);
        let mut alone = Occurrences::new();
        alone.id(a);
        assert!(!alone.are_none() && alone.again().are_none());
    }
}
