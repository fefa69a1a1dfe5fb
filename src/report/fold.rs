//! Records to statistics: what the page says, from one record after the other.
//!
//! Memory does not grow with the records: times are in histograms and bins, reasons and slow rows
//! are the first or the worst so many. All of it takes less than 5 MB.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;
use super::timeline::Timeline;
use crate::api::Usd;
use crate::api::classify::RecordState;
use crate::binding::Times;
use crate::escape::without_numbers;
use crate::jsonl::facts::Facts;

/// So many reasons of failures are told apart.
const MOST_REASONS: usize = 40;
const MOST_SLOW: usize = 10;
/// Stands for all reasons beyond them.
const OTHERS: &str = "other reasons";

/// What all records say together.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) answered: u64,
    /// Failed, and a rerun sends them again.
    pub(super) transient: u64,
    /// Failed for good.
    pub(super) permanent: u64,
    pub(super) simulated: u64,
    /// Rows whose answer is that of a copy.
    pub(super) by_copy: u64,
    /// Requests sent, of the rows that say how many.
    pub(super) attempts: u64,
    /// Rows that needed more than one.
    pub(super) retried: u64,
    /// Rows that say how many requests were sent and not when.
    pub(super) undated: u64,
    /// Rows that do not say where their time went.
    pub(super) untimed: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    /// Answers that do not say what they used.
    pub(super) uncounted: u64,
    pub(super) cost: Option<Usd>,
    /// Answers that are in it.
    pub(super) priced: u64,
    /// How long answers took from the last time their requests were sent.
    pub(super) answers: Histogram,
    /// How long answered rows took in all, waits and retries included.
    pub(super) rows: Histogram,
    pub(super) times: Times,
    pub(super) timeline: Timeline,
    /// Why rows failed.
    pub(super) failures: Reasons,
    /// Why attempts failed that were followed by another.
    pub(super) retries: Reasons,
    /// The slowest first.
    pub(super) slowest: Vec<SlowRow>,
}

/// Why rows or attempts failed, by the kind and by the message without its numbers.
pub(super) type Reasons = BTreeMap<(String, String), Reason>;

#[derive(Clone, Debug)]
pub(super) struct Reason {
    pub(super) count: u64,
    /// Of the first of them. It is not safe to show, and neither is the id.
    pub(super) message: String,
    pub(super) id: String,
    pub(super) line: Option<u64>,
}

/// A row that took long.
#[derive(Clone, Debug)]
pub(super) struct SlowRow {
    pub(super) took: Duration,
    pub(super) times: Times,
    pub(super) id: String,
    pub(super) line: Option<u64>,
    pub(super) attempts: u64,
    pub(super) answered: bool,
}

impl Stats {
    pub(super) fn records(&self) -> u64 {
        self.answered + self.failed()
    }

    pub(super) fn failed(&self) -> u64 {
        self.transient + self.permanent
    }

    /// Adds a record.
    pub(super) fn add(&mut self, facts: &Facts) {
        let answered = facts.failure.is_none();
        match facts.state {
            _ if answered => self.answered += 1,
            RecordState::Permanent => self.permanent += 1,
            _ => self.transient += 1,
        }
        self.simulated += u64::from(facts.simulated);
        self.by_copy += u64::from(facts.by_copy);
        let attempts = facts.attempts.unwrap_or(0);
        self.attempts += attempts;
        self.retried += u64::from(attempts > 1);
        self.undated += u64::from(facts.timeline.is_empty() && facts.attempts != Some(0));
        self.add_usage(facts);
        self.add_times(facts);
        let tokens = facts.usage.map_or(0, |usage| usage.total_tokens);
        let mut spans = facts.timeline.iter().rev();
        if let Some(last) = spans.next() {
            self.timeline.add(last, tokens);
        }
        for earlier in spans {
            self.timeline.add(earlier, 0);
            if let Some(kind) = &earlier.failure {
                count(&mut self.retries, kind, "", facts);
            }
        }
        if let Some(failed) = &facts.failure {
            count(&mut self.failures, &failed.kind, &failed.message, facts);
        }
    }

    fn add_usage(&mut self, facts: &Facts) {
        let answered = facts.failure.is_none();
        match &facts.usage {
            Some(usage) => {
                self.prompt_tokens = self.prompt_tokens.saturating_add(usage.prompt_tokens);
                let written = &mut self.completion_tokens;
                *written = written.saturating_add(usage.completion_tokens);
            }
            None => self.uncounted += u64::from(answered),
        }
        self.priced += u64::from(facts.cost.is_some());
        let costs = self.cost.into_iter().chain(facts.cost);
        self.cost = costs.reduce(|sum, one| sum + one);
    }

    fn add_times(&mut self, facts: &Facts) {
        let answered = facts.failure.is_none();
        if let Some(time) = facts.answer_time().filter(|_| answered) {
            self.answers.add(time);
        }
        let Some(times) = facts.times else {
            self.untimed += 1;
            return;
        };
        self.times += times;
        let took = times.total();
        if answered {
            self.rows.add(took);
        }
        let place = self.slowest.partition_point(|slow| slow.took >= took);
        if place < MOST_SLOW && facts.attempts != Some(0) {
            self.slowest.truncate(MOST_SLOW - 1);
            let slow = SlowRow {
                took,
                times,
                id: facts.id.clone(),
                line: facts.line,
                attempts: facts.attempts.unwrap_or(1),
                answered,
            };
            self.slowest.insert(place, slow);
        }
    }
}

