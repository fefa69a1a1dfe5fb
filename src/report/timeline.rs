//! What happened when: attempts counted in bins of time, in memory that does not grow with their
//! count or with the time that they took.
//!
//! Bins are narrow at first. When more of them hold something than may be, each bin is put together
//! with its neighbours. Bins that hold nothing do not count, so a night between two runs costs no
//! detail.

use std::collections::BTreeMap;
use std::mem;

use super::histogram::Histogram;
use crate::jsonl::facts::Span;

/// So many bins may hold something.
const MOST_BINS: u64 = 240;

/// How wide bins are, in milliseconds: each width is some of the one before, and most are what
/// clocks show. A century has less than [`MOST_BINS`] of the last.
const WIDTHS: [(u64, &str); 17] = [
    (100, "0.1 s"),
    (200, "0.2 s"),
    (1_000, "1 s"),
    (2_000, "2 s"),
    (10_000, "10 s"),
    (30_000, "30 s"),
    (60_000, "1 min"),
    (120_000, "2 min"),
    (600_000, "10 min"),
    (1_800_000, "30 min"),
    (3_600_000, "1 h"),
    (7_200_000, "2 h"),
    (21_600_000, "6 h"),
    (86_400_000, "1 day"),
    (604_800_000, "7 days"),
    (6_048_000_000, "70 days"),
    (60_480_000_000, "700 days"),
];

/// Attempts by time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// The place of the bins' width in [`WIDTHS`].
    width: usize,
    /// By their start, in widths since 1970.
    bins: BTreeMap<u64, Bin>,
    /// The first start and the last end, in milliseconds since 1970.
    pub(super) range: Option<(u64, u64)>,
}

/// What happened in a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Bin {
    /// Requests sent.
    pub(super) sent: u64,
    /// Model tokens of the requests that were sent then, and of their answers.
    pub(super) tokens: u64,
    /// Attempts that ended then and failed.
    pub(super) failed: u64,
    /// The time that all attempts were under way, in milliseconds: divided by the bin's width, how
    /// many were in flight.
    pub(super) busy_ms: u64,
    /// How long the attempts took that ended then with an answer.
    pub(super) answers: Histogram,
}

/// A bin in a plot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'t> {
    /// When it began, in milliseconds since 1970.
    pub(super) start_ms: u64,
    /// Its place in the plot, in widths from the left: long empty times are left out.
    pub(super) place: u64,
    pub(super) bin: &'t Bin,
}

impl Timeline {
    pub(super) fn width_ms(&self) -> u64 {
        WIDTHS[self.width].0
    }

    /// The width in words.
    pub(super) fn width(&self) -> &'static str {
        WIDTHS[self.width].1
    }

    /// Counts an attempt that took so many model tokens.
    pub(super) fn add(&mut self, span: &Span, tokens: u64) {
        while (span.end_ms - span.start_ms) / self.width_ms() > MOST_BINS {
            self.widen();
        }
        let width = self.width_ms();
        let (first, last) = (span.start_ms / width, span.end_ms / width);
        for place in first..=last {
            let (start, end) = (place * width, (place + 1) * width);
            let busy = span.end_ms.min(end) - span.start_ms.max(start);
            self.bins.entry(place).or_default().busy_ms += busy;
        }
        let sent = self.bins.entry(first).or_default();
        sent.sent += 1;
        sent.tokens += tokens;
        let ended = self.bins.entry(last).or_default();
        match span.failure {
            None => ended.answers.add(span.took()),
            Some(_) => ended.failed += 1,
        }
        let (from, to) = self.range.unwrap_or((span.start_ms, span.end_ms));
        self.range = Some((from.min(span.start_ms), to.max(span.end_ms)));
        while self.bins.len() as u64 > MOST_BINS {
            self.widen();
        }
    }

    fn widen(&mut self) {
        let narrow = self.width_ms();
        self.width += 1;
        let wide = self.width_ms();
        for (place, bin) in mem::take(&mut self.bins) {
            self.bins
                .entry(place * narrow / wide)
                .or_default()
                .merge(&bin);
        }
    }

    /// The same with bins that are wide enough for a calm plot: a narrow bin is less than three
    /// pixels wide, and of few requests it has one or none.
    pub(super) fn coarsened(mut self) -> Self {
        const MANY_BINS: usize = 130;
        const FEW_BINS: usize = 30;
        const FEW_REQUESTS: u64 = 8;
        let sent: u64 = self.bins.values().map(|bin| bin.sent).sum();
        let is_restless = |bins: usize| {
            bins > MANY_BINS || bins > FEW_BINS && sent / (bins as u64) < FEW_REQUESTS
        };
        while is_restless(self.bins.len()) {
            self.widen();
        }
        self
    }

    /// The bins that hold something, and where long empty times were left out: each is the place of
    /// a slot, and how long nothing was under way before it.
    pub(super) fn slots(&self) -> (Vec<Slot<'_>>, Vec<(u64, u64)>) {
        let longest_gap = (self.bins.len() as u64 / 5).max(10);
        let (mut slots, mut breaks): (Vec<Slot<'_>>, Vec<_>) = (Vec::new(), Vec::new());
        let mut left_out = self.bins.keys().next().copied().unwrap_or_default();
        let mut next = left_out;
        for (&at, bin) in &self.bins {
            let gap = at - next;
            if gap > longest_gap {
                // One empty slot stands for it.
                left_out += gap - 1;
                breaks.push((at - left_out, gap * self.width_ms()));
            }
            next = at + 1;
            slots.push(Slot {
                start_ms: at * self.width_ms(),
                place: at - left_out,
                bin,
            });
        }
        (slots, breaks)
    }
}

