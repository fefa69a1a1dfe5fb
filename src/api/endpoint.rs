//! The API that a client talks to, and one attempt at a request: from the request's bytes to a
//! reply, or to an error and a verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::announced_limit::{announced_limit, named_tokens, names_tokens};
use super::attempt_log::note_headers;
use super::classify::{
    AttemptError, Promise, ResponseView, classify_response, classify_transport_error,
    is_nearly_answered, usage_of_failure,
};
use super::cost::{Size, writes};
use super::error_meaning::requested;
use super::estimate::{Counting, Estimates};
use super::headers::{Head, request_id, text};
use super::json;
use super::key::ApiKey;
use super::limit_headers::Limits;
use super::path::{asked, check_path, join};
use super::rate_limit_headers::{exhausted_window, names_places};
use super::reply::Reply;
use super::request::Request;
use super::transport::{
    HttpRequest, HttpResponse, Transport, TransportError, TransportErrorKind, TransportStage,
};
use super::usage::Usage;
use crate::binding::Times;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{Cost, Counted, Limiter, RefusedFor};
use crate::pool::Attempt;
use crate::retry::{Reach, Retry, Verdict};
use crate::sync::Mutex;

/// How much of the body of an answer that is of no use an [`Error`] keeps, in bytes. The transport
/// reads no more of the body of an error status.
const KEPT_BODY: usize = 64 << 10;

/// All that an attempt needs: where requests go, what is sent with them, and the limiter.
pub(crate) struct Endpoint {
    pub(super) base_url: String,
    pub(super) key: Option<ApiKey>,
    /// The headers of every request, the key's among them.
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) max_body: usize,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) limiter: Limiter,
    pub(super) retry: Retry,
    pub(super) counting: Counting,
    pub(super) estimates: Mutex<Estimates>,
    /// Estimates learn from answers although no limit of tokens needs them.
    pub(super) always_learns: AtomicBool,
}

impl AttemptError {
    /// The error of a request that can never be sent.
    pub(super) fn unsendable(error: Error, attempt: &Attempt<'_>) -> Self {
        attempt.reach.set(Reach::NotSent);
        Self {
            error: error.with_facts(|facts| facts.attempts = attempt.number - 1),
            verdict: Verdict::Fail,
            usage: None,
        }
    }
}

impl Endpoint {
    /// What an attempt at `request` reserves of the limits.
    pub(crate) fn reserve(&self, request: &Request) -> Cost {
        match request.tokens {
            Some(tokens) => Cost::tokens(tokens),
            None => self.cost(writes(&request.path), || *request.size()),
        }
    }

    /// As [`reserve`](Self::reserve), for a chat of one message.
    pub(super) fn reserve_chat(&self, model: u64, prompt: &str) -> Cost {
        self.cost(true, || Size::of_chat(model, prompt))
    }

    fn cost(&self, writes: bool, size: impl FnOnce() -> Size) -> Cost {
        match self.limiter.most_tokens() {
            Some(most) => {
                let size = size();
                self.estimates.lock().cost(&size, writes, most)
            }
            None => Cost::ONE,
        }
    }

    /// Learns from now on what requests take, for [`expected`](Self::expected). With a limit of
    /// tokens it does in any case.
    pub(crate) fn always_learn(&self) {
        self.always_learns.store(true, Ordering::Relaxed);
    }

    /// The model tokens that `request` is likely to be billed for.
    pub(crate) fn expected(&self, request: &Request) -> Usage {
        let size = request.size();
        let estimates = self.estimates.lock();
        estimates.expected(size, writes(&request.path))
    }

    /// One attempt, with a permit held.
    pub(crate) fn attempt(
        &self,
        request: &Request,
        attempt: &Attempt<'_>,
    ) -> Result<Reply, AttemptError> {
        let sent = self.limiter.clock().now();
        self.send(request, attempt).and_then(|response| {
            note_headers(&response.headers, self.key.as_ref(), attempt);
            self.read(response, request, attempt, sent)
        })
    }

