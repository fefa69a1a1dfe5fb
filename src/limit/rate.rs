//! Rates and costs: plain values, exact in integer nanoseconds.

use std::time::Duration;

use crate::error::{Error, Result, config};

/// A rate: a number of units (requests, or model tokens) in each period.
///
/// It is exact: `Rate::per_minute(7)` is seven in sixty seconds, not `0.116…` a second. The period
/// also bounds a single cost: more than one whole period's worth is never admitted
/// ([`ErrorKind::NeverFits`](crate::ErrorKind::NeverFits)).
///
/// Any rate can be made. Where it is used, zero and more than
/// [`MAX_PER_SECOND`](Rate::MAX_PER_SECOND) are refused with [`ErrorKind::Config`](crate::ErrorKind::Config).
///
/// ```
/// use tollgate::Rate;
///
/// assert_eq!(Rate::per_minute(600).units_per_second(), 10.0);
/// assert_eq!(Rate::try_per_second(0.5)?.units_per_second(), 0.5);
/// assert!(Rate::try_per_second(f64::NAN).is_err());
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    units: u64,
    period: Duration,
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

impl Rate {
    /// The fastest rate accepted, in units a second.
    pub const MAX_PER_SECOND: u64 = 1_000_000_000;

    /// `units` in every second.
    pub const fn per_second(units: u64) -> Self {
        Self::new(units, Duration::from_secs(1))
    }

    /// `units` in every minute.
    pub const fn per_minute(units: u64) -> Self {
        Self::new(units, Duration::from_secs(60))
    }

    /// `units` in every hour.
    pub const fn per_hour(units: u64) -> Self {
        Self::new(units, Duration::from_secs(3600))
    }

    /// `units` in every 24 hours.
    pub const fn per_day(units: u64) -> Self {
        Self::new(units, Duration::from_secs(86_400))
    }

    /// `units` in every `period`.
    pub const fn new(units: u64, period: Duration) -> Self {
        Self { units, period }
    }

    /// A rate per second that need not be whole, rounded to a millionth of a unit.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `units` is not a number, below a millionth, or above
    /// [`Rate::MAX_PER_SECOND`].
    pub fn try_per_second(units: f64) -> Result<Self> {
        Self::from_fraction(units, 1)
    }

    /// A rate per minute that need not be whole, rounded to a millionth of a unit.
    ///
    /// # Errors
    /// As [`Rate::try_per_second`].
    pub fn try_per_minute(units: f64) -> Result<Self> {
        Self::from_fraction(units, 60)
    }

    fn from_fraction(units: f64, seconds: u64) -> Result<Self> {
        let most = (Self::MAX_PER_SECOND * seconds) as f64;
        if !(units.is_finite() && units >= 1e-6 && units <= most) {
            return Err(config(format!(
                "a rate of {units} is out of range: give a number from 0.000001 to {most}"
            )));
        }
        if units.fract() == 0.0 {
            // A whole number keeps its period, which bounds what a single cost may be.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            return Ok(Self::new(units as u64, Duration::from_secs(seconds)));
        }
        // Millionths of a unit in one period are whole units in a million periods, and so the
        // period has room for a cost of one unit, which it must.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let millionths = (units * 1e6).round() as u64;
        Ok(Self::new(
            millionths,
            Duration::from_secs(seconds * 1_000_000),
        ))
    }

    /// Units in every [`period`](Rate::period).
    pub const fn units(self) -> u64 {
        self.units
    }

    /// The period in which [`units`](Rate::units) are allowed.
    pub const fn period(self) -> Duration {
        self.period
    }

    /// The rate in units a second, for display.
    pub fn units_per_second(self) -> f64 {
        self.units as f64 / self.period.as_secs_f64()
    }

    /// The default burst: one second's worth, rounded down, and at least one.
    pub(super) fn second_worth(self) -> u64 {
        let whole = u128::from(self.units) * NANOS_PER_SECOND / self.period.as_nanos().max(1);
        u64::try_from(whole).unwrap_or(u64::MAX).max(1)
    }

    /// So many units a second, not whole, or the nearest that a bucket can have.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn measured(units: f64) -> Self {
        let micro = (units * 1e6).clamp(1.0, Self::MAX_PER_SECOND as f64 * 1e6);
        Self::new(micro as u64, Duration::from_secs(1_000_000))
    }

    /// Refuses a rate that no bucket can have.
    pub(crate) fn checked(self) -> Result<Self> {
        let nanos = self.period.as_nanos();
        let usable = self.units > 0
            && nanos > 0
            // A hundred thousand days: far beyond use, and inside the bucket's arithmetic.
            && nanos <= 8_640_000_000 * NANOS_PER_SECOND
            && u128::from(self.units) * NANOS_PER_SECOND
                <= u128::from(Self::MAX_PER_SECOND) * nanos;
        if usable {
            return Ok(self);
        }
        Err(config(format!(
            "a rate of {} in {:?} is out of range: give more than zero, and at most {} a second",
            self.units,
            self.period,
            Self::MAX_PER_SECOND
        )))
    }
}

