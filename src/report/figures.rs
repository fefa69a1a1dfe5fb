//! Statistics to plots, each with a caption for those who do not see it.

use std::time::Duration;

use serde_json::{Value, json};

use super::Limits;
use super::fold::Stats;
use super::format::{count, per_period, rate, time};
use super::histogram::Histogram;
use super::plots::{Ink, Mark, Plot};
use super::timeline::{Bin, Slot, Timeline};
use crate::error::Result;

/// How many bars the distribution of times has, at most.
const BARS: u64 = 40;
/// A limit that is so many times what was reached would leave nothing to see below it.
const TOO_HIGH: f64 = 4.0;

/// A plot on the page, with its title and its caption.
#[derive(Debug)]
pub(super) struct Figure {
    title: &'static str,
    /// What it shows, in a sentence or two.
    caption: String,
    /// The lines and what they are, if there are several.
    keys: &'static [(&'static str, &'static str)],
    svg: String,
}

impl Figure {
    fn new(title: &'static str, caption: String, plot: Plot) -> Result<Self> {
        Ok(Self {
            title,
            caption,
            keys: &[],
            svg: plot.svg()?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "title": self.title, "caption": self.caption, "keys": self.keys, "svg": self.svg })
    }
}

/// The figures over time: a timeline, and the axis that all its plots have in common.
pub(super) struct TimeFigures<'t> {
    timeline: &'t Timeline,
    slots: Vec<Slot<'t>>,
    breaks: Vec<(u64, u64)>,
    /// The unit of the time axis, in milliseconds, and its name.
    unit: (f64, &'static str),
    pub(super) rates: Unit,
}

/// What rates of requests are counted in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    seconds: f64,
    pub(super) word: &'static str,
}

const SECOND: Unit = Unit {
    seconds: 1.0,
    word: "a second",
};
const MINUTE: Unit = Unit {
    seconds: 60.0,
    word: "a minute",
};

impl<'t> TimeFigures<'t> {
    /// `None` if nothing says when it was.
    pub(super) fn new(timeline: &'t Timeline, limits: &Limits) -> Option<Self> {
        let (slots, breaks) = timeline.slots();
        let width = timeline.width_ms() as f64;
        let end = (slots.last()?.place + 1) as f64 * width;
        let sent: u64 = slots.iter().map(|slot| slot.bin.sent).sum();
        let is_slow = match limits.requests {
            Some(limit) => limit.period() > Duration::from_secs(1),
            None => (sent as f64) < end / 1e3,
        };
        let unit = match end {
            ..180e3 => (1e3, "seconds"),
            ..10_800e3 => (60e3, "minutes"),
            ..259_200e3 => (3_600e3, "hours"),
            _ => (86_400e3, "days"),
        };
        let rates = if is_slow { MINUTE } else { SECOND };
        Some(Self {
            timeline,
            slots,
            breaks,
            unit,
            rates,
        })
    }

    /// How long there was something under way, in milliseconds.
    pub(super) fn active_ms(&self) -> u64 {
        let (from, to) = self.timeline.range.unwrap_or_default();
        let left_out: u64 = self.breaks.iter().map(|(_, gap)| gap).sum();
        (to - from).saturating_sub(left_out)
    }

    pub(super) fn breaks(&self) -> &[(u64, u64)] {
        &self.breaks
    }

    pub(super) fn slots(&self) -> &[Slot<'t>] {
        &self.slots
    }

