//! Classes of numbers: as wide as 1 at first, and then as a part of what they hold, so that few of
//! them tell small numbers and large ones apart equally well.

/// So many classes in each doubling of the number. It is a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Classes(u64);

impl Classes {
    pub(crate) const fn in_each_doubling(classes: u64) -> Self {
        assert!(classes.is_power_of_two());
        Self(classes)
    }

    pub(crate) fn class(self, number: u64) -> usize {
        let doubled = number.max(self.0).ilog2() - self.0.ilog2();
        let class = u64::from(doubled) * self.0 + (number >> doubled);
        usize::try_from(class).unwrap_or(usize::MAX)
    }

    /// The least number of a class.
    pub(crate) fn least(self, class: usize) -> u64 {
        let class = class as u64;
        let doubled = (class / self.0).saturating_sub(1);
        (class - doubled * self.0) << doubled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_in_its_class_and_no_class_is_wider_than_its_part(number in any::<u64>()) {
            let classes = Classes::in_each_doubling(16);
            let class = classes.class(number);
            let least = classes.least(class);
            prop_assert!(least <= number);
            prop_assert!(number - least <= number / 16);
            prop_assert_eq!(classes.class(least), class);
            let next = u128::from(least) + u128::from((least / 16).max(1));
            prop_assert!(u128::from(number) <= next);
            prop_assert!(class < 1_000);
        }
    }
}
