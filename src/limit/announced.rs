//! Limits that a server announces with its answers: a bucket for each, beside those that are configured.
//!
//! All buckets must admit a request, so the lower of a configured and an announced limit counts.
//! Nothing here knows HTTP: [`Announced`] is what one answer says of one limit.
//!
//! Three things are not said, and found out:
//!
//! - The window. It is the one that limit, remaining and reset fit together in, else a minute.
//! - The burst. Servers judge windows of a second to ten, whatever they announce, so requests are
//!   spread evenly over a window of up to a minute. Model tokens come in lumps, and a longer window is
//!   a budget: of these, as many may go at once as the server says are left.
//! - What others use of the same limit. What is left is corrected to what the server says: down at once,
//!   and up by no more than what is not under way.

use std::time::Duration;

use super::bucket::{Bucket, Nanos};
use super::rate::{Cost, Rate};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Requests,
    /// Those of prompts and answers together.
    Tokens,
    /// Those of prompts.
    InputTokens,
    /// Those of answers.
    OutputTokens,
}

impl Counted {
    pub(super) fn of(self, cost: Cost) -> u64 {
        match self {
            Self::Requests => cost.requests(),
            Self::Tokens => cost.model_tokens(),
            Self::InputTokens => cost.model_tokens().saturating_sub(cost.output_tokens()),
            Self::OutputTokens => cost.output_tokens(),
        }
    }
}

/// What an answer says of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) counted: Counted,
    /// Tells limits apart that count the same.
    pub(crate) scope: u64,
    pub(crate) limit: u64,
    pub(crate) remaining: Option<u64>,
    pub(crate) reset: Option<Reset>,
    /// The window, where the answer names it.
    pub(crate) window: Option<Duration>,
}

/// When a limit is full again, or its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) after: Duration,
    /// How coarse that is.
    pub(crate) grain: Duration,
}

/// A share of the limit is left to the server, whose clock and count are its own.
const HEADROOM: [u64; 2] = [97, 100];
/// Requests spread over a window may be late by so much and catch up.
const CATCH_UP: Duration = Duration::from_millis(20);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LONGER: [Duration; 3] = [
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
    Duration::from_secs(31 * 86_400),
];

/// So many limits are followed at most: a server may invent names.
const MOST: usize = 16;

/// All limits that answers have announced.
#[derive(Debug, Default)]
pub(super) struct AnnouncedLimits(Vec<AnnouncedLimit>);

impl AnnouncedLimits {
    /// Takes note of what the answer to a request says that was sent at `sent`. Whether that changes
    /// when something is admitted, other than to later.
    pub(super) fn note(
        &mut self,
        announced: &Announced,
        sent: Nanos,
        paused_until: Nanos,
        now: Nanos,
    ) -> bool {
        let known = |it: &&mut AnnouncedLimit| {
            it.counted == announced.counted && it.scope == announced.scope
        };
        if let Some(known) = self.0.iter_mut().find(known) {
            return known.note(announced, sent, now);
        }
        if self.0.len() < MOST
            && let Some(mut limit) = AnnouncedLimit::new(announced, sent, now)
        {
            limit.bucket.hold(paused_until, now);
            self.0.push(limit);
        }
        false
    }

    /// Whether there is one of what is counted so.
    pub(super) fn limits(&self, counted: impl Fn(Counted) -> bool) -> bool {
        self.0.iter().any(|it| counted(it.counted))
    }

    /// The earliest instant at which all of them admit `cost`, by what they count.
    pub(super) fn earliest(
        &mut self,
        cost: Cost,
        now: Nanos,
    ) -> impl Iterator<Item = (Nanos, Counted)> {
        let earliest = move |it: &mut AnnouncedLimit| {
            let at = it.bucket.earliest(it.counted.of(cost), now);
            (at, it.counted)
        };
        self.0.iter_mut().map(earliest)
    }

    pub(super) fn take(&mut self, cost: Cost, now: Nanos) {
        for it in &mut self.0 {
            let cost = it.counted.of(cost);
            it.bucket.take(cost, now);
            it.under_way = it.under_way.saturating_add(cost);
        }
    }

    /// A request has ended that `reserved` was taken for and that has used `used`. What was sent before
    /// the limit was known reserved nothing, and the server has counted it already.
    pub(super) fn release(&mut self, reserved: Cost, used: Cost, now: Nanos) {
        for it in &mut self.0 {
            let (taken, used) = (it.counted.of(reserved), it.counted.of(used));
            it.under_way = it.under_way.saturating_sub(taken);
            if it.counted != Counted::Requests && taken > 0 && taken != used {
                it.bucket.settle(taken, used, now);
            }
        }
    }

    pub(super) fn hold(&mut self, until: Nanos, now: Nanos) {
        for it in &mut self.0 {
            it.bucket.hold(until, now);
        }
    }

