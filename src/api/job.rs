//! One attempt at an API request: from the request's bytes to a reply, or to an error and a verdict.

use std::borrow::Cow;
use std::time::Duration;

use super::classify::{self, Judgement, Seen, classify_answer, classify_fault};
use super::client::Client;
use super::cost;
use super::headers::{Head, request_id, text};
use super::hints;
use super::reply::Reply;
use super::request::{CHAT_PATH, Request};
use super::transport::{
    HttpRequest, HttpResponse, TransportError, TransportErrorKind, TransportStage,
};
use super::url;
use super::usage::{self, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::limit::Cost;
use crate::pool::{Attempt, Failure, Job};
use crate::retry::{Reach, Verdict};

/// How much of an error answer's body an [`Error`] keeps, in bytes.
const KEPT_BODY: usize = 2 << 10;

/// Reserves what `reserve` says of each item, and sends what `prepare` makes of it.
pub(crate) struct Exchange<I, R, P> {
    client: Client,
    reserve: R,
    prepare: P,
    item: std::marker::PhantomData<fn(I)>,
}

impl<I, R, P> Exchange<I, R, P>
where
    R: Fn(&Client, &I) -> Cost,
    P: Fn(&I) -> Cow<'_, Request>,
{
    pub(super) fn new(client: &Client, reserve: R, prepare: P) -> Self {
        Self {
            client: client.clone(),
            reserve,
            prepare,
            item: std::marker::PhantomData,
        }
    }
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) verdict: Verdict,
    /// What it took all the same, as far as the answer says.
    pub(crate) usage: Option<Usage>,
}

impl<I, R, P> Job for Exchange<I, R, P>
where
    I: Send,
    R: Fn(&Client, &I) -> Cost + Sync,
    P: Fn(&I) -> Cow<'_, Request> + Sync,
{
    type Input = I;
    type Output = Reply;
    type Error = Failed;

    fn cost(&self, input: &I) -> Result<Cost> {
        Ok((self.reserve)(&self.client, input))
    }

    fn attempt(&self, input: &I, attempt: &Attempt<'_>) -> Result<Reply, Failed> {
        self.client.attempt(&(self.prepare)(input), attempt)
    }

    fn verdict(&self, failed: &Failed) -> Verdict {
        failed.verdict
    }

    fn possibly_billed(&self, failed: &Failed) -> bool {
        failed.error.possibly_billed()
    }

    fn shown(&self, failed: &Failed) -> Option<Error> {
        Some(failed.error.clone())
    }
}

impl Client {
    /// What an attempt at `request` reserves at the gate.
    pub(crate) fn reserve(&self, request: &Request) -> Cost {
        if !self.limiter().limits_tokens() {
            return Cost::ONE;
        }
        Cost::tokens(
            request.tokens.unwrap_or_else(|| {
                cost::estimate(&request.body, self.typical_output(&request.path))
            }),
        )
    }

    /// As [`reserve`](Self::reserve), for a chat of one message.
    pub(super) fn reserve_chat(&self, prompt: &str) -> Cost {
        if !self.limiter().limits_tokens() {
            return Cost::ONE;
        }
        Cost::tokens(cost::estimate_chat(prompt, self.typical_output(CHAT_PATH)))
    }

    /// One attempt, with a permit held.
    pub(crate) fn attempt(
        &self,
        request: &Request,
        attempt: &Attempt<'_>,
    ) -> Result<Reply, Failed> {
        let outcome = self.try_once(request, attempt);
        let (path, number) = (&request.path, attempt.number);
        match &outcome {
            Ok(reply) => log::debug!("{path}, attempt {number}: status {}", reply.status),
            Err(failed) => log::info!("{path}, attempt {number}: {}", failed.error),
        }
        outcome
    }

    fn try_once(&self, request: &Request, attempt: &Attempt<'_>) -> Result<Reply, Failed> {
        let answer = self.exchange(request, attempt)?;
        self.judge(answer, request, attempt)
    }

    /// What `answer` amounts to. Not inlined, so that none of it is on the stack while an exchange
    /// waits.
    #[inline(never)]
    fn judge(
        &self,
        answer: HttpResponse,
        request: &Request,
        attempt: &Attempt<'_>,
    ) -> Result<Reply, Failed> {
        let clock = self.limiter().clock();
        let wall = clock.wall();
        let reserved = attempt.cost.model_tokens();
        let judgement = if request.any_answer && answer.status.is_success() {
            Judgement::Success(None)
        } else {
            classify_answer(&Seen {
                status: answer.status.as_u16(),
                headers: &answer.headers,
                body: &answer.body,
                key: self.key(),
                wall,
                cost_tokens: reserved,
                longest_wait: self.settings().retry.longest_wait(),
            })
        };
        match judgement {
            Judgement::Success(usage) => {
                if let Some(usage) = usage {
                    attempt.used.set(Some(usage.total_tokens));
                    self.observe(usage.completion_tokens);
                }
                // Nothing left: the next request waits, rather than fetch the refusal.
                if let Some(wait) = hints::exhausted(&answer.headers, wall, reserved) {
                    self.limiter().pause_for(self.longest_pause(wait));
                }
                Ok(Reply {
                    status: answer.status,
                    head: Head::of(&answer.headers),
                    body: answer.body,
                    usage,
                    attempts: attempt.number,
                })
            }
            Judgement::Failure(failure) => Err(self.failed(*failure, attempt, Some(answer))),
        }
    }

