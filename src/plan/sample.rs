//! A sample of bounded size, spread evenly over all that is added.

/// Takes any number of things, and keeps a bounded number of them.
#[derive(Clone, Debug)]
pub(crate) struct Sample<T> {
    kept: Vec<T>,
    most: usize,
    /// How many there were.
    pub(crate) seen: u64,
    /// One in so many is kept.
    stride: u64,
}

impl<T> Sample<T> {
    /// Keeps at most so many, two at least.
    pub(crate) fn of_at_most(most: usize) -> Self {
        Self {
            kept: Vec::new(),
            most: most.max(2),
            seen: 0,
            stride: 1,
        }
    }

    /// If there are too many, every other one goes.
    pub(crate) fn add(&mut self, thing: T) {
        let is_kept = self.seen.is_multiple_of(self.stride);
        self.seen += 1;
        if !is_kept {
            return;
        }
        if self.kept.len() == self.most {
            let mut stays = false;
            self.kept.retain(|_| {
                stays = !stays;
                stays
            });
            self.stride *= 2;
        }
        self.kept.push(thing);
    }

    /// Those that are kept, in their order.
    pub(crate) fn into_kept(self) -> Vec<T> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_all_and_of_many_some_from_everywhere() {
        for all in [0, 1, 100, 101, 250, 10_000_u64] {
            let mut sample = Sample::of_at_most(100);
            (0..all).for_each(|thing| sample.add(thing));
            assert_eq!(sample.seen, all);
            let kept = sample.into_kept();
            let least = usize::try_from(all.min(50)).unwrap();
            assert!((least..=100).contains(&kept.len()), "{all}: {}", kept.len());
            assert!(kept.is_sorted());
            let mean = kept.iter().sum::<u64>() as f64 / kept.len().max(1) as f64;
            let middle = all.saturating_sub(1) as f64 / 2.0;
            assert!((mean - middle).abs() <= 0.02 * all as f64, "{all}: {mean}");
        }
    }
}