/// Counts a failure among those that are alike. Beyond [`MOST_REASONS`] all are alike.
fn count(reasons: &mut Reasons, kind: &str, message: &str, facts: &Facts) {
    let mut key = (kind.to_owned(), without_numbers(message));
    if !reasons.contains_key(&key) && reasons.len() >= MOST_REASONS {
        key = (OTHERS.to_owned(), String::new());
    }
    let reason = reasons.entry(key).or_insert_with(|| Reason {
        count: 0,
        message: message.to_owned(),
        id: facts.id.clone(),
        line: facts.line,
    });
    reason.count += 1;
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const START: u64 = 1_764_270_000_000;

    /// What the record of an answer says that was sent and came so many milliseconds after the
    /// start.
    pub(in super::super) fn answered(id: &str, sent: u64, came: u64) -> Facts {
        of(&json!({
            "custom_id": id,
            "response": {"status_code": 200, "body": {"choices": [{}]}},
            "error": null,
            "tollgate": {
                "attempts": 1,
                "time_s": {"wire": (came - sent) as f64 / 1e3},
                "timeline": [{"start_ms": START + sent, "end_ms": START + came}],
                "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.5, "line": 1,
            },
        }))
    }

    pub(in super::super) fn failed(id: &str, status: u16, message: &str) -> Facts {
        of(&json!({
            "custom_id": id,
            "response": {"status_code": status, "body": {"error": {"message": message}}},
            "error": null,
            "tollgate": {"attempts": 1, "time_s": {"wire": 0.1}, "line": 7},
        }))
    }

    pub(in super::super) fn of(record: &Value) -> Facts {
        Facts::parse(record.to_string().as_bytes()).expect("a record")
    }

    fn stats(all: impl IntoIterator<Item = Facts>) -> Stats {
        let mut stats = Stats::default();
        for facts in all {
            stats.add(&facts);
        }
        stats
    }

    #[test]
    fn rows_are_counted_by_what_became_of_them() {
        let stats = stats([
            answered("a", 0, 500),
            failed("b", 400, "no such model"),
            failed("c", 503, "busy"),
        ]);
        let counts = (
            stats.answered,
            stats.permanent,
            stats.transient,
            stats.attempts,
        );
        assert_eq!(counts, (1, 1, 1, 3));
        assert_eq!((stats.undated, stats.untimed, stats.uncounted), (2, 0, 0));
        assert_eq!(stats.answers.quantile(1.0), Duration::from_millis(500));
        assert_eq!(
            (stats.prompt_tokens, stats.cost),
            (10, Some("0.5".parse().unwrap()))
        );
    }

    #[test]
    fn an_attempt_that_was_followed_by_another_is_a_retry() {
        let stats = stats([of(&json!({
            "custom_id": "a", "response": null, "error": {"code": "timeout", "message": "late"},
            "tollgate": {"attempts": 3, "timeline": [
                {"start_ms": START, "end_ms": START + 50, "status": 429},
                {"start_ms": START + 100, "end_ms": START + 150, "status": 429},
                {"start_ms": START + 200, "end_ms": START + 250, "code": "timeout"},
            ]},
        }))]);
        let told = |reasons: &Reasons| {
            let told = reasons.iter();
            let told = told.map(|((kind, _), reason)| (kind.clone(), reason.count));
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(&stats.retries), [("HTTP 429".to_owned(), 2)]);
        assert_eq!(told(&stats.failures), [("timeout".to_owned(), 1)]);
        assert_eq!(stats.timeline.range, Some((START, START + 250)));
    }

    #[test]
    fn failures_that_differ_in_numbers_only_have_one_reason_and_reasons_are_few() {
        let word = |n: u64| n.to_string().replace(|c: char| c.is_ascii_digit(), "x");
        let many = (0..1_000).map(|n| {
            let letters: String = n.to_string().bytes().map(|b| char::from(b + 49)).collect();
            failed("a", 400, &format!("bad {letters} {}", word(n)))
        });
        let alike = (0..50).map(|n| failed("b", 400, &format!("row {n} is bad")));
        let stats = stats(alike.chain(many));
        let first = stats.failures.values().find(|reason| reason.id == "b");
        assert_eq!(first.map(|reason| reason.count), Some(50));
        assert_eq!(stats.failures.len(), MOST_REASONS + 1);
        let total: u64 = stats.failures.values().map(|reason| reason.count).sum();
        assert_eq!(total, 1_050);
        assert!(stats.failures.keys().any(|(kind, _)| kind == OTHERS));
    }

    proptest! {
        #[test]
        fn the_slowest_rows_are_the_slowest_whatever_their_order(
            mut took in prop::collection::vec(0_u64..1_000_000, 0..60),
        ) {
            let stats = stats(took.iter().map(|took| answered("a", 0, *took)));
            took.sort_unstable_by_key(|took| std::cmp::Reverse(*took));
            took.truncate(MOST_SLOW);
            let told: Vec<_> = stats.slowest.iter().map(|slow| slow.took.as_millis()).collect();
            prop_assert_eq!(told, took.into_iter().map(u128::from).collect::<Vec<_>>());
        }

        #[test]
        fn files_in_any_order_tell_the_same_of_each_row(
            sent in prop::collection::vec((0_u64..10_000_000, 0_u64..5_000), 1..60),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = |order: &[(u64, u64)]| {
                let rows = order.iter();
                stats(rows.map(|(sent, took)| answered("a", *sent, sent + took)))
            };
            let mut turned = sent.clone();
            turned.rotate_left(cut.index(sent.len()));
            let (one, other) = (all(&sent), all(&turned));
            prop_assert_eq!(one.timeline.range, other.timeline.range);
            prop_assert_eq!(one.timeline.slots(), other.timeline.slots());
        }
    }
}
