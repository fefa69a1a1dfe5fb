//! What the results of an earlier run say of the requests to come: how long answers took, how long
//! they were, and how many attempts failed.
//!
//! Results of any tool will do. Records of other tools have no times, and some have no usage. What
//! no record says is `None` here, and the caller assumes something.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dist::Dist;
use super::sample::Sample;
use crate::api::classify::RecordState;
use crate::binding::Binding;
use crate::error::{Result, config};
use crate::jsonl::LineHash;
use crate::jsonl::facts::{Facts, read_facts};
use crate::jsonl::files::{check_is_file, errors_beside};

/// How many rows are remembered by their ids.
const MOST_IDS: usize = 100_000;
/// How many values of a quantity are kept: enough for its 99.9th percentile.
const MOST_VALUES: usize = 1 << 16;

/// What the records of an earlier run say.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// The output.
    pub(crate) path: PathBuf,
    pub(crate) records: u64,
    pub(crate) answered: u64,
    /// Rows that failed, and would fail again.
    pub(crate) failed_for_good: u64,
    /// Requests sent for all rows, but for those that the server refused for the speed: a plan has
    /// limits of its own. A record that does not say it counts as one.
    pub(crate) attempts: u64,
    /// Seconds of an attempt. Of a row that took several, only the mean is known.
    seconds: Sample<f64>,
    output_tokens: Sample<f64>,
    /// The prompt tokens of the first rows.
    prompts: HashMap<LineHash, u64>,
}

impl Earlier {
    /// Reads an output, and the errors file that belongs to it if that is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it cannot be read or holds no results.
    pub(crate) fn read(output: &Path) -> Result<Self> {
        let mut earlier = Self {
            path: output.to_owned(),
            records: 0,
            answered: 0,
            failed_for_good: 0,
            attempts: 0,
            seconds: Sample::of_at_most(MOST_VALUES),
            output_tokens: Sample::of_at_most(MOST_VALUES),
            prompts: HashMap::new(),
        };
        let errors = errors_beside(output);
        let errors = Some(errors.as_path()).filter(|path| path.is_file());
        for path in [Some(output), errors].into_iter().flatten() {
            let unreadable = |error| config(format!("{path:?} cannot be read: {error}"));
            check_is_file(path).map_err(unreadable)?;
            read_facts(path, |facts| facts.iter().for_each(|it| earlier.add(it)))?;
        }
        if earlier.records == 0 {
            return Err(config(format!("{output:?} holds no results of requests")));
        }
        Ok(earlier)
    }

    fn add(&mut self, facts: &Facts) {
        let times = facts.times.unwrap_or_default();
        // A row that was refused for the speed waited for a pause to end, and for no backoff.
        let was_throttled =
            !times.of(Binding::Pause).is_zero() && times.of(Binding::Backoff).is_zero();
        let attempts = facts.attempts.filter(|_| !was_throttled);
        let attempts = attempts.unwrap_or(1).max(1);
        self.records += 1;
        self.attempts += attempts;
        let is_answered = facts.failure.is_none();
        self.answered += u64::from(is_answered);
        self.failed_for_good += u64::from(facts.state == RecordState::Permanent);
        let wire = times.of(Binding::Wire);
        if wire > Duration::ZERO {
            // A row counts as often as it was sent, so that the sum stays what it was.
            for _ in 0..attempts.min(10) {
                self.seconds.add(wire.as_secs_f64() / attempts as f64);
            }
        }
        if let Some(usage) = facts.usage.filter(|_| is_answered) {
            self.output_tokens.add(usage.completion_tokens as f64);
            if self.prompts.len() < MOST_IDS {
                let id = LineHash::of(&facts.id);
                self.prompts.insert(id, usage.prompt_tokens);
            }
        }
    }

    /// The share of all attempts that failed and were tried again.
    pub(crate) fn failing(&self) -> f64 {
        let failed = self.attempts - self.answered - self.failed_for_good;
        failed as f64 / self.attempts as f64
    }

    /// The share of all attempts that failed for good.
    pub(crate) fn failing_for_good(&self) -> f64 {
        self.failed_for_good as f64 / self.attempts as f64
    }

