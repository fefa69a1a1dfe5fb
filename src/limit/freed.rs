//! Places in flight that are given back, counted without the lock.
//!
//! A permit that is dropped as it was reserved can only make room, and takes no lock for it unless
//! the head lies down for a place and has to be rung. The count and that mark are one word, and each
//! side changes it in one step that also tells what was there before: `NOTES.md` has why no place is
//! missed.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// How many places have been given back, and whether the head lies down for one.
#[derive(Debug, Default)]
pub(super) struct Freed(AtomicUsize);

/// How many of them have been looked at already. Both numbers wrap round; the difference counts.
#[derive(Debug, Default)]
pub(super) struct Counted(usize);

/// The mark, below the count.
const WANTED: usize = 1;
/// One place.
const PLACE: usize = 2;

impl Freed {
    /// Gives a place back; the answer is whether the mark was set.
    #[inline]
    pub(super) fn add(&self) -> bool {
        // Released here and acquired by whoever counts it: what was done under a permit comes before
        // what is done under the next, as with a lock.
        self.0.fetch_add(PLACE, Ordering::AcqRel) & WANTED != 0
    }

    /// How many places have been given back since this was last asked.
    #[inline]
    pub(super) fn count(&self, counted: &mut Counted) -> usize {
        counted.advance(self.0.load(Ordering::Acquire))
    }

    /// Sets the mark, and counts the places that were given back before it.
    pub(super) fn mark(&self, counted: &mut Counted) -> usize {
        counted.advance(self.0.fetch_or(WANTED, Ordering::AcqRel))
    }

    /// Takes the mark away: under the limiter's lock, or it may be another head's by then.
    pub(super) fn unmark(&self) {
        self.0.fetch_and(!WANTED, Ordering::AcqRel);
    }
}

impl Counted {
    #[inline]
    fn advance(&mut self, word: usize) -> usize {
        let count = word & !WANTED;
        count.wrapping_sub(std::mem::replace(&mut self.0, count)) / PLACE
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_told_and_not_counted() {
        let (freed, mut counted) = (Freed::default(), Counted::default());
        assert!(!freed.add());
        assert_eq!(freed.mark(&mut counted), 1);
        assert!(freed.add());
        freed.unmark();
        assert!(!freed.add());
        assert_eq!(freed.count(&mut counted), 2);
        assert_eq!(freed.count(&mut counted), 0);
    }

    #[test]
    fn the_count_goes_on_where_its_number_wraps_round() {
        let last = usize::MAX & !WANTED;
        let (freed, mut counted) = (Freed(AtomicUsize::new(last)), Counted(last));
        for _ in 0..3 {
            freed.add();
        }
        assert_eq!(freed.count(&mut counted), 3);
    }
}