    fn exchange(&self, request: &Request, attempt: &Attempt<'_>) -> Result<HttpResponse, Failed> {
        url::check(&request.path).map_err(|what| {
            attempt.reach.set(Reach::NotSent);
            Failed {
                error: Error::new(ErrorKind::Invalid, format!("the request's path {what}"))
                    .with_attempts(attempt.number - 1),
                verdict: Verdict::Fail,
                usage: None,
            }
        })?;
        let url = url::join(self.base_url(), &request.path);
        let now = self.limiter().clock().now();
        let timeout = request.timeout.unwrap_or(self.timeout());
        // A timeout beyond the clock's end is none, as near as the clock can tell.
        let mut deadline = now
            .checked_add(timeout)
            .unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()));
        if let Some(end) = attempt.deadline {
            deadline = deadline.min(end);
        }
        let headers: Vec<(&str, &str)> = self
            .headers()
            .iter()
            .filter(|(name, _)| !(request.body.is_empty() && name == "content-type"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let call = HttpRequest {
            headers: &headers,
            body: &request.body,
            max_body: self.max_body(),
            ..HttpRequest::new(request.method, &url, deadline, attempt.cancel)
        };
        self.transport().send(&call).map_err(|fault| {
            attempt.reach.set(reach(&fault));
            let mut failed = self.failed(classify_fault(&fault), attempt, None);
            failed.error = failed.error.with_source(fault);
            failed
        })
    }

    fn failed(
        &self,
        failure: classify::Failure,
        attempt: &Attempt<'_>,
        answer: Option<HttpResponse>,
    ) -> Failed {
        let nothing_sent =
            failure.verdict == Verdict::Unreachable || attempt.reach.get() == Reach::NotSent;
        // A model that began to answer and failed has been paid for, and may say so.
        let usage = answer
            .as_ref()
            .and_then(|answer| usage::inspect(&answer.body).ok()?.usage);
        if nothing_sent {
            attempt.used.set(Some(0));
        } else if let Some(usage) = usage {
            attempt.used.set(Some(usage.total_tokens));
        }
        let mut error = Error::new(failure.kind, failure.message)
            .with_code(failure.code)
            .with_attempts(attempt.number - u32::from(nothing_sent))
            .with_retry_after(failure.retry_after)
            .with_possibly_billed(failure.possibly_billed);
        if let Some(answer) = answer {
            error = error
                .with_status(answer.status)
                .with_request_id(request_id(|name| text(&answer.headers, name)).map(str::to_owned))
                .with_body(self.kept(&answer.body));
        }
        Failed {
            error,
            verdict: failure.verdict,
            usage,
        }
    }

    /// The start of an error body, with the key that some providers echo taken out before the cut,
    /// which could leave half of it.
    fn kept(&self, body: &[u8]) -> Vec<u8> {
        let scrubbed = match self.key() {
            Some(key) => key.scrub(body),
            None => Cow::Borrowed(body),
        };
        scrubbed[..scrubbed.len().min(KEPT_BODY)].to_vec()
    }
}

fn reach(fault: &TransportError) -> Reach {
    match (fault.stage, fault.fault) {
        (TransportStage::NothingSent, _) => Reach::NotSent,
        // Whatever had begun to come, it was called off from this side.
        (TransportStage::Sent | TransportStage::SentOnReused, _)
        | (_, TransportErrorKind::Aborted) => Reach::Unanswered,
        (TransportStage::Answering, _) => Reach::Answered,
    }
}

/// An item's failure in the crate's own terms.
pub(crate) fn into_error(failure: Failure<Failed>, attempts: u32, stopped_run: bool) -> Error {
    let error = match failure {
        Failure::Job(failed) => failed.error,
        Failure::Panicked(panicked) => {
            Error::new(ErrorKind::Panicked, panicked.to_string()).with_attempts(attempts)
        }
        Failure::NotCompleted { reason, last: None } => reason,
        Failure::NotCompleted {
            reason,
            last: Some(last),
        } => reason
            .with_attempts(last.error.attempts())
            .with_possibly_billed(last.error.possibly_billed())
            .with_source(last.error),
    };
    if stopped_run {
        error.with_stopped_run()
    } else {
        error
    }
}
