//! What a run over a file says of itself: what it found, its progress, and its summary.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::failures::FailureGroup;
use super::journal::{FileState, ResumeIndex};
use super::scan::InputScan;
use crate::api::Usd;
use crate::binding::Binding;
use crate::error::{AnnouncedLimit, Error};
use crate::limit::{Concurrency, Learned, Limiter, Rate};
use crate::pool::{Hold, Monitor, Progress};
use crate::shared::SharedStatus;

/// What a run found in its files, before it sent anything, of the runs before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeInfo {
    /// Rows with an answer: those of the input, or if the input is a stream, all rows of the
    /// output.
    pub done: u64,
    /// Rows of the input that failed for good. `None` if the input is a stream.
    pub failed: Option<u64>,
    /// Requests of the input that are left to send. `None` if the input is a stream. Lines that are
    /// no requests are not among them.
    pub to_do: Option<u64>,
    /// Bytes removed at the end of the output: an incomplete record, left by a run that was killed.
    pub torn_bytes: u64,
    /// Damaged lines of the output that were [moved to another file](crate::FileRun::repair).
    pub rejected: u64,
    /// How many requests at most were in flight in a run that was killed. They are sent again,
    /// although they may have been billed.
    pub possibly_billed: u64,
}

impl ResumeInfo {
    /// Nothing, if this is no run that carries on.
    pub(super) fn new(
        index: &ResumeIndex,
        state: &FileState,
        scan: Option<&InputScan>,
        left_in_flight: Option<u64>,
    ) -> Option<Self> {
        if index.is_empty() && state.torn_bytes + state.rejected() == 0 && left_in_flight.is_none()
        {
            return None;
        }
        let to_do = scan.map(|scan| scan.to_do);
        Some(Self {
            done: scan.map_or_else(|| index.done(), |scan| scan.done),
            failed: scan.map(|scan| scan.failed),
            to_do,
            torn_bytes: state.torn_bytes,
            rejected: state.rejected(),
            possibly_billed: left_in_flight.map_or(0, |left| left.min(to_do.unwrap_or(left))),
        })
    }
}

/// The progress of a run over a file.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FileProgress {
    /// Rows in the input, if that is known before its end: it is for a regular file.
    pub total: Option<u64>,
    /// Rows of the input that have been read.
    pub read: u64,
    /// Rows that an earlier run has answered.
    pub skipped: u64,
    /// Rows answered by this run and written.
    pub succeeded: u64,
    /// Answers that are no longer in the output, because another program removed, replaced or cut
    /// it during the run. They are not counted as skipped or succeeded.
    pub lost: u64,
    /// Failed rows: those that this run gave up, and those that an earlier run gave up for good.
    pub failed: u64,
    /// Of the failed rows, those that an earlier run gave up.
    pub failed_before: u64,
    /// Of the failed rows, those that failed for good. A rerun sends the others again, and these
    /// only with [`retry_failed`](crate::FileRun::retry_failed).
    pub failed_for_good: u64,
    /// Of the rows that failed for good, lines that are no requests. They have to be corrected
    /// first.
    pub bad_lines: u64,
    pub(crate) failure_groups: Arc<Vec<FailureGroup>>,
    /// What earlier runs left, if this one carries on. Known from the first call of
    /// [`on_progress`](crate::FileRun::on_progress).
    pub found: Option<ResumeInfo>,
    /// Model tokens of this run's prompts, as the provider counted them. Failed answers count if
    /// they say how many tokens they took.
    pub prompt_tokens: u64,
    /// Model tokens of answers, counted in the same way.
    pub completion_tokens: u64,
    /// Answers of this run that did not say how many tokens they took. They are not in the counts
    /// of tokens or the cost, and not counted against [`max_cost`](crate::FileRun::max_cost) or
    /// [`token_budget`](crate::FileRun::token_budget).
    pub uncounted: u64,
    /// Attempts of this run that may have been billed although they have no answer that says what
    /// they took: the answer was lost on the way or cut off, by a timeout, the end of the run or
    /// [hedging](crate::_guide::limits#hedging).
    pub unanswered: u64,
    /// Model tokens that the prompts of these attempts may have taken: an estimate, which is not in
    /// [`prompt_tokens`](Self::prompt_tokens).
    pub estimated_prompt_tokens: u64,
    /// Model tokens that their answers may have taken, estimated in the same way.
    pub estimated_completion_tokens: u64,
    /// The cost of all these tokens, those that are estimated included, if there is a
    /// [`price`](crate::FileRun::price).
    pub cost: Option<Usd>,
    /// Of this cost, what is an estimate. The rest is exact.
    pub estimated_cost: Option<Usd>,
    /// Time since this run opened the input.
    pub elapsed: Duration,
    /// What the run waits for at the moment, if it sends nothing: the end of an outage, or of a
    /// pause that the server asked for.
    pub hold: Option<Hold>,
    /// How many requests may be in flight at once, as it was set. Of a range,
    /// [`engine.concurrency`](Progress::concurrency) is the number that was found.
    pub concurrency: Option<Concurrency>,
    /// How long until every row has been tried again that waits for it.
    pub(crate) retried_in: Duration,
    /// Whether nothing more is sent, and the run ends with what is in flight.
    pub(crate) is_stopping: bool,
    /// The rates of requests and of model tokens that are set.
    pub(crate) rates: [Option<Rate>; 2],
    /// What the answers have said of the provider's limits.
    pub learned: Learned,
    /// The limit that the server named when it last asked for a pause, if it did.
    pub announced_limit: Option<AnnouncedLimit>,
    /// The state of the limits' store, if they are shared with other processes.
    pub shared: Option<SharedStatus>,
    /// The counters of the requests behind the rows, as a [`Monitor`](crate::Monitor) sees them.
    ///
    /// Its [`possibly_billed`](Progress::possibly_billed) counts here, too, the rows that a rerun
    /// sends again although they may have been billed, each row once. These are rows that the end
    /// of the run cut off in flight, rows that failed for a reason that may pass, answers that
    /// could not be written or are [`lost`](FileProgress::lost), and rows that were in flight in a
    /// run that was killed ([`ResumeInfo::possibly_billed`]).
    pub engine: Progress,
}

