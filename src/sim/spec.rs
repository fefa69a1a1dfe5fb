//! How the simulated provider is to behave, as values and as the one line a person types.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::manners::{AtOnce, Cuts, Dialect, Hints, Judged, Load};
use crate::Rate;
use crate::api::times;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::settings;

settings! {
    /// How the simulated provider behaves: latency, limits, errors, seed.
    ///
    /// Built with methods, or parsed from the text the command line takes: fields `name=value` with
    /// commas between them, each optional.
    ///
    /// | Field | Meaning | Default |
    /// |---|---|---|
    /// | `latency` | mean time to an answer: `500ms`, `2s`, `1m`, a bare number is seconds; at most an hour | `500ms` |
    /// | `jitter` | spread of the latency, standard deviation ÷ mean, from 0 (fixed) to 3 | `0.3` |
    /// | `load` | the latency rises when more requests are worked on at once: with `40` in proportion to their number above 40, with `40@2` to the double above 40 (a factor above 1, at most 1,000) | it does not |
    /// | `rps` or `rpm` | requests allowed a second or a minute (one of the two) | no limit |
    /// | `tpm` | model tokens allowed a minute, prompt and answer together | no limit |
    /// | `input-tpm`, `output-tpm` | model tokens of prompts and of answers allowed a minute, each limited apart; only the headers of `anthropic` announce them | no limit |
    /// | `burst` | requests that `rps` or `rpm` allows at once; a window has none | two seconds' worth, at least 2 |
    /// | `window` | how the limits are judged: `bucket`, or in windows of their period, `fixed` or `sliding` | `bucket` |
    /// | `refused` | `count` if refused requests count against the limits | they do not |
    /// | `headers` | whose headers tell of the limits: `openai`, `azure`, `groq`, `anthropic`, `openrouter`, `ietf`, `gemini` (none; its refusals tell the wait in their body, as `RetryInfo`), `none` | `openai` |
    /// | `hints` | how a refusal says how long to wait: `ms` (exactly), `s` (in whole seconds), `words` (in the body), `none` | `ms` |
    /// | `cut` | only a share of the limits holds for a time: `20s-40s@0.33`; with `@0` all requests are answered 503, limits or not; up to 16 in their order, with `+` between them: `20s-40s@0.33+60s-80s@0.5` | none |
    /// | `places` | requests worked on at once, more are answered 429: `3`; `3@60s` also asks for a wait of 60 s | no limit |
    /// | `overload` | in place of `places`: more are answered 503: `120`, `120@5s` | no limit |
    /// | `errors` | share of requests answered 500, 502 or 503, from 0 to 1 | `0` |
    /// | `strays` | share of requests answered 429 with a wait of a second although they are within the limits, from 0 to 1 | `0` |
    /// | `faults` | share of requests whose connection breaks before or within the answer, from 0 to 1 | `0` |
    /// | `seed` | what all chance is drawn from | `7` |
    ///
    /// A field that has no effect beside the others is refused, such as `burst` with
    /// `window=fixed`, or the wait of `places` with `hints=none`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::Rate;
    /// use tollgate::sim::SimSpec;
    ///
    /// let typed: SimSpec = "latency=50ms,jitter=0,rpm=600,errors=0.02,seed=11".parse()?;
    /// let built = SimSpec::default()
    ///     .latency(Duration::from_millis(50))
    ///     .jitter(0.0)
    ///     .requests(Rate::per_minute(600))
    ///     .errors(0.02)
    ///     .seed(11);
    /// assert_eq!(typed, built);
    ///
    /// let error = "latency=soon".parse::<SimSpec>().unwrap_err();
    /// assert!(error.to_string().contains("latency"));
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    ///
    /// # Latency
    /// Log-normal, as measured latencies of services are: never negative, with a long tail. With
    /// mean `m` and jitter `j`, the latency is `m · exp(σz − σ²/2)`, where `σ² = ln(1 + j²)` and
    /// `z` is a standard normal draw held within ±4. The k-th request to arrive gets the k-th draw,
    /// so a run over N requests waits the same total each time. With a jitter of 1.29, one answer
    /// in a hundred takes ten times the median or longer. Refusals (4xx) are answered at once.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct SimSpec ()

    /// The mean time from a request's arrival to its answer; 500 ms unless set, at most an hour.
    latency: Duration = Duration::from_millis(500);

    /// The latency's standard deviation ÷ mean, from 0 (fixed) to 3; 0.3 unless set.
    jitter: f64 = 0.3;

    /// The requests allowed; no limit unless set.
    ///
    /// In any window of length T at most [`burst`](SimSpec::burst) + rate·T requests are let in,
    /// judged continuously at each arrival. What is above is answered 429 and not charged.
    requests(rate: Rate): Option<Rate> = None => Some(rate);

    /// The model tokens allowed, prompt and answer together; no limit unless set.
    ///
    /// Charged on arrival with what the answer's `usage` will say, and judged as requests are, with
    /// a burst of two seconds' worth. A request above the burst is let in once at most half of the
    /// burst is in use; one above the rate's whole period never is.
    tokens(rate: Rate): Option<Rate> = None => Some(rate);

    /// The model tokens of prompts allowed; no limit unless set. Judged as
    /// [`tokens`](SimSpec::tokens) are, and announced in Anthropic's headers alone.
    input_tokens(rate: Rate): Option<Rate> = None => Some(rate);

    /// The model tokens of answers allowed; no limit unless set. Judged as
    /// [`tokens`](SimSpec::tokens) are, and announced in Anthropic's headers alone.
    output_tokens(rate: Rate): Option<Rate> = None => Some(rate);

    /// The requests allowed at once; two seconds' worth and at least 2 unless set.
    ///
    /// Twice a client's usual burst of one second's worth: with exactly the client's own, a paced
    /// request that the network delivers a millisecond early would be one too many.
    burst(requests: u64): Option<u64> = None => Some(requests);

    /// How the limits are judged; as a bucket unless set. A window has no burst.
    judged: Judged = Judged::Bucket;

    /// Counts refused requests against the limits, as some providers do. They are not unless set.
    refused_count(): bool = false => true;

    /// Whose headers tell of the limits; `OpenAI`'s unless set.
    dialect: Dialect = Dialect::OpenAi;

    /// How a refusal says how long to wait; exactly unless set.
    hints: Hints = Hints::Exact;

    /// Leaves only a share of the limits between two times after the start, once for each of up to
    /// 16 cuts in their order: `(from, to, share)`. With a share of 0 it is an outage, limits or
    /// not: all is answered 503, and 529 on Anthropic's paths.
    cuts(cuts: &[(Duration, Duration, f64)]): Cuts = Cuts::NONE => Cuts::new(cuts);

    /// Makes the latency rise when more than `above` requests are worked on at once: to `times`
    /// what it is (a factor above 1, at most 1,000), or with `None` in proportion to their number.
    /// The latter is a server that works on `above` requests and queues the others. The latency
    /// does not rise unless this is set.
    ///
    /// The number is the one at the request's arrival, itself included.
    load(above: usize, times: Option<f64>): Option<Load> = None => Some(Load { above, times });

    /// The requests worked on at once; no limit unless set. More are answered 429, which asks for
    /// `wait`. They are not charged to the other limits.
    ///
    /// `LiteLLM`'s limit on parallel requests asks for 60 s, however soon a request ends.
    places(most: usize, wait: Option<Duration>): Option<AtOnce> =
        None => Some(AtOnce { most, wait });

    /// The requests worked on at once beyond which the server is overloaded; no limit unless set.
    /// More are answered 503, and 529 on Anthropic's paths. They are not charged to the limits.
    /// Beside [`places`](SimSpec::places) only the lower would ever be reached, so both are refused.
    overload(most: usize, wait: Option<Duration>): Option<AtOnce> =
        None => Some(AtOnce { most, wait });

    /// The share of requests answered 500, 502 (an HTML page) or 503, from 0 to 1; none unless set.
    ///
    /// Drawn from the seed, the request's content and how often that content has been asked, so
    /// that a repeated run meets the same errors in whatever order its requests arrive. The server
    /// then remembers each distinct request it has seen (some 40 bytes each).
    errors(share: f64): f64 = 0.0 => share;

    /// The share of requests answered 429 with a wait of a second although they are within the
    /// limits; none unless set. Drawn as [`errors`](SimSpec::errors) are.
    strays(share: f64): f64 = 0.0 => share;

    /// The share of requests whose connection breaks, from 0 to 1; none unless set.
    ///
    /// Half of them are reset before the answer, half are closed in the middle of its body. Drawn
    /// as [`errors`](SimSpec::errors) are.
    faults(share: f64): f64 = 0.0 => share;

    /// What all chance is drawn from; 7 unless set.
    seed: u64 = 7;
}

