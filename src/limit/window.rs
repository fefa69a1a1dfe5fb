//! The window of a limit that a server announces: the time for which the limit counts.
//!
//! Where the answers do not name it, it is found from what fits together: the limit, what remains,
//! and when the limit is full again or its window ends.

use std::time::Duration;

use super::announced::{Announced, Counted, Reset};
use super::bucket::Nanos;

const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
const LONGER: [Duration; 3] = [
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
    Duration::from_secs(31 * 86_400),
];

/// What is known of the time in which a limit is used.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) length: Duration,
    short: Option<Short>,
    long: Option<Long>,
}

/// A window of more than a minute that all answers fit since one of them, though their resets are
/// within a minute.
#[derive(Clone, Copy, Debug)]
struct Long {
    length: Duration,
    /// What that answer said was used.
    used: u64,
}

/// What was seen since every reset was within the longest of [`SHORTER`].
#[derive(Clone, Copy, Debug)]
struct Short {
    since: Nanos,
    longest: Duration,
    /// Whether so much was used that a minute that refills would need longer.
    is_no_minute: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            length: MINUTE,
            short: None,
            long: None,
        }
    }
}

/// Windows within a minute.
const SHORTER: [Duration; 6] = [
    SECOND,
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(20),
    Duration::from_secs(30),
];

/// So much longer than the longest reset it is watched before a window within a minute is believed:
/// the last seconds of a minute look the same.
const SHORT_FOR: Duration = Duration::from_secs(3);

impl Short {
    /// `took` is the time from the request to its answer.
    fn note(&mut self, announced: &Announced, reset: Reset, took: Duration) {
        self.longest = self.longest.max(reset.after);
        // A refusal says that nothing remains, however little is used of the window.
        let remaining = announced.remaining.filter(|remaining| *remaining > 0);
        let used = remaining.map_or(0, |remaining| announced.limit.saturating_sub(remaining));
        // Of what remains a fraction is not told, and of tokens not every thousand.
        let not_told = match announced.counted {
            Counted::Requests => 1,
            _ => 1_000,
        };
        let in_a_minute =
            |used| MINUTE.as_nanos() * u128::from(used) / u128::from(announced.limit.max(1));
        let least = in_a_minute(used.saturating_sub(not_told));
        // One request was used when it came, and has come back for no longer than it took.
        let is_request = announced.counted == Counted::Requests;
        let own = in_a_minute(used.min(is_request.into())).saturating_sub(took.as_nanos());
        self.is_no_minute |= least.max(own) > (reset.after + reset.grain).as_nanos();
    }
}

impl Window {
    pub(super) fn note(&mut self, announced: &Announced, sent: Nanos, now: Nanos) {
        if let Some(named) = announced.window {
            self.length = named;
            return;
        }
        let Some(reset) = announced.reset else {
            return;
        };
        let used = |remaining| announced.limit.saturating_sub(remaining);
        let used = announced.remaining.map_or(0, used);
        // Neither is a limit full later than after its whole window, nor does a window end later.
        if reset.after > self.length.max(MINUTE) + reset.grain {
            self.length = longer(announced.limit, used, reset).unwrap_or(self.length);
        }
        self.note_long(announced.limit, used, reset);
        let [.., longest] = SHORTER;
        if reset.after > longest {
            self.short = None;
            self.length = self.length.max(MINUTE);
            return;
        }
        let short = self.short.get_or_insert(Short {
            since: sent,
            longest: Duration::ZERO,
            is_no_minute: false,
        });
        short.note(announced, reset, took(sent, now));
        let watched = Duration::from_nanos(sent.saturating_sub(short.since));
        // Of a minute that slides most is used in the end, and its resets are short as well.
        let is_little = used <= announced.limit / 2;
        if self.length <= MINUTE
            && short.is_no_minute
            && is_little
            && watched >= short.longest + SHORT_FOR
        {
            let fits = |window: &&Duration| short.longest <= **window;
            self.length = SHORTER.iter().find(fits).copied().unwrap_or(MINUTE);
        }
    }

    /// Of a limit that refills in more than a minute, what is used and the reset grow together. A
    /// minute that ends with its reset fits a longer window for a moment only.
    fn note_long(&mut self, limit: u64, used: u64, reset: Reset) {
        let agrees = |window: &Duration| agree(*window, limit, used, reset);
        if self.length > MINUTE || agrees(&MINUTE) {
            return;
        }
        // Where one unit takes long to come back, nearly any reset agrees.
        let each = |window: Duration| window.as_nanos() / u128::from(limit.max(1));
        let tells = |window: &Duration| each(*window) <= MINUTE.as_nanos() / 4;
        let fits = |window: &Duration| tells(window) && agrees(window);
        let Some(length) = LONGER.iter().copied().find(fits) else {
            self.long = None;
            return;
        };
        let same = self.long.filter(|long| long.length == length);
        let first = *self.long.insert(same.unwrap_or(Long { length, used }));
        let apart = each(length) * u128::from(used.abs_diff(first.used));
        if apart > 2 * (each(length) + reset.grain.as_nanos()) {
            self.length = length;
        }
    }

    /// Whether the length is no more than the usual one, and a longer one is likely.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.length <= MINUTE && self.long.is_some()
    }

    /// Takes note of an answer that was long on its way.
    pub(super) fn note_late(&mut self, announced: &Announced, sent: Nanos, now: Nanos) {
        if let (Some(short), Some(reset)) = (&mut self.short, announced.reset) {
            short.note(announced, reset, took(sent, now));
        }
    }
}

fn took(sent: Nanos, now: Nanos) -> Duration {
    Duration::from_nanos(now.saturating_sub(sent))
}

/// Of fewer units used nobody can tell how long each takes to come back.
const FEW: u64 = 4;

/// The window of a limit that is full after more than a minute: the usual one in which it is, at
/// this rate, else any in which it is, else the next usual one.
fn longer(limit: u64, used: u64, reset: Reset) -> Option<Duration> {
    let usual = LONGER
        .iter()
        .filter(|window| reset.after <= **window + reset.grain);
    if used < FEW {
        return usual.min().copied();
    }
    let agrees = |window: &&Duration| agree(**window, limit, used, reset);
    let any = || {
        let nanos = reset.after.as_nanos() * u128::from(limit) / u128::from(used);
        let any = Duration::from_nanos(u64::try_from(nanos).ok()?);
        Some(any.min(*LONGER.iter().max()?))
    };
    usual.clone().find(agrees).copied().or_else(any)
}

/// Whether what is used comes back in this window until the reset.
fn agree(window: Duration, limit: u64, used: u64, reset: Reset) -> bool {
    let each = window.as_nanos() / u128::from(limit.max(1));
    let expected = each * u128::from(used);
    expected.abs_diff(reset.after.as_nanos()) <= each + reset.grain.as_nanos()
}
