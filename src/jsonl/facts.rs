//! What a record says of its row, for those who look back at a run: how it went, when, how long it
//! took, and what it cost.
//!
//! Our records say all of it. Those of other tools say how the row went and what it used. A number
//! that cannot be is left out, as the file may be anybody's.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::value::RawValue;

use super::answer::{Failed, kind, usage};
use super::journal::fold_file;
use super::lines::Line;
use super::readback::{Parts, ReadRecord, http_status, plain};
use super::record::beginning;
use crate::api::classify::RecordState;
use crate::api::json::{count, members, string};
use crate::api::{Usage, Usd};
use crate::binding::{Binding, Times};
use crate::cancel::Cancel;
use crate::error::Result;

/// The most to keep of an id, in bytes.
const LONGEST_ID: usize = 256;
/// The most attempts to keep.
const MOST_ATTEMPTS: usize = 100;

/// Times of day that can be: from 2001 to 2100, in milliseconds since 1970.
const EPOCH_MS: std::ops::Range<u64> = 1_000_000_000_000..4_102_444_800_000;
/// The longest attempt that can be.
const LONGEST_ATTEMPT_MS: u64 = 7 * 86_400_000;

/// What one record says.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The start of its id; empty if there is none.
    pub(crate) id: String,
    pub(crate) line: Option<u64>,
    pub(crate) state: RecordState,
    pub(crate) simulated: bool,
    /// Its answer is that of a copy.
    pub(crate) by_copy: bool,
    /// Of a row without an answer.
    pub(crate) failure: Option<Failed>,
    /// How many requests were sent.
    pub(crate) attempts: Option<u64>,
    /// The attempts that say when they were.
    pub(crate) timeline: Vec<Span>,
    /// Where the time went.
    pub(crate) times: Option<Times>,
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<Usd>,
}

/// An attempt: when it was under way, by the time of day, and how it failed, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    pub(crate) failure: Option<String>,
}

/// Shows to `add` what each line of a file says, in the order of the file: `None` for a line that
/// is no record. The file is read on all cores, in bounded memory.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be read.
pub(crate) fn read_facts(path: &Path, mut add: impl FnMut(Option<Facts>)) -> Result<()> {
    let read = |line: Line<&[u8]>| line.text.and_then(Facts::parse);
    fold_file(path, &Cancel::new(), read, |facts| {
        add(facts);
        Ok(())
    })
}

impl Facts {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        ReadRecord::parse_with(line, |read, parts| Self::of(&read, parts))
    }

    fn of(read: &ReadRecord, parts: Parts<'_>) -> Self {
        let [id, .., extras] = parts;
        let [attempts, hedge_won, time_s, timeline, cost, line] = members(
            extras,
            &[
                "attempts",
                "hedge_won",
                "time_s",
                "timeline",
                "cost_usd",
                "line",
            ],
        );
        let id = id.and_then(string).unwrap_or_default();
        Self {
            id: beginning(&id, LONGEST_ID).to_owned(),
            line: line.and_then(count),
            state: read.state,
            simulated: read.simulated,
            by_copy: hedge_won.is_some_and(|won| won.get() == "true"),
            failure: (!read.is_done()).then(|| Failed::read(parts)),
            attempts: attempts.and_then(count),
            timeline: timeline.map(spans).unwrap_or_default(),
            times: time_s.map(times),
            usage: usage(parts, read.is_done()),
            cost: cost.and_then(|cost| cost.get().parse().ok()),
        }
    }

    /// How long the last attempt took, which is the one that was answered, if the row was.
    pub(crate) fn answer_time(&self) -> Option<Duration> {
        let last = self.timeline.last().map(Span::took);
        let only = self.times.filter(|_| self.attempts == Some(1));
        last.or_else(|| only.map(|times| times.of(Binding::Wire)))
    }
}

impl Span {
    pub(crate) fn took(&self) -> Duration {
        Duration::from_millis(self.end_ms - self.start_ms)
    }
}

fn times(json: &RawValue) -> Times {
    let parts: BTreeMap<String, f64> = serde_json::from_str(json.get()).unwrap_or_default();
    let mut times = Times::default();
    for (name, seconds) in parts {
        if let Some(binding) = Binding::all().find(|binding| binding.as_str() == name)
            && let Ok(time) = Duration::try_from_secs_f64(seconds)
        {
            times.add(binding, time);
        }
    }
    times
}