/// What a plan goes by.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) struct SimPlan {
    pub(crate) latency: Duration,
    pub(crate) jitter: f64,
    /// The share of attempts that fail.
    pub(crate) failing: f64,
    /// The limits on requests and on model tokens.
    pub(crate) rates: [Option<Rate>; 2],
    /// Those on the model tokens of prompts and of answers.
    pub(crate) apart: [Option<Rate>; 2],
    /// The fields that a plan does not go by.
    pub(crate) left_out: Vec<&'static str>,
}

const SHARE: &str = "a number from 0 to 1, at most 1 for errors, strays and faults together";
const WHOLE: &str = "a whole number from 0 to 18446744073709551615";
const RATE: &str = "a number of at most 1,000,000,000 a second, and at least 0.000001";
const WINDOWS: &str = "bucket, fixed, sliding";
const DIALECTS: &str = "openai, azure, groq, anthropic, openrouter, ietf, gemini, none";
const HINTS: &str = "ms, s, words, none";
const AT_ONCE: &str = "a number of requests above 0, and behind an @ a wait above 0 if refusals \
                       ask for one, such as 3@60s";

/// The fields of the text, and what they take.
const FIELDS: [(&str, &str); 20] = [
    ("latency", "a duration of at most an hour, such as 500ms"),
    ("jitter", "a number from 0 to 3"),
    (
        "load",
        "a number of requests above 0, and behind an @ a factor above 1 and at most 1,000 if it is \
         fixed, such as 40@2",
    ),
    ("rps", RATE),
    ("rpm", RATE),
    ("tpm", RATE),
    ("input-tpm", RATE),
    ("output-tpm", RATE),
    ("burst", "a whole number from 1 to 18446744073709551615"),
    ("window", WINDOWS),
    ("refused", "count"),
    ("headers", DIALECTS),
    ("hints", HINTS),
    (
        "cut",
        "two times and a share from 0 to less than 1, such as 20s-40s@0.33; several, at most 16, \
         stand in their order with a + between them",
    ),
    ("places", AT_ONCE),
    ("overload", AT_ONCE),
    ("errors", SHARE),
    ("strays", SHARE),
    ("faults", SHARE),
    ("seed", WHOLE),
];

