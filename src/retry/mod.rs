//! Retries: policy, verdicts, backoff.

mod verdict;

pub use verdict::Verdict;
