//! Statistics to plots, each with a caption for those who do not see it.

use std::time::Duration;

use super::Limits;
use super::fold::Stats;
use super::format::{count, per_period, rate, time};
use super::histogram::Histogram;
use super::plots::{Ink, Mark, Plot, Side};
use super::timeline::{Bin, Slots, Timeline};
use crate::error::Result;

/// How many bars the distribution of times has, at most.
const BARS: u64 = 40;
/// A limit that is so many times what was reached would leave nothing to see below it.
const TOO_HIGH: f64 = 4.0;

/// A plot on the page, with its title and its caption.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) title: &'static str,
    /// What it shows, in a sentence or two.
    pub(super) caption: String,
    pub(super) svg: String,
}

/// What all plots over time have in common.
pub(super) struct TimeAxis<'t> {
    timeline: &'t Timeline,
    slots: Slots,
    /// Where empty times were left out, and how long each was, in milliseconds.
    pub(super) breaks: Vec<(u64, u64)>,
    /// The unit of the axis, in milliseconds, and its name.
    unit: (f64, &'static str),
}

impl<'t> TimeAxis<'t> {
    /// `None` if nothing says when it was.
    pub(super) fn of(timeline: &'t Timeline) -> Option<Self> {
        let (slots, breaks) = timeline.slots();
        let (last, _) = slots.last()?;
        let unit = match (last + 1) * timeline.width_ms() {
            0..180_000 => (1e3, "seconds"),
            180_000..10_800_000 => (60e3, "minutes"),
            10_800_000..259_200_000 => (3_600e3, "hours"),
            _ => (86_400e3, "days"),
        };
        Some(Self {
            timeline,
            slots,
            breaks,
            unit,
        })
    }

    /// How long there was something under way.
    pub(super) fn active(&self) -> Duration {
        let (from, to) = self.timeline.range.unwrap_or_default();
        let left_out: u64 = self.breaks.iter().map(|(_, gap)| gap).sum();
        Duration::from_millis((to - from).saturating_sub(left_out))
    }

    /// All plots over time.
    pub(super) fn figures(&self, stats: &Stats, limits: &Limits) -> Result<Vec<Figure>> {
        let width = self.timeline.width_ms() as f64;
        let a_second = |count: u64| count as f64 * 1e3 / width;
        let requests = limits.requests;
        let requests = requests.map(|it| (it.units_per_second(), per_period(it, "")));
        let tokens = limits.tokens;
        let tokens = tokens.map(|it| (60.0 * it.units_per_second(), per_period(it, " tokens")));
        let at_once = limits.at_once.map(|it| (it as f64, count(it)));
        let sent = |bin: &Bin| a_second(bin.sent);
        let used = |bin: &Bin| 60.0 * a_second(bin.tokens);
        let in_flight = |bin: &Bin| bin.busy_ms as f64 / width;
        let failed = |bin: &Bin| a_second(bin.failed);
        let mut all = vec![self.figure("Requests sent", "a second", sent, requests, Ink::First)?];
        if stats.prompt_tokens + stats.completion_tokens > 0 {
            all.push(self.figure("Model tokens", "a minute", used, tokens, Ink::First)?);
        }
        all.push(self.figure(
            "In flight",
            "requests at once",
            in_flight,
            at_once,
            Ink::First,
        )?);
        if self.slots.iter().any(|(_, bin)| bin.failed > 0) {
            let title = "Attempts that failed";
            all.push(self.figure(title, "a second", failed, None, Ink::Second)?);
        }
        Ok(all)
    }

    /// Where the left end of a bin is on the axis.
    fn at(&self, place: u64) -> f64 {
        place as f64 * self.timeline.width_ms() as f64 / self.unit.0
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
        for (place, bin) in &self.slots {
            let value = value(bin);
            (sum, most) = (sum + value, most.max(value));
            if *place > next {
                points.extend([(self.at(next), 0.0), (self.at(*place), 0.0)]);
            }
            next = place + 1;
            points.extend([(self.at(*place), value), (self.at(next), value)]);
        }
        let (mean, peak) = (rate(sum / next.max(1) as f64), rate(most));
        let width = time(Duration::from_millis(self.timeline.width_ms()));
        let caption = format!("{mean} {unit} on average, at most {peak} in {width}.");
        let mut marks = vec![Mark::Area(ink, points)];
        let mut top = most;
        let caption = match limit {
            None => caption,
            Some((limit, name)) if limit > most * TOO_HIGH => {
                format!("{caption} The limit of {name} is above the plot.")
            }
            Some((limit, name)) => {
                let caption = format!("{caption} The limit is {name}.");
                marks.push(Mark::Limit(limit, format!("limit {name}")));
                top = top.max(limit);
                caption
            }
        };
        let gap = |(place, _): &(u64, u64)| self.at(*place).midpoint(self.at(place - 1));
        let gaps = self.breaks.iter().map(gap);
        marks.extend(gaps.map(|at| Mark::Up(Ink::Text, at, "", Side::Right)));
        let plot = Plot {
            marks,
            x: (self.at(next), self.unit.1),
            y: (top * 1.12, unit),
        };
        Ok(Figure {
            title,
            caption,
            svg: plot.svg()?,
        })
    }
}

/// How the times of answers are distributed.
pub(super) fn distribution(answers: &Histogram) -> Result<Figure> {
    // The caption tells what is beyond: one slow answer would leave no room for the others.
    let end = (answers.quantile(0.99).mul_f64(1.3)).min(answers.longest);
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
        Mark::Bars(bars.map(bar).collect()),
        Mark::Up(Ink::Second, percentile(0.5), "p50", Side::Left),
        Mark::Up(Ink::Second, percentile(0.95), "p95", Side::Right),
    ];
    let (half, most) = (time(answers.quantile(0.5)), time(answers.quantile(0.95)));
    let beyond = if behind > 0 {
        let (more, longest) = (count(behind), time(answers.longest));
        format!(" {more} more are beyond the plot, up to {longest}.")
    } else {
        String::new()
    };
    let plot = Plot {
        marks,
        x: (end.as_secs_f64(), "seconds"),
        y: (highest * 1.06, "answers"),
    };
    Ok(Figure {
        title: "Distribution of answer times",
        caption: format!(
            "Half of the answers took {half} or less, 95 % took {most} or less.{beyond}"
        ),
        svg: plot.svg()?,
    })
}