const LONGEST_LATENCY: Duration = Duration::from_secs(3600);

impl SimSpec {
    #[cfg(feature = "cli")]
    pub(crate) fn to_plan(self) -> SimPlan {
        let others = [
            ("load", self.load.is_some()),
            ("cut", self.cuts != Cuts::NONE),
            ("places", self.places.is_some()),
            ("overload", self.overload.is_some()),
            ("strays", self.strays > 0.0),
        ];
        let left_out = others.into_iter().filter(|(_, is_set)| *is_set);
        SimPlan {
            latency: self.latency,
            jitter: self.jitter,
            failing: self.errors + self.faults,
            rates: [self.requests, self.tokens],
            apart: [self.input_tokens, self.output_tokens],
            left_out: left_out.map(|(field, _)| field).collect(),
        }
    }

    /// Refuses what cannot be simulated, naming the field.
    pub(super) fn checked(self) -> Result<Self> {
        let is_share = |value: f64| (0.0..=1.0).contains(&value);
        let is_wait = |wait: Duration| !wait.is_zero();
        let is_places = |it: AtOnce| it.most > 0 && it.wait.is_none_or(is_wait);
        let is_factor = |times: f64| times > 1.0 && times <= 1000.0;
        let is_load = |load: Load| load.above > 0 && load.times.is_none_or(is_factor);
        let in_all = self.errors + self.strays + self.faults;
        let fields = [
            ("latency", self.latency <= LONGEST_LATENCY),
            ("jitter", (0.0..=3.0).contains(&self.jitter)),
            ("load", self.load.is_none_or(is_load)),
            ("burst", self.burst != Some(0)),
            ("cut", self.cuts.are_usable()),
            ("places", self.places.is_none_or(is_places)),
            ("overload", self.overload.is_none_or(is_places)),
            ("strays", is_share(self.strays)),
            ("faults", is_share(self.faults)),
            ("errors", is_share(self.errors) && in_all <= 1.0),
        ];
        if let Some((field, _)) = fields.iter().find(|(_, is_usable)| !is_usable) {
            return Err(unusable(field));
        }
        for rate in self.rates().into_iter().flatten() {
            rate.checked()?;
        }
        let flaw = self.cuts.overlap().or_else(|| self.without_effect());
        flaw.map_or(Ok(self), |what| Err(wrong(what)))
    }