fn spans(json: &RawValue) -> Vec<Span> {
    let all: Vec<&RawValue> = serde_json::from_str(json.get()).unwrap_or_default();
    let span = |json| {
        let [start, end, status, code] =
            members(Some(json), &["start_ms", "end_ms", "status", "code"]);
        let (start_ms, end_ms): (u64, u64) = (plain(start)?, plain(end)?);
        let can_be = EPOCH_MS.contains(&start_ms)
            && (start_ms..=start_ms + LONGEST_ATTEMPT_MS).contains(&end_ms);
        let code = code.and_then(string);
        let failed = status.is_some() || code.is_some();
        can_be.then(|| Span {
            start_ms,
            end_ms,
            failure: failed.then(|| kind(status.and_then(http_status), code.as_deref())),
        })
    };
    all.into_iter()
        .take(MOST_ATTEMPTS)
        .filter_map(span)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(line: &str) -> Facts {
        Facts::parse(line.as_bytes()).expect(line)
    }

    const OURS: &str = r#"{"id":"i","custom_id":"a","response":{"status_code":200,"request_id":"r","body":{"choices":[{"message":{}}]}},"error":null,"tollgate":{"attempts":2,"wait_s":1.250,"time_s":{"pause":1.250,"wire":0.520},"timeline":[{"start_ms":1764270000000,"end_ms":1764270000100,"status":429},{"start_ms":1764270001350,"end_ms":1764270001770}],"prompt_tokens":5,"completion_tokens":7,"cost_usd":0.0125,"line":3}}"#;

    #[test]
    fn a_record_of_ours_says_all() {
        let read = facts(OURS);
        assert_eq!(
            (read.id.as_str(), read.line, read.attempts),
            ("a", Some(3), Some(2))
        );
        assert_eq!((read.state, read.simulated), (RecordState::Done, false));
        assert!(read.failure.is_none() && !read.by_copy);
        let won = OURS.replace(r#""wait_s""#, r#""hedge_won":true,"wait_s""#);
        assert!(facts(&won).by_copy);
        let usage = read.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (5, 7));
        assert_eq!(usage.total_tokens, 12);
        assert_eq!(read.cost, Some("0.0125".parse().unwrap()));
        let times = read.times.unwrap();
        assert_eq!(times.of(Binding::Pause), Duration::from_millis(1_250));
        let refused = Some("HTTP 429".to_owned());
        let kinds: Vec<_> = read
            .timeline
            .iter()
            .map(|span| span.failure.clone())
            .collect();
        assert_eq!(kinds, [refused, None]);
        assert_eq!(read.answer_time(), Some(Duration::from_millis(420)));
    }

    #[test]
    fn an_older_record_says_how_long_its_only_attempt_took() {
        let line = |attempts: u32| {
            format!(
                r#"{{"custom_id":"a","response":{{"status_code":200,"body":{{"choices":[{{}}]}}}},"error":null,"tollgate":{{"attempts":{attempts},"time_s":{{"wire":0.5}}}}}}"#
            )
        };
        assert_eq!(
            facts(&line(1)).answer_time(),
            Some(Duration::from_millis(500))
        );
        // Of several attempts nobody knows how long the last one took.
        assert_eq!(facts(&line(2)).answer_time(), None);
    }

    #[test]
    fn records_of_other_tools_say_what_was_used_and_why_a_row_failed() {
        let read = facts(
            r#"{"id":"v","custom_id":"a","response":{"status_code":200,"body":{"choices":[{"message":{}}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}},"error":null}"#,
        );
        assert_eq!(read.usage.map(|usage| usage.total_tokens), Some(11));
        assert!(read.timeline.is_empty() && read.times.is_none() && read.attempts.is_none());
        for (line, kind, message) in [
            (
                r#"{"custom_id":"a","response":{"status_code":400,"body":{"error":{"message":"no such model"}}},"error":null}"#,
                "HTTP 400",
                "no such model",
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":502,"body":{"text":"<title>Bad</title>"}},"error":null}"#,
                "HTTP 502",
                "Bad",
            ),
            (
                r#"{"custom_id":"a","response":null,"error":{"code":"timeout","message":"no answer in 600 s"}}"#,
                "timeout",
                "no answer in 600 s",
            ),
            (
                r#"{"custom_id":"a","response":null,"error":"it broke"}"#,
                "no answer",
                "it broke",
            ),
            (
                r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}},"tollgate":{"status":529}}"#,
                "HTTP 529",
                "Overloaded",
            ),
        ] {
            let failed = facts(line).failure.expect(line);
            assert_eq!(
                (failed.kind.as_str(), failed.message.as_str()),
                (kind, message),
                "{line}"
            );
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_left_out() {
        let read = facts(
            r#"{"custom_id":"a","response":null,"error":{"code":"timeout"},"tollgate":{"attempts":-1,"time_s":{"wire":-5,"pause":1e300,"backoff":2,"unknown":3},"timeline":[{"start_ms":1764270000000,"end_ms":1},{"start_ms":0,"end_ms":1},{"start_ms":1764270000000,"end_ms":9764270000000},{"start_ms":18446744073709551615,"end_ms":18446744073709551615},{"start_ms":1764270000000,"end_ms":1764270000000}],"cost_usd":-1,"prompt_tokens":"x"}}"#,
        );
        assert_eq!((read.attempts, read.cost, read.usage), (None, None, None));
        assert_eq!(read.times.unwrap().total(), Duration::from_secs(2));
        assert_eq!(read.timeline.len(), 1);
    }

    #[test]
    fn what_is_kept_of_a_long_text_is_bounded() {
        let long = "é".repeat(10_000);
        let line = format!(
            r#"{{"custom_id":"{long}","response":null,"error":{{"code":"{long}","message":"{long}"}}}}"#
        );
        let read = facts(&line);
        let failed = read.failure.unwrap();
        assert!(read.id.len() <= LONGEST_ID && failed.kind.len() <= 64);
        assert!(failed.message.len() <= 2 << 10);
    }

    proptest! {
        #[test]
        fn whatever_the_extras_hold_a_record_is_read(extras in ".{0,60}") {
            let text = serde_json::to_string(&extras).unwrap();
            for extras in [&text, &extras] {
                let line = format!(r#"{{"custom_id":"a","error":{{}},"tollgate":{extras}}}"#);
                let _ = Facts::parse(line.as_bytes());
            }
        }
    }
}