    /// The lowest rate of what is counted so, as the server announces it.
    pub(super) fn lowest(&self, counted: impl Fn(Counted) -> bool) -> Option<Rate> {
        let rates = self.0.iter().filter(|it| counted(it.counted));
        rates
            .map(|it| Rate::new(it.limit, it.window.length))
            .min_by(|a, b| a.units_per_second().total_cmp(&b.units_per_second()))
    }
}

#[derive(Debug)]
struct AnnouncedLimit {
    counted: Counted,
    scope: u64,
    limit: u64,
    window: Window,
    bucket: Bucket,
    /// What was taken for requests that have not ended.
    under_way: u64,
    /// When the request was sent whose answer was the last to count. An answer that was long on its way
    /// says what was.
    sent: Nanos,
}

impl AnnouncedLimit {
    fn new(announced: &Announced, sent: Nanos, now: Nanos) -> Option<Self> {
        let mut window = Window::default();
        window.note(announced, sent);
        let (rate, burst) = shape(announced.counted, announced.limit, window.length)?;
        let mut bucket = Bucket::full(rate, burst, now);
        let unknown = rate.second_worth();
        bucket.bound(0, announced.remaining.unwrap_or(unknown), now);
        Some(Self {
            counted: announced.counted,
            scope: announced.scope,
            limit: announced.limit,
            window,
            bucket,
            under_way: 0,
            sent,
        })
    }

    fn note(&mut self, announced: &Announced, sent: Nanos, now: Nanos) -> bool {
        if sent < self.sent {
            return false;
        }
        self.sent = sent;
        let before = (self.limit, self.window.length);
        self.window.note(announced, sent);
        let after = (announced.limit, self.window.length);
        let mut sooner = false;
        if before != after
            && let Some((rate, burst)) = shape(self.counted, announced.limit, self.window.length)
        {
            self.limit = announced.limit;
            self.bucket.change(rate, burst, now);
            sooner = true;
        }
        if let Some(remaining) = announced.remaining {
            let least = remaining.saturating_sub(self.under_way);
            sooner |= self.bucket.bound(least, remaining, now);
        }
        sooner
    }
}

/// The rate and the burst to go by. `None` if no bucket can have them.
fn shape(counted: Counted, limit: u64, window: Duration) -> Option<(Rate, u64)> {
    let [share, whole] = HEADROOM;
    let period = window.checked_mul(u32::try_from(whole).ok()?)?;
    let rate = Rate::new(limit.checked_mul(share)?, period);
    rate.checked("announced").ok()?;
    let burst = if counted == Counted::Requests && window <= MINUTE {
        let late = u128::from(limit) * CATCH_UP.as_nanos() / window.as_nanos();
        u64::try_from(late).unwrap_or(u64::MAX).max(1)
    } else {
        limit
    };
    Some((rate, burst))
}

/// What is known of the time in which a limit is used.
#[derive(Debug)]
struct Window {
    length: Duration,
    /// Since when every reset was within a second.
    short_since: Option<Nanos>,
    /// Whether so much was used since then that a minute would need longer.
    short_used: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            length: MINUTE,
            short_since: None,
            short_used: false,
        }
    }
}

/// So long every reset is within a second before the window is believed to be one: the last second of
/// a minute looks the same.
const SHORT_FOR: Nanos = 3_000_000_000;

impl Window {
    fn note(&mut self, announced: &Announced, sent: Nanos) {
        if let Some(named) = announced.window {
            self.length = named;
            return;
        }
        let Some(reset) = announced.reset else {
            return;
        };
        let used = announced
            .remaining
            .map_or(0, |remaining| announced.limit.saturating_sub(remaining));
        // Neither is a limit full later than after its whole window, nor does a window end later.
        if reset.after > self.length + reset.grain {
            let fits = |window: &&Duration| reset.after <= **window + reset.grain;
            let agrees = |window: &&Duration| agrees(**window, announced.limit, used, reset);
            let longer = || LONGER.iter().filter(fits);
            self.length = *longer()
                .find(agrees)
                .or(longer().next())
                .unwrap_or(&self.length);
        }
        if reset.after > SECOND {
            self.short_since = None;
            self.short_used = false;
            if self.length == SECOND {
                self.length = MINUTE;
            }
            return;
        }
        let since = *self.short_since.get_or_insert(sent);
        self.short_used |= used >= 4 && used >= announced.limit / 16;
        if self.short_used && sent.saturating_sub(since) >= SHORT_FOR && self.length == MINUTE {
            self.length = SECOND;
        }
    }
}

/// Whether a limit that refills all the time in this window is full again at this reset.
fn agrees(window: Duration, limit: u64, used: u64, reset: Reset) -> bool {
    let each = window.as_nanos() / u128::from(limit.max(1));
    let expected = each * u128::from(used);
    expected.abs_diff(reset.after.as_nanos()) <= each + reset.grain.as_nanos()
}