    fn rates(&self) -> [Option<Rate>; 4] {
        [
            self.requests,
            self.tokens,
            self.input_tokens,
            self.output_tokens,
        ]
    }

    /// What is asked for in vain, because of the rest or for want of it.
    fn without_effect(&self) -> Option<String> {
        let rates = self.rates();
        let is_unlimited = rates.iter().all(Option::is_none);
        let window = match self.judged {
            Judged::Bucket => None,
            Judged::Fixed => Some("window=fixed"),
            Judged::Sliding => Some("window=sliding"),
        };
        let silent = match self.hints {
            Hints::Words => Some("hints=words"),
            Hints::Silent => Some("hints=none"),
            Hints::Exact | Hints::Seconds => None,
        };
        if let Some(window) = window.filter(|_| self.burst.is_some()) {
            return Some(format!(
                "burst has no effect beside {window}, which lets in at once what a period allows"
            ));
        }
        if self.burst.is_some() && self.requests.is_none() {
            return Some("burst has no effect without rps or rpm".to_owned());
        }
        let of_limits = [
            ("window", window.is_some()),
            ("refused", self.refused_count),
            ("cut with a share above 0", self.cuts.need_limits()),
        ];
        if let Some((field, _)) = of_limits.iter().find(|it| is_unlimited && it.1) {
            return Some(format!(
                "{field} has no effect without a limit: rps, rpm, tpm, input-tpm or output-tpm"
            ));
        }
        // A rate that is not whole has so long a period.
        let is_not_whole = |rate: &Rate| rate.period() >= Duration::from_secs(1_000_000);
        if let Some(window) = window.filter(|_| rates.iter().flatten().any(is_not_whole)) {
            return Some(format!("{window} counts whole numbers: give whole limits"));
        }
        if self.places.is_some() && self.overload.is_some() {
            let what = "only the lower of places and overload is ever reached: give one of them";
            return Some(what.to_owned());
        }
        for (field, at_once) in [("places", self.places), ("overload", self.overload)] {
            if let Some(silent) = silent.filter(|_| at_once.is_some_and(|it| it.wait.is_some())) {
                return Some(format!(
                    "{field} has a wait, which {silent} keeps to itself"
                ));
            }
        }
        let is_instant = self.load.is_some() && self.latency.is_zero();
        is_instant.then(|| "load has no effect on a latency of 0".to_owned())
    }