impl FileProgress {
    /// Adds what limits the run and what it waits for. `ends` is when its time is over.
    pub(crate) fn note_limits(
        &mut self,
        engine: &Monitor,
        limiter: &Limiter,
        ends: Option<Instant>,
    ) {
        let now = limiter.clock().now();
        self.hold = engine.hold(now, ends);
        self.retried_in = self.engine.retried_in(now);
        self.announced_limit = engine.announced_limit();
        self.concurrency = Some(limiter.concurrency_range());
        self.rates = limiter.rates();
        self.learned = limiter.learned();
        self.shared = limiter.shared_status();
    }

    /// Rows that are skipped, succeeded or failed.
    pub fn done(&self) -> u64 {
        self.skipped + self.succeeded + self.failed
    }

    /// Why rows failed in this run, the most frequent reason first. The counts add up to
    /// [`failed`](Self::failed) without [`failed_before`](Self::failed_before): why a row failed in
    /// an earlier run is in its record in the errors file.
    ///
    /// A hundred reasons are told apart. Rows that fail for yet another are counted by kind and
    /// status.
    pub fn failures(&self) -> Vec<&FailureGroup> {
        let mut groups: Vec<_> = self.failure_groups.iter().collect();
        groups.sort_by_key(|group| (Reverse(group.count), group.line));
        groups
    }

    /// Rows that this run has answered or given up.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed - self.failed_before
    }
}

/// The result of a run over a file.
///
/// A run that stopped early has a summary, too: [`stopped`](Summary::stopped) says why it stopped.
/// A rerun carries on.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let (input, output) = (folder.path().join("p.txt"), folder.path().join("p.results.jsonl"));
/// # std::fs::write(&input, "Say hi\nSay bye\n").unwrap();
/// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
/// #     body: br#"{"choices":[{"message":{"content":"Hi!"}}]}"#.to_vec(), ..Default::default() }));
/// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
/// let summary = client.jsonl(&input, &output).prompts("a-model", None, None).run()?;
/// match &summary.stopped {
///     None => println!("{} of {} answered", summary.progress.succeeded, summary.requests),
///     Some(error) => println!("{} rows are left: {error}", summary.not_attempted),
/// }
/// # assert_eq!(summary.progress.succeeded, 2);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The progress at the end of the run.
    pub progress: FileProgress,
    /// Rows in the input, as far as it was read: succeeded + failed + skipped + not attempted.
    pub requests: u64,
    /// Rows without a result, which a rerun sends.
    pub not_attempted: u64,
    /// Why the run stopped before its end, if it did.
    pub stopped: Option<Error>,
    /// From the start of the run to its end, whatever ended it.
    pub wall: Duration,
}

