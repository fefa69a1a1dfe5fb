//! The log's records of attempts.
//!
//! Each has the target `tollgate::attempt`. Only those headers of an answer that are on a list are
//! logged: any other may hold a secret.

use std::time::Duration;

use http::HeaderMap;
use log::{Level, log_enabled};

use super::classify::AttemptError;
use super::key::ApiKey;
use super::limit_headers::BEGINNINGS;
use super::reply::Reply;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::escape::printable;
use crate::pool::Attempt;

const TARGET: &str = "tollgate::attempt";

/// The headers that are logged, beside those about limits.
const TOLD: &str = "date|retry-after|retry-after-ms|x-should-retry|x-request-id|request-id|\
    apim-request-id|openai-processing-ms|x-envoy-upstream-service-time";
/// The most of a value that is logged, in characters.
const LONGEST_VALUE: usize = 100;

/// Keeps what the log tells of an answer's headers, if it tells anything.
#[inline(never)]
pub(super) fn note_headers(headers: &HeaderMap, key: Option<&ApiKey>, attempt: &Attempt<'_>) {
    if !log_enabled!(target: TARGET, Level::Debug) {
        return;
    }
    let is_told = |name: &str| {
        TOLD.split('|').any(|it| it == name) || BEGINNINGS.iter().any(|it| name.starts_with(it))
    };
    let told = headers.iter().filter(|(name, _)| is_told(name.as_str()));
    let told = told.fold(String::new(), |mut line, (name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        // A server may say anything. Of a key that is cut a part would stay.
        let value = key.map_or_else(|| value.to_string(), |key| key.scrub_str(&value));
        line.extend(["; ", name.as_str(), ": ", &printable(&value, LONGEST_VALUE)]);
        line
    });
    let _once = attempt.answer.set(told.into());
}

/// Logs an attempt: its status, how long it took, and how long its item has waited over all
/// attempts. Why it failed is a record of its own. Not inlined, so that none of this is on the
/// stack of a thread that waits for an answer.
#[inline(never)]
pub(super) fn log_attempt(
    name: impl Fn() -> String,
    path: &str,
    attempt: &Attempt<'_>,
    clock: &Clock,
    outcome: &Result<Reply, AttemptError>,
) {
    let number = attempt.number;
    let what = || match name() {
        name if name.is_empty() => format!("item {}, {path}, attempt {number}", attempt.index),
        name => format!("{name}{path}, attempt {number}"),
    };
    if let Err(failed) = outcome {
        log::info!(target: TARGET, "{}: {}", what(), failed.error);
    }
    if log_enabled!(target: TARGET, Level::Debug) {
        let status = match outcome {
            Ok(reply) => Some(reply.status),
            Err(failed) => failed.error.status(),
        };
        // Of an answer that was cut off the status says only how it began.
        let part = match outcome {
            Err(failed) if is_cut_off(&failed.error) => " and a part of the answer",
            _ => "",
        };
        let status = status.map_or_else(
            || "no answer".to_owned(),
            |it| format!("status {}{part}", it.as_u16()),
        );
        let took = seconds(clock.now().saturating_duration_since(attempt.began));
        let waited = seconds(attempt.waited);
        let headers = attempt.answer.get().map_or("", |told| told);
        log::debug!(
            target: TARGET,
            "{}: {status} in {took} after a wait of {waited}{headers}", what()
        );
    }
}

/// Whether the answer broke off, whatever its status.
fn is_cut_off(error: &Error) -> bool {
    use ErrorKind as K;
    let kinds = [
        K::Timeout,
        K::Network,
        K::Truncated,
        K::Cancelled,
        K::BodyTooLarge,
    ];
    error.body_is_cut() && kinds.contains(&error.kind())
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
