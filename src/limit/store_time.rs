//! How far the clock of a store is ahead of the limiter's. Each reply tells it, to within the time
//! that the messages took.

use super::bucket::Nanos;
use super::credit::Date;
use crate::shared::Micros;

const MICRO: u64 = 1_000;

/// Two clocks drift apart by less than one in so many.
const DRIFT: u64 = 2_000;

/// The store's clock minus the limiter's, in microseconds: from `low` to `high`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreTime {
    low: i64,
    high: i64,
    noted: Nanos,
}

impl StoreTime {
    /// What one reply tells. The ask was sent, and the reply received, at these times.
    pub(super) fn of(store: Micros, sent: Nanos, received: Nanos) -> Self {
        let difference = |local: u64| signed(store).saturating_sub(signed(local));
        Self {
            low: difference(received.div_ceil(MICRO)),
            // The store has rounded down.
            high: difference(sent / MICRO).saturating_add(1),
            noted: received,
        }
    }

    /// What both replies tell together.
    pub(super) fn with(self, other: Self) -> Self {
        let since = other.noted.saturating_sub(self.noted);
        let drift = signed(since / MICRO / DRIFT + 1);
        let both = Self {
            low: other.low.max(self.low.saturating_sub(drift)),
            high: other.high.min(self.high.saturating_add(drift)),
            noted: other.noted,
        };
        // If they contradict each other, one of the clocks has jumped.
        if both.low <= both.high { both } else { other }
    }

    pub(super) fn date(&self, at: Nanos) -> Date {
        let now = signed(at / MICRO).saturating_add(self.low);
        Date {
            now: u64::try_from(now).unwrap_or(0),
            lag: self.high.abs_diff(self.low),
        }
    }

    /// The limiter's time at which this date has come for certain.
    pub(super) fn local(&self, date: Micros) -> Nanos {
        let at = signed(date).saturating_sub(self.low);
        u64::try_from(at).unwrap_or(0).saturating_mul(MICRO)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Nanos = 1_000_000;

    #[test]
    fn a_date_has_come_when_it_has_come_for_certain() {
        // The store read its clock somewhere between 10 and 14 ms.
        let time = StoreTime::of(500_000, 10 * MILLI, 14 * MILLI);
        assert_eq!(time.local(500_000), 14 * MILLI);
        let date = time.date(14 * MILLI);
        assert_eq!((date.now, date.lag), (500_000, 4_001));
        // A faster message says more, a slower one nothing new.
        let time = time.with(StoreTime::of(513_000, 24 * MILLI, 25 * MILLI));
        assert!(time.date(25 * MILLI).lag <= 1_003);
        let slow = time.with(StoreTime::of(530_000, 30 * MILLI, 60 * MILLI));
        assert!(slow.date(60 * MILLI).lag <= 1_050);
    }

    #[test]
    fn what_is_known_grows_old_and_a_jump_is_believed() {
        let time = StoreTime::of(1_000_000, MILLI, MILLI);
        let hour = 3_600_000 * MILLI;
        let later = time.with(StoreTime::of(3_601_100_000, hour, hour + 200 * MILLI));
        assert!(later.date(hour).lag > 100_000, "clocks drift");
        let jumped = time.with(StoreTime::of(99_000_000, 2 * MILLI, 3 * MILLI));
        assert_eq!(jumped.local(99_000_000), 3 * MILLI);
        assert_eq!(time.local(0), 0, "before the limiter was made");
    }
}
