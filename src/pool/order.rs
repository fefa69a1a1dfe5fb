//! The reorder window, pure: outcomes go in as they come, and out in the order of their indices.

use std::collections::VecDeque;

/// Holds back what came too early. Indices are handed in each once; the window of the input bounds
/// how many are held.
#[derive(Debug)]
pub(crate) struct Reorder<T> {
    /// The index of the first slot.
    next: u64,
    slots: VecDeque<Option<T>>,
}

impl<T> Reorder<T> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            slots: VecDeque::new(),
        }
    }

    /// Takes in the outcome of `index`.
    pub(crate) fn insert(&mut self, index: u64, value: T) {
        debug_assert!(index >= self.next, "an index comes once");
        // The distance is bounded by the window, so it fits.
        let slot = usize::try_from(index.saturating_sub(self.next)).unwrap_or(usize::MAX);
        while self.slots.len() <= slot {
            self.slots.push_back(None);
        }
        self.slots[slot] = Some(value);
    }

    /// The next outcome in order, if it has come.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if !matches!(self.slots.front(), Some(Some(_))) {
            return None;
        }
        self.next += 1;
        self.slots.pop_front().flatten()
    }

    /// The next outcome there is, when no more will come: gaps are skipped.
    pub(crate) fn pop_any(&mut self) -> Option<T> {
        while let Some(slot) = self.slots.pop_front() {
            self.next += 1;
            if slot.is_some() {
                return slot;
            }
        }
        None
    }

    /// All that is left when no more will come, gaps skipped, in order.
    pub(crate) fn into_rest(mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || self.pop_any())
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