impl Summary {
    /// The summary of a run that has ended, or been cut off.
    pub(crate) fn of(progress: FileProgress, stopped: Option<Error>, wall: Duration) -> Self {
        let requests = progress.total.unwrap_or(progress.read).max(progress.done());
        Self {
            requests,
            not_attempted: requests - progress.done(),
            stopped,
            wall,
            progress,
        }
    }

    /// The summary as one JSON object. `exit` is the exit code of the program.
    ///
    /// | Key | Value |
    /// |---|---|
    /// | `requests` | rows in the input: `succeeded` + `failed` + `skipped` + `not_attempted` |
    /// | `failed_for_good` | of `failed`, the rows that a plain rerun does not send again |
    /// | `failures` | why rows failed in this run, the most frequent reason first: `kind`, `status`, `code`, `count`, `message`, and `line` and `custom_id` of the first. Rows that an earlier run gave up are in `failed` and not here |
    /// | `lost` | answers that another program took out of the output during the run |
    /// | `attempts`, `retries`, `throttled` | requests sent; of these, all but the first of each row; answers that said to slow down |
    /// | `hedges`, `hedges_won` | of `attempts`, copies of attempts that took too long (they are no retries); of these, those whose answers were taken |
    /// | `hedges_cut` | attempts that were cut off because their copy, or the attempt that they are a copy of, was answered first; they may have been billed, and are not in `possibly_billed` |
    /// | `wall_s`, `rps` | seconds from the start of the run to its end, and rows finished per second |
    /// | `concurrency` | how many requests might be in flight at once: `low` and `high` as set, and `now`, which is the number that was found last if it is a range |
    /// | `in_flight_peak`, `threads_peak` | the most at any moment |
    /// | `prompt_tokens`, `completion_tokens` | model tokens, as the provider counted them |
    /// | `unanswered` | attempts that may have been billed although they have no answer that says what they took: it was lost on the way or cut off |
    /// | `estimated_prompt_tokens`, `estimated_completion_tokens` | model tokens that these attempts may have taken |
    /// | `cost_usd` | the cost of all these tokens in US dollars, null without a price |
    /// | `estimated_cost_usd` | of this cost, what is an estimate: that of the attempts without an answer |
    /// | `uncounted` | answers that did not say how many tokens they took |
    /// | `in_flight_mean` | how many requests were in flight on average |
    /// | `binding` | what [held the run back](crate::_guide::limits#what-binds) for the longest time, null if nothing did |
    /// | `binding_share` | for which share of the time each limit held it back; those that never did are left out |
    /// | `wait_s` | `gate_requests`, `gate_tokens`, `gate_input_tokens`, `gate_output_tokens`, `pause`: seconds of the run spent waiting for the limiter; `warmup`: seconds of the run in which the others waited for the warm-up; `backoff` (between attempts; outages are included, pauses are not) and `wire`: seconds summed over requests |
    /// | `learned` | limits that were learned and are lower than those set, each null if none was: `requests_per_s` and `tokens_per_s` from headers, and of providers that limit them apart `input_tokens_per_s` and `output_tokens_per_s`; `from_refusals_per_s` (requests), `tokens_from_refusals_per_s` and `at_once` (requests in flight) from refusals. `maybe_at_once` is set while refusals may be about requests in flight or about their rate. `ignored` counts announcements that made no sense |
    /// | `shared_limit` | null unless the limits are shared: `store`, `processes` that share them and `processes_peak`, the most at once, `round_trips` to the store, `gone_s` if it is gone and the `error` that says why, and `falls_back` if requests are sent all the same, at the share to fall back on |
    /// | `possibly_billed` | rows that may be paid for more than once: sent again by this run, or to be sent again by a rerun, although an answer was lost on the way |
    /// | `exit` | the exit code |
    pub fn to_json(&self, exit: u8) -> Value {
        let progress = &self.progress;
        let engine = &progress.engine;
        let finished = progress.finished();
        let wall = self.wall.as_secs_f64();
        let per_wall = |number: f64| rounded(if wall > 0.0 { number / wall } else { 0.0 }, 3);
        let share = |time: Duration| per_wall(time.as_secs_f64());
        let shares = engine.bound.iter();
        let binding_share: Map<_, _> = shares
            .map(|(binding, time)| (binding.as_str().to_owned(), share(time).into()))
            .collect();
        json!({
            "requests": self.requests,
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "failed_for_good": progress.failed_for_good,
            "failures": progress.failures().into_iter().map(FailureGroup::to_json).collect::<Vec<_>>(),
            "lost": progress.lost,
            "skipped": progress.skipped,
            "not_attempted": self.not_attempted,
            "attempts": engine.attempts,
            "retries": engine.retries,
            "hedges": engine.hedges,
            "hedges_won": engine.hedges_won,
            "hedges_cut": engine.hedges_cut,
            "throttled": engine.throttled,
            "wall_s": seconds(self.wall),
            "rps": per_wall(finished as f64),
            "concurrency": concurrency(progress),
            "in_flight_peak": engine.in_flight_peak,
            "threads_peak": engine.threads_peak,
            "prompt_tokens": progress.prompt_tokens,
            "completion_tokens": progress.completion_tokens,
            "unanswered": progress.unanswered,
            "estimated_prompt_tokens": progress.estimated_prompt_tokens,
            "estimated_completion_tokens": progress.estimated_completion_tokens,
            "cost_usd": progress.cost.map(Usd::as_f64),
            "estimated_cost_usd": progress.estimated_cost.map(Usd::as_f64),
            "uncounted": progress.uncounted,
            "in_flight_mean": share(engine.wire),
            "binding": engine.bound.binding().map(Binding::as_str),
            "binding_share": binding_share,
            "wait_s": {
                "gate_requests": seconds(engine.limiter_wait.of(Binding::Requests)),
                "gate_tokens": seconds(engine.limiter_wait.of(Binding::Tokens)),
                "gate_input_tokens": seconds(engine.limiter_wait.of(Binding::InputTokens)),
                "gate_output_tokens": seconds(engine.limiter_wait.of(Binding::OutputTokens)),
                "pause": seconds(engine.limiter_wait.of(Binding::Pause)),
                "warmup": seconds(engine.bound.of(Binding::Warmup)),
                "backoff": seconds(engine.backoff),
                "wire": seconds(engine.wire),
            },
            "learned": learned(&progress.learned),
            "shared_limit": progress.shared.as_ref().map(shared_limit),
            "possibly_billed": engine.possibly_billed,
            "exit": exit,
        })
    }
}

