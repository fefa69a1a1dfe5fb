//! How many requests may be in flight at once: a number, or a range.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::{Result, config};

/// How many requests may be in flight at once: a number, or a range in which the limiter finds it.
///
/// Wherever a concurrency is asked for, give a number or a range: `.concurrency(20)`,
/// `.concurrency(4..=200)`. A single number holds from the start. In a range the number begins at
/// the low end, grows while the throughput grows with it, and shrinks when the latency rises and
/// the throughput does not. The guide's page on
/// [limits](crate::_guide::limits#a-range-of-concurrency) says how.
///
/// ```
/// use tollgate::{Concurrency, Limiter};
///
/// let range = Concurrency::from(4..=200);
/// assert_eq!((range.low(), range.high(), range.is_range()), (4, 200, true));
/// assert!(!Concurrency::from(20).is_range());
///
/// let limiter = Limiter::builder().concurrency(range).build()?;
/// limiter.set_concurrency(8)?;
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    low: usize,
    high: usize,
}

impl Concurrency {
    pub(super) const UNLIMITED: Self = Self::fixed(usize::MAX);

    pub(crate) const fn fixed(requests: usize) -> Self {
        Self {
            low: requests,
            high: requests,
        }
    }

    /// The low end of the range, or the single number.
    pub fn low(&self) -> usize {
        self.low
    }

    /// The high end of the range, or the single number.
    pub fn high(&self) -> usize {
        self.high
    }

    /// Whether it is a range of more than one number.
    pub fn is_range(&self) -> bool {
        self.low < self.high
    }

    pub(super) fn checked(self) -> Result<Self> {
        let what = if self.low == 0 || self.high == 0 {
            "a concurrency of 0 would admit nothing: give at least 1".to_owned()
        } else if self.low > self.high {
            format!("a concurrency of {self} is an empty range: give the lower number first")
        } else {
            return Ok(self);
        };
        Err(config(what).with_settings(&["concurrency"]))
    }
}

impl From<usize> for Concurrency {
    fn from(requests: usize) -> Self {
        Self::fixed(requests)
    }
}

impl From<RangeInclusive<usize>> for Concurrency {
    fn from(range: RangeInclusive<usize>) -> Self {
        let (low, high) = range.into_inner();
        Self { low, high }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            return self.low.fmt(f);
        }
        write!(f, "{}-{}", self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_range_become_one_and_what_admits_nothing_is_refused() {
        let of = |concurrency: Concurrency| (concurrency.low(), concurrency.high());
        assert_eq!(of(20.into()), (20, 20));
        assert_eq!(of((4..=200).into()), (4, 200));
        assert_eq!(Concurrency::from(4..=200).to_string(), "4-200");
        assert_eq!(Concurrency::from(7..=7), 7.into());
        assert!(Concurrency::from(4..=200).checked().is_ok());
        for (empty, what) in [
            (0.into(), "of 0"),
            ((0..=5).into(), "of 0"),
            #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
            ((200..=4).into(), "200-4"),
        ] {
            let error = Concurrency::checked(empty).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(error.settings(), ["concurrency"]);
        }
    }
}