    pub(super) fn width(&self) -> &'static str {
        self.timeline.width()
    }

    /// A count of a bin, as a rate.
    pub(super) fn rate(&self, count: u64, unit: Unit) -> f64 {
        count as f64 * unit.seconds * 1e3 / self.timeline.width_ms() as f64
    }

    pub(super) fn in_flight(&self, bin: &Bin) -> f64 {
        bin.busy_ms as f64 / self.timeline.width_ms() as f64
    }

    /// All plots over time.
    pub(super) fn figures(&self, stats: &Stats, limits: &Limits) -> Result<Vec<Figure>> {
        let per = |unit: Unit| move |number: f64| number * unit.seconds;
        let limit = limits.requests.map(|limit| {
            let number = per(self.rates)(limit.units_per_second());
            (number, per_period(limit, ""))
        });
        let mut all = vec![self.figure(
            "Requests sent",
            self.rates.word,
            |bin| self.rate(bin.sent, self.rates),
            limit,
            Ink::First,
        )?];
        if stats.prompt_tokens + stats.completion_tokens > 0 {
            let limit = limits.tokens.map(|limit| {
                let number = per(MINUTE)(limit.units_per_second());
                (number, per_period(limit, " tokens"))
            });
            let tokens = |bin: &Bin| self.rate(bin.tokens, MINUTE);
            all.push(self.figure("Model tokens", MINUTE.word, tokens, limit, Ink::First)?);
        }
        let limit = limits.at_once.map(|limit| (limit as f64, count(limit)));
        let in_flight = |bin: &Bin| self.in_flight(bin);
        all.push(self.figure(
            "In flight",
            "requests at once",
            in_flight,
            limit,
            Ink::First,
        )?);
        if self.slots.iter().any(|slot| slot.bin.failed > 0) {
            let failed = |bin: &Bin| self.rate(bin.failed, self.rates);
            all.push(self.figure(
                "Attempts that failed",
                self.rates.word,
                failed,
                None,
                Ink::Second,
            )?);
        }
        if self.slots.iter().any(|slot| slot.bin.answers.count() > 0) {
            all.push(self.answer_times()?);
        }
        Ok(all)
    }

    /// Where the left end of a bin is on the axis.
    fn at(&self, place: u64) -> f64 {
        place as f64 * self.timeline.width_ms() as f64 / self.unit.0
    }

    fn plot(&self, marks: Vec<Mark>, y: (f64, &'static str)) -> Plot {
        let end = self.slots.last().map_or(0, |slot| slot.place + 1);
        let breaks = self.breaks.iter();
        let breaks =
            breaks.map(|(place, _)| Mark::Break(self.at(*place).midpoint(self.at(place - 1))));
        Plot {
            marks: marks.into_iter().chain(breaks).collect(),
            x: (self.at(end), self.unit.1),
            y,
        }
    }

    fn figure(
        &self,
        title: &'static str,
        unit: &'static str,
        value: impl Fn(&Bin) -> f64,
        limit: Option<(f64, String)>,
        ink: Ink,
    ) -> Result<Figure> {
        let mut points = Vec::new();
        let (mut sum, mut most, mut next) = (0.0, 0.0_f64, 0);
        for slot in &self.slots {
            let value = value(slot.bin);
            (sum, most) = (sum + value, most.max(value));
            if slot.place > next {
                points.extend([(self.at(next), 0.0), (self.at(slot.place), 0.0)]);
            }
            next = slot.place + 1;
            points.extend([(self.at(slot.place), value), (self.at(next), value)]);
        }
        let mean = sum / next.max(1) as f64;
        let (mean, peak, width) = (rate(mean), rate(most), self.width());
        let mut caption = vec![format!(
            "{mean} {unit} on average, at most {peak} in {width}."
        )];
        let mut marks = vec![Mark::Area(ink, points)];
        let mut end = most;
        if let Some((limit, name)) = limit {
            if limit > most * TOO_HIGH {
                caption.push(format!("The limit of {name} is above the plot."));
            } else {
                caption.push(format!("The limit is {name}."));
                marks.push(Mark::Limit(limit, format!("limit {name}")));
                end = end.max(limit);
            }
        }
        let plot = self.plot(marks, (end * 1.12, unit));
        Figure::new(title, caption.join(" "), plot)
    }

    fn answer_times(&self) -> Result<Figure> {
        let mut marks = Vec::new();
        let mut end = 0.0_f64;
        for (ink, share) in [(Ink::First, 0.5), (Ink::Second, 0.95)] {
            let mut line: Vec<(f64, f64)> = Vec::new();
            let mut next = 0;
            for slot in &self.slots {
                if slot.bin.answers.count() == 0 {
                    continue;
                }
                if slot.place > next && !line.is_empty() {
                    marks.push(Mark::Line(ink, std::mem::take(&mut line)));
                }
                next = slot.place + 1;
                let took = slot.bin.answers.quantile(share).as_secs_f64();
                end = end.max(took);
                line.extend([(self.at(slot.place), took), (self.at(next), took)]);
            }
            marks.push(Mark::Line(ink, line));
        }
        let caption =
            "The median and the 95th percentile of the answers in each bin of time, from sending \
                     to the last byte."
                .to_owned();
        let plot = self.plot(marks, (end * 1.12, "seconds"));
        let keys = &[("first", "median"), ("second", "95 %")];
        Ok(Figure {
            keys,
            ..Figure::new("Time to an answer", caption, plot)?
        })
    }
}

/// How the times of answers are distributed.
pub(super) fn distribution(answers: &Histogram) -> Result<Figure> {
    // The caption tells what is beyond: one slow answer would leave no room for the others.
    let end = (answers.quantile(0.99).mul_f64(1.3)).min(answers.longest());
    let end_ms = u64::try_from(end.as_millis()).unwrap_or(u64::MAX).max(1);
    // Whole milliseconds, as times are told in those.
    let width_ms = end_ms.div_ceil(BARS);
    let parts = end_ms / width_ms + 1;
    let width = Duration::from_millis(width_ms).as_secs_f64();
    let end = Duration::from_millis(parts * width_ms);
    let (heights, behind) = answers.parts(usize::try_from(parts).unwrap_or(1), end);
    let bars = heights
        .iter()
        .enumerate()
        .filter(|(_, height)| **height > 0);
    let bar = |(at, height): (usize, &u64)| {
        let left = at as f64 * width;
        (left + 0.08 * width, left + 0.92 * width, *height as f64)
    };
    let highest = heights.iter().copied().max().unwrap_or(0) as f64;
    let percentile = |share: f64| answers.quantile(share).as_secs_f64();
    let marks = vec![
        Mark::Bars(Ink::First, bars.map(bar).collect()),
        Mark::Before(percentile(0.5), "p50"),
        Mark::Behind(percentile(0.95), "p95"),
    ];
    let (half, most) = (time(answers.quantile(0.5)), time(answers.quantile(0.95)));
    let half_and_most =
        format!("Half of the answers took {half} or less, 95 % took {most} or less.");
    let longest = time(answers.longest());
    let caption = match behind {
        0 => half_and_most,
        more => {
            let more = count(more);
            format!("{half_and_most} {more} more are beyond the plot, up to {longest}.")
        }
    };
    let plot = Plot {
        marks,
        x: (end.as_secs_f64(), "seconds"),
        y: (highest * 1.06, "answers"),
    };
    Figure::new("Distribution of answer times", caption, plot)
}
