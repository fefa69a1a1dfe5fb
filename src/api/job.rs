//! The engine's job for API requests.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use super::attempt_log::log_attempt;
use super::classify::AttemptError;
use super::endpoint::Endpoint;
use super::likeness::likeness;
use super::reply::Reply;
use super::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::Cost;
use crate::pool::{Attempt, Failure, Job, JobOutcome, Outcome};
use crate::retry::{Likeness, Verdict};

/// Sends a request for each item. Two functions say what an item costs and what is sent for it.
pub(crate) struct ApiJob<I, C, R> {
    endpoint: Arc<Endpoint>,
    cost: C,
    request: R,
    /// How the log names an item.
    name: fn(&I) -> String,
    on_attempt: Option<Box<OnAttempt<I>>>,
    item: PhantomData<fn(I)>,
}

/// Called with an item and an attempt's outcome while its permit is still held.
type OnAttempt<I> = dyn Fn(&I, &mut Result<Reply, AttemptError>, &Attempt<'_>) + Send + Sync;

impl<I, C, R> ApiJob<I, C, R>
where
    C: Fn(&Endpoint, &I) -> Result<Cost>,
    R: Fn(&I) -> Result<Cow<'_, Request>>,
{
    /// `cost` says what an item reserves of the limits, `request` makes the request for it. An item
    /// fails with the error that either gives, and nothing is sent for it.
    pub(crate) fn new(endpoint: &Arc<Endpoint>, cost: C, request: R) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            cost,
            request,
            name: |_| String::new(),
            on_attempt: None,
            item: PhantomData,
        }
    }

    /// Names items in the log. Default: by their path alone.
    pub(crate) fn named(mut self, name: fn(&I) -> String) -> Self {
        self.name = name;
        self
    }

    /// Calls `hook` after each attempt, whose outcome it may change. The permit is still held, so
    /// the next item has not begun.
    pub(crate) fn on_attempt(
        mut self,
        hook: impl Fn(&I, &mut Result<Reply, AttemptError>, &Attempt<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_attempt = Some(Box::new(hook));
        self
    }
}

impl<I, C, R> Job for ApiJob<I, C, R>
where
    I: Clone + Send,
    C: Fn(&Endpoint, &I) -> Result<Cost> + Send + Sync,
    R: Fn(&I) -> Result<Cow<'_, Request>> + Send + Sync,
{
    type Input = I;
    type Output = Reply;
    type Error = AttemptError;

    fn cost(&self, item: &I) -> Result<Cost> {
        (self.cost)(&self.endpoint, item)
    }

    fn attempt(&self, item: &I, attempt: &Attempt<'_>) -> Result<Reply, AttemptError> {
        let mut outcome = match (self.request)(item) {
            Ok(request) => {
                let outcome = self.endpoint.attempt(&request, attempt);
                let clock = self.endpoint.limiter.clock();
                log_attempt(
                    || (self.name)(item),
                    &request.path,
                    attempt,
                    clock,
                    &outcome,
                );
                outcome
            }
            Err(error) => Err(AttemptError::unsendable(error, attempt)),
        };
        if let Some(hook) = &self.on_attempt {
            hook(item, &mut outcome, attempt);
        }
        outcome
    }

    fn second(&self, item: &I) -> Option<I> {
        Some(item.clone())
    }

    fn verdict(&self, failed: &AttemptError) -> Verdict {
        failed.verdict
    }

    fn likeness(&self, failed: &AttemptError) -> Option<Likeness> {
        likeness(failed)
    }

    fn shown<'e>(&self, failed: &'e AttemptError) -> Option<&'e Error> {
        Some(&failed.error)
    }
}

/// The outcome of an item with the crate's error. The reply, too, is told where the time went, and
/// how many attempts there were, another one beside its own included.
pub(crate) fn finished<I>(outcome: JobOutcome<I, Reply, AttemptError>) -> Outcome<I, Reply, Error> {
    let (times, attempts) = (outcome.times, outcome.attempts);
    let (stopped_run, alike) = (outcome.stopped_run, outcome.alike);
    outcome.map(|result| match result {
        Ok(reply) => Ok(Reply {
            attempts,
            times,
            ..reply
        }),
        Err(failure) => {
            let error = into_error(failure, attempts, stopped_run, alike);
            Err(error.with_facts(|facts| facts.times = times))
        }
    })
}

/// Makes the crate's error of an item's failure.
pub(crate) fn into_error(
    failure: Failure<AttemptError>,
    attempts: u32,
    stopped_run: bool,
    alike: u32,
) -> Error {
    let error = match failure {
        Failure::Job(failed) => failed.error,
        Failure::Panicked(panicked) => Error::new(ErrorKind::Panicked, panicked.to_string()),
        Failure::NotCompleted { reason, last: None } => reason,
        Failure::NotCompleted {
            reason,
            last: Some(last),
        } => reason
            .with_facts(|facts| {
                facts.possibly_billed = last.error.possibly_billed();
            })
            .with_source(last.error),
    };
    let error = error.with_facts(|facts| {
        facts.stopped_run |= stopped_run;
        facts.attempts = attempts;
    });
    match alike {
        0 => error,
        _ => stopped_by(error, alike, ""),
    }
}

/// The reason of a run that stops at so many answers alike: the last of them, and where it came
/// from.
pub(crate) fn stopped_by(error: Error, alike: u32, example: &str) -> Error {
    // What to do about the answers ends the message, so the setting is not told behind that.
    let setting = match error.kind() {
        ErrorKind::Quota => "",
        _ => " (`stop_alike`)",
    };
    let stop =
        format!("{alike} answers in a row have failed alike{example}, so the run stops{setting}");
    error.behind(&stop)
}