    /// With one of the [`FIELDS`] as it is typed; `None` if the value is not what it takes.
    fn with(self, field: &str, value: &str) -> Option<Self> {
        use Dialect::{Anthropic, Azure, Gemini, Groq, Ietf, OpenAi, OpenRouter};
        const WINDOW: [Judged; 3] = [Judged::Bucket, Judged::Fixed, Judged::Sliding];
        const HINT: [Hints; 4] = [Hints::Exact, Hints::Seconds, Hints::Words, Hints::Silent];
        let dialects = [
            OpenAi,
            Azure,
            Groq,
            Anthropic,
            OpenRouter,
            Ietf,
            Gemini,
            Dialect::Silent,
        ];
        Some(match field {
            "latency" => self.latency(times::typed(value)?),
            "jitter" => self.jitter(value.parse().ok()?),
            "load" => {
                let (above, times) = with_more(value, |times| times.parse().ok())?;
                self.load(above, times)
            }
            "rps" => self.requests(Rate::try_per_second(value.parse().ok()?).ok()?),
            "rpm" => self.requests(a_minute(value)?),
            "tpm" => self.tokens(a_minute(value)?),
            "input-tpm" => self.input_tokens(a_minute(value)?),
            "output-tpm" => self.output_tokens(a_minute(value)?),
            "burst" => self.burst(value.parse().ok()?),
            "window" => self.judged(word(value, WINDOWS, &WINDOW)?),
            "refused" if value == "count" => self.refused_count(),
            "headers" => self.dialect(word(value, DIALECTS, &dialects)?),
            "hints" => self.hints(word(value, HINTS, &HINT)?),
            "cut" => {
                let cuts: Option<Vec<_>> = value.split('+').map(cut).collect();
                self.cuts(&cuts?)
            }
            "places" => {
                let (most, wait) = with_more(value, times::typed)?;
                self.places(most, wait)
            }
            "overload" => {
                let (most, wait) = with_more(value, times::typed)?;
                self.overload(most, wait)
            }
            "errors" => self.errors(value.parse().ok()?),
            "strays" => self.strays(value.parse().ok()?),
            "faults" => self.faults(value.parse().ok()?),
            "seed" => self.seed(value.parse().ok()?),
            _ => return None,
        })
    }
}

/// Reads a cut: `20s-40s@0.33`.
fn cut(value: &str) -> Option<(Duration, Duration, f64)> {
    let (times, share) = value.split_once('@')?;
    let (from, to) = times.split_once('-')?;
    let (from, to) = (times::typed(from.trim())?, times::typed(to.trim())?);
    Some((from, to, share.trim().parse().ok()?))
}

fn a_minute(value: &str) -> Option<Rate> {
    Rate::try_per_minute(value.parse().ok()?).ok()
}

/// Reads a number, and what stands behind an @ if there is one.
fn with_more<T>(value: &str, read: fn(&str) -> Option<T>) -> Option<(usize, Option<T>)> {
    Some(match value.split_once('@') {
        Some((number, more)) => (number.parse().ok()?, Some(read(more)?)),
        None => (value.parse().ok()?, None),
    })
}

/// What a word of a list means.
fn word<T: Copy>(value: &str, words: &str, meanings: &[T]) -> Option<T> {
    let at = words.split(", ").position(|word| word == value)?;
    meanings.get(at).copied()
}

impl FromStr for SimSpec {
    type Err = Error;

    /// Parses `latency=500ms,jitter=0.3,rps=10,...`; empty text is the default.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the field that is unknown, given twice, out of range or
    /// without effect.
    fn from_str(text: &str) -> Result<Self> {
        let mut spec = Self::default();
        let mut given: Vec<&str> = Vec::new();
        for field in text.split(',').map(str::trim).filter(|f| !f.is_empty()) {
            let Some((name, value)) = field.split_once('=') else {
                return Err(wrong(format!("`{field}` is not of the form name=value")));
            };
            let (name, value) = (name.trim(), value.trim());
            if given.contains(&name) {
                return Err(wrong(format!("{name} is given twice")));
            }
            given.push(name);
            if !FIELDS.iter().any(|(known, _)| *known == name) {
                let names = FIELDS.map(|(name, _)| name).join(", ");
                return Err(wrong(format!(
                    "there is no field `{name}`: it takes {names}"
                )));
            }
            spec = spec.with(name, value).ok_or_else(|| unusable(name))?;
        }
        if given.contains(&"rps") && given.contains(&"rpm") {
            return Err(wrong("rps and rpm say the same thing: give one of them"));
        }
        spec.checked()
    }
}