    /// How long an attempt takes, in seconds; `None` if no record says it.
    pub(crate) fn latency(&self) -> Option<Dist> {
        Dist::measured(self.seconds.clone().into_kept())
    }

    /// How long an answer is, in model tokens; `None` if no record says it.
    pub(crate) fn output_tokens(&self) -> Option<Dist> {
        Dist::measured(self.output_tokens.clone().into_kept())
    }

    /// The prompt tokens that the answer to the row of this id has counted.
    pub(crate) fn prompt_tokens(&self, id: LineHash) -> Option<u64> {
        self.prompts.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn read(output: &str, errors: &str) -> Result<Earlier> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("p.results.jsonl");
        fs::write(&path, output).unwrap();
        if !errors.is_empty() {
            fs::write(folder.path().join("p.errors.jsonl"), errors).unwrap();
        }
        Earlier::read(&path)
    }

    const ANSWER: &str = r#"{"custom_id":"a","response":{"status_code":200,"body":{"choices":[{}],"usage":{"prompt_tokens":9,"completion_tokens":40}}},"error":null"#;

    #[test]
    fn times_answers_and_failures_are_taken_from_both_files() {
        let once =
            format!("{ANSWER},\"tollgate\":{{\"attempts\":1,\"time_s\":{{\"wire\":2.0}}}}}}\n");
        let thrice =
            format!("{ANSWER},\"tollgate\":{{\"attempts\":3,\"time_s\":{{\"wire\":3.0}}}}}}\n");
        let refused = r#"{"custom_id":"b","response":{"status_code":400,"body":{}},"error":null,"tollgate":{"attempts":1}}"#;
        let gone = r#"{"custom_id":"c","response":{"status_code":503,"body":{}},"error":null,"tollgate":{"attempts":5}}"#;
        let earlier = read(&(once + &thrice), &format!("{refused}\n{gone}\n")).unwrap();
        assert_eq!((earlier.records, earlier.attempts), (4, 10));
        assert_eq!((earlier.answered, earlier.failed_for_good), (2, 1));
        // Two of the second row, and five of the last.
        assert!((earlier.failing() - 0.7).abs() < 1e-9);
        let latency = Dist::measured(vec![1.0, 1.0, 1.0, 2.0]);
        assert_eq!(earlier.latency(), latency);
        assert_eq!(earlier.output_tokens(), Dist::measured(vec![40.0; 2]));
        assert_eq!(earlier.prompt_tokens(LineHash::of("a")), Some(9));
    }

    #[test]
    fn a_refusal_for_the_speed_is_no_failure() {
        let slowed = format!(
            "{ANSWER},\"tollgate\":{{\"attempts\":3,\"time_s\":{{\"pause\":4.0,\"wire\":2.0}}}}}}\n"
        );
        let earlier = read(&slowed, "").unwrap();
        assert_eq!(earlier.attempts, 1);
        assert_eq!(
            (earlier.failing(), earlier.latency()),
            (0.0, Dist::measured(vec![2.0]))
        );
    }

    #[test]
    fn records_of_other_tools_say_what_they_can() {
        let openai = format!("{ANSWER}}}\n");
        let anthropic = r#"{"custom_id":"b","result":{"type":"succeeded","message":{"content":[{}],"usage":{"input_tokens":7,"output_tokens":5}}}}"#;
        let bare = r#"{"custom_id":"c","response":{"status_code":200,"body":{"choices":[{}]}}}"#;
        let earlier = read(&format!("{openai}{anthropic}\n{bare}\nno record\n"), "").unwrap();
        assert_eq!((earlier.records, earlier.attempts), (3, 3));
        assert_eq!((earlier.latency(), earlier.failing()), (None, 0.0));
        assert_eq!(earlier.output_tokens(), Dist::measured(vec![5.0, 40.0]));
        assert_eq!(earlier.prompt_tokens(LineHash::of("b")), Some(7));
    }

    #[test]
    fn a_file_without_records_is_refused_by_its_name() {
        for text in ["", "{\"custom_id\":\"a\",\"body\":{}}\n"] {
            let error = read(text, "").unwrap_err().to_string();
            assert!(error.contains("p.results.jsonl") && error.contains("no results"));
        }
    }
}