impl Bin {
    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.tokens += other.tokens;
        self.failed += other.failed;
        self.busy_ms += other.busy_ms;
        self.answers.merge(&other.answers);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_764_270_000_000;

    fn of(spans: impl IntoIterator<Item = (u64, u64)>) -> Timeline {
        let mut all = Timeline::default();
        for (start, took) in spans {
            let start_ms = START + start;
            let end_ms = start_ms + took;
            all.add(
                &Span {
                    start_ms,
                    end_ms,
                    failure: None,
                },
                3,
            );
        }
        all
    }

    #[test]
    fn widths_are_whole_numbers_of_the_one_before_and_the_last_holds_a_century() {
        for pair in WIDTHS.windows(2) {
            let (narrow, wide) = (pair[0].0, pair[1].0);
            assert_eq!((wide % narrow, wide > narrow), (0, true));
        }
        assert!(4_102_444_800_000 / WIDTHS[WIDTHS.len() - 1].0 < MOST_BINS);
    }

    #[test]
    fn a_bin_knows_what_began_in_it_and_for_how_long_attempts_were_under_way() {
        let all = of([(0, 250), (50, 50), (150, 0)]);
        let (slots, breaks) = all.slots();
        let seen: Vec<_> = slots
            .iter()
            .map(|slot| (slot.place, slot.bin.sent, slot.bin.tokens, slot.bin.busy_ms))
            .collect();
        assert_eq!(seen, [(0, 2, 6, 150), (1, 1, 3, 100), (2, 0, 0, 50)]);
        assert!(breaks.is_empty());
        assert_eq!(all.range, Some((START, START + 250)));
    }

    #[test]
    fn a_long_time_without_anything_costs_no_detail_and_is_left_out() {
        let night = 8 * 3_600_000;
        let runs = (0..20).map(|n| (n * 100, 90));
        let all = of(runs
            .clone()
            .chain(runs.map(|(at, took)| (at + night, took))));
        assert_eq!(all.width_ms(), 100);
        let (slots, breaks) = all.slots();
        assert_eq!(breaks, [(21, night - 2_000)]);
        assert_eq!(slots.last().unwrap().place, 40);
    }

    #[test]
    fn of_few_requests_bins_are_wide() {
        let all = of((0..100).map(|n| (n * 300, 100))).coarsened();
        assert_eq!(all.width_ms(), 1_000);
        assert_eq!(
            of((0..10).map(|n| (n * 300, 100))).coarsened().width_ms(),
            100
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_bins_are_few(
            spans in prop::collection::vec((0_u64..2_000_000_000_000, 0_u64..600_000_000), 0..100),
        ) {
            let all = of(spans.clone());
            prop_assert!(all.bins.len() as u64 <= MOST_BINS);
            let sum = |of: fn(&Bin) -> u64| all.bins.values().map(of).sum::<u64>();
            prop_assert_eq!(sum(|bin| bin.sent), spans.len() as u64);
            prop_assert_eq!(sum(|bin| bin.answers.count()), spans.len() as u64);
            prop_assert_eq!(sum(|bin| bin.busy_ms), spans.iter().map(|span| span.1).sum::<u64>());
            let (slots, _) = all.slots();
            let places: Vec<_> = slots.iter().map(|slot| slot.place).collect();
            prop_assert!(places.is_sorted_by(|one, other| one < other));
            let most = MOST_BINS * (MOST_BINS / 5);
            prop_assert!(places.last().is_none_or(|last| *last <= most));
        }
    }
}
