//! What answers cost, exactly.
//!
//! Prices are decimals and counts are whole, so a cost is a whole number of millionths of a
//! millionth of a dollar: nothing is rounded before it is shown, however many costs are added up.

use std::convert::Infallible;
use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use super::usage::Usage;
use crate::error::{Error, Result, config};

/// An amount of US dollars, exact to a millionth of a millionth.
///
/// Shown and read as a plain decimal number. It is made by `parse`, or by `try_from` of an `f64` or
/// an `i32`. Amounts can be added.
///
/// ```
/// use tollgate::Usd;
///
/// let budget: Usd = "2.50".parse()?;
/// assert!(budget > Usd::ZERO);
/// assert_eq!(budget.to_string(), "2.5");
/// assert_eq!((budget + budget).as_f64(), 5.0);
/// assert_eq!((budget + Usd::try_from(0.1)?).to_string(), "2.6");
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(
    /// Millionths of a millionth of a dollar.
    u128,
);

/// Digits behind the point of an amount.
const DIGITS: usize = 12;
const PARTS: u128 = 1_000_000_000_000;
/// Digits behind the point of a price for a million tokens; a millionth of the last is one part.
const PRICE_DIGITS: usize = 6;
const MILLION: u128 = 1_000_000;
/// The largest amount that can be given, in dollars; the largest price is a million. Costs may add
/// up to more: the arithmetic saturates at a million times that.
const MOST: u128 = 1_000_000_000_000;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount as the nearest floating-point number.
    pub fn as_f64(self) -> f64 {
        // Parsing gives the nearest number; dividing a rounded number need not.
        self.to_string().parse().unwrap_or(f64::INFINITY)
    }

    /// The amount rounded up to the cent, or below a dollar to a hundredth of a cent: for people.
    #[cfg(feature = "bar")]
    pub(crate) fn rounded(self) -> String {
        let (digits, step) = if self.0 < PARTS {
            (4, PARTS / 10_000)
        } else {
            (2, PARTS / 100)
        };
        let parts = self.0.div_ceil(step).saturating_mul(step);
        let (dollars, rest) = (parts / PARTS, parts % PARTS);
        format!("${dollars}.{:0digits$}", rest / step)
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// A plain decimal number, without zeros at its end.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0 / PARTS, self.0 % PARTS);
        if rest == 0 {
            return write!(f, "{dollars}");
        }
        let digits = format!("{rest:0DIGITS$}");
        write!(f, "{dollars}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Usd {
    type Err = Error;

    /// Reads a plain decimal number with at most 12 digits behind the point.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for anything else, and above a million
    /// million.
    fn from_str(text: &str) -> Result<Self> {
        match decimal(text, DIGITS) {
            Some(parts) if parts <= MOST * PARTS => Ok(Self(parts)),
            _ => Err(config(
                "give US dollars as a plain number such as 5 or 0.25, at most 1000000000000 and \
                 with at most 12 digits behind the point",
            )),
        }
    }
}

impl TryFrom<f64> for Usd {
    type Error = Error;

    /// The amount that `dollars` is written as: 0.1 is a tenth exactly. What is left of a computed
    /// number behind the twelfth digit is rounded.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) below 0, above a million million, and for
    /// what is not a number.
    fn try_from(dollars: f64) -> Result<Self> {
        let written = dollars.to_string();
        written
            .parse()
            .or_else(|_| format!("{dollars:.DIGITS$}").parse())
    }
}

impl TryFrom<i32> for Usd {
    type Error = Error;

    /// Whole dollars.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) below 0.
    fn try_from(dollars: i32) -> Result<Self> {
        f64::from(dollars).try_into()
    }
}

/// Lets functions take whatever becomes an [`Usd`], and an [`Usd`] itself.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What a provider takes for its model tokens, in US dollars for a million of them.
///
/// ```
/// use tollgate::{Price, Usage, Usd};
///
/// let price = Price::per_million(0.15, 0.60)?;
/// assert_eq!(price, "0.15,0.60".parse()?);
///
/// let mut usage = Usage::default();
/// usage.prompt_tokens = 1_000;
/// usage.completion_tokens = 500;
/// assert_eq!(price.cost(&usage), "0.00045".parse()?);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    /// For a million tokens.
    input: Usd,
    output: Usd,
}