    fn send(
        &self,
        request: &Request,
        attempt: &Attempt<'_>,
    ) -> Result<Box<HttpResponse>, AttemptError> {
        check_path(&request.path).map_err(|what| {
            let error = Error::new(ErrorKind::Invalid, format!("the request's path {what}"));
            AttemptError::unsendable(error, attempt)
        })?;
        let url = join(&self.base_url, &request.path);
        let now = self.limiter.clock().now();
        let timeout = request.timeout.unwrap_or(self.timeout);
        // The clock cannot hold every timeout: 136 years stand for a longer one.
        let own = now + timeout.min(Duration::from_secs(u32::MAX.into()));
        let deadline = attempt.deadline.map_or(own, |end| end.min(own));
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .filter(|(name, _)| !(request.body().is_empty() && name == "content-type"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let call = HttpRequest {
            headers: &headers,
            body: request.body(),
            max_body: self.max_body,
            ..HttpRequest::new(request.method, &url, deadline, attempt.cut)
        };
        // Boxed, for it would be on the stack of a thread that waits.
        match self.transport.send(&call) {
            Ok(response) => Ok(Box::new(response)),
            Err(error) => Err(self.unanswered(error, attempt)),
        }
    }

    /// Makes an attempt's error of a transport error. Not inlined, as [`read`](Self::read).
    #[inline(never)]
    fn unanswered(&self, mut error: TransportError, attempt: &Attempt<'_>) -> AttemptError {
        attempt.reach.set(reach(&error));
        let partial = error.partial.take();
        let is_partial = partial.is_some();
        let failed = classify_transport_error(&error);
        let mut failed = self.attempt_error(failed, attempt, partial.map(|partial| *partial));
        // It was paid for, and the next is likely to be the same.
        if error.kind == TransportErrorKind::Encoded && attempt.number > 1 {
            failed.verdict = Verdict::Fail;
        }
        let error = failed.error.with_source(error);
        failed.error = error.with_facts(|facts| facts.body_is_cut |= is_partial);
        failed
    }

    /// Makes a reply or an error of the response to a request that was sent at `sent`, and tells
    /// the limiter what it says of limits. Not inlined: a thread that waits for an answer then has
    /// none of this on its stack.
    #[inline(never)]
    #[expect(clippy::boxed_local, reason = "a thread that waits has no room for it")]
    fn read(
        &self,
        response: Box<HttpResponse>,
        request: &Request,
        attempt: &Attempt<'_>,
        sent: Instant,
    ) -> Result<Reply, AttemptError> {
        let mut response = *response;
        let wall = self.limiter.clock().wall();
        let limits = Limits::read(&response.headers, wall);
        let announced = limits.announced();
        self.limiter.announced(&announced, limits.ignored, sent);
        if !request.any_answer {
            json::drop_preamble(&mut response.body);
        }
        let usage = if request.any_answer && response.status.is_success() {
            Ok(None)
        } else {
            classify_response(&ResponseView {
                status: response.status.as_u16(),
                headers: &response.headers,
                body: &response.body,
                key: self.key.as_ref(),
                promise: match request.method {
                    "POST" => Promise::of(&request.path),
                    _ => Promise::Anything,
                },
                wall,
                cost_tokens: attempt.cost.model_tokens(),
                longest_wait: self.retry.max_server_delay,
            })
        };
        match usage {
            Ok(usage) => {
                if let Some(usage) = usage {
                    let used = self.settle(&usage, attempt);
                    if self.limiter.most_tokens().is_some()
                        || self.always_learns.load(Ordering::Relaxed)
                    {
                        let size = request.size();
                        self.estimates.lock().answered(size, used);
                    }
                }
                // The server says that a limit is used up: the next request would be refused.
                if let Some(wait) = exhausted_window(&limits) {
                    attempt.pause(wait.min(self.retry.max_server_delay.unwrap_or(wait)));
                    let why = "the server says that nothing remains of a limit";
                    let why = Error::new(ErrorKind::RateLimited, why);
                    let _once = attempt.why_paused.set(why);
                }
                Ok(Reply {
                    status: response.status,
                    head: Head::of(&response.headers, self.key.as_ref()),
                    body: response.body,
                    usage,
                    attempts: attempt.number,
                    times: Times::default(),
                })
            }
            Err(mut failed) => {
                if failed.error.kind() == ErrorKind::NotFound {
                    let asked = asked(&self.base_url, &request.path);
                    let clean = self.key.as_ref().map(|key| key.scrub_str(&asked));
                    failed.error = failed.error.with_more(&clean.unwrap_or(asked));
                }
                let is_full = names_places(&response.headers);
                failed = self.attempt_error(failed, attempt, Some(response));
                let words = failed.error.quote().unwrap_or_default();
                if is_full {
                    attempt.refused_for.set(RefusedFor::Places);
                } else if failed.error.kind() == ErrorKind::Overloaded {
                    attempt.refused_for.set(RefusedFor::Load);
                } else if failed.error.is_rate_limited() && names_tokens(words) {
                    attempt.refused_for.set(RefusedFor::Tokens);
                    let is_in_headers = announced.iter().any(|it| it.counted != Counted::Requests);
                    let named = named_tokens(words).filter(|_| !is_in_headers);
                    self.limiter.announced(named.as_slice(), 0, sent);
                }
                if let Some(requested) = failed.error.quote().and_then(requested) {
                    let size = request.size();
                    self.estimates.lock().refused(size, requested);
                }
                // It was paid for, and the next is likely to be the same.
                if is_nearly_answered(&failed.error) && attempt.number > 1 {
                    failed.verdict = Verdict::Fail;
                }
                Err(failed)
            }
        }
    }

    fn attempt_error(
        &self,
        mut failed: AttemptError,
        attempt: &Attempt<'_>,
        response: Option<HttpResponse>,
    ) -> AttemptError {
        let nothing_sent =
            failed.verdict == Verdict::Unreachable || attempt.reach.get() == Reach::NotSent;
        // A model that failed while it answered has used tokens, and the body may tell how many.
        failed.usage = response
            .as_ref()
            .and_then(|response| usage_of_failure(&response.body));
        let is_refused = response.as_ref().is_some_and(|it| is_refused(it, &failed));
        if let Some(usage) = failed.usage {
            self.settle(&usage, attempt);
        } else if nothing_sent || is_refused {
            attempt.used.set(Some(0));
        }
        let is_limited = failed.error.is_rate_limited();
        failed.error = failed.error.with_facts(|facts| {
            facts.attempts = attempt.number - u32::from(nothing_sent);
            if let Some(response) = response {
                let words = facts.quote.as_deref().unwrap_or_default();
                facts.announced_limit = is_limited.then(|| announced_limit(words)).flatten();
                facts.status = Some(response.status);
                let id = request_id(|name| text(&response.headers, name));
                let key = self.key.as_ref();
                facts.request_id =
                    id.map(|id| key.map_or_else(|| id.to_owned(), |key| key.scrub_str(id)));
                facts.body = Some(self.kept(&response.body));
                // The transport cuts the body of an error status at this length, so a body that
                // long was cut.
                let longest = KEPT_BODY - usize::from(!response.status.is_success());
                facts.body_is_cut = response.body.len() > longest;
            }
        });
        failed
    }

    /// Counts what an answer took of the limits.
    fn settle(&self, usage: &Usage, attempt: &Attempt<'_>) -> Cost {
        let counted = self.counting.used(usage);
        attempt.used.set(Some(usage.total_tokens));
        attempt.counted.set(Some(counted));
        counted
    }

    /// The start of an error body, without the key, which some providers repeat. The key is taken
    /// out first: a cut could leave half of it, which is not found any more.
    fn kept(&self, body: &[u8]) -> Vec<u8> {
        let mut kept = match &self.key {
            Some(key) => key.scrub(body),
            None => body.to_vec(),
        };
        kept.truncate(KEPT_BODY);
        kept.shrink_to_fit();
        kept
    }
}

/// Whether a request was refused before a model worked on it, so that its tokens are still there.
fn is_refused(response: &HttpResponse, failed: &AttemptError) -> bool {
    // Of 408 it is not certain: the time may have been a gateway's.
    let is_wrong = response.status.is_client_error() && response.status.as_u16() != 408;
    let is_not_now = matches!(failed.verdict, Verdict::PauseAll(_) | Verdict::Throttled);
    is_wrong || is_not_now && !failed.error.possibly_billed()
}

fn reach(error: &TransportError) -> Reach {
    match (error.stage, error.kind) {
        (TransportStage::NothingSent, _) => Reach::NotSent,
        // This side gave up, whatever had arrived.
        (TransportStage::Sent, _) | (_, TransportErrorKind::Aborted) => Reach::Unanswered,
        (TransportStage::Answering, _) => Reach::Answered,
    }
}