fn unusable(field: &str) -> Error {
    let known = FIELDS.iter().find(|(name, _)| *name == field);
    let takes = known.map_or("", |(_, takes)| takes);
    wrong(format!("{field} takes {takes}"))
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SimSpec> {
        text.parse()
    }

    #[test]
    fn nothing_said_is_the_default() {
        for text in ["", " ", ",", " , "] {
            assert_eq!(parse(text).unwrap(), SimSpec::default());
        }
    }

    #[test]
    fn every_field_is_read() {
        let spec = parse(
            " latency = 1.5s, jitter=0, rpm=90.5,tpm=6000,burst=4,errors=0.1,faults=0.2,seed=0",
        );
        let expected = SimSpec::default()
            .latency(Duration::from_millis(1500))
            .jitter(0.0)
            .requests(Rate::try_per_minute(90.5).unwrap())
            .tokens(Rate::per_minute(6000))
            .burst(4)
            .errors(0.1)
            .faults(0.2)
            .seed(0);
        assert_eq!(spec.unwrap(), expected);
    }

    #[test]
    fn what_happens_at_many_at_once_is_read() {
        let spec = parse("load=40@2,places=3@60s");
        let expected = SimSpec::default()
            .load(40, Some(2.0))
            .places(3, Some(Duration::from_secs(60)));
        assert_eq!(spec.unwrap(), expected);
        let overload = SimSpec::default().overload(120, None);
        assert_eq!(parse("overload=120").unwrap(), overload);
        assert_eq!(parse("load=40").unwrap(), SimSpec::default().load(40, None));
    }

    #[test]
    fn several_cuts_and_tokens_apart_are_read() {
        let s = Duration::from_secs;
        let spec = parse("cut=20s-40s@0.33 + 40-1m@0+2m-3m@0.5,input-tpm=900,output-tpm=60.5");
        let expected = SimSpec::default()
            .cuts(&[
                (s(20), s(40), 0.33),
                (s(40), s(60), 0.0),
                (s(120), s(180), 0.5),
            ])
            .input_tokens(Rate::per_minute(900))
            .output_tokens(Rate::try_per_minute(60.5).unwrap());
        assert_eq!(spec.unwrap(), expected);
        let many = |count| (0..count).map(|at| format!("{at}s-{}s@0.5", at + 1));
        let many = |count| format!("rps=9,cut={}", many(count).collect::<Vec<_>>().join("+"));
        assert!(parse(&many(16)).is_ok() && parse(&many(17)).is_err());
    }

    #[test]
    fn what_has_no_effect_beside_the_rest_is_refused() {
        for (text, told) in [
            (
                "rps=9,burst=3,window=fixed",
                "burst has no effect beside window=fixed",
            ),
            (
                "rps=9,burst=3,window=sliding",
                "burst has no effect beside window=sliding",
            ),
            ("burst=3", "burst has no effect without rps or rpm"),
            ("tpm=60,burst=3", "burst has no effect without rps or rpm"),
            ("window=fixed", "window has no effect without a limit"),
            (
                "places=3,window=sliding",
                "window has no effect without a limit",
            ),
            ("refused=count", "refused has no effect without a limit"),
            (
                "cut=1s-2s@0+3s-4s@0.5",
                "cut with a share above 0 has no effect without a limit",
            ),
            (
                "places=3,overload=9",
                "only the lower of places and overload is ever reached",
            ),
            (
                "places=3@9s,hints=none",
                "places has a wait, which hints=none keeps to itself",
            ),
            (
                "places=3@9s,hints=words",
                "places has a wait, which hints=words keeps to itself",
            ),
            (
                "overload=3@9s,hints=words",
                "overload has a wait, which hints=words keeps",
            ),
            ("latency=0,load=4", "load has no effect on a latency of 0"),
            ("rps=0.5,window=fixed", "window=fixed counts whole numbers"),
            (
                "tpm=60.5,window=sliding",
                "window=sliding counts whole numbers",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains(told), "{text}: {error}");
        }
        for text in [
            "cut=1s-2s@0",
            "tpm=600,window=fixed,refused=count",
            "output-tpm=600,cut=1s-2s@0.5",
            "places=3,hints=none",
            "places=3@9s,hints=s",
        ] {
            parse(text).expect(text);
        }
    }

    #[test]
    fn durations_have_units_and_default_to_seconds() {
        for (text, millis) in [("250ms", 250), ("2", 2000), ("0.5s", 500), ("2m", 120_000)] {
            let spec = parse(&format!("latency={text}")).unwrap();
            assert_eq!(spec.latency, Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("latency", "latency"),
            ("latency=", "latency"),
            ("latency=-1s", "latency"),
            ("latency=nan", "latency"),
            ("latency=inf", "latency"),
            ("latency=1e300m", "latency"),
            ("latency=2h", "latency"),
            ("latency=61m", "latency"),
            ("jitter=3.1", "jitter"),
            ("jitter=-0.1", "jitter"),
            ("places=0", "places"),
            ("places=3@", "places"),
            ("places=3@soon", "places"),
            ("overload=many", "overload"),
            ("load=0", "load"),
            ("load=40@-1", "load"),
            ("load=40@nan", "load"),
            ("load=40@0", "a factor above 1"),
            ("load=40@1", "a factor above 1"),
            ("load=40@0.5", "a factor above 1"),
            ("load=40@1001", "at most 1,000"),
            ("strays=1.1", "strays takes"),
            ("faults=1.1", "faults takes"),
            ("errors=0.6,strays=0.6", "errors takes"),
            ("seed=18446744073709551616", "18446744073709551615"),
            ("burst=18446744073709551616", "18446744073709551615"),
            ("cut=", "cut"),
            ("cut=40s-20s@0.3", "cut"),
            ("cut=20s-20s@0.3", "cut"),
            ("cut=20s-40s@1.1", "cut"),
            ("cut=20s-40s@nan", "cut"),
            ("cut=20s-40s@0.3+", "cut"),
            (
                "cut=20s-40s@0.3+30s-50s@0.3",
                "30s-50s begins before 20s-40s ends",
            ),
            (
                "cut=20s-40s@0.3+1s-2s@0.3",
                "1s-2s begins before 20s-40s ends",
            ),
            ("cut=20s-40s@1", "cut"),
            ("input-tpm=0", "input-tpm"),
            ("output-tpm=-1", "output-tpm"),
            ("jitter=NaN", "jitter"),
            ("jitter=x", "jitter"),
            ("rps=0", "rps"),
            ("rpm=-1", "rpm"),
            ("tpm=inf", "tpm"),
            (
                "rps=1e12",
                "rps takes a number of at most 1,000,000,000 a second",
            ),
            ("rpm=1e-9", "rpm takes"),
            ("places=3@0", "a wait above 0"),
            ("overload=3@0s", "a wait above 0"),
            ("burst=0", "burst"),
            ("burst=1.5", "burst"),
            ("errors=-0.1", "errors"),
            ("errors=0.6,faults=0.6", "faults"),
            ("faults=2", "faults"),
            ("seed=-1", "seed"),
            ("seed=1,seed=2", "seed"),
            ("rps=1,rpm=60", "rpm"),
            ("colour=red", "colour"),
            ("jitter=٣", "jitter"),
            ("latency=5é", "latency"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }
}