impl Price {
    /// So many US dollars for a million tokens of prompts and of answers, to the nearest millionth.
    /// Both may be 0: a server of one's own.
    ///
    /// Tokens that the provider has cached are counted as all others, so the cost may be less.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a price below 0, above 1,000,000 or not
    /// a number.
    pub fn per_million(input: f64, output: f64) -> Result<Self> {
        let exact = |dollars: f64| price(&format!("{dollars:.PRICE_DIGITS$}"));
        Ok(Self {
            input: exact(input)?,
            output: exact(output)?,
        })
    }

    /// What this usage costs.
    pub fn cost(&self, usage: &Usage) -> Usd {
        self.of(usage.prompt_tokens, usage.completion_tokens)
    }

    pub(crate) fn of(&self, prompt_tokens: u64, completion_tokens: u64) -> Usd {
        // At most 10^18 times 2^64, twice: within the type. There is no remainder.
        let input = self.input.0 * u128::from(prompt_tokens);
        let output = self.output.0 * u128::from(completion_tokens);
        Usd((input + output) / MILLION)
    }
}

impl FromStr for Price {
    type Err = Error;

    /// Reads `IN,OUT`, such as `0.15,0.60`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless both are plain numbers from 0 to
    /// 1,000,000 with at most 6 digits behind the point.
    fn from_str(text: &str) -> Result<Self> {
        let Some((input, output)) = text.split_once(',') else {
            return Err(config(
                "give two prices, IN,OUT: US dollars for a million tokens of prompts and of answers, \
                 such as 0.15,0.60",
            ));
        };
        Ok(Self {
            input: price(input)?,
            output: price(output)?,
        })
    }
}

fn price(text: &str) -> Result<Usd> {
    match decimal(text, PRICE_DIGITS) {
        Some(millionths) if millionths <= MILLION * MILLION => Ok(Usd(millionths * MILLION)),
        _ => Err(config(
            "give each price as a plain number of US dollars for a million tokens, from 0 to 1000000 \
             and with at most 6 digits behind the point",
        )),
    }
}

