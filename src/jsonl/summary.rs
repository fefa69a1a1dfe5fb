//! What a run over a file tells its user: what it found, how it stands, and what it amounts to.

use std::time::Duration;

use serde_json::{Value, json};

use super::journal::{FileState, ResumeIndex};
use super::scan::InputScan;
use crate::api::Usd;
use crate::error::Error;
use crate::pool::{Outage, Progress};

/// What a run found of earlier ones in its files, before it sent anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeInfo {
    /// Rows that are answered: those of the input, or where that is a stream, of the output.
    pub done: u64,
    /// Rows of the input that were given up for a reason that does not pass, unless it is a stream.
    pub failed: Option<u64>,
    /// Requests of the input that are left, unless it is a stream. A line that is no request fails
    /// in each run, and is none of them.
    pub to_do: Option<u64>,
    /// Bytes at the end of the output that were cut off: of a record that a kill had torn.
    pub torn_bytes: u64,
    /// Lines of the output that were no records, and were
    /// [moved aside](crate::FileRun::repair).
    pub rejected: u64,
    /// Rows that a run which was killed may have paid for without a record, at most: those it had in
    /// flight are sent again.
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
        if index.is_empty() && state.torn_bytes + state.rejected == 0 && left_in_flight.is_none() {
            return None;
        }
        let to_do = scan.map(|scan| scan.to_do);
        Some(Self {
            done: scan.map_or_else(|| index.done(), |scan| scan.done),
            failed: scan.map(|scan| scan.failed),
            to_do,
            torn_bytes: state.torn_bytes,
            rejected: state.rejected,
            possibly_billed: left_in_flight.map_or(0, |left| left.min(to_do.unwrap_or(left))),
        })
    }
}

/// A run over a file, as it stands.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FileProgress {
    /// Rows in the input, if that is known before its end: it is for a regular file.
    pub total: Option<u64>,
    /// Rows that an earlier run has done.
    pub skipped: u64,
    /// Rows answered by this run and written.
    pub succeeded: u64,
    /// Answers that stood in the output and do not any more, as another program has removed,
    /// replaced or cut it while the run wrote to it. They are in neither of these counts.
    pub lost: u64,
    /// Rows that are failed: given up by this run, or by an earlier one for a reason that does not
    /// pass.
    pub failed: u64,
    /// Of these, the rows given up by an earlier run.
    pub failed_before: u64,
    /// Of the failed rows, those that failed for a reason that does not pass. A rerun repeats the
    /// others, and these only with [`retry_failed`](crate::FileRun::retry_failed).
    pub failed_for_good: u64,
    /// Of those, lines that are no requests: nothing sends them before somebody has mended them.
    pub bad_lines: u64,
    /// What earlier runs left, if this one carries on; known from the first call of
    /// [`on_progress`](crate::FileRun::on_progress) on.
    pub found: Option<ResumeInfo>,
    /// Model tokens of prompts that this run has sent, as the provider counted them. Answers of no
    /// use are in it where they say what they took.
    pub prompt_tokens: u64,
    /// Model tokens of answers, in the same way.
    pub completion_tokens: u64,
    /// Answers of this run that did not say what they took: they are in neither of these counts nor
    /// in the cost, and count nothing against [`max_cost`](crate::FileRun::max_cost) and
    /// [`token_budget`](crate::FileRun::token_budget).
    pub uncounted: u64,
    /// What those cost, if there is a [`price`](crate::FileRun::price).
    pub cost: Option<Usd>,
    /// Time since the input was opened.
    pub elapsed: Duration,
    /// The outage that keeps the run waiting now, if one does.
    pub outage: Option<Outage>,
    /// The engine's own counters. Its [`possibly_billed`](Progress::possibly_billed) counts
    /// here, too, the rows that a rerun asks for again although the last request for them may have
    /// been paid for: those cut off on the wire by the end of the run, those given up for a reason
    /// that may pass, those whose answers could not be written or are [`lost`](FileProgress::lost), and those that a run which was
    /// killed may have had in flight ([`ResumeInfo::possibly_billed`]).
    pub engine: Progress,
}

impl FileProgress {
    /// Rows that need nothing more.
    pub fn done(&self) -> u64 {
        self.skipped + self.succeeded + self.failed
    }

    /// Rows that this run has dealt with.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed - self.failed_before
    }
}

/// What a finished run over a file amounts to.
///
/// A run that was stopped early has a summary too: [`stopped`](Summary::stopped) says by what, and
/// a rerun carries on.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The last snapshot.
    pub progress: FileProgress,
    /// Rows in the input, as far as it was read: succeeded + failed + skipped + not attempted.
    pub requests: u64,
    /// Rows left for a rerun.
    pub not_attempted: u64,
    /// Why the run stopped before its end, if it did.
    pub stopped: Option<Error>,
    /// From the opening of the input to the last record written.
    pub wall: Duration,
}

impl Summary {
    /// The summary as one JSON object, with the exit code of whoever reports it.
    ///
    /// Keys: `requests` (= `succeeded` + `failed` + `skipped` + `not_attempted`), `failed_for_good`
    /// (of `failed`, the rows that a plain rerun does not repeat), `lost` (answers that another
    /// program took out of the output while the run wrote to it), `attempts`,
    /// `retries`, `throttled`, `wall_s`, `rps` (rows finished a second of `wall_s`),
    /// `in_flight_peak`, `threads_peak`, `prompt_tokens`, `completion_tokens`, `cost_usd` (null
    /// without a price), `uncounted` (answers that did not say what they took), `wait_s` with `gate_requests`, `gate_tokens` and `pause` in seconds of the
    /// run, `backoff` (between attempts, outages included) and `wire` in seconds summed over requests,
    /// `possibly_billed` (requests whose answers were lost and that were made again, or are by
    /// a rerun), `exit`.
    pub fn to_json(&self, exit: u8) -> Value {
        let progress = &self.progress;
        let engine = &progress.engine;
        let finished = progress.finished();
        let wall = self.wall.as_secs_f64();
        json!({
            "requests": self.requests,
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "failed_for_good": progress.failed_for_good,
            "lost": progress.lost,
            "skipped": progress.skipped,
            "not_attempted": self.not_attempted,
            "attempts": engine.attempts,
            "retries": engine.retries,
            "throttled": engine.throttled,
            "wall_s": seconds(self.wall),
            "rps": if wall > 0.0 { rounded(finished as f64 / wall) } else { 0.0 },
            "in_flight_peak": engine.in_flight_peak,
            "threads_peak": engine.threads_peak,
            "prompt_tokens": progress.prompt_tokens,
            "completion_tokens": progress.completion_tokens,
            "cost_usd": progress.cost.map(Usd::as_f64),
            "uncounted": progress.uncounted,
            "wait_s": {
                "gate_requests": seconds(engine.gate.requests),
                "gate_tokens": seconds(engine.gate.tokens),
                "pause": seconds(engine.gate.pause),
                "backoff": seconds(engine.backoff),
                "wire": seconds(engine.wire),
            },
            "possibly_billed": engine.possibly_billed,
            "exit": exit,
        })
    }
}

/// Seconds to the millisecond: more would be noise.
fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