/// What one permit takes from the limits: requests (one, as a rule) and model tokens.
///
/// ```
/// use tollgate::Cost;
///
/// assert_eq!(Cost::ONE, Cost::tokens(0));
/// assert_eq!(Cost::tokens(1_200).model_tokens(), 1_200);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    requests: u64,
    tokens: u64,
    /// Of the tokens, those of the answer.
    pub(crate) output: u64,
    /// Tokens of the answer that are not likely to be used. The provider counts them until its end.
    pub(crate) held: u64,
}

impl Cost {
    /// One request, no model tokens.
    pub const ONE: Self = Self::tokens(0);

    /// No request and no model tokens. It still counts as in flight.
    pub const ZERO: Self = Self {
        requests: 0,
        tokens: 0,
        output: 0,
        held: 0,
    };

    /// One request that is estimated at `tokens` model tokens.
    pub const fn tokens(tokens: u64) -> Self {
        Self {
            requests: 1,
            tokens,
            output: 0,
            held: 0,
        }
    }

    /// Says how many of the tokens are those of the answer. Some providers limit these apart.
    pub(crate) const fn with_output(self, output: u64) -> Self {
        Self { output, ..self }
    }

    /// Says how many more tokens of the answer the provider counts until it is there. They are
    /// taken from what it announces alone: the limits that are set count what is used.
    pub(crate) const fn with_held(self, held: u64) -> Self {
        Self { held, ..self }
    }

    /// The same with `used` tokens. The prompt has what was estimated for it, and the answer the
    /// rest.
    pub(crate) fn with_used(self, used: u64) -> Self {
        let prompt = self.tokens.saturating_sub(self.output);
        Self {
            tokens: used,
            output: used.saturating_sub(prompt),
            held: 0,
            ..self
        }
    }

    /// Counts as this many requests, for a call that the provider counts as several.
    pub const fn with_requests(self, requests: u64) -> Self {
        Self { requests, ..self }
    }

    /// How many requests this counts as.
    pub const fn requests(self) -> u64 {
        self.requests
    }

    /// How many model tokens this is estimated at.
    pub const fn model_tokens(self) -> u64 {
        self.tokens
    }
}

/// The settings of a limit on requests: its rate, and its burst.
pub(super) const REQUESTS: [&str; 2] = ["requests", "burst"];
/// As [`REQUESTS`], of a limit on model tokens.
pub(super) const TOKENS: [&str; 2] = ["tokens", "token_burst"];

/// A rate and its burst, checked; one second's worth if no burst is given. An error names the
/// settings of these `names`.
pub(super) fn checked_limit(
    rate: Option<Rate>,
    burst: Option<u64>,
    names: &'static [&'static str; 2],
) -> Result<Option<(Rate, u64)>> {
    match (rate, burst) {
        (_, Some(0)) => {
            let why = "a burst of 0 would admit nothing: give at least 1";
            Err(config(why).with_settings(&names[1..]))
        }
        (None, Some(_)) => {
            let why = "a burst without its rate limits nothing: give the rate too";
            Err(config(why).with_settings(names))
        }
        (None, None) => Ok(None),
        (Some(rate), burst) => {
            let own = |error: Error| error.with_settings(&names[..1]);
            let rate = rate.checked().map_err(own)?;
            Ok(Some((rate, burst.unwrap_or(rate.second_worth()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worth_is_at_least_one() {
        assert_eq!(Rate::per_second(10).second_worth(), 10);
        assert_eq!(Rate::per_minute(200_000).second_worth(), 3_333);
        assert_eq!(Rate::per_minute(30).second_worth(), 1);
        assert_eq!(Rate::per_day(1).second_worth(), 1);
    }

    #[test]
    fn unusable_rates_are_refused() {
        for units in [
            0.0,
            -1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e-12,
            1e12,
        ] {
            assert!(Rate::try_per_second(units).is_err(), "{units}");
            assert!(Rate::try_per_minute(units).is_err(), "{units}");
        }
        for rate in [
            Rate::per_second(0),
            Rate::per_second(u64::MAX),
            Rate::new(1, Duration::ZERO),
            Rate::new(1, Duration::MAX),
        ] {
            assert!(rate.checked().is_err(), "{rate:?}");
        }
    }

    #[test]
    fn whole_rates_keep_their_period() {
        assert_eq!(Rate::try_per_minute(600.0).unwrap(), Rate::per_minute(600));
    }
}