/// A plain decimal number, in units of its last possible digit.
fn decimal(text: &str, digits: usize) -> Option<u128> {
    let text = text.trim();
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && rest.is_empty()) || !plain(whole) || !plain(rest) || rest.len() > digits
    {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    // Enough for the largest amount there is, and few enough not to overflow.
    if whole.len() > 13 {
        return None;
    }
    format!("0{whole}{rest:0<digits$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        }
    }

    #[test]
    fn a_number_of_dollars_is_the_amount_it_is_written_as() {
        for (dollars, amount) in [
            (0.1, "0.1"),
            (2.5, "2.5"),
            (0.1 + 0.2, "0.3"),
            (123_456_789.12, "123456789.12"),
            (1e12, "1000000000000"),
            (1e-12, "0.000000000001"),
            (0.0, "0"),
        ] {
            let usd = Usd::try_from(dollars).map(|usd| usd.to_string());
            assert_eq!(usd.ok().as_deref(), Some(amount), "{dollars}");
        }
        for dollars in [-1.0, f64::NAN, f64::INFINITY, 1e13, -1e-9] {
            assert!(Usd::try_from(dollars).is_err(), "{dollars}");
        }
        assert_eq!(Usd::try_from(5).unwrap(), "5".parse().unwrap());
        assert!(Usd::try_from(-5).is_err());
    }

    #[test]
    fn amounts_are_read_and_shown_as_plain_numbers() {
        for (text, shown) in [
            ("0", "0"),
            ("5", "5"),
            ("007.50", "7.5"),
            (".5", "0.5"),
            ("5.", "5"),
            (" 0.25 ", "0.25"),
            ("0.000000000001", "0.000000000001"),
            ("1000000000000", "1000000000000"),
        ] {
            assert_eq!(usd(text).to_string(), shown);
        }
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "NaN",
            "inf",
            "1,5",
            "$5",
            "0.0000000000001",
            "1 0",
            "٣",
            "1000000000000.1",
            "10000000000000",
            "99999999999999999999999999999999999999999",
        ] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
    }

    #[test]
    fn prices_that_nobody_can_mean_are_refused() {
        for text in [
            "1",
            "",
            ",",
            "1,",
            ",1",
            "-1,2",
            "1,-2",
            "NaN,1",
            "1,inf",
            "1,2,3",
            "1000001,1",
            "0.0000001,1",
            "1e2,1",
        ] {
            let error = text.parse::<Price>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        }
        for (input, output) in [
            (-0.1, 1.0),
            (1.0, f64::NAN),
            (f64::INFINITY, 1.0),
            (1.0, 1e7),
            (f64::MAX, 1.0),
        ] {
            assert!(
                Price::per_million(input, output).is_err(),
                "{input},{output}"
            );
        }
        assert_eq!(
            "0, 0".parse::<Price>().unwrap().cost(&usage(9, 9)),
            Usd::ZERO
        );
        assert_eq!(
            Price::per_million(0.1 + 0.2, 1.0).unwrap(),
            "0.3,1".parse().unwrap()
        );
    }

    #[test]
    fn a_million_small_costs_add_up_to_the_cent() {
        let price: Price = "0.15,0.60".parse().unwrap();
        let each = price.cost(&usage(1, 0));
        assert_eq!(each.to_string(), "0.00000015");
        let sum = (0..1_000_000).fold(Usd::ZERO, |sum, _| sum + each);
        assert_eq!(sum, usd("0.15"));
        assert_eq!(sum.as_f64().to_bits(), 0.15_f64.to_bits());
    }

    #[test]
    fn the_dearest_tokens_there_can_be_do_not_overflow() {
        let price = Price::per_million(1e6, 1e6).unwrap();
        let all = price.cost(&usage(u64::MAX, u64::MAX));
        assert_eq!(all.to_string(), (u128::from(u64::MAX) * 2).to_string());
        assert!((all + all).as_f64() > 1e19);
    }

    #[cfg(feature = "bar")]
    #[test]
    fn people_see_cents_or_hundredths_of_them_and_never_nothing_for_something() {
        for (text, shown) in [
            ("0", "$0.0000"),
            ("0.000000000001", "$0.0001"),
            ("0.12", "$0.1200"),
            ("0.99999", "$1.0000"),
            ("1", "$1.00"),
            ("12.341", "$12.35"),
        ] {
            assert_eq!(usd(text).rounded(), shown);
        }
    }

    fn price_of(input: u128, output: u128) -> Price {
        let dollars = |millionths| Usd(millionths * MILLION);
        Price {
            input: dollars(input),
            output: dollars(output),
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(parts in 0..=MOST * PARTS, input in 0..=MILLION * MILLION, output in 0..=MILLION * MILLION) {
            let amount = Usd(parts);
            prop_assert_eq!(amount.to_string().parse::<Usd>().unwrap(), amount);
            let price = price_of(input, output);
            let text = format!("{},{}", price.input, price.output);
            prop_assert_eq!(text.parse::<Price>().unwrap(), price);
        }

        #[test]
        fn the_cost_of_a_sum_is_the_sum_of_the_costs(
            input in 0..=MILLION * MILLION,
            output in 0..=MILLION * MILLION,
            usages in prop::collection::vec((0..=1_000_000_000_000_u64, 0..=1_000_000_000_000_u64), 0..20),
        ) {
            let price = price_of(input, output);
            let each = usages.iter().map(|&(prompt, completion)| price.cost(&usage(prompt, completion)));
            let sum = each.fold(Usd::ZERO, Add::add);
            let prompts = usages.iter().map(|usage| usage.0).sum();
            let completions = usages.iter().map(|usage| usage.1).sum();
            prop_assert_eq!(sum, price.of(prompts, completions));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.,+e-]{0,40}") {
            let _ = text.parse::<Usd>();
            let _ = text.parse::<Price>();
        }
    }
}