/// How many may be in flight at once, for a program.
pub(crate) fn concurrency(progress: &FileProgress) -> Value {
    let range = progress.concurrency;
    json!({
        "low": range.map(|range| range.low()),
        "high": range.map(|range| range.high()),
        "now": progress.engine.concurrency,
    })
}

/// What was learned of limits, for a program.
pub(crate) fn learned(learned: &Learned) -> Value {
    let rate = |rate: Option<Rate>| rate.map(|rate| rounded(rate.units_per_second(), 3));
    json!({
        "requests_per_s": rate(learned.requests),
        "from_refusals_per_s": rate(learned.from_refusals),
        "at_once": learned.at_once,
        "maybe_at_once": learned.maybe_at_once,
        "tokens_per_s": rate(learned.tokens),
        "input_tokens_per_s": rate(learned.input_tokens),
        "output_tokens_per_s": rate(learned.output_tokens),
        "tokens_from_refusals_per_s": rate(learned.tokens_from_refusals),
        "ignored": learned.ignored,
    })
}

/// How it goes with the store of shared limits, for a program.
pub(crate) fn shared_limit(status: &SharedStatus) -> Value {
    json!({
        "store": &*status.store,
        "processes": status.processes,
        "processes_peak": status.processes_peak,
        "round_trips": status.round_trips,
        "gone_s": status.gone.map(seconds),
        "error": status.error.as_deref(),
        "falls_back": status.falls_back,
    })
}

/// Seconds to the millisecond: more would be noise.
pub(crate) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64(), 3)
}

/// Rounded to so many decimal places.
pub(crate) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}
