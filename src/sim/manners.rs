//! How a simulated provider judges and tells of its limits: what real ones differ in.

use std::time::Duration;

/// How requests and model tokens are judged against a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judged {
    /// All the time, with a burst.
    #[default]
    Bucket,
    /// In each period from the start: a second for a rate a second, a minute for one a minute.
    Fixed,
    /// In the last period before each request.
    Sliding,
}

/// Whose headers the answers have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `x-ratelimit-limit-requests`, with durations as Go writes them.
    #[default]
    OpenAi,
    /// The same names, with bare seconds.
    Azure,
    /// As `OpenAI`'s, but the limit on requests that headers announce is one of a day, 1,440 times
    /// what a minute allows. Only refusals tell the limit that is judged.
    Groq,
    /// `anthropic-ratelimit-requests-limit`, with dates.
    Anthropic,
    /// `x-ratelimit-limit` of requests alone, with milliseconds since 1970.
    OpenRouter,
    /// `ratelimit` and `ratelimit-policy`.
    Ietf,
    /// None at all, as Gemini's endpoint for `OpenAI`'s requests. Its errors have Gemini's shape, and
    /// those that refuse tell the wait in their body: as `RetryInfo`, and in words.
    Gemini,
    /// None at all.
    Silent,
}

/// How a refusal says how long to wait. What others tell in headers, [`Dialect::Gemini`] tells in
/// the `RetryInfo` of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hints {
    /// `retry-after-ms`, `retry-after`, and in words.
    #[default]
    Exact,
    /// `retry-after` in whole seconds.
    Seconds,
    /// In the words of the body alone.
    Words,
    /// Not at all.
    Silent,
}

/// A share of the limits that holds for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    from: Duration,
    to: Duration,
    share: f64,
}

/// The cuts of the limits, at most [`Cuts::MOST`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cuts {
    cuts: [Option<Cut>; Self::MOST],
    /// More were asked for than there is room for.
    are_too_many: bool,
}

impl Cuts {
    const MOST: usize = 16;
    pub(super) const NONE: Self = Self {
        cuts: [None; Self::MOST],
        are_too_many: false,
    };

    /// Each cut has a beginning, an end and a share.
    pub(super) fn new(cuts: &[(Duration, Duration, f64)]) -> Self {
        let mut made = Self::NONE;
        made.are_too_many = cuts.len() > Self::MOST;
        for (place, (from, to, share)) in made.cuts.iter_mut().zip(cuts.iter().copied()) {
            *place = Some(Cut { from, to, share });
        }
        made
    }

    /// The share that holds at `at`: that of a cut, or all.
    pub(super) fn share(&self, at: Duration) -> f64 {
        let mut cuts = self.cuts.iter().flatten();
        let cut = cuts.find(|cut| (cut.from..cut.to).contains(&at));
        cut.map_or(1.0, |cut| cut.share)
    }

    /// Whether each cut ends after it begins, and leaves less than all.
    pub(super) fn are_usable(&self) -> bool {
        let is_usable = |cut: &Cut| cut.from < cut.to && (0.0..1.0).contains(&cut.share);
        !self.are_too_many && self.cuts.iter().flatten().all(is_usable)
    }

    /// A cut that begins before the one before it ends, in words.
    pub(super) fn overlap(&self) -> Option<String> {
        let cuts: Vec<&Cut> = self.cuts.iter().flatten().collect();
        let mut pairs = cuts.windows(2);
        let [before, cut] = *pairs.find(|pair| pair[1].from < pair[0].to)? else {
            return None;
        };
        let time = |cut: &Cut| format!("{:?}-{:?}", cut.from, cut.to);
        let (cut, before) = (time(cut), time(before));
        Some(format!("cut {cut} begins before {before} ends"))
    }

    /// Whether there are cuts that are no outages.
    pub(super) fn need_limits(&self) -> bool {
        self.cuts.iter().flatten().any(|cut| cut.share > 0.0)
    }
}

/// A limit on requests at once, and the wait that a refusal asks for, if it asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtOnce {
    pub(super) most: usize,
    pub(super) wait: Option<Duration>,
}

/// A latency that rises with the number of requests worked on at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    pub(super) above: usize,
    /// The factor by which the latency rises. `None` means in proportion to that number.
    pub(super) times: Option<f64>,
}

impl Load {
    /// The factor for the latency of one of `at_once` requests.
    pub(super) fn factor(self, at_once: usize) -> f64 {
        if at_once <= self.above {
            return 1.0;
        }
        self.times.unwrap_or(at_once as f64 / self.above as f64)
    }
}
