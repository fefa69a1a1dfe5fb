//! The reorder window, pure: outcomes go in as they come, and out in the order of their indices.

use std::collections::BTreeMap;

/// Holds back what came too early. Indices are handed in each once; the window of the input bounds
/// how many are held.
pub(crate) struct Reorder<T> {
    /// The index that is next to go out.
    next: u64,
    held: BTreeMap<u64, T>,
}

impl<T> Reorder<T> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            held: BTreeMap::new(),
        }
    }

    /// Takes in the outcome of `index`.
    pub(crate) fn insert(&mut self, index: u64, value: T) {
        debug_assert!(index >= self.next, "an index comes once");
        self.held.insert(index, value);
    }

    /// How many are held back.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The next outcome in order, if it has come.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self.held.remove(&self.next)?;
        self.next += 1;
        Some(next)
    }

    /// All that is left when no more will come, gaps skipped, in order.
    pub(crate) fn into_rest(self) -> impl Iterator<Item = T> {
        self.held.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_order_goes_in_the_right_one_comes_out(
            order in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let mut reorder = Reorder::new();
            let mut out = Vec::new();
            for index in order {
                reorder.insert(index, index);
                while let Some(index) = reorder.pop() {
                    out.push(index);
                }
            }
            prop_assert_eq!(out, (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_comes_out_past_a_gap_until_the_end() {
        let mut reorder = Reorder::new();
        reorder.insert(1, 'b');
        reorder.insert(3, 'd');
        assert_eq!(reorder.pop(), None);
        assert_eq!(reorder.into_rest().collect::<String>(), "bd");
    }
}
