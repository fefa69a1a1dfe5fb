//! How a quantity varies: as a person types it, or as an earlier run has measured it.
//!
//! Four forms can be typed, each number with the unit of the quantity:
//!
//! | Form | Meaning |
//! |---|---|
//! | `2s` | always the same |
//! | `1s-4s` | anything from one to the other, evenly |
//! | `2s~0.5` | a mean, and the standard deviation ÷ mean; log-normal |
//! | `p50=2s,p99=10s` | quantiles, two or more; log-normal from one to the next and beyond |
//!
//! Two quantiles are a log-normal distribution, as latencies of services have it. More of them are
//! pieces of such distributions: between two quantiles the logarithm of the value grows in
//! proportion to that of a standard normal draw.

/// The most that the standard deviation ÷ mean may be.
const MOST_SPREAD: f64 = 3.0;
/// No quantity is larger: quantiles close to each other would lead beyond all numbers.
const LARGEST: f64 = 1e12;
/// How far standard normal draws go, as in the simulated provider.
const FURTHEST: f64 = 4.0;

/// A distribution of a number that is not negative: of seconds, or of model tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Dist {
    /// Evenly from one to the other; always the same if both are equal.
    Even(f64, f64),
    /// Standard normal draws and the logarithms of the values that belong to them, both ascending;
    /// two at least.
    Quantiles(Vec<(f64, f64)>),
    /// What was measured, ascending; at least one.
    Measured(Vec<f64>),
}

impl Dist {
    /// Reads a text, in which `value` reads a single number above zero, or zero.
    ///
    /// # Errors
    /// What is wrong with it, without the name of what it is for.
    pub(crate) fn parse(
        text: &str,
        value: impl Fn(&str) -> Option<f64>,
        examples: &str,
    ) -> Result<Self, String> {
        let read = |text: &str| value(text.trim()).ok_or_else(|| format!("give {examples}"));
        if text.contains('=') {
            return Self::quantiles(text, read);
        }
        if let Some((mean, spread)) = text.split_once('~') {
            let spread = spread.trim().parse().ok();
            let spread = spread.filter(|spread| (0.0..=MOST_SPREAD).contains(spread));
            let spread = spread.ok_or_else(|| {
                format!("the spread behind ~ is standard deviation ÷ mean, from 0 to {MOST_SPREAD}")
            })?;
            return Ok(Self::log_normal(read(mean)?, spread));
        }
        if let Some((low, high)) = text.split_once('-') {
            let (low, high) = (read(low)?, read(high)?);
            if low > high {
                return Err("give the lower end of the range first".to_owned());
            }
            return Ok(Self::Even(low, high));
        }
        read(text).map(Self::constant)
    }

    fn quantiles(text: &str, read: impl Fn(&str) -> Result<f64, String>) -> Result<Self, String> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for quantile in text.split(',') {
            let (name, value) = quantile.split_once('=').unwrap_or((quantile, ""));
            let percent = name.trim().strip_prefix(['p', 'P']);
            let percent: Option<f64> = percent.and_then(|percent| percent.parse().ok());
            let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0);
            let percent = percent
                .ok_or_else(|| format!("{:?} is no quantile such as p50 or p99.9", name.trim()))?;
            let value = read(value)?;
            if value <= 0.0 {
                return Err("a quantile must be above zero".to_owned());
            }
            let point = (normal_quantile(percent / 100.0), value.ln());
            if let Some(last) = points.last()
                && (point.0 <= last.0 || point.1 < last.1)
            {
                return Err("give quantiles in their order, none below the one before".to_owned());
            }
            points.push(point);
        }
        if points.len() < 2 {
            return Err("give two quantiles or more, such as a p50 and a p99".to_owned());
        }
        Ok(Self::Quantiles(points))
    }

    /// Always the same.
    pub(crate) fn constant(value: f64) -> Self {
        Self::Even(value, value)
    }

    /// Log-normal, of this mean and this standard deviation ÷ mean.
    pub(crate) fn log_normal(mean: f64, spread: f64) -> Self {
        let variance = (1.0 + spread * spread).ln();
        if variance == 0.0 || mean <= 0.0 {
            return Self::constant(mean);
        }
        let median = mean.ln() - variance / 2.0;
        Self::Quantiles(vec![(0.0, median), (1.0, median + variance.sqrt())])
    }

    /// What was measured. `None` of nothing.
    pub(crate) fn measured(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite() && *value >= 0.0);
        values.sort_unstable_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self::Measured(values))
    }

    /// The value that the share `share` of all is below: with an even draw from 0 to 1, a draw of
    /// this distribution.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        match self {
            Self::Even(low, high) => low + (high - low) * share,
            Self::Quantiles(points) => {
                let z = normal_quantile(share);
                let next = points.partition_point(|point| point.0 < z);
                // Beyond the ends the outermost pieces go on.
                let next = next.clamp(1, points.len() - 1);
                let ((z0, v0), (z1, v1)) = (points[next - 1], points[next]);
                (v0 + (v1 - v0) * (z - z0) / (z1 - z0)).exp().min(LARGEST)
            }
            Self::Measured(values) => {
                // Each value stands for the middle of its share.
                let place = (share * values.len() as f64 - 0.5).max(0.0);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let before = (place as usize).min(values.len() - 1);
                let after = (before + 1).min(values.len() - 1);
                let part = place - before as f64;
                values[before] + (values[after] - values[before]) * part.min(1.0)
            }
        }
    }

    /// The mean.
    pub(crate) fn mean(&self) -> f64 {
        const PARTS: u32 = 4_096;
        match self {
            Self::Even(low, high) => f64::midpoint(*low, *high),
            Self::Measured(values) => values.iter().sum::<f64>() / values.len() as f64,
            Self::Quantiles(_) => {
                let middles = (0..PARTS).map(|part| (f64::from(part) + 0.5) / f64::from(PARTS));
                middles.map(|share| self.at(share)).sum::<f64>() / f64::from(PARTS)
            }
        }
    }
}

/// The standard normal draw that the share `share` of all is below, within ±4.
///
/// A rational approximation to 4.5·10⁻⁴ (Hastings; formula 26.2.23 in Abramowitz and Stegun,
/// "Handbook of Mathematical Functions").
fn normal_quantile(share: f64) -> f64 {
    let tail = share.min(1.0 - share).max(f64::MIN_POSITIVE);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let z = (t - above / below).clamp(0.0, FURTHEST);
    if share < 0.5 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Dist, String> {
        let value = |text: &str| text.strip_suffix('s')?.parse().ok();
        Dist::parse(text, value, "a time")
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        let off = (found - expected).abs() / expected.abs().max(1e-9);
        assert!(off < 0.005, "{found} instead of {expected}");
    }

    #[test]
    fn each_form_means_what_the_table_says() {
        let always = parse("2s").unwrap();
        assert_eq!((always.at(0.0), always.at(0.99)), (2.0, 2.0));
        let even = parse(" 1s - 4s").unwrap();
        assert_eq!((even.at(0.0), even.at(0.5), even.at(1.0)), (1.0, 2.5, 4.0));
        let spread = parse("2s~0.5").unwrap();
        close(spread.mean(), 2.0);
        // The median of a log-normal distribution is mean / √(1 + spread²).
        close(spread.at(0.5), 2.0 / 1.25_f64.sqrt());
        assert_eq!(parse("2s~0").unwrap(), always);
        let two = parse("p50=2s,p99=10s").unwrap();
        close(two.at(0.5), 2.0);
        close(two.at(0.99), 10.0);
        // As far below the median as 10 s is above it.
        close(two.at(0.01), 0.4);
        let three = parse("p10=1s, p50=2s, p99.9=20s").unwrap();
        for (share, value) in [(0.1, 1.0), (0.5, 2.0), (0.999, 20.0)] {
            close(three.at(share), value);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("", "a time"),
            ("2", "a time"),
            ("2s-", "a time"),
            ("4s-1s", "lower end"),
            ("2s~", "standard deviation"),
            ("2s~-1", "standard deviation"),
            ("2s~nan", "standard deviation"),
            ("2s~3.1", "standard deviation"),
            ("x~1", "a time"),
            ("p50=2s", "two quantiles"),
            ("p50=2s,p50=3s", "order"),
            ("p99=2s,p50=1s", "order"),
            ("p50=2s,p99=1s", "order"),
            ("p0=1s,p50=2s", "\"p0\""),
            ("p50=1s,p100=2s", "\"p100\""),
            ("p50=1s,99=2s", "\"99\""),
            ("p50=1s,", "\"\""),
            ("p50=0s,p99=1s", "above zero"),
            ("p50=x,p99=1s", "a time"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(what), "{text}: {told}");
        }
    }

    #[test]
    fn what_was_measured_comes_again() {
        let dist = Dist::measured(vec![3.0, f64::NAN, 1.0, 2.0, -1.0]).unwrap();
        assert_eq!((dist.at(0.0), dist.at(0.5), dist.at(1.0)), (1.0, 2.0, 3.0));
        close(dist.mean(), 2.0);
        assert_eq!(Dist::measured(vec![f64::INFINITY]), None);
        // A draw of many has the mean of what was measured.
        let values: Vec<f64> = (0..500).map(|n| f64::from(n).powi(2)).collect();
        let dist = Dist::measured(values).unwrap();
        let drawn: f64 = (0..10_000)
            .map(|n| dist.at((f64::from(n) + 0.5) / 1e4))
            .sum();
        close(drawn / 1e4, dist.mean());
    }

    #[test]
    fn the_normal_distribution_is_the_one_in_the_tables() {
        for (share, z) in [
            (0.5, 0.0),
            (0.841_345, 1.0),
            (0.975, 1.959_96),
            (0.999, 3.090_23),
        ] {
            for (share, z) in [(share, z), (1.0 - share, -z)] {
                let found = normal_quantile(share);
                assert!((found - z).abs() < 5e-4, "{share}: {found}");
            }
        }
        assert_eq!(
            (normal_quantile(0.0), normal_quantile(1.0)),
            (-FURTHEST, FURTHEST)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_a_higher_share_is_never_less(
            text in "[p0-9s.,=~ -]{0,20}",
            shares in prop::collection::vec(0.0..=1.0_f64, 2..20),
        ) {
            if let Ok(dist) = parse(&text) {
                let mut shares = shares;
                shares.sort_unstable_by(f64::total_cmp);
                for pair in shares.windows(2) {
                    let (low, high) = (dist.at(pair[0]), dist.at(pair[1]));
                    prop_assert!(0.0 <= low && low <= high, "{} {}", low, high);
                }
            }
        }

        #[test]
        fn a_form_is_read_as_it_is_written(low in 1..1_000_u32, more in 0..1_000_u32) {
            let high = low + more;
            let even = parse(&format!("{low}s-{high}s")).unwrap();
            prop_assert_eq!(even, Dist::Even(low.into(), high.into()));
            let dist = parse(&format!("p50={low}s,p90={high}s")).unwrap();
            let off = (dist.at(0.9) / f64::from(high)).ln();
            prop_assert!(off.abs() < 1e-6, "{}", off);
        }
    }
}
